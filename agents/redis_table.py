"""The performance table in Redis (Imbres section 5, ASPLOS'25): shared by controllers, and there after a restart.

**What a running mean means with several writers.** Redis takes the samples of all writers one after the other, in the
order in which it receives them, each in one atomic step: v <- v + rate * (sample - v); the first sample of a bin is its
value. So a bin's value is the moving mean that a single table would have if it had seen all samples in that order; no
sample is lost or counted twice. The sums behind the maximum load are added up.

**What happens without Redis.** Every table has all that it knows in memory as well, and answers from there. Samples
that Redis has not confirmed wait and are sent again with the same number, by which Redis knows what it has taken
already. A Redis that was wiped, or restarted without its data, has another epoch: each writer first puts back what
Redis had said last and what is missing there, then sends what waits. Waiting samples of a bin are bounded by what still
matters to its mean: older ones than that weigh less than a billionth.

Keys, of which all have the prefix `{imbres-gym:table:VERSION:DIGEST}`: `:meta` (epoch, version of the last change,
description), `:entries` ("microservice:interference code:load bin" -> "load latency"), `:changes` (entry -> version of
its last change), `:use` (sums since the epoch), `:base` (sums before it), `:writer:ID` (number of the last batch).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Any, cast

import numpy as np

from agents.latency_store import add
from agents.performance_table import Floats, Ints, PerformanceTable
from agents.redis_scripts import EXCHANGE, FILL
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo

SCHEMA = 1
"""Version of the layout in Redis; another layout is another table."""
NEGLIGIBLE = 1e-9
"""Weight of a sample in a running mean below which it need not be kept."""
ANSWER_S = 1.0
"""Longest wait for Redis, once in a control interval of 5 s [s]; an exchange of 150 samples takes 5 ms (measured)."""
LEAST_WAIT_S, MOST_WAIT_S = 1.0, 30.0
"""Wait after a failure until Redis is asked again: doubled from the least to the most (estimate) [s]."""

log = logging.getLogger(__name__)


class RedisTable(PerformanceTable):
    """A performance table whose values are shared through Redis; what it answers comes from memory.

    Once in a control interval it sends its new samples, and fetches what has changed, in one round trip. Tables share
    values if their microservices (names, order, container sizes, calls) and options are the same.

    Args:
        info: the cluster.
        redis: address, such as `redis://redis.default:6379/0`.
        bins: see `PerformanceTable`.
        rate: see `PerformanceTable`.
        target: see `PerformanceTable`.

    Raises:
        ConfigError: an option is out of range, or the address is none. That Redis does not answer is no error.
    """

    def __init__(
        self,
        info: ClusterInfo,
        *,
        redis: str,
        bins: int = 4,
        rate: float = 0.3,
        target: float = 0.5,
    ) -> None:
        super().__init__(info, bins=bins, rate=rate, target=target)
        description = _description(info, bins, rate, target)
        digest = hashlib.sha256(description.encode()).hexdigest()[:16]
        prefix = f"{{imbres-gym:table:{SCHEMA}:{digest}}}"
        self._writer = uuid.uuid4().hex
        self._keys = [f"{prefix}:{part}" for part in ("meta", "entries", "changes", "use", "base")]
        self._keys.append(f"{prefix}:writer:{self._writer}")
        self._description = description
        self._client = _client(redis)
        self._exchange_script = self._client.register_script(EXCHANGE)
        self._fill_script = self._client.register_script(FILL)
        self._next_try_s = time.monotonic()
        self._wait_s = LEAST_WAIT_S
        self._down = False
        kept = 1 if rate == 1.0 else math.ceil(math.log(NEGLIGIBLE) / math.log1p(-rate))
        self._samples: dict[str, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=kept))
        self._use: dict[str, float] = defaultdict(float)
        self._batch: str | None = None
        self._batches = 0
        self._epoch = ""
        self._version = "0"
        self._shared: dict[str, str] = {}
        """What Redis said last of every entry."""
        self._shared_use: dict[str, str] = {}

    def observe(self, observation: Observation) -> None:
        """Learn from one control interval, and exchange what is new with Redis."""
        last_s = self._time_s
        super().observe(observation)
        if self._time_s != last_s:
            self.exchange()

    def exchange(self) -> bool:
        """Send new samples and fetch what has changed, but not soon after a failure; whether Redis took part."""
        import redis

        if time.monotonic() < self._next_try_s:
            return False
        try:
            self._exchange()
        except (redis.RedisError, OSError) as error:
            self._next_try_s = time.monotonic() + self._wait_s
            self._wait_s = min(2.0 * self._wait_s, MOST_WAIT_S)
            if not self._down:
                log.warning("Redis does not answer, the performance table goes on in memory: %s", error)
            self._down = True
            return False
        if self._down:
            log.info("Redis answers again; the performance table was brought up to date")
        self._down, self._wait_s = False, LEAST_WAIT_S
        return True

    def _add_samples(self, i: Ints, code: Ints, load_bin: Ints, load: Floats, tail: Floats) -> None:
        super()._add_samples(i, code, load_bin, load, tail)
        rows = zip(i.tolist(), code.tolist(), load_bin.tolist(), load.tolist(), tail.tolist(), strict=True)
        for microservice, of_interference, of_load, load_rps, latency_ms in rows:
            self._samples[f"{microservice}:{of_interference}:{of_load}"].append((load_rps, latency_ms))

    def _add_use(self, i: Ints, load: Floats, cpu: Floats) -> None:
        super()._add_use(i, load, cpu)
        for microservice, load_rps, utilisation in zip(i.tolist(), load.tolist(), cpu.tolist(), strict=True):
            self._use[f"{microservice}:load"] += load_rps
            self._use[f"{microservice}:cpu"] += utilisation

    def _exchange(self) -> None:
        # What could not be confirmed is sent again as it was, or Redis could not tell whether it has taken it.
        while True:
            if self._batch is None:
                self._batch = self._new_batch()
            epoch, version, changed, use, base = self._ask()
            if epoch != self._epoch:
                self._meet(epoch)
                continue
            self._batch = None
            self._version = version
            self._take_over(changed, use, base)
            if not self._samples and not self._use:
                return

    def _ask(self) -> tuple[str, str, list[str], list[str], list[str]]:
        """One round trip; of another epoch than the known one Redis takes nothing."""
        arguments = [self._epoch, uuid.uuid4().hex, self._description, self._batches, self._batch, self._version]
        answer = self._exchange_script(keys=self._keys, args=cast(Any, [*arguments, repr(self._rate)]))
        return cast(tuple[str, str, list[str], list[str], list[str]], tuple(cast(Any, answer)))

    def _new_batch(self) -> str:
        samples = [(entry, load, tail) for entry, values in self._samples.items() for load, tail in values]
        use = list(self._use.items())
        self._samples.clear()
        self._use.clear()
        self._batches += 1
        return json.dumps({"samples": samples, "use": use})

    def _meet(self, epoch: str) -> None:
        """Adopt another table in Redis; if one was known before, it is gone, and what it held is put back."""
        if self._epoch:
            log.warning("Redis has lost the performance table; putting back what is known of it")
            content = json.dumps([list(self._shared.items()), list(self._shared_use.items())])
            self._fill_script(keys=self._keys, args=cast(Any, [epoch, content]))
        self._epoch, self._version = epoch, "0"

    def _take_over(self, changed: list[str], use: list[str], base: list[str]) -> None:
        """Make the values in memory those of Redis."""
        entries = dict(_pairs(changed))
        self._shared.update(entries)
        if entries:
            keys = np.array([[int(part) for part in entry.split(":")] for entry in entries], np.int64)
            values = np.array([[float(part) for part in value.split()] for value in entries.values()])
            i, code, load_bin = (np.ascontiguousarray(column) for column in keys.T)
            load, tail = (np.ascontiguousarray(column) for column in values.T)
            self._store = add(self._store, i, code, load_bin, load, tail, 1.0)
        sums: dict[str, float] = defaultdict(float)
        for name, text in (*_pairs(use), *_pairs(base)):
            sums[name] += float(text)
        self._shared_use = {name: repr(total) for name, total in sums.items()}
        for name, total in sums.items():
            microservice, _, kind = name.partition(":")
            (self._load_seen if kind == "load" else self._cpu_seen)[int(microservice)] = total


def _client(address: str) -> Any:
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise ConfigError("redis: needs the extra 'live': pip install 'imbres-gym[live]'") from None
    try:
        return redis.Redis.from_url(
            address,
            decode_responses=True,
            socket_timeout=ANSWER_S,
            socket_connect_timeout=ANSWER_S,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise ConfigError(f"redis: {address!r} is no address of Redis: {error}") from None


def _description(info: ClusterInfo, bins: int, rate: float, target: float) -> str:
    """All that makes two tables the same: the microservices, and how samples are sorted and averaged."""
    content = {
        "microservices": info.microservices,
        "cores": info.cores.tolist(),
        "memory_mb": info.memory_mb.tolist(),
        "pairs": info.pairs,
        "bins": bins,
        "rate": rate,
        "target": target,
    }
    return json.dumps(content, sort_keys=True)


def _pairs(flat: list[str]) -> Iterable[tuple[str, str]]:
    return zip(flat[::2], flat[1::2], strict=True)
