"""Controllers whose wall clock is an hour ahead or behind: one leads at a time, and telemetry is judged rightly."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from connection_plans import in_force, plans
from controller import Controller, Event, from_traces, prometheus
from live_cluster import TRACES, Bed, wait_for

from scripts.testbed import skewed_clock

HOUR_S = 3600
LEASE_S = 15.0
"""How long a lease lasts that is not renewed (`election.duration_s`)."""
RENEWAL_S = 2.0
"""Time between renewals: the last one before a kill is at most so old (`election.retry_s`)."""
NewController = Callable[..., Controller]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class WrongClock:
    """A clock that is off by some seconds, for `Controller`."""

    offset_s: int
    library: Path

    def wrote(self, event: Event) -> bool:
        """Whether a line of the journal that was just written bears this clock's time."""
        return abs(datetime.fromisoformat(event["time"]).timestamp() - time.time() - self.offset_s) < 300.0


@pytest.fixture(params=[HOUR_S, -HOUR_S], ids=["ahead", "behind"])
def clock(request: pytest.FixtureRequest, tmp_path: Path) -> WrongClock:
    return WrongClock(request.param, skewed_clock.build(tmp_path / "clock.so", request.param))


def stays_in_standby(controller: Controller) -> Event:
    """Start it while another leads: for longer than a lease it says nothing but that it waits, which is returned."""
    controller.start()
    standby, _ = controller.wait_for(lambda e: e["event"] == "standby", "standby", 120.0)
    time.sleep(LEASE_S + 3.0)
    assert [e["event"] for e in controller.events()] == ["standby"]
    return standby


def takes_over(controller: Controller, leader: Controller) -> float:
    """Kill the leader; the other leads, and not before the lease is over: how long that takes [s]."""
    leader.kill()
    _, took_s = controller.wait_for(lambda e: e["event"] == "start", "takes over", 60.0)
    assert took_s > LEASE_S - RENEWAL_S - 2.0
    return took_s


def test_a_controller_with_a_wrong_clock_waits_takes_over_decides_and_keeps_others_waiting(
    loaded: Bed, running: Controller, new_controller: NewController, clock: WrongClock, tell: Tell
) -> None:
    wrong = new_controller(clock=clock.library)
    standby = stays_in_standby(wrong)
    assert clock.wrote(standby), standby
    running.wait_decision("applied", 20.0, after=len(running.events()))

    took_s = takes_over(wrong, running)
    wrong.wait_decision("applied", 60.0)
    wait_for(lambda: in_force(loaded), "plans in force", 20.0)
    tell(f"clock wrong by {clock.offset_s} s: takes over from a killed leader after {took_s:.0f} s")

    # The lease bears the wrong time now: neither expired long ago nor valid for an hour to others.
    right = new_controller()
    stays_in_standby(right)
    wrong.wait_decision("applied", 20.0, after=len(wrong.events()))
    tell(f"the other way round after {takes_over(right, wrong):.0f} s")


def test_stale_telemetry_is_stale_to_a_controller_with_a_wrong_clock(
    loaded: Bed, new_controller: NewController, clock: WrongClock
) -> None:
    """That fresh telemetry is fresh to it is shown above: it decides."""
    minute_old = 'max by (pod) (timestamp(imbres_own_latency_seconds_count{namespace="$namespace"})) - 60'
    controller = new_controller(clock=clock.library, prometheus=prometheus(own_latency_time=minute_old))
    controller.start()
    event, _ = controller.wait_decision("held", 150.0)
    assert clock.wrote(event), event
    assert any(reason.startswith("stale") for reason in event["reasons"]), event
    assert plans(loaded) == {}


def test_traces_are_found_by_a_controller_with_a_wrong_clock(
    loaded: Bed, new_controller: NewController, clock: WrongClock
) -> None:
    """Own latencies come from traces only, and without them nothing could be planned."""
    controller = new_controller(clock=clock.library, **from_traces(TRACES))
    controller.start()
    event, _ = controller.wait_for(lambda e: e["event"] == "decision" and e["plans"]["written"] > 0, "plans", 90.0)
    assert clock.wrote(event), event
