"""The performance hash table of Imbres (section 4.1.2, ASPLOS'25): (interference, load) -> tail latency.

Symbols: I interference, w load per container, phi the table; equations (2)-(4) of the paper.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agents.latency_store import add, empty_store, interference_codes, look_up
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

INTERFERENCE_LIMIT = 0.8
"""Utilisation at which the last interference bin ends (the paper's 80 %); more falls into the last bin."""
KINDS = 3
"""Kinds of interference in the key: CPU, memory bandwidth, network (eq. 2); the observation's fourth is not used."""
LAST_BIN = 2**62
"""No load bin is beyond this one: it has to be an int64."""


class LatencyTable(Protocol):
    """What the tiers need of a performance table, wherever it is stored. Questions come in batches."""

    @property
    def target(self) -> float:
        """CPU utilisation of a container at its maximum load, (0, 1]."""
        ...

    def observe(self, observation: Observation) -> None:
        """Learn from one control interval; the same interval twice is learnt once."""
        ...

    def latency_ms(self, microservice: ArrayLike, interference: ArrayLike, load_rps: ArrayLike) -> Floats:
        """Predicted tail latencies [ms]; 0 where nothing is known of the microservice."""
        ...

    def maximum_load_rps(self, microservice: ArrayLike) -> Floats:
        """Load of one container at the target utilisation [1/s]; infinite as long as it is not known."""
        ...


class PerformanceTable:
    """The table in memory: per microservice, interference bins -> load bins -> running mean of the tail latency.

    Args:
        info: the cluster.
        bins: bins of each kind of interference from 0 to 80 %, and of the load from 0 to its maximum, >= 1; the paper's
            4 (256 keys, and those of loads beyond the maximum).
        rate: weight of a new sample in the running mean of its bin, (0, 1]. The paper does not say how values are
            updated; a moving mean follows changes and smooths the noisy p95 of five seconds. 0.3 is an estimate.
        target: CPU utilisation of a container at its maximum load, (0, 1]; the paper's 50 %, varied in its section 6.6.

    Raises:
        ConfigError: an option is out of range.
    """

    def __init__(self, info: ClusterInfo, *, bins: int = 4, rate: float = 0.3, target: float = 0.5) -> None:
        if bins < 1:
            raise ConfigError(f"bins: {bins} must be at least 1")
        if not 0.0 < rate <= 1.0:
            raise ConfigError(f"rate: {rate} must be in (0, 1]")
        if not 0.0 < target <= 1.0:
            raise ConfigError(f"target: {target} must be in (0, 1]")
        self._bins = bins
        self._rate = rate
        self._target = target
        count = len(info.microservices)
        self._store = empty_store(count, bins**KINDS)
        self._load_seen = np.zeros(count)
        self._cpu_seen = np.zeros(count)
        self._ready_before: Ints | None = None
        self._time_s = -math.inf

    @property
    def target(self) -> float:
        """CPU utilisation of a container at its maximum load, (0, 1]."""
        return self._target

    def observe(self, observation: Observation) -> None:
        """Store what one control interval shows, for the microservices as a whole and host by host.

        The paper fills the table with the averages over the hosts of a microservice, but asks it about containers of
        a single host (section 4.2.2), so the samples of single hosts are stored as well. Interference is the whole
        utilisation of a host, the microservices' own use included, as Prometheus measures it.
        """
        time_s = float(observation["time_s"][0])
        if time_s == self._time_s:
            return
        self._time_s = time_s
        # Cells: a microservice i and a host j that has containers of it, side by side for all.
        cells = np.flatnonzero(observation["ready"] > 0)
        i, j = np.divmod(cells, observation["ready"].shape[1])
        ready = observation["ready"].ravel()[cells]
        load = observation["load_rps"].ravel()[cells].astype(np.float64)
        interference = observation["interference"][:, :KINDS].astype(np.float64)
        fresh = observation["samples"].ravel()[cells] > 0
        self._learn_maximum_load(observation, cells[fresh], interference, (load / ready)[fresh])
        self._insert_means(observation, i, interference[j], ready, load, np.unique(i[fresh]))
        tail = observation["own_p95_ms"].ravel()[cells]
        self.insert(i[fresh], interference[j[fresh]], (load / ready)[fresh], tail[fresh])
        self._ready_before = observation["ready"].copy()

    def _insert_means(
        self, observation: Observation, i: Ints, interference: Floats, ready: Ints, load: Floats, measured: Ints
    ) -> None:
        """Eq. (2): the average over the hosts that run the microservice; w_i: the average load per container.

        Of a microservice on a single host it is the same sample as the host's own, and left out.

        Args:
            observation: with the tail latencies of microservices.
            i: (n,) microservice of each cell.
            interference: (n, KINDS) of the host of each cell.
            ready: (n,) containers.
            load: (n,) calls/s.
            measured: microservices with fresh samples.
        """
        count = len(self._load_seen)
        hosts = np.bincount(i, minlength=count)
        whole = measured[hosts[measured] > 1]
        mean = np.stack([np.bincount(i, of_kind, count)[whole] / hosts[whole] for of_kind in interference.T], axis=1)
        mean_load = np.bincount(i, load, count)[whole] / np.bincount(i, ready, count)[whole]
        self.insert(whole, mean, mean_load, observation["microservice_p95_ms"][whole])

    def _learn_maximum_load(self, observation: Observation, cells: Ints, interference: Floats, load: Floats) -> None:
        """Add the least interfered host to the estimate of the load at 50 % CPU utilisation without interference.

        The paper does not say where that maximum comes from. CPU use is taken to be proportional to load, so the ratio
        of the sums of both over all intervals so far estimates it online, without a profile. What a container uses when
        idle is not told apart: where it is a large share of the use, the estimate is too low.

        Args:
            observation: of the interval.
            cells: (n,) flat indices of (microservice, host) with fresh samples.
            interference: (H, KINDS) utilisation.
            load: (n,) load per container [1/s].
        """
        # CPU use is over the quota of all containers of the interval, starting and ending ones included; load is per
        # ready container. The two go together only where no container came or went.
        steady = observation["pending"].ravel()[cells] == 0
        if self._ready_before is not None:
            steady &= observation["ready"].ravel()[cells] == self._ready_before.ravel()[cells]
        cells, load = cells[steady], load[steady]
        i, j = np.divmod(cells, len(interference))
        disturbance = interference.mean(axis=1)[j]
        least = np.full(len(self._load_seen), np.inf)
        np.minimum.at(least, i, disturbance)
        calm = np.flatnonzero(disturbance == least[i])
        known, first = np.unique(i[calm], return_index=True)
        calmest = calm[first]
        self._add_use(known, load[calmest], observation["cpu_utilisation"].ravel()[cells[calmest]])

    def maximum_load_rps(self, microservice: ArrayLike) -> Floats:
        """Load of one container at the target utilisation [1/s]; infinite as long as no CPU use was seen.

        Args:
            microservice: index or indices.
        """
        i = np.asarray(microservice, np.int64)
        cpu, load = self._cpu_seen[i], self._load_seen[i]
        known = cpu > 0.0
        return np.where(known, self._target * load / np.where(known, cpu, 1.0), np.inf)

    def insert(
        self, microservice: ArrayLike, interference: ArrayLike, load_rps: ArrayLike, latency_ms: ArrayLike
    ) -> None:
        """Add samples, one after the other; those without a latency (0 or not finite) are left out.

        Args:
            microservice: (n,) indices, or one.
            interference: (n, 3) or (n, 4) utilisation of the host or hosts (a fourth kind is not used) [0-1].
            load_rps: (n,) load per container [1/s].
            latency_ms: (n,) tail latency [ms].
        """
        i, code, load = self._aligned(microservice, interference, load_rps)
        tail = np.broadcast_to(np.asarray(latency_ms, np.float64), i.shape)
        usable = np.isfinite(tail) & (tail > 0.0)
        i, code, load, tail = i[usable], code[usable], load[usable], tail[usable]
        load_bin = self._load_bins(load, self.maximum_load_rps(i))
        self._add_samples(i, code, load_bin, load, tail)

    def latency_ms(self, microservice: ArrayLike, interference: ArrayLike, load_rps: ArrayLike) -> Floats:
        """Look up phi_i(I, w).

        Args:
            microservice: (n,) indices i, or one.
            interference: (n, 3) or (n, 4) utilisation [0-1].
            load_rps: (n,) load per container w [1/s].

        Returns:
            (n,) tail latency [ms], never falling with the load; 0 where the table has nothing on the microservice. For
            a single question a single number.
        """
        i, code, load = self._aligned(microservice, interference, load_rps)
        found = look_up(self._store, self._bins, i, code, load)
        single = np.ndim(microservice) == np.ndim(load_rps) == 0 and np.ndim(interference) == 1
        return np.asarray(found[0] if single else found)

    def _add_samples(self, i: Ints, code: Ints, load_bin: Ints, load: Floats, tail: Floats) -> None:
        """Move the running means of bins towards samples; a table that is kept elsewhere overrides it."""
        self._store = add(self._store, i, code, load_bin, load, tail, self._rate)

    def _add_use(self, i: Ints, load: Floats, cpu: Floats) -> None:
        """Add to the sums behind the maximum load; a table that is kept elsewhere overrides it."""
        self._load_seen[i] += load
        self._cpu_seen[i] += cpu

    def _aligned(
        self, microservice: ArrayLike, interference: ArrayLike, load_rps: ArrayLike
    ) -> tuple[Ints, Ints, Floats]:
        """Index, interference code and load of every sample or question, as arrays of one length."""
        hosts = np.asarray(interference, np.float64)[..., :KINDS]
        codes = interference_codes(hosts.reshape(-1, KINDS), INTERFERENCE_LIMIT, self._bins).reshape(hosts.shape[:-1])
        shape = np.broadcast_shapes(np.shape(microservice), codes.shape, np.shape(load_rps))
        # Copies: compiled code is made once, for contiguous arrays.
        i, code = (np.array(np.broadcast_to(values, shape), np.int64, ndmin=1) for values in (microservice, codes))
        return i, code, np.array(np.broadcast_to(load_rps, shape), np.float64, ndmin=1)

    def _load_bins(self, load_rps: Floats, maximum_rps: Floats) -> Ints:
        """Bins of equal width from 0 to the maximum load, going on beyond it.

        The paper takes utilisations above 50 % to be rare. Where they are not, one last bin would hold all that is
        known, and the table could not tell what a container more or less changes just when it is needed.
        """
        share = np.divide(load_rps, maximum_rps, out=np.zeros_like(load_rps), where=maximum_rps > 0.0)
        return np.minimum(share * self._bins + 1e-6, LAST_BIN).astype(np.int64)
