"""The performance hash table of Imbres (section 4.1.2, ASPLOS'25): (interference, load) -> tail latency.

Symbols: I interference, w load per container, phi the table; equations (2)-(4) of the paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo

Key = tuple[int, ...]

INTERFERENCE_LIMIT = 0.8
"""Utilisation at which the last interference bin ends (the paper's 80 %); more falls into the last bin."""
FLOOR_MS = 0.001
"""Least latency that an extrapolation returns [ms]: the resolution of Jaeger's spans, one microsecond."""
KINDS = 3
"""Kinds of interference in the key: CPU, memory bandwidth, network (eq. 2); the observation's fourth is not used."""


class LatencyTable(Protocol):
    """What the tiers need of a performance table, wherever it is stored."""

    def observe(self, observation: Observation) -> None:
        """Learn from one control interval; the same interval twice is learnt once."""
        ...

    def latency_ms(self, microservice: int, interference: ArrayLike, load_rps: float) -> float:
        """Predicted tail latency [ms]; 0 if nothing is known of the microservice."""
        ...

    def maximum_load_rps(self, microservice: int) -> float:
        """Load of one container at 50 % CPU [1/s]; infinite as long as it is not known."""
        ...


@dataclass(frozen=True)
class Entry:
    """One stored value: the running means of load [1/s per container] and tail latency [ms] in a bin."""

    load_rps: float
    latency_ms: float


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
        self._entries: list[dict[Key, dict[int, Entry]]] = [{} for _ in range(count)]
        self._curves: list[dict[Key, tuple[NDArray[np.float64], NDArray[np.float64]]]] = [{} for _ in range(count)]
        self._load_seen = np.zeros(count)
        self._cpu_seen = np.zeros(count)
        self._ready_before: NDArray[np.int64] | None = None
        self._time_s = -math.inf

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
        for microservice in range(len(self._entries)):
            self._observe_microservice(observation, microservice)
        self._ready_before = observation["ready"].copy()

    def _observe_microservice(self, observation: Observation, i: int) -> None:
        ready = observation["ready"][i].astype(np.float64)
        hosts = np.flatnonzero((ready > 0) & (observation["samples"][i] > 0))
        if hosts.size == 0:
            return
        interference = observation["interference"][:, :KINDS].astype(np.float64)
        load = observation["load_rps"][i].astype(np.float64)
        self._learn_maximum_load(i, hosts, interference, load / np.maximum(ready, 1.0), observation)
        # Eq. (2): the average over the hosts that run the microservice; w_i: the average load per container.
        running = ready > 0
        mean_load = float(load[running].sum() / ready[running].sum())
        tail = float(observation["microservice_p95_ms"][i])
        if np.count_nonzero(running) > 1:  # of a single host it is the same sample as the host's own
            self.insert(i, interference[running].mean(axis=0), mean_load, tail)
        for j in hosts:
            self.insert(i, interference[j], float(load[j] / ready[j]), float(observation["own_p95_ms"][i, j]))

    def _learn_maximum_load(
        self,
        i: int,
        hosts: NDArray[np.intp],
        interference: NDArray[np.float64],
        load: NDArray[np.float64],
        observation: Observation,
    ) -> None:
        """Add the least interfered host to the estimate of the load at 50 % CPU utilisation without interference.

        The paper does not say where that maximum comes from. CPU use is taken to be proportional to load, so the ratio
        of the sums of both over all intervals so far estimates it online, without a profile. What a container uses when
        idle is not told apart: where it is a large share of the use, the estimate is too low.
        """
        # CPU use is over the quota of all containers of the interval, starting and ending ones included; load is per
        # ready container. The two go together only where no container came or went.
        steady = observation["pending"][i, hosts] == 0
        if self._ready_before is not None:
            steady &= observation["ready"][i, hosts] == self._ready_before[i, hosts]
        hosts = hosts[steady]
        if hosts.size == 0:
            return
        calmest = hosts[np.argmin(interference[hosts].mean(axis=1))]
        self._load_seen[i] += load[calmest]
        self._cpu_seen[i] += float(observation["cpu_utilisation"][i, calmest])

    def maximum_load_rps(self, microservice: int) -> float:
        """Load of one container at the target utilisation [1/s]; infinite as long as no CPU use was seen."""
        cpu = float(self._cpu_seen[microservice])
        return self._target * float(self._load_seen[microservice]) / cpu if cpu > 0.0 else math.inf

    def insert(self, microservice: int, interference: ArrayLike, load_rps: float, latency_ms: float) -> None:
        """Store one sample (eq. 3); a latency that is not finite and positive is left out.

        Args:
            microservice: its index.
            interference: (3,) or (4,) utilisation of CPU, memory bandwidth, network (LLC is not used) [0-1].
            load_rps: load per container [1/s].
            latency_ms: tail latency [ms].
        """
        if not (math.isfinite(latency_ms) and latency_ms > 0.0):
            return
        key = self._interference_bins(interference)
        by_load = self._entries[microservice].setdefault(key, {})
        load_bin = self._load_bin(load_rps, self.maximum_load_rps(microservice))
        old = by_load.get(load_bin)
        if old is None:
            by_load[load_bin] = Entry(load_rps, latency_ms)
        else:
            by_load[load_bin] = Entry(
                old.load_rps + self._rate * (load_rps - old.load_rps),
                old.latency_ms + self._rate * (latency_ms - old.latency_ms),
            )
        self._curves[microservice].pop(key, None)

    def latency_ms(self, microservice: int, interference: ArrayLike, load_rps: float) -> float:
        """Look up phi_i(I, w).

        Args:
            microservice: its index i.
            interference: (3,) or (4,) utilisation [0-1].
            load_rps: load per container w [1/s].

        Returns:
            Tail latency [ms], never falling with the load; 0 if the table has nothing on the microservice.
        """
        known = self._entries[microservice]
        if not known:
            return 0.0
        key = self._interference_bins(interference)
        if key not in known:
            key = closest(key, known)
        loads, values = self._curve(microservice, key)
        two_loads = [other for other, by_load in known.items() if len(by_load) > 1]
        if len(loads) > 1 or not two_loads:
            return interpolate(loads, values, load_rps)
        # Eq. (4) needs two loads. Where only one is known, the closest interference with two says how latency changes
        # with load; a constant would say that containers are of no use to this microservice.
        other = self._curve(microservice, closest(key, two_loads))
        change = interpolate(*other, load_rps) - interpolate(*other, float(loads[0]))
        return max(float(values[0]) + change, FLOOR_MS)

    def _curve(self, microservice: int, key: Key) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Loads (rising) and latencies (not falling) stored for one interference."""
        curve = self._curves[microservice].get(key)
        if curve is None:
            entries = sorted(self._entries[microservice][key].values(), key=lambda entry: entry.load_rps)
            loads = np.array([entry.load_rps for entry in entries])
            curve = loads, monotone(np.array([entry.latency_ms for entry in entries]))
            self._curves[microservice][key] = curve
        return curve

    def _interference_bins(self, interference: ArrayLike) -> Key:
        """Bins of equal width from 0 to 80 %; what lies above belongs to the last."""
        shares = np.clip(np.asarray(interference, np.float64)[:KINDS] / INTERFERENCE_LIMIT, 0.0, 1.0)
        # Observations are float32: the small addition keeps 0.6 in the bin that starts there.
        return tuple(int(b) for b in np.minimum(np.floor(shares * self._bins + 1e-6), self._bins - 1))

    def _load_bin(self, load_rps: float, maximum_rps: float) -> int:
        """Bins of equal width from 0 to the maximum load, going on beyond it.

        The paper takes utilisations above 50 % to be rare. Where they are not, one last bin would hold all that is
        known, and the table could not tell what a container more or less changes just when it is needed.
        """
        return int(load_rps / maximum_rps * self._bins + 1e-6) if maximum_rps > 0.0 else 0


def closest(key: Key, known: Iterable[Key]) -> Key:
    """The known key at the least Euclidean distance in bins; of several the most interfered, as the safe guess."""
    return min(known, key=lambda other: (math.dist(key, other), -sum(other), tuple(-b for b in other)))


def monotone(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest non-falling sequence (least squares): noise must not make latency fall with load.

    Otherwise the gain of one more container, eq. (5), could be negative. Pool adjacent violators.
    """
    pools: list[tuple[float, int]] = []
    for value in values:
        mean, size = float(value), 1
        while pools and pools[-1][0] > mean:
            last, count = pools.pop()
            mean, size = (mean * size + last * count) / (size + count), size + count
        pools.append((mean, size))
    return np.repeat([mean for mean, _ in pools], [size for _, size in pools])


def interpolate(loads: NDArray[np.float64], values: NDArray[np.float64], w: float) -> float:
    """Eq. (4), corrected: phi(w_m) + (phi(w_n) - phi(w_m)) (w - w_m) / (w_n - w_m).

    The printed equation lacks the first term. A hit is interpolated as well: were it the value of its bin, phi would
    be a staircase, and the gain of one container, eq. (5), almost always zero. w_m and w_n are the mean loads stored
    in the two nearest bins; beyond the outermost the line through the last two goes on, not below `FLOOR_MS`.

    Args:
        loads: (n,) stored loads, rising [1/s].
        values: (n,) their latencies, not falling [ms].
        w: load [1/s].
    """
    if len(loads) == 1:
        return float(values[0])
    n = int(np.clip(np.searchsorted(loads, w), 1, len(loads) - 1))
    m = n - 1
    if loads[n] <= loads[m]:
        return float(values[n])
    slope = (values[n] - values[m]) / (loads[n] - loads[m])
    return max(float(values[m] + slope * (w - loads[m])), FLOOR_MS)
