"""Rules in real network namespaces: real TCP connections follow them, every backend reads what it wrote."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from real_pods import RealPod
from real_rules import SERVICE, WEIGHTED, large, spread
from scipy.stats import chisquare

from imbres_gym.live.node.backends import Backend, all_backends, choose_backend, why_not
from imbres_gym.live.node.drain import Drain
from imbres_gym.live.node.enforcer import Enforcer, NotInForce
from imbres_gym.live.node.metrics import Metrics
from imbres_gym.live.node.namespaces import Namespaces, NoNamespace
from imbres_gym.live.node.rules import MILLION, NOTHING, Destination, ServiceRule

COUNTER = Path(__file__).with_name("tcp_counter.py")
CONNECTIONS = 4000


def answers(pod: RealPod, count: int = CONNECTIONS) -> dict[str, int]:
    ports = ["8081", "8082", "8083"]
    output = pod.run(sys.executable, str(COUNTER), SERVICE, "80", str(count), *ports)
    counted: dict[str, int] = json.loads(output)
    return counted


@pytest.fixture(params=all_backends(), ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    chosen: Backend = request.param
    assert why_not(chosen) is None
    return chosen


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def enforcer(backend: Backend, metrics: Metrics) -> Enforcer:
    return Enforcer(backend, Namespaces(), metrics)


def test_connections_follow_the_weights_within_statistical_error(enforcer: Enforcer, pod: RealPod) -> None:
    enforcer.enforce(pod.uid, WEIGHTED, look=False)
    counted = answers(pod)
    observed = [counted.pop(port) for port in ("8081", "8082", "8083")]
    assert counted == {}
    # One false alarm in a million runs; a share that is off by 4 % of the connections is found in nearly all.
    assert chisquare(observed, [CONNECTIONS * share for share in (0.6, 0.3, 0.1)]).pvalue > 1e-6


def test_new_weights_replace_the_old_ones_and_leaving_takes_them_out(enforcer: Enforcer, pod: RealPod) -> None:
    enforcer.enforce(pod.uid, WEIGHTED, look=False)
    enforcer.enforce(pod.uid, spread(0, 0, MILLION), look=False)
    assert answers(pod, 200) == {"8083": 200}
    enforcer.enforce(pod.uid, (), look=False)
    assert answers(pod, 20) == {"ConnectionRefusedError": 20}


def test_what_was_written_is_read_back_exactly(backend: Backend, pod: RealPod) -> None:
    rules = (*WEIGHTED, *large(100), ServiceRule("10.96.0.10", 6379, (Destination("10.244.1.9", 6379, MILLION),)))
    with Namespaces().enter(pod.uid) as namespace:
        found = backend.read(namespace)
        assert found == NOTHING
        for wanted in (rules, WEIGHTED, large(3), rules, ()):
            namespace.run(backend.replacement(wanted, found))
            found = backend.read(namespace)
            assert found.are(wanted)
    assert found == NOTHING


def test_other_rules_of_the_pod_stay(enforcer: Enforcer, backend: Backend, pod: RealPod) -> None:
    program = "iptables-nft" if backend.name == "nftables" else backend.name
    pod.run(program, "-t", "nat", "-A", "OUTPUT", "-d", "192.0.2.7", "-j", "ACCEPT")
    before = pod.run(f"{program}-save", "-t", "nat")
    enforcer.enforce(pod.uid, WEIGHTED, look=False)
    enforcer.enforce(pod.uid, (), look=False)

    def rules(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith("-A ")]

    assert rules(pod.run(f"{program}-save", "-t", "nat")) == rules(before)


@pytest.mark.parametrize("damage", ["flush", "unhook", "double", "append"])
def test_drift_is_repaired(backend: Backend, enforcer: Enforcer, metrics: Metrics, pod: RealPod, damage: str) -> None:
    enforcer.enforce(pod.uid, WEIGHTED, look=False)
    if backend.name == "nftables":
        commands = {
            "flush": "flush table ip imbres_gym",
            "unhook": "delete table ip imbres_gym",
            "double": "insert rule ip imbres_gym output accept",
            "append": "add rule ip imbres_gym output tcp dport 80 accept",
        }
        pod.run("nft", commands[damage])
    else:
        words = {
            "flush": ("-F", "IMBRES-GYM"),
            "unhook": ("-D", "OUTPUT", "-j", "IMBRES-GYM"),
            "double": ("-I", "OUTPUT", "-j", "IMBRES-GYM"),
            "append": ("-A", "IMBRES-GYM", "-p", "tcp", "-j", "RETURN"),
        }
        pod.run(backend.name, "-t", "nat", *words[damage])
    assert enforcer.enforce(pod.uid, WEIGHTED, look=True) is not None
    assert enforcer.enforce(pod.uid, WEIGHTED, look=True) is None
    repaired = metrics.registry.get_sample_value("imbres_node_agent_updates_total", {"result": "repaired"})
    assert repaired == 1


def test_a_kill_in_the_middle_of_updates_leaves_the_old_rules_or_the_new(
    backend: Backend, pod: RealPod, tmp_path: Path
) -> None:
    # A process changes between two sets of rules as fast as it can and is killed with its children, many times.
    old, new = large(100), large(60)
    program = tmp_path / "changer.py"
    program.write_text(
        "import sys\n"
        "from imbres_gym.live.node.backends import all_backends\n"
        "from imbres_gym.live.node.enforcer import Enforcer\n"
        "from imbres_gym.live.node.metrics import Metrics\n"
        "from imbres_gym.live.node.namespaces import Namespaces\n"
        "from real_rules import large\n"
        f"backend = next(b for b in all_backends() if b.name == {backend.name!r})\n"
        "enforcer = Enforcer(backend, Namespaces(), Metrics())\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    for rules in (large(100), large(60)):\n"
        f"        enforcer.enforce({pod.uid!r}, rules, look=False)\n",
        encoding="utf-8",
    )
    seen = set()
    for attempt in range(8):
        process = subprocess.Popen(
            [sys.executable, str(program)],
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(COUNTER.parent)])},
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.3 + 0.013 * attempt)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with Namespaces().enter(pod.uid) as namespace:
            found = backend.read(namespace)
        assert found.are(old) or found.are(new)
        seen.add(found.rules)
    # A restarted agent goes on from there.
    enforcer = Enforcer(backend, Namespaces(), Metrics())
    enforcer.enforce(pod.uid, WEIGHTED, look=True)
    assert set(answers(pod, 50)) <= {"8081", "8082", "8083"}
    assert seen <= {old, new}


def test_a_pod_that_ends_is_reported_not_mistaken(enforcer: Enforcer, pod: RealPod, other_pod: RealPod) -> None:
    enforcer.enforce(pod.uid, WEIGHTED, look=False)
    pod.end()
    with pytest.raises(NotInForce, match="no process of it runs on this node"):
        enforcer.enforce(pod.uid, spread(MILLION), look=True)
    enforcer.enforce(other_pod.uid, WEIGHTED, look=True)
    assert set(answers(other_pod, 50)) <= {"8081", "8082", "8083"}


def test_a_process_in_the_hosts_network_is_left_alone(pod: RealPod) -> None:
    group = next(Path("/sys/fs/cgroup").glob(f"*/imbres-test/pod{pod.uid}/cgroup.procs"), None)
    group = group or Path(f"/sys/fs/cgroup/imbres-test/pod{pod.uid}/cgroup.procs")
    pod.end()
    guest = subprocess.Popen(["sleep", "infinity"])
    try:
        group.write_text(str(guest.pid), encoding="utf-8")
        with pytest.raises(NoNamespace, match="hostNetwork"), Namespaces().enter(pod.uid):
            pass
    finally:
        guest.kill()
        guest.wait()


def test_four_capabilities_are_enough_for_the_fastest_backend(pod: RealPod) -> None:
    code = (
        "from imbres_gym.live.node.backends import choose_backend\n"
        "from imbres_gym.live.node.enforcer import Enforcer\n"
        "from imbres_gym.live.node.metrics import Metrics\n"
        "from imbres_gym.live.node.namespaces import Namespaces\n"
        "from real_rules import WEIGHTED\n"
        "backend = choose_backend()\n"
        f"Enforcer(backend, Namespaces(), Metrics()).enforce({pod.uid!r}, WEIGHTED, look=True)\n"
        "print(backend.name)\n"
    )
    capabilities = "-all,+net_admin,+net_raw,+sys_admin,+sys_ptrace"
    done = subprocess.run(
        ["setpriv", f"--bounding-set={capabilities}", "--inh-caps=-all", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(COUNTER.parent)])},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == choose_backend().name
    assert set(answers(pod, 50)) <= {"8081", "8082", "8083"}


def test_a_drain_closes_old_connections_slowly_and_no_others(pod: RealPod, metrics: Metrics) -> None:
    backend, namespaces = choose_backend(), Namespaces()
    enforcer = Enforcer(backend, namespaces, metrics)
    enforcer.enforce(pod.uid, spread(MILLION), look=False)
    code = (
        "import socket, sys, time\n"
        "server = socket.create_server(('127.0.0.1', 8081)); other = socket.create_server(('127.0.0.1', 9000))\n"
        f"kept = [socket.create_connection(('{SERVICE}', 80)) for _ in range(10)]\n"
        "strange = socket.create_connection(('127.0.0.1', 9000))\n"
        "print('ready', flush=True); time.sleep(60)\n"
    )
    words = ["nsenter", f"--net={pod.net}", sys.executable, "-c", code]
    client = subprocess.Popen(words, stdout=subprocess.PIPE)

    def established(port: int) -> int:
        text = pod.run("ss", "-tnH", "state", "established", f"( dport = :{port} )")
        return len(text.splitlines())

    try:
        assert client.stdout is not None
        client.stdout.readline()
        now_s = 0.0
        drain = Drain(4, namespaces, metrics, lambda: now_s)
        enforcer.enforce(pod.uid, spread(0, MILLION), look=False)
        assert established(80) == 10
        drain.begin(pod.uid, spread(MILLION), spread(0, MILLION))
        left = []
        for now_s in (0.0, 0.5, 1.0, 10.0, 11.0):  # noqa: B007, as the clock reads it
            drain.step()
            left.append(established(80))
        assert left == [10, 8, 6, 2, 0]
        assert established(9000) == 1
        assert metrics.registry.get_sample_value("imbres_node_agent_drained_connections_total") == 10
    finally:
        client.kill()
        client.wait()
        assert client.stdout is not None
        client.stdout.close()
