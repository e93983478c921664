"""A small Kubernetes API server over real HTTP: enough of it for one application, with failures on request."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fake_server import FakeServer

Object = dict[str, Any]


class FakeKubernetes(FakeServer):
    """Keeps objects by plural, namespace and name; Deployments get their pods at once."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.writes: list[tuple[str, str]] = []
        self.requests: list[tuple[str, str]] = []
        self.fail: Callable[[str, str], int | None] = lambda method, path: None
        """Status code that a request fails with, by method and path; None lets it pass."""
        self.denied: set[str] = set()
        """`verb resource` that a SelfSubjectAccessReview says no to."""
        self.missing_groups: set[str] = set()
        """API groups with version ("policy/v1") that this server does not have."""
        self.pods_become_ready = True
        self._version = 100
        self._ip = 10
        self._lock = threading.RLock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer in one piece: two would wait for each other (Nagle)

            def _handle(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                status, answer = fake.handle(self.command, self.path, body)
                plain = isinstance(answer, str)
                content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain" if plain else "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.serve(Handler)

    def kubeconfig(self, folder: Path) -> Path:
        path = folder / "kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": self.url, "insecure-skip-tls-verify": True}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "bed", "context": {"cluster": "fake", "user": "me"}}],
        }
        path.write_text(json.dumps(config))
        return path

    def put(self, plural: str, obj: Object, namespace: str = "") -> Object:
        with self._lock:
            obj = copy.deepcopy(obj)
            metadata = obj.setdefault("metadata", {})
            self._version += 1
            metadata.setdefault("uid", f"uid-{self._version}")
            metadata.setdefault("generation", 1)
            metadata["resourceVersion"] = str(self._version)
            if namespace:
                metadata["namespace"] = namespace
            self.objects[plural, namespace, metadata["name"]] = obj
            if plural == "deployments":
                self.reconcile(obj)
            return obj

    def get(self, plural: str, name: str, namespace: str = "") -> Object:
        return self.objects[plural, namespace, name]

    def of(self, plural: str) -> list[Object]:
        return [obj for (kind, _, _), obj in sorted(self.objects.items(), key=lambda item: item[0]) if kind == plural]

    def reconcile(self, deployment: Object) -> None:
        """Give a Deployment as many pods as it wants; the newest go first."""
        namespace, template = deployment["metadata"]["namespace"], deployment["spec"]["template"]
        labels = template["metadata"]["labels"]
        mine = [pod for pod in self.of("pods") if pod["metadata"]["labels"] == labels]
        mine.sort(key=lambda pod: int(pod["metadata"]["resourceVersion"]))
        wanted = deployment["spec"].get("replicas", 1)
        nodes = [node["metadata"]["name"] for node in self.of("nodes")]
        for index in range(len(mine), wanted):
            self.add_pod(deployment["metadata"]["name"], labels, nodes[index % len(nodes)], namespace, template["spec"])
        for pod in mine[wanted:]:
            del self.objects["pods", namespace, pod["metadata"]["name"]]

    def add_pod(self, prefix: str, labels: Object, node: str, namespace: str, spec: Object) -> Object:
        self._ip += 1
        ready = self.pods_become_ready
        pod = {
            "metadata": {
                "name": f"{prefix}-{self._ip}",
                "labels": dict(labels),
                "creationTimestamp": f"2026-01-01T00:{self._ip // 60:02}:{self._ip % 60:02}Z",
            },
            "spec": {**copy.deepcopy(spec), "nodeName": node},
            "status": {
                "phase": "Running",
                "podIP": f"10.244.0.{self._ip}",
                "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            },
        }
        return self.put("pods", pod, namespace)

    def handle(self, method: str, target: str, body: Any) -> tuple[int, Object | str]:
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        with self._lock:
            self.requests.append((method, url.path))
            if (code := self.fail(method, url.path)) is not None:
                return _status(code, "made to fail")
            if method != "GET" and not url.path.endswith("reviews"):
                self.writes.append((method, url.path))
            return self._route(method, url.path.strip("/").split("/"), query, body)

    def _route(self, method: str, parts: list[str], query: dict[str, str], body: Any) -> tuple[int, Object | str]:
        if parts == ["version"]:
            return 200, {"major": "1", "minor": "20", "gitVersion": "v1.20.2"}
        group = "v1" if parts[0] == "api" else "/".join(parts[1:3])
        if group in self.missing_groups:
            return 404, "404 page not found\n"
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        plural, name, action = [*rest, None, None][:3]
        if plural == "selfsubjectaccessreviews":
            wanted = body["spec"]["resourceAttributes"]
            resource = "/".join(filter(None, [wanted["resource"], wanted.get("subresource")]))
            allowed = f"{wanted['verb']} {resource}" not in self.denied
            return 201, {**body, "status": {"allowed": allowed}}
        if name is None:
            return self._collection(method, str(plural), namespace, query, body)
        key = (str(plural), namespace, name)
        if key not in self.objects:
            return _status(404, f"{plural} {name!r} not found")
        return self._one(method, key, action, body)

    def _collection(
        self, method: str, plural: str, namespace: str, query: dict[str, str], body: Any
    ) -> tuple[int, Object]:
        if method == "POST":
            if (plural, namespace, body["metadata"]["name"]) in self.objects:
                return _status(409, "already exists")
            return 201, self.put(plural, body, namespace)
        selector = dict(part.split("=") for part in query.get("labelSelector", "").split(",") if part)
        items = [
            obj
            for (kind, where, _), obj in self.objects.items()
            if kind == plural and where == namespace and selector.items() <= obj["metadata"].get("labels", {}).items()
        ]
        return 200, {"kind": "List", "metadata": {"resourceVersion": str(self._version)}, "items": items}

    def _one(self, method: str, key: tuple[str, str, str], action: str | None, body: Any) -> tuple[int, Object]:
        obj = self.objects[key]
        if method == "DELETE":
            del self.objects[key]
            return 200, {"kind": "Status", "status": "Success"}
        if method == "GET":
            return 200, obj
        if method == "PUT":
            if body["metadata"].get("resourceVersion") not in (None, obj["metadata"]["resourceVersion"]):
                return _status(409, "the object has been modified")
            return 200, self.put(key[0], body, key[1])
        changed = copy.deepcopy(obj)
        _merge(changed, body)
        if changed.get("spec") != obj.get("spec"):
            changed["metadata"]["generation"] = obj["metadata"]["generation"] + 1
        changed = self.put(key[0], changed, key[1])
        if action == "scale":
            return 200, {
                "kind": "Scale",
                "metadata": {"name": key[2]},
                "spec": {"replicas": changed["spec"]["replicas"]},
            }
        return 200, changed


def _merge(target: Object, patch: Object) -> None:
    """RFC 7386."""
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, dict):
            _merge(target.setdefault(name, {}), value)
        else:
            target[name] = value


def _status(code: int, message: str) -> tuple[int, Object]:
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}
