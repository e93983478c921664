"""Leader election: one leads, a dead one is replaced, and clocks need not agree."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_clock import Clock
from fake_kubernetes import FakeKubernetes

from imbres_gym.live.config import Election
from imbres_gym.live.kube import connect
from imbres_gym.live.lease import Elector, make_identity

Make = Callable[..., Elector]


@pytest.fixture
def kubernetes() -> Iterator[FakeKubernetes]:
    kubernetes = FakeKubernetes()
    yield kubernetes
    kubernetes.close()


@pytest.fixture
def elector(kubernetes: FakeKubernetes, tmp_path: Path) -> Iterator[Make]:
    clients = []

    def make(identity: str, clock: Callable[[], float] = time.monotonic, **times: float) -> Elector:
        client = connect("bed", "shop", kubernetes.kubeconfig(tmp_path))
        clients.append(client)
        return Elector(client, "shop", "lease", identity, Election(**times), clock)

    yield make
    for client in clients:
        client.close()


def lease(kubernetes: FakeKubernetes) -> dict[str, Any]:
    spec: dict[str, Any] = kubernetes.get("leases", "lease", "shop")["spec"]
    return spec


def test_the_first_one_leads_and_the_second_waits(elector: Make, kubernetes: FakeKubernetes) -> None:
    first, second = elector("one"), elector("two")
    assert first.try_once() and first.leads
    assert not second.try_once() and not second.leads
    assert second.holder == "one"
    assert lease(kubernetes)["holderIdentity"] == "one"
    assert lease(kubernetes)["leaseDurationSeconds"] == 15


def test_a_leader_that_stops_renewing_is_replaced_after_the_duration(
    elector: Make, kubernetes: FakeKubernetes, clock: Clock
) -> None:
    first, second = elector("one", clock), elector("two", clock)
    first.try_once()
    seen = []
    for _ in range(4):
        seen.append(second.try_once())
        clock.sleep(5.1)
    assert seen == [False, False, False, True]
    assert lease(kubernetes)["leaseTransitions"] == 1
    assert not first.leads
    assert not first.try_once() and first.lost


def test_a_leader_that_renews_is_never_replaced(elector: Make, clock: Clock) -> None:
    first, second = elector("one", clock), elector("two", clock)
    for _ in range(10):
        assert first.try_once()
        assert not second.try_once()
        clock.sleep(9.0)


@pytest.mark.parametrize("year", [1999, 2099])
def test_the_clock_of_the_leader_does_not_matter(
    elector: Make, kubernetes: FakeKubernetes, clock: Clock, year: int
) -> None:
    first, second = elector("one", clock), elector("two", clock)
    first.try_once()
    lease(kubernetes)["renewTime"] = f"{year}-01-01T00:00:00.000000Z"
    assert not second.try_once()
    clock.sleep(14.0)
    assert not second.try_once()
    clock.sleep(2.0)
    assert second.try_once()


def test_a_leader_stops_acting_before_anybody_may_take_over(
    elector: Make, kubernetes: FakeKubernetes, clock: Clock
) -> None:
    first = elector("one", clock)
    first.try_once()
    kubernetes.fail = lambda method, path: 503
    clock.sleep(9.9)
    assert first.leads
    clock.sleep(0.2)
    assert not first.leads and not first.lost
    kubernetes.fail = lambda method, path: None
    assert first.try_once() and first.leads  # nobody took over


def test_of_two_that_are_as_fast_only_one_wins(elector: Make, kubernetes: FakeKubernetes, clock: Clock) -> None:
    first, second = elector("one", clock), elector("two", clock)
    first.try_once()
    first.release()
    # Both have read the free lease; the second writes first.
    original = kubernetes.handle

    def overtaken(method: str, target: str, body: Any) -> tuple[int, Any]:
        if method == "PUT":
            kubernetes.handle = original  # type: ignore[method-assign]
            assert second.try_once()
        return original(method, target, body)

    kubernetes.handle = overtaken  # type: ignore[method-assign]
    assert not first.try_once()
    assert lease(kubernetes)["holderIdentity"] == "two"


def test_who_leaves_makes_room_at_once(elector: Make, clock: Clock) -> None:
    first, second = elector("one", clock), elector("two", clock)
    first.try_once()
    assert not second.try_once()
    first.release()
    assert second.try_once()


def test_who_waits_goes_on_when_the_leader_is_gone(elector: Make) -> None:
    times = {"duration_s": 1.0, "deadline_s": 0.5, "retry_s": 0.05}
    first, second = elector("one", **times), elector("two", **times)
    first.acquire()
    waited = []

    def waiting() -> None:
        waited.append(1)
        if len(waited) == 3:
            first.release()

    second.acquire(waiting)
    assert second.leads and len(waited) >= 3
    second.release()


def test_every_process_has_a_name_of_its_own() -> None:
    assert make_identity() != make_identity()
