"""The bed's own small client of the API server, of Python's standard library, with the administrator's token."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

from scripts.testbed.credentials import ADMIN, CA, SERVER, TOKENS
from scripts.testbed.steps import BedError

TIMEOUT_S = 10.0
Json = dict[str, Any]


def _token() -> str:
    for line in TOKENS.read_text().splitlines():
        token, user, *_ = line.split(",")
        if user == ADMIN:
            return token
    raise BedError(f"{TOKENS}: no token of {ADMIN!r}")


def request(method: str, path: str, body: Json | list[Json] | None = None, content: str = "application/json") -> str:
    """Send one request.

    Raises:
        urllib.error.HTTPError: the server refused.
        OSError: it cannot be reached.
    """
    headers = {"Authorization": f"Bearer {_token()}", "Content-Type": content}
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(SERVER + path, data, headers, method=method)
    with urllib.request.urlopen(asked, timeout=TIMEOUT_S, context=ssl.create_default_context(cafile=str(CA))) as reply:
        return str(reply.read().decode())


def get(path: str) -> Json:
    """Read one object or list."""
    answer: Json = json.loads(request("GET", path))
    return answer


def is_ready() -> bool:
    """Whether the API server says that it is ready."""
    try:
        return request("GET", "/readyz") == "ok"
    except OSError:
        return False


def create(path: str, body: Json) -> None:
    """Create an object, or leave the one that is there.

    Raises:
        BedError: the server refused; holds what it said.
    """
    try:
        request("POST", path, body)
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise BedError(f"POST {path}: {error.read().decode()[-1000:]}") from None


def delete(path: str) -> None:
    """Delete an object; one that is gone already is no error.

    Raises:
        BedError: the server refused; holds what it said.
    """
    try:
        request("DELETE", path)
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise BedError(f"DELETE {path}: {error.read().decode()[-1000:]}") from None
