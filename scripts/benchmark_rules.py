"""How long the node agent takes to replace the rules of one pod, for every backend that works here.

Run from a checkout, as root: `.venv/bin/python scripts/benchmark_rules.py` (half a minute). Measured is what an update
costs the agent: start the program in the pod's network namespace and replace all rules by others, from a plan's weights
to the committed table. The peer is what a shell script would do: one `iptables -A` for each rule. The namespace is a
fresh one, and goes with the script.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from imbres_gym.live.connection_plan import PodRules
from imbres_gym.live.node.backends import Backend, all_backends, why_not
from imbres_gym.live.node.iptables import CHAIN, restore_text
from imbres_gym.live.node.namespaces import Command, Namespace
from imbres_gym.live.node.rules import NOTHING, Found, Rules, rules_of

TARGETS = 10
"""Downstream pods of each Service, as Imbres connects a container to ten (its section 6.1)."""


def pod_rules(connections: int, first_weight: float) -> PodRules:
    """A plan's rules for one pod: Services of ten targets each, the first of which has another weight."""
    services = []
    for start in range(0, connections, TARGETS):
        numbers = range(start, min(start + TARGETS, connections))
        targets = [
            {"ip": f"10.244.{k // 250}.{k % 250 + 1}", "port": 8080, "weight": first_weight if k == start else 1.0}
            for k in numbers
        ]
        address = f"10.96.{start // 2500}.{start // TARGETS % 250 + 1}"
        services.append({"service": f"s{start}", "clusterIp": address, "port": 8080, "targets": targets})
    return PodRules.model_validate({"name": "front", "uid": "u", "services": services})


@contextmanager
def new_namespace() -> Iterator[Namespace]:
    """A network namespace with nothing in it."""
    process = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    try:
        own = os.stat("/proc/self/ns/net").st_ino
        while os.stat(f"/proc/{process.pid}/ns/net").st_ino == own:
            time.sleep(0.01)
        descriptor = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY)
        try:
            yield Namespace(descriptor)
        finally:
            os.close(descriptor)
    finally:
        process.kill()
        process.wait()


def replacements(backend: Backend, namespace: Namespace, connections: int) -> Callable[[], None]:
    """A call that replaces all rules by others, and back at the next call."""
    plans = [pod_rules(connections, weight) for weight in (2.0, 3.0)]
    state: list[Found] = [NOTHING]

    def replace() -> None:
        plans.reverse()
        rules: Rules = rules_of(plans[0])
        namespace.run(backend.replacement(rules, state[0]))
        state[0] = Found(rules=rules, hooks=1, exists=True)

    return replace


def single_commands(namespace: Namespace, connections: int) -> Callable[[], None]:
    """A call that empties the chain and appends the same rules, each by a command of its own."""
    lines = restore_text(rules_of(pod_rules(connections, 2.0)), hooks=1).splitlines()
    appends = [Command(("iptables", "-t", "nat", *line.split())) for line in lines if line.startswith("-A ")]

    def replace() -> None:
        namespace.run(Command(("iptables", "-t", "nat", "-F", CHAIN)))
        for append in appends:
            namespace.run(append)

    namespace.run(Command(("iptables", "-t", "nat", "-N", CHAIN)))
    return replace


def measure(replace: Callable[[], None], repeats: int) -> list[float]:
    """Times of the calls after a first one [ms]."""
    replace()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        replace()
        times.append(1000.0 * (time.perf_counter() - start))
    return times


def main() -> None:
    """Measure and print one line for each way."""
    parser = argparse.ArgumentParser(description="How long replacing the rules of one pod takes.")
    parser.add_argument("--connections", type=int, default=100, help="rules of the pod (default: 100)")
    parser.add_argument("--repeats", type=int, default=100, help="replacements that are timed (default: 100)")
    options = parser.parse_args()
    count = options.connections
    load = os.getloadavg()[0]
    print(
        f"{count} connections of one pod, replaced; {os.cpu_count()} cores, load average {load:.1f} before the start\n"
    )
    print(f"{'':24s} {'min':>8s} {'median':>8s} {'max':>8s}  ms")
    for backend in all_backends():
        reason = why_not(backend)
        if reason:
            print(f"{backend.name:24s} does not work here: {reason}")
            continue
        with new_namespace() as namespace:
            show(backend.name, measure(replacements(backend, namespace, count), options.repeats))
    with new_namespace() as namespace:
        show(f"{count} x iptables -A", measure(single_commands(namespace, count), max(1, options.repeats // 20)))


def show(name: str, times: list[float]) -> None:
    """Print one line."""
    print(f"{name:24s} {min(times):8.1f} {statistics.median(times):8.1f} {max(times):8.1f}")


if __name__ == "__main__":
    main()
