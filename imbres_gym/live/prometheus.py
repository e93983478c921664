"""Prometheus' HTTP API: instant queries, and only those samples that can be numbers."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from imbres_gym.live.http import Unreachable, http_client


@dataclass(frozen=True)
class Sample:
    """One series at one time.

    Attributes:
        labels: of the series.
        value: finite.
    """

    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class Vector:
    """The answer to one instant query.

    Attributes:
        samples: those with a finite value.
        time_s: time of the evaluation by Prometheus' clock; None without samples.
        dropped: samples that were NaN, infinite or not readable.
    """

    samples: tuple[Sample, ...]
    time_s: float | None
    dropped: int


class PrometheusClient:
    """Asks one Prometheus, over one kept connection.

    Args:
        url: without a path.
        timeout_s: longest wait for an answer.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._http = http_client(url, timeout_s)
        self._epoch_s = time.time() - time.monotonic()

    def now_s(self) -> float:
        """Time since the epoch by Prometheus' clock; by this machine's as long as Prometheus has sent no sample [s]."""
        return self._epoch_s + time.monotonic()

    def query(self, promql: str) -> Vector:
        """The vector that a query has now.

        Raises:
            Unreachable: no answer in time, an error, or no vector.
        """
        import httpx2

        try:
            response = self._http.get(f"{self._url}/api/v1/query", params={"query": promql})
            answer = response.json()
        except httpx2.HTTPError as error:
            raise Unreachable(f"Prometheus at {self._url}: {error or type(error).__name__}") from None
        except ValueError:
            code = response.status_code
            raise Unreachable(f"Prometheus at {self._url}: HTTP {code}, and the answer is no JSON") from None
        if not isinstance(answer, dict) or answer.get("status") != "success":
            reason = answer.get("error", "no success") if isinstance(answer, dict) else "the answer is no object"
            raise Unreachable(f"Prometheus at {self._url}: {reason} (query: {promql})")
        data = answer.get("data")
        if not isinstance(data, dict) or data.get("resultType") != "vector" or not isinstance(data.get("result"), list):
            raise Unreachable(f"Prometheus at {self._url}: the answer is no vector (query: {promql})")
        vector = _read(data["result"])
        if vector.time_s is not None:
            self._epoch_s = vector.time_s - time.monotonic()
        return vector

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def __enter__(self) -> PrometheusClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read(result: list[Any]) -> Vector:
    samples: list[Sample] = []
    time_s: float | None = None
    for item in result:
        try:
            labels = {str(name): str(value) for name, value in item["metric"].items()}
            at, value = float(item["value"][0]), float(item["value"][1])
        except (TypeError, KeyError, IndexError, ValueError, AttributeError):
            continue
        if math.isfinite(at) and math.isfinite(value):
            time_s = at
            samples.append(Sample(labels, value))
    return Vector(tuple(samples), time_s, len(result) - len(samples))
