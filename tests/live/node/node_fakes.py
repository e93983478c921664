"""An API server of a few resources over real HTTP, and pods whose rules are kept in memory."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from imbres_gym.live.connection_plan import KILL_SWITCH, RENEWED, PlanStatus
from imbres_gym.live.node.api import ApiUnavailable, Pod
from imbres_gym.live.node.namespaces import Command, CommandFailed, NoNamespace
from imbres_gym.live.node.plans import Key, StoredPlan
from imbres_gym.live.node.rules import NOTHING, Found, Rules

PLANS = "/apis/imbres-gym.io/v1alpha1/connectionplans"


def spec(
    *uids: str, node: str = "node-1", expires_s: float = 30.0, weights: tuple[float, ...] = (3, 1)
) -> dict[str, Any]:
    """A valid spec: each pod (named after its uid) spreads its connections to one Service."""
    targets = [{"ip": f"10.244.0.{k}", "port": 8080, "weight": weight} for k, weight in enumerate(weights, 1)]
    service = {"service": "back", "clusterIp": "10.96.0.7", "port": 8080, "targets": targets}
    pods = [{"name": f"pod-{uid}", "uid": uid, "services": [service]} for uid in uids]
    return {"node": node, "expiresAfterSeconds": expires_s, "pods": pods}


def stored(name: str = "shop.node-1", *, generation: int = 1, renewed: str = "1", content: Any = None) -> StoredPlan:
    """A plan as the watch keeps it."""
    content = spec("a") if content is None else content
    return StoredPlan("shop", name, f"uid-of-{name}", generation, renewed, content)


class FakePlans:
    """Plans that the test sets."""

    def __init__(self, *plans: StoredPlan) -> None:
        self.changed = threading.Event()
        self.content: list[StoredPlan] | None = list(plans)

    def set(self, *plans: StoredPlan) -> None:
        self.content = list(plans)
        self.changed.set()

    def plans(self) -> list[StoredPlan] | None:
        return self.content

    def revive(self) -> None:
        pass


class FakeApi:
    """The other requests, from memory; `down` makes all of them fail."""

    def __init__(self, *uids: str) -> None:
        self.known = {uid: Pod("shop", f"pod-{uid}") for uid in uids}
        self.off: set[str] = set()
        self.down = False
        self.reports: list[tuple[Key, PlanStatus]] = []
        self.requests: list[str] = []

    def _ask(self, what: str) -> None:
        self.requests.append(what)
        if self.down:
            raise ApiUnavailable(f"{what}: no answer")

    def pods(self) -> dict[str, Pod]:
        self._ask("pods")
        return dict(self.known)

    def stopped(self, namespace: str) -> bool:
        self._ask("namespace")
        return namespace in self.off

    def report(self, plan: Key, status: PlanStatus) -> None:
        self._ask("status")
        self.reports.append((plan, status))

    def last(self, name: str = "shop.node-1") -> PlanStatus:
        """The status that was written last for a plan."""
        return [status for (_, plan), status in self.reports if plan == name][-1]


@dataclass
class FakePods:
    """Both the namespaces and the backend: rules by pod uid, and how often they were written."""

    rules: dict[str, Found] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    written: list[tuple[str, Rules]] = field(default_factory=list)
    name: str = "memory"
    programs: tuple[str, ...] = ()
    replacing: tuple[Rules, Found] = ((), NOTHING)

    @classmethod
    def running(cls, *uids: str) -> FakePods:
        return cls(dict.fromkeys(uids, NOTHING))

    @contextmanager
    def enter(self, uid: str) -> Iterator[FakeNamespace]:
        if uid not in self.rules:
            raise NoNamespace("no process of it runs on this node")
        yield FakeNamespace(self, uid)

    def read(self, namespace: FakeNamespace) -> Found:
        return self.rules[namespace.uid]

    def replacement(self, rules: Rules, found: Found) -> Command:
        self.replacing = rules, found
        return Command(("restore",))

    def in_force(self) -> dict[str, list[int]]:
        """Shares of the first Service, by pod; pods without rules are left out."""
        return {uid: [d.share for d in found.rules[0].destinations] for uid, found in self.rules.items() if found.rules}


@dataclass
class FakeNamespace:
    pods: FakePods
    uid: str

    def run(self, command: Command) -> str:
        """Replace what is there by what the backend was asked for last."""
        if self.uid in self.pods.broken:
            raise CommandFailed("restore ended with 4: no room")
        rules, found = self.pods.replacing
        if found != self.pods.rules[self.uid]:
            raise CommandFailed("restore ended with 1: what was found is not there")
        self.pods.rules[self.uid] = Found(rules, 1 if rules else 0, bool(rules))
        self.pods.written.append((self.uid, rules))
        return ""


class ApiServer:
    """Serves plans (list, watch, status), pods and namespaces as Kubernetes does, and notes every request."""

    def __init__(self) -> None:
        self.plans: dict[str, dict[str, Any]] = {}
        self.pods: list[dict[str, Any]] = []
        self.namespaces: dict[str, dict[str, str]] = {"shop": {}}
        self.requests: list[tuple[str, str]] = []
        self.refuse: int | None = None
        self.nonsense: tuple[int, bytes] | None = None
        """Status and content of every answer but a watch's, without a content type; None answers in earnest."""
        self._version = 100
        self._lock = threading.Lock()
        self._history: list[tuple[int, str]] = []
        self._watchers: list[queue.Queue[str | None]] = []
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    def start(self) -> None:
        """Listen, on the same port as the last time."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Close the port and break all watches."""
        assert self._server is not None
        self.end_watches()
        self._server.shutdown()
        self._server.server_close()

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig file with the context `fake`."""
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "fake", "user": {}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        }
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    def put_plan(self, name: str, content: Any, *, renewed: str = "1") -> None:
        """Create or change a plan; another spec is another generation."""
        old = self.plans.get(name)
        generation = 1 if old is None else old["metadata"]["generation"] + (old["spec"] != content)
        metadata = {
            "namespace": "shop",
            "name": name,
            "uid": f"uid-of-{name}",
            "generation": generation,
            "resourceVersion": str(self._version + 1),
            "annotations": {RENEWED: renewed},
        }
        self.plans[name] = {
            "apiVersion": "imbres-gym.io/v1alpha1",
            "kind": "ConnectionPlan",
            "metadata": metadata,
            "spec": content,
            "status": {} if old is None else old["status"],
        }
        self._tell("ADDED" if old is None else "MODIFIED", self.plans[name])

    def delete_plan(self, name: str) -> None:
        """Delete a plan."""
        plan = self.plans.pop(name)
        plan["metadata"]["resourceVersion"] = str(self._version + 1)
        self._tell("DELETED", plan)

    def expire_watches(self) -> None:
        """Tell every watch that its version is too old."""
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "too old", "code": 410}
        with self._lock:
            for watcher in self._watchers:
                watcher.put(json.dumps({"type": "ERROR", "object": status}))
        self.end_watches()

    def end_watches(self) -> None:
        """End every watch as after its time."""
        with self._lock:
            for watcher in self._watchers:
                watcher.put(None)
            self._watchers.clear()

    def silence_watches(self) -> None:
        """Keep the connections, but never say anything on them again."""
        self._watchers.clear()

    def kill_switch(self, on: bool) -> None:
        """Set the namespace's annotation."""
        self.namespaces["shop"] = {KILL_SWITCH: "true"} if on else {}

    def watching(self) -> int:
        """Open watches."""
        return len(self._watchers)

    def _tell(self, kind: str, plan: dict[str, Any]) -> None:
        with self._lock:
            self._version += 1
            event = json.dumps({"type": kind, "object": plan})
            self._history.append((self._version, event))
            for watcher in self._watchers:
                watcher.put(event)

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """Status and content of one request that is no watch."""
        if self.refuse:
            return self.refuse, _failure(self.refuse)
        parts = path.strip("/").split("/")
        if path == PLANS:
            return 200, _list("ConnectionPlanList", list(self.plans.values()), self._version)
        if method == "PATCH" and parts[-1] == "status":
            plan = self.plans.get(parts[-2])
            if plan is None:
                return 404, _failure(404)
            plan["status"].update(body["status"])
            return 200, plan
        if path == "/api/v1/pods":
            node = query["fieldSelector"][0].removeprefix("spec.nodeName=")
            return 200, _list("PodList", [p for p in self.pods if p["spec"]["nodeName"] == node], self._version)
        if parts[:3] == ["api", "v1", "namespaces"] and parts[3] in self.namespaces:
            metadata = {"name": parts[3], "annotations": self.namespaces[parts[3]]}
            return 200, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        return 404, _failure(404)

    def watch(self, since: int) -> queue.Queue[str | None]:
        """Events after a version; None ends the watch."""
        events: queue.Queue[str | None] = queue.Queue()
        with self._lock:
            for version, event in self._history:
                if version > since:
                    events.put(event)
            self._watchers.append(events)
        return events


def api_pod(uid: str, node: str = "node-1", *, host_network: bool = False, sidecar: str = "") -> dict[str, Any]:
    """A pod as the API server describes it."""
    containers = [{"name": name} for name in ("app", sidecar) if name]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "shop", "name": f"pod-{uid}", "uid": uid},
        "spec": {"nodeName": node, "hostNetwork": host_network, "containers": containers},
    }


def _list(kind: str, items: list[Any], version: int) -> dict[str, Any]:
    return {"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": str(version)}, "items": items}


def _failure(code: int) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": f"code {code}", "code": code}


def _handler(server: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query)
            verb = "WATCH" if "watch" in query else self.command
            server.requests.append((verb, parts.path))
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            if verb == "WATCH" and not server.refuse:
                self._watch(int(query["resourceVersion"][0]))
                return
            code, content = server.answer(self.command, parts.path, query, body)
            data = json.dumps(content).encode()
            if server.nonsense:
                code, data = server.nonsense
            self.send_response(code)
            if not server.nonsense:
                self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PATCH = _do

        def _watch(self, since: int) -> None:
            events = server.watch(since)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            while (event := events.get()) is not None:
                self.wfile.write(event.encode() + b"\n")

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
