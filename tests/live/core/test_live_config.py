"""The configuration of a live run: what is accepted, and what is refused with file, key and fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from live_bed import Bed

from imbres_gym.config import ConfigError, config_root
from imbres_gym.live.config import QUERIES, load_live_config


def test_files_are_relative_to_the_configuration(bed: Bed) -> None:
    (bed.folder / "mine.yaml").write_text("name: mine\n")
    config = load_live_config(bed.config_file(agent="mine.yaml"))
    assert config.application.name == "shop"
    assert Path(config.agent) == bed.folder / "mine.yaml"


@pytest.mark.parametrize("path", sorted((config_root() / "live").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_examples_are_valid(path: Path) -> None:
    assert load_live_config(path).prometheus.url


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sla": 100}, "sla: unknown key; did you mean 'sla_ms'?"),
        ({"application": "shopp.yaml"}, "application: "),
        ({"application": "social-netwerk"}, "did you mean 'social-network'"),
        (
            {"replicas": {"carts": {"min": 1, "max": 2}}},
            "replicas.carts: no microservice 'carts'; did you mean 'cart'?",
        ),
        ({"replicas": {"cart": {"min": 1, "max": 99}}}, "replicas.cart: 1 to 99"),
        ({"min_replicas": 11}, "min_replicas: 11 is more than max_replicas (10)"),
        ({"prometheus": {"url": "http://p", "queries": {"node_cpus": "x"}}}, "did you mean 'node_cpu'?"),
        ({"prometheus": {}}, "prometheus.url: missing"),
        ({"jaeger": {"url": "jaeger:16686"}}, "jaeger.url: write a web address"),
        ({"redis": "localhost"}, "redis: write an address such as redis://"),
        ({"election": {"deadline_s": 20.0}}, "election.deadline_s: "),
        ({"safety": {"plan_expires_s": 8.0}}, "safety.plan_expires_s: "),
        ({"safety": {"max_weight_change": 0.0}}, "safety.max_weight_change: "),
        ({"on_exit": "leave"}, "on_exit: "),
        ({"control_interval_s": float("nan")}, "control_interval_s: "),
    ],
)
def test_what_is_wrong_is_said_with_file_and_key(bed: Bed, changes: dict[str, Any], said: str) -> None:
    path = bed.config_file(**changes)
    with pytest.raises(ConfigError) as refused:
        load_live_config(path)
    assert str(path) in str(refused.value)
    assert said in str(refused.value)


def test_a_name_that_kubernetes_cannot_take_is_refused(bed: Bed) -> None:
    text = (bed.config_file()).read_text()
    (bed.folder / "shop.yaml").write_text((bed.folder / "shop.yaml").read_text().replace("name: shop", "name: My_Shop"))
    (bed.folder / "live.yaml").write_text(text)
    with pytest.raises(ConfigError, match="'My_Shop' cannot be a name in Kubernetes"):
        load_live_config(bed.folder / "live.yaml")


@pytest.mark.parametrize("name", QUERIES)
def test_queries_are_filled_in(bed: Bed, name: str) -> None:
    query = bed.config().prometheus.query(name, "shop", "shop")
    assert "$" not in query
    if "rate(" in query:
        assert '{namespace="shop"' in query and ("[15s]" in query or "cpu" in name)


def test_a_query_may_be_replaced_or_left_out(bed: Bed) -> None:
    queries = {"requests": 'rate(mine{ns="$namespace", app="$application"}[$window])', "node_llc": ""}
    prometheus = bed.config(prometheus={"url": "http://p/", "window_s": 0.5, "queries": queries}).prometheus
    assert prometheus.url == "http://p"
    assert prometheus.query("requests", "a", "b") == 'rate(mine{ns="a", app="b"}[500ms])'
    assert prometheus.query("node_llc", "a", "b") == ""


def test_an_agent_may_want_another_scaling_interval(bed: Bed) -> None:
    assert bed.config().with_scaling_interval(15.0).scaling_interval_s == 15.0
    with pytest.raises(ConfigError, match="must be a multiple of control_interval_s"):
        bed.config().with_scaling_interval(7.0)
