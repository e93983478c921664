"""A small API server over real HTTP: objects by path, as far as `deploy` and `load` ask."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]


class FakeApi:
    """Keeps what is applied; `on_read` may change an object before it is shown, as controllers do."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.requests: list[tuple[str, str]] = []
        self.refuse: dict[str, str] = {}
        self.on_read: Callable[[Json], None] = lambda _: None
        self.url = ""

    def answer(self, method: str, target: str, body: Json | None) -> tuple[int, Json]:
        parts = urlsplit(target)
        self.requests.append((method, parts.path))
        for path, message in self.refuse.items():
            if path in parts.path:
                return 403, _status(403, message)
        if method == "POST" and body is not None:
            self.objects[f"{parts.path}/{body['metadata']['name']}"] = body
            return 201, body
        if method == "PATCH" and body is not None:
            self.objects[parts.path] = body
            return 200, body
        if parts.path in self.objects:
            if method == "DELETE":
                del self.objects[parts.path]
                return 200, {"kind": "Status", "status": "Success"}
            self.on_read(self.objects[parts.path])
            return 200, self.objects[parts.path]
        if parts.path.rpartition("/")[2] in {"deployments", "services", "configmaps", "pods"}:
            return 200, {"items": self._list(parts.path, parse_qs(parts.query)), "metadata": {}}
        return 404, _status(404, f"{parts.path} not found")

    def _list(self, path: str, query: dict[str, list[str]]) -> list[Json]:
        wanted = dict(pair.split("=", 1) for pair in query.get("labelSelector", [""])[0].split(",") if pair)
        found = []
        for place, item in self.objects.items():
            labels = item["metadata"].get("labels", {})
            if place.startswith(f"{path}/") and wanted.items() <= labels.items():
                self.on_read(item)
                found.append(item)
        return found


def _status(code: int, message: str) -> Json:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}


@contextmanager
def serving(api: FakeApi) -> Iterator[None]:
    """Serve while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(length)
            code, content = api.answer(self.command, self.path, json.loads(text) if text else None)
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = _handle

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write_kubeconfig(file: Path, url: str) -> Path:
    """A kubeconfig file with the one context `bed`."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "bed", "context": {"cluster": "c", "user": "u"}}],
    }
    file.write_text(json.dumps(content), encoding="utf-8")
    return file
