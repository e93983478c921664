"""Applications: what is refused, and that the shipped ones say what their sources say."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from imbres_gym.application import Application, Call, load_application
from imbres_gym.config import ConfigError, available, config_root, read_yaml, validate

SHIPPED = ("hotel-reservation", "media-service", "social-network", "train-ticket")


def small() -> dict[str, Any]:
    """A complete application of two microservices and a store."""
    return {
        "name": "small",
        "container": {"cores": 0.1, "memory_mb": 200},
        "hop_ms": 0.1,
        "microservices": {
            "front": {"operations": {"get": {"cpu_ms": 1.0}, "put": {"cpu_ms": 2.0}}},
            "back": {"operations": {"read": {"cpu_ms": 3.0}}, "cores": 0.5},
        },
        "stores": {"db": {"operations": {"find": 0.3}}},
        "request_classes": {
            "get": {
                "share": 0.75,
                "tree": {
                    "call": "front/get",
                    "stages": [
                        [{"call": "back/read", "repeat": 2, "stages": [[{"call": "db/find", "probability": 0.5}]]}],
                        [{"call": "db/find"}],
                    ],
                },
            },
            "put": {"share": 0.25, "tree": {"call": "front/put"}},
        },
    }


def build(data: dict[str, Any]) -> Application:
    return validate(Application, data, "small.yaml")


def at(data: dict[str, Any], *keys: str | int) -> Any:
    for key in keys:
        data = data[key]  # type: ignore[index]
    return data


def test_the_shipped_applications_are_the_four_of_the_paper_and_the_test_bed_s() -> None:
    assert available("applications") == sorted(["bed-chain", *SHIPPED])
    assert [load_application(name).name for name in SHIPPED] == list(SHIPPED)


# Calls of each stateless microservice per end-user request of the mix, from the call trees and mixes of the sources
# (DeathStarBench's workload scripts; for Media one compose-review with its five uploads).
CALLS = {
    "social-network": {
        "nginx-thrift": 1.0,
        "post-storage-service": 1.0,
        "home-timeline-service": 0.7,
        "user-timeline-service": 0.4,
        "compose-post-service": 0.1,
        "text-service": 0.1,
        "user-service": 0.1,
        "media-service": 0.1,
        "unique-id-service": 0.1,
        "url-shorten-service": 0.1,
        "user-mention-service": 0.1,
        "social-graph-service": 0.1,
    },
    "media-service": {
        "nginx-web-server": 1.0,
        "user-service": 1.0,
        "movie-id-service": 1.0,
        "rating-service": 1.0,
        "text-service": 1.0,
        "unique-id-service": 1.0,
        "compose-review-service": 5.0,
        "review-storage-service": 1.0,
        "user-review-service": 1.0,
        "movie-review-service": 1.0,
    },
    "hotel-reservation": {
        "frontend": 1.0,
        "search": 0.6,
        "geo": 0.6,
        "rate": 0.6,
        "profile": 0.99,
        "reservation": 0.605,
        "recommendation": 0.39,
        "user": 0.01,
    },
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_per_request_are_those_of_the_mix(name: str) -> None:
    application = load_application(name)
    calls = application.calls_per_request()
    assert {ms: calls[ms] for ms in application.microservice_names} == pytest.approx(CALLS[name])


# Mean service entries per request of Train Ticket, measured by Nezha (7,088 traces), without ts-delivery.
ENTRIES = {
    "search": "seat 3.22 order 3.22 config 3.21 gateway 1 travel 1 basic .94 station .94 route .91 train .91 price .90",
    "search-normal": "seat 1.76 order-other 1.76 config 1.76 gateway 1 travel2 1 basic .95 station .95 route .93 "
    "train .93 price .93",
    "login": "gateway 1 auth 1 verification-code .98",
    "pay": "order 1.01 gateway 1 inside-payment 1 payment .74 order-other .71",
    "preserve": "order 4.58 station 3.64 seat 2.75 config 1.88 basic 1.82 price 1.82 route 1.82 train 1.82 gateway 1 "
    "preserve 1 security 1 order-other .99 contacts .98 travel .94 user .82 assurance .41 food .35",
    "food": "gateway 1 food 1 train-food .97 travel .95 route .95 station-food .94",
    "preserve-other": "order-other 4.36 station 3.42 seat 2.59 config 1.81 basic 1.71 price 1.71 route 1.71 train 1.71 "
    "gateway 1 preserve-other 1 security .99 contacts .99 order .99 travel2 .91 user .68 assurance .36 food .32",
    "enter": "order 1.01 gateway 1 execute 1 order-other .38",
    "collect": "order 1.58 gateway 1 execute 1 order-other .79",
    "cancel": "order 1.64 gateway 1 cancel 1 inside-payment 1 order-other .72 user .64",
}


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_of_train_ticket_are_the_measured_means(name: str) -> None:
    application = load_application("train-ticket")
    entries = dict.fromkeys(application.microservice_names, 0.0)
    for call, visits in application.request_classes[name].tree.walk():
        if call.target in entries:
            entries[call.target] += visits
    words = ENTRIES[name].split()
    measured = {words[i]: float(words[i + 1]) for i in range(0, len(words), 2)}
    assert {ms: n for ms, n in entries.items() if n > 0.0} == pytest.approx(measured, abs=0.025)


def test_shares_of_train_ticket_are_the_measured_ones() -> None:
    traces = (1837, 1717, 605, 527, 523, 467, 396, 350, 344, 322)
    classes = load_application("train-ticket").request_classes.values()
    assert [request.share for request in classes] == pytest.approx([n / 7088 for n in traces], abs=1e-4)


def test_store_calls_of_social_network_per_request() -> None:
    """With cold caches left out: 0.7 + 0.4 Redis calls for timelines, 0.9 reads of posts, one write per post."""
    calls = load_application("social-network").calls_per_request()
    assert calls["home-timeline-redis"] == pytest.approx(0.7)
    assert calls["user-timeline-redis"] == pytest.approx(0.4 + 0.3 * 0.05)
    assert calls["post-storage-memcached"] == pytest.approx(0.9 * 1.05)
    assert calls["post-storage-mongodb"] == pytest.approx(0.1 + 0.9 * 0.05)
    assert calls["url-shorten-mongodb"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("name", "microservice", "cpu_ms"),
    [
        ("social-network", "post-storage-service", 0.6 * 1.54 + 0.3 * 2.60 + 0.1 * 0.24),
        ("social-network", "user-timeline-service", 0.3 * 1.43 + 0.1 * 0.53),
        ("media-service", "compose-review-service", 2.08),
        ("hotel-reservation", "frontend", 0.6 * 1.55 + 0.39 * 0.76 + 0.005 * 0.38 + 0.005 * 0.76),
        ("hotel-reservation", "profile", 0.6 * 0.47 + 0.39 * 0.78),
        ("train-ticket", "auth", 0.0854 * 87),
    ],
)
def test_cpu_demand_per_request_is_the_measured_one(name: str, microservice: str, cpu_ms: float) -> None:
    assert load_application(name).cpu_ms_per_request()[microservice] == pytest.approx(cpu_ms)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_microservice_store_and_operation_is_called_and_has_a_source(name: str) -> None:
    application = load_application(name)
    called = {call.call for request in application.request_classes.values() for call, _ in request.tree.walk()}
    operations = {
        f"{owner}/{operation}"
        for group in (application.microservices, application.stores)
        for owner, part in group.items()
        for operation in part.operations
    }
    assert called == operations
    sources = [
        *(operation.source for ms in application.microservices.values() for operation in ms.operations.values()),
        *(store.source for store in application.stores.values()),
        *(request.source for request in application.request_classes.values()),
    ]
    assert all("estimate" in source or "[" in source for source in sources)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_application_survives_a_round_trip(name: str, tmp_path: Path) -> None:
    application = load_application(name)
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(application.model_dump(mode="json")), encoding="utf-8")
    assert load_application(path) == application


def test_sums_over_a_tree() -> None:
    application = build(small())
    assert application.calls_per_request() == pytest.approx({"front": 1.0, "back": 1.5, "db": 0.75 + 0.75})
    assert application.cpu_ms_per_request() == pytest.approx({"front": 0.75 * 1 + 0.25 * 2, "back": 1.5 * 3})
    assert application.pairs == ((0, 1),)
    assert application.entries == (0,)
    assert application.called == ((0, 1), (0,))
    assert (application.cores_of("front"), application.cores_of("back")) == (0.1, 0.5)


def test_microservices_may_call_one_another_in_a_loop() -> None:
    data = small()
    data["request_classes"]["put"]["tree"]["stages"] = [[{"call": "back/read", "stages": [[{"call": "front/get"}]]}]]
    assert build(data).pairs == ((0, 1), (1, 0))


TREE = ("request_classes", "get", "tree")


@pytest.mark.parametrize(
    ("keys", "value", "line"),
    [
        (
            (*TREE, "call"),
            "frnt/get",
            f"{'.'.join(TREE)}.call: 'frnt/get': there is no microservice or store 'frnt'; did you",
        ),
        ((*TREE, "call"), "front/gte", "'front' has no operation 'gte'; did you mean 'get'?"),
        ((*TREE, "call"), "db/find", f"{'.'.join(TREE)}.call: end users cannot call the store 'db'"),
        ((*TREE, "call"), "front", "write the microservice or store and its operation"),
        (
            (*TREE, "stages", 0, 0, "call"),
            "bak/read",
            "tree.stages.0.0.call: 'bak/read': there is no microservice or store",
        ),
        (
            (*TREE, "stages", 1, 0, "call"),
            "db/fnd",
            "tree.stages.1.0.call: 'db/fnd': 'db' has no operation 'fnd'; did you",
        ),
        ((*TREE, "stages", 1, 0, "stages"), [[{"call": "db/find"}]], "tree.stages.1.0.stages: 'db' is a store"),
        ((*TREE, "stages", 0), [], "tree.stages.0: List should have at least 1 item"),
        ((*TREE, "stages", 0, 0, "repeat"), 0, "repeat: Input should be greater than or equal to 1 (got 0)"),
        ((*TREE, "stages", 0, 0, "probability"), 1.2, "probability: Input should be less than or equal to 1 (got 1.2)"),
        (("request_classes", "get", "share"), 0.8, "request_classes: the shares sum to 1.05, they must sum to 1"),
        (("request_classes",), {}, "request_classes: Dictionary should have at least 1 item"),
        (
            ("microservices", "front", "operations", "get", "cpu_ms"),
            -1,
            "front.operations.get.cpu_ms: Input should be gre",
        ),
        (("microservices", "front", "operations", "get", "cpu_ms"), float("inf"), "Input should be a finite number"),
        (("microservices", "front", "idle_core"), 1, "front.idle_core: unknown key; did you mean 'idle_cores'?"),
        (
            ("microservices", "front", "idle_cores"),
            50,
            "microservices.front.idle_cores: 50 leaves nothing of the quota",
        ),
        (("microservices", "front", "workers"), True, "front.workers: true is not a value of this key"),
        (("microservices", "a/b"), {"operations": {"x": {"cpu_ms": 1}}}, "microservices.a/b: a name must not be empty"),
        (
            ("stores", "db", "operations", "find"),
            "300us",
            "stores.db.operations.find: must be a number, without a unit",
        ),
        (("stores", "front"), {"operations": {"x": 1}}, "stores.front: there is a microservice of that name too"),
        (("container",), {"cores": 1}, "container.memory_mb: missing"),
    ],
)
def test_what_is_refused(keys: tuple[str | int, ...], value: object, line: str) -> None:
    data = small()
    at(data, *keys[:-1])[keys[-1]] = value
    with pytest.raises(ConfigError) as caught:
        build(data)
    assert str(caught.value).startswith("small.yaml:\n")
    assert line in str(caught.value)


def test_a_tree_without_end_is_refused(tmp_path: Path) -> None:
    text = yaml.safe_dump(small()).replace("call: front/put", "&again\n      call: front/put\n      stages: [[*again]]")
    path = tmp_path / "endless.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"request_classes\.put\.tree\.stages\.0\.0: this anchor holds an alias to itself"
    ):
        load_application(path)


def test_an_application_of_the_user_s_own_works_from_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "own.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(small()), encoding="utf-8")
    assert load_application(path) == load_application(str(path)) == build(small())


calls = st.recursive(
    st.builds(lambda p, r: {"call": "back/read", "probability": p, "repeat": r}, st.floats(0, 1), st.integers(1, 3)),
    lambda inner: st.builds(
        lambda p, stages: {"call": "front/get", "probability": p, "stages": stages},
        st.floats(0, 1),
        st.lists(st.lists(inner, min_size=1, max_size=3), max_size=3),
    ),
    max_leaves=8,
)


@settings(max_examples=40)
@given(calls)
def test_any_tree_survives_a_round_trip_and_counts_its_calls(tree: dict[str, Any]) -> None:
    data = copy.deepcopy(small())
    data["request_classes"] = {"only": {"share": 1.0, "tree": tree}}
    application = build(data)
    assert build(yaml.safe_load(yaml.safe_dump(application.model_dump(mode="json")))) == application

    def count(call: Call) -> float:
        inside = sum(count(child) for stage in call.stages for child in stage)
        return call.repeat * call.probability * (1.0 + inside)

    total = sum(application.calls_per_request().values())
    assert total == pytest.approx(count(application.request_classes["only"].tree))


def test_shipped_files_have_no_unused_anchor() -> None:
    for name in SHIPPED:
        text = (config_root() / "applications" / f"{name}.yaml").read_text(encoding="utf-8")
        events = [event for event in yaml.parse(text) if isinstance(event, yaml.NodeEvent)]
        anchors = {event.anchor for event in events if not isinstance(event, yaml.AliasEvent)} - {None}
        assert anchors == {event.anchor for event in events if isinstance(event, yaml.AliasEvent)}
        assert read_yaml(config_root() / "applications" / f"{name}.yaml")["name"] == name
