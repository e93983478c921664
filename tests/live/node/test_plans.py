"""The watch over real HTTP: what it sees, and how it survives all that ends a watch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from node_fakes import ApiServer, spec

from imbres_gym.live.kube import connect
from imbres_gym.live.node import plans as module
from imbres_gym.live.node.plans import PlanWatch

NAME = "shop.node-1"


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    server = ApiServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def failures() -> list[str]:
    return []


@pytest.fixture
def watch(
    server: ApiServer, failures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PlanWatch]:
    monkeypatch.setattr(module, "LEAST_WAIT_S", 0.02)
    monkeypatch.setattr(module, "MOST_WAIT_S", 0.1)
    config = server.kubeconfig(tmp_path / "config")
    watch = PlanWatch(lambda: connect("fake", "default", config), failures.append)
    yield watch
    watch.stop()


def generations(watch: PlanWatch) -> dict[str, int]:
    return {plan.name: plan.generation for plan in watch.plans() or ()}


def test_plans_are_not_known_before_they_are_listed(watch: PlanWatch) -> None:
    assert watch.plans() is None
    watch.start()
    wait_for(lambda: watch.plans() == [])
    assert watch.changed.is_set()


def test_a_plan_is_seen_with_its_changes_and_its_end(server: ApiServer, watch: PlanWatch) -> None:
    server.put_plan("old.node-1", spec("z"))
    watch.start()
    wait_for(lambda: server.watching() == 1)
    server.put_plan(NAME, spec("a"))
    wait_for(lambda: generations(watch) == {"old.node-1": 1, NAME: 1})
    server.put_plan(NAME, spec("a"), renewed="2")
    wait_for(lambda: [plan.renewed for plan in watch.plans() or ()] == ["1", "2"])
    server.put_plan(NAME, spec("a", "b"), renewed="3")
    server.delete_plan("old.node-1")
    wait_for(lambda: generations(watch) == {NAME: 2})
    (plan,) = watch.plans() or ()
    assert (plan.key, plan.uid, plan.spec) == (("shop", NAME), f"uid-of-{NAME}", spec("a", "b"))
    assert server.requests.count(("GET", "/apis/imbres-gym.io/v1alpha1/connectionplans")) == 1


def test_a_watch_that_ends_after_its_time_goes_on(server: ApiServer, watch: PlanWatch, failures: list[str]) -> None:
    watch.start()
    wait_for(lambda: server.watching() == 1)
    server.end_watches()
    wait_for(lambda: server.watching() == 1)
    server.put_plan(NAME, spec("a"))
    wait_for(lambda: generations(watch) == {NAME: 1})
    assert failures == []


def test_an_expired_watch_lists_again(server: ApiServer, watch: PlanWatch, failures: list[str]) -> None:
    server.put_plan(NAME, spec("a"))
    watch.start()
    wait_for(lambda: server.watching() == 1)
    del server.plans[NAME]  # an end that the watch does not tell
    server.expire_watches()
    server.put_plan("new.node-1", spec("b"))
    wait_for(lambda: generations(watch) == {"new.node-1": 1})
    assert failures == ["expired"]


def test_an_api_server_that_restarts_is_found_again(server: ApiServer, watch: PlanWatch, failures: list[str]) -> None:
    server.put_plan(NAME, spec("a"))
    watch.start()
    wait_for(lambda: server.watching() == 1)
    server.stop()
    wait_for(lambda: "unreachable" in failures)
    assert generations(watch) == {NAME: 1}
    server.put_plan(NAME, spec("a", "b"))
    server.start()
    wait_for(lambda: generations(watch) == {NAME: 2})


def test_missing_rights_are_no_end(server: ApiServer, watch: PlanWatch, failures: list[str]) -> None:
    server.refuse = 403
    watch.start()
    wait_for(lambda: len(failures) > 1)
    assert watch.plans() is None
    assert set(failures) == {"refused"}
    server.refuse = None
    wait_for(lambda: watch.plans() == [])


def hang(server: ApiServer, watch: PlanWatch) -> None:
    """A watch whose connection has died without a word, and a plan that it has not heard of."""
    watch.start()
    wait_for(lambda: server.watching() == 1)
    server.silence_watches()
    server.put_plan(NAME, spec("a"))


def test_a_watch_that_hangs_is_replaced(
    server: ApiServer, watch: PlanWatch, failures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hang(server, watch)
    watch.revive()
    assert failures == []  # not silent for long
    monkeypatch.setattr(module, "SILENCE_S", 0.05)
    time.sleep(0.1)
    watch.revive()
    wait_for(lambda: generations(watch) == {NAME: 1})
    assert failures == ["silent"]
    server.put_plan(NAME, spec("a", "b"))
    wait_for(lambda: generations(watch) == {NAME: 2})


def test_a_list_that_cannot_be_read_is_tried_again(
    server: ApiServer, watch: PlanWatch, failures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hang(server, watch)
    monkeypatch.setattr(module, "SILENCE_S", 0.05)
    time.sleep(0.1)
    for nonsense in ((200, b"<html>"), (502, b"")):
        server.nonsense = nonsense
        watch.revive()
    assert (failures, watch.plans()) == ([], [])
    server.nonsense = None
    watch.revive()
    wait_for(lambda: generations(watch) == {NAME: 1})
    assert failures == ["silent"]


def test_a_watch_that_is_only_quiet_is_left_alone(
    server: ApiServer, watch: PlanWatch, failures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put_plan(NAME, spec("a"))
    watch.start()
    wait_for(lambda: server.watching() == 1)
    monkeypatch.setattr(module, "SILENCE_S", 0.05)
    time.sleep(0.1)
    watch.revive()
    assert (failures, server.watching()) == ([], 1)
