"""Whether a Ray cluster answers at an address: quickly, and in words; Ray itself tries for minutes."""

from __future__ import annotations

import os
import socket

from imbres_gym.config import ConfigError

LOCAL = "local"
"""Start Ray on this machine."""

AUTO = "auto"
"""The cluster that was started on this machine."""

_TIMEOUT_S = 4.0
"""For each of two steps [s]; estimate: a head node in another building answers in well under a second."""


def check_address(address: str) -> None:
    """Make sure that a cluster answers at `address`, within about ten seconds.

    Args:
        address: `local`, `auto` or `HOST:PORT`.

    Raises:
        ConfigError: not of that form, or no cluster answers there; says how to start one.
    """
    if address in {LOCAL, AUTO}:
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"--ray-address {address}: expected local, auto or HOST:PORT, such as 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT_S).close()
    except OSError as error:
        raise unreachable(address, error.strerror or str(error)) from None
    # An encrypted cluster answers only those who have its certificates, which Ray then presents.
    if os.environ.get("RAY_USE_TLS", "0") == "0" and not _speaks_grpc(address):
        raise unreachable(address, "what answers is not Ray")


def unreachable(address: str, reason: str) -> ConfigError:
    """The error for a cluster that cannot be used.

    Args:
        address: as the user gave it.
        reason: one line.
    """
    return ConfigError(
        f"--ray-address {address}: cannot use a Ray cluster there ({reason}). "
        "Start one with\n  ray start --head --port=6379\n"
        "(it prints how other machines join, and this machine must be one of its nodes), "
        "or have Ray started for this run alone: --ray-address local"
    )


def _speaks_grpc(address: str) -> bool:
    """Whether a gRPC server, as Ray's head is one, answers."""
    import grpc

    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_TIMEOUT_S)
        except grpc.FutureTimeoutError:
            return False
    return True
