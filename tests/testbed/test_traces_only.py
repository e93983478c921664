"""Own latencies that come from traces only: what a trace store that is empty, or goes down, does to the plans."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from connection_plans import in_force, plans
from controller import Controller, from_traces
from live_cluster import TRACES, Bed, wait_for

from scripts.testbed import processes
from scripts.testbed.trace_store import Store, make_server

NewController = Callable[..., Controller]
Tell = Callable[[str], None]
INTERVALS_S = 15.0
"""Three control intervals."""


@pytest.fixture
def empty_store() -> Iterator[str]:
    """Address of a trace store that nobody sends to."""
    server = make_server("127.0.0.1", 0, Store())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_without_any_trace_load_stays_where_it_is(loaded: Bed, new_controller: NewController, empty_store: str) -> None:
    controller = new_controller(**from_traces(empty_store))
    controller.start()
    controller.wait_for(lambda e: e["event"] == "decision", "a decision", 90.0)
    time.sleep(INTERVALS_S)
    assert len(controller.events("decision")) > 2
    assert plans(loaded) == {}, "no latency is known, so that nothing says whom to give more"


def test_plans_stay_while_the_only_source_of_latencies_is_down(
    loaded: Bed, new_controller: NewController, tell: Tell
) -> None:
    controller = new_controller(**from_traces(TRACES))
    controller.start()
    controller.wait_for(lambda e: e["event"] == "decision" and e["plans"]["written"] > 0, "plans", 90.0)
    wait_for(lambda: in_force(loaded), "plans in force", 20.0)
    processes.kill("trace-store")
    try:
        controller.wait_for(
            lambda e: e["event"] == "decision" and any("Jaeger" in error for error in e["measured"]["errors"]),
            "says that Jaeger does not answer",
            30.0,
            len(controller.events()),
        )
        before = {name: plan.spec for name, plan in plans(loaded).items()}
        time.sleep(INTERVALS_S)
        assert before and {name: plan.spec for name, plan in plans(loaded).items()} == before
        assert in_force(loaded)
    finally:
        processes.restart("trace-store")
    said, began = len(controller.events()), time.monotonic()
    controller.wait_for(
        lambda e: e["event"] == "decision" and not e["measured"]["errors"] and e["outcome"] == "applied",
        "applied",
        60.0,
        said,
    )
    took_s = time.monotonic() - began
    tell(f"trace store back, the only source of own latencies: read again after {took_s:.0f} s")
