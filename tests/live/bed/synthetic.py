"""Runs an application's synthetic microservices in this process, each on a port of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from imbres_gym.application import Application
from imbres_gym.live.deploy_manifests import service_config
from scripts.testbed.service.microservice import Microservice, exchange

Json = dict[str, Any]


def chain(**changes: Any) -> Json:
    """Entry `a` calls `b` and the store `s` in parallel, then `c`; every number is tiny."""

    def one(operation: str) -> Json:
        return {"operations": {operation: {"cpu_ms": 0.01}}}

    tree = {"call": "a/A", "stages": [[{"call": "b/B"}, {"call": "s/S"}], [{"call": "c/C"}]]}
    return {
        "name": "chain",
        "container": {"cores": 1, "memory_mb": 64},
        "hop_ms": 0.1,
        "microservices": {"a": one("A"), "b": one("B"), "c": one("C")},
        "stores": {"s": {"operations": {"S": 1.0}}},
        "request_classes": {"get": {"share": 1.0, "tree": tree}},
        **changes,
    }


def ports_of(servers: dict[str, asyncio.Server]) -> dict[str, int]:
    return {name: server.sockets[0].getsockname()[1] for name, server in servers.items()}


@asynccontextmanager
async def running(application: Json, **environment: str) -> AsyncIterator[dict[str, Microservice]]:
    """Start every microservice of an application, and end them with the block."""
    config = json.loads(service_config(Application.model_validate(application)))
    services: dict[str, Microservice] = {}
    servers: dict[str, asyncio.Server] = {}
    for name in config["application"]["microservices"]:
        services[name] = Microservice(name, config, {"POD_NAME": f"{name}-0", **environment})
        servers[name] = await asyncio.start_server(services[name].serve, "127.0.0.1", 0)
    for service in services.values():
        service.addresses = {name: ("127.0.0.1", port) for name, port in ports_of(servers).items()}
    try:
        yield services
    finally:
        for server in servers.values():
            server.close()
        for service in services.values():
            for pool in service.idle.values():
                for _, writer in pool:
                    writer.close()
        await asyncio.sleep(0.01)  # the connections' tasks see that they are closed


async def ask(service: Microservice, path: str) -> tuple[int, dict[str, str]]:
    """One request to a microservice, on a connection of its own."""
    reader, writer = await asyncio.open_connection(*service.addresses[service.name])
    try:
        return await exchange(reader, writer, "POST", path, "localhost", {"Connection": "close"})
    finally:
        writer.close()
