"""Jaeger's HTTP query API: `/api/v3/traces`, and `/api/traces` where a server has not that one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from imbres_gym.live.config import Jaeger
from imbres_gym.live.http import Unreachable, http_client
from imbres_gym.live.traces import RawSpan, Traces, parse_traces

MAX_BYTES = 64 * 1024 * 1024
"""Longest answer that is read [bytes]; estimate: 200 traces of 30 spans are below 10 MB."""


class JaegerClient:
    """Asks one Jaeger for recent traces.

    Which of the two forms a server speaks is found at the first answer and remembered until it fails: Jaeger 1 has
    both from 1.5x on, older ones only `/api/traces`, recent ones of version 2 only `/api/v3/traces`.
    """

    def __init__(self, config: Jaeger) -> None:
        self._config = config
        self._http = http_client(config.url, config.timeout_s)
        self._paths = ["/api/v3/traces", "/api/traces"]

    def recent(self, services: list[str], now_s: float) -> Traces:
        """Traces that began in the window before now, of these services, each span once.

        Args:
            services: entry microservices.
            now_s: time by Jaeger's clock, since the epoch [s].

        Raises:
            Unreachable: no answer in time, or none that can be read.
        """
        spans: dict[tuple[str, str], RawSpan] = {}
        dropped = 0
        end_s = now_s - self._config.delay_s
        for service in services:
            found = self._find(service, end_s - self._config.window_s, end_s)
            dropped += found.dropped
            spans.update({(span.trace, span.span): span for span in found.spans})
        return Traces(tuple(spans.values()), dropped)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _find(self, service: str, start_s: float, end_s: float) -> Traces:
        reason = ""
        for path in list(self._paths):
            status, answer = self._get(path, self._parameters(path, service, start_s, end_s))
            if status == 404 and (no_traces := _says_no_traces(answer)):
                return no_traces
            if status == 200:
                try:
                    traces = parse_traces(answer)
                except ValueError as error:
                    raise Unreachable(f"Jaeger at {self._config.url}{path}: {error}") from None
                self._paths.sort(key=lambda other: other != path)
                return traces
            reason = f"HTTP {status} from {path}"
        raise Unreachable(f"Jaeger at {self._config.url}: {reason}")

    def _parameters(self, path: str, service: str, start_s: float, end_s: float) -> dict[str, str]:
        limit = str(self._config.limit)
        if path == "/api/traces":
            start_us, end_us = str(int(start_s * 1e6)), str(int(end_s * 1e6))
            return {"service": service, "start": start_us, "end": end_us, "limit": limit}
        return {
            "query.service_name": service,
            "query.start_time_min": _rfc3339(start_s),
            "query.start_time_max": _rfc3339(end_s),
            "query.num_traces": limit,
        }

    def _get(self, path: str, parameters: dict[str, str]) -> tuple[int, Any]:
        import httpx2

        try:
            with self._http.stream("GET", self._config.url + path, params=parameters) as response:
                parts, size = [], 0
                for part in response.iter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > MAX_BYTES:
                        limit = f"more than {MAX_BYTES} bytes; lower jaeger.limit"
                        raise Unreachable(f"Jaeger at {self._config.url}: {limit}")
                status = response.status_code
        except httpx2.HTTPError as error:
            raise Unreachable(f"Jaeger at {self._config.url}: {error or type(error).__name__}") from None
        return status, _json(b"".join(parts))


def _json(content: bytes) -> Any:
    import json

    try:
        return json.loads(content)
    except ValueError:
        return None


def _says_no_traces(answer: Any) -> Traces | None:
    """`/api/v3` answers 404 with an error object where it found no trace; a server without that path has no such."""
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        error = answer["error"]
        if 404 in (error.get("httpCode"), error.get("http_code")) and "trace" in str(error.get("message", "")).lower():
            return Traces((), 0)
    return None


def _rfc3339(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
