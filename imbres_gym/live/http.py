"""The HTTP clients of the sources of telemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2


class Unreachable(Exception):
    """A source of telemetry did not answer, or not as it should; the message says which and why."""


def http_client(url: str, timeout_s: float) -> httpx2.Client:
    """A client that keeps its connection; proxies in environment variables are not used.

    Args:
        url: that it is for; certificates are loaded, which takes a while, only if it needs them.
        timeout_s: longest wait for an answer.
    """
    import httpx2

    return httpx2.Client(timeout=timeout_s, trust_env=False, verify=url.startswith("https:"))
