"""A download becomes a scenario that says what the trace says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trace_files

from imbres_gym.alibaba.digest import Digest, digest
from imbres_gym.alibaba.recorded import Written, short_names, write_recorded
from imbres_gym.alibaba.summary import summarise
from imbres_gym.config import ConfigError
from imbres_gym.scenario import Scenario, load_scenario


def made(result: Digest, out: Path, rps: float | None = None, services: int = 10) -> tuple[Written, Scenario]:
    written = write_recorded(result, out, services, 2, rps, "made by a test")
    return written, load_scenario(written.scenario)


def with_hosts_later_by(minutes: int, tmp_path: Path) -> Digest:
    """A download of v2021 whose hosts are recorded so much later than its calls."""
    folder = trace_files.write_download(tmp_path / "data", "v2021")
    header, *rows = trace_files.table("v2021", "Node").splitlines()
    later = [f"{int(row.split(',', 1)[0]) + minutes * 60_000},{row.split(',', 1)[1]}" for row in rows]
    trace_files.write(folder, "Node/Node", "\n".join([header, *later]), ".csv")
    return digest(folder, tmp_path / "kept", 1.0, lambda part, position, finished: None)


def test_v2021_is_taken_as_recorded(digest_of: Callable[[str], Digest], tmp_path: Path) -> None:
    written, scenario = made(digest_of("v2021"), tmp_path / "out")
    application = scenario.application
    cpu_ms = {
        name: operation.cpu_ms
        for name, microservice in application.microservices.items()
        for operation in microservice.operations.values()
    }
    # 4 cores times the sum of the containers' utilisation over the calls/s: 4 * (0.1 + 0.3) / 200 is 8 ms.
    assert cpu_ms == {
        "front": 8.0,
        "users": 2.0,
        "posts": 2.0,
        "gate": 4.0,
        "log": 3.0,
    }  # log: the median of the others
    assert application.microservices["log"].source.startswith("estimate")
    assert (written.microservices, written.measured) == (5, 4)
    assert application.stores["cache"].operations == {"call": 0.5}  # recorded as 0 ms
    # v2021 names a service by its entry and its interface; 3 of 4 requests are of front/get.
    shares = {request.tree.call: request.share for request in application.request_classes.values()}
    assert shares == {"front/get": 0.75, "gate/open": 0.25}
    assert application.calls_per_request() == pytest.approx(
        {"front": 0.75, "gate": 0.25, "users": 0.75 + 2 * 0.25, "posts": 0.75, "log": 0.375, "cache": 0.75}
    )
    # 4 requests a minute are 0.5 % of all.
    assert scenario.workload.rate(0.0) == pytest.approx(4 / 60 / 0.005, rel=1e-3)
    assert written.rps == pytest.approx(4 / 60 / 0.005)


def test_hosts_are_replayed_and_keep_their_spread(digest_of: Callable[[str], Digest], tmp_path: Path) -> None:
    _, scenario = made(digest_of("v2021"), tmp_path / "out")
    path = scenario.interference.path(scenario.hosts.count, 661, 1.0, np.random.default_rng(1))
    # Two of four hosts, evenly spaced by their mean. The tenth minute counts, then the record starts again.
    low, high = [0.3, 0.7], [0.4, 0.8]
    expected = np.array([low, low, high, low, high, high, low, high])
    assert path[[0, 59, 60, 539, 540, 599, 600, 660], :, 0] == pytest.approx(expected)
    assert np.all(path == path[:, :, :1])
    assert scenario.duration == 600.0


def test_v2022_is_scaled_to_the_rate_that_is_given(digest_of: Callable[[str], Digest], tmp_path: Path) -> None:
    result = digest_of("v2022")
    with pytest.raises(ConfigError, match="--rps is needed"):
        made(result, tmp_path / "refused")
    written, scenario = made(result, tmp_path / "out", rps=40.0)
    assert written.rps == pytest.approx(40.0)
    assert set(scenario.application.request_classes) == {"alpha", "beta"}
    # 40 requests/s instead of 4 a minute: 3 calls a minute of front are then 30/s, and 1600 core-ms/s make 53.3 ms.
    front = scenario.application.microservices["front"].operations["get"].cpu_ms
    assert front == pytest.approx(1000 * 4 * 0.4 / 30, rel=1e-2)


def test_the_largest_services_are_taken(digest_of: Callable[[str], Digest], tmp_path: Path) -> None:
    written, scenario = made(digest_of("v2022"), tmp_path / "out", rps=40.0, services=1)
    assert list(scenario.application.request_classes) == ["alpha"]
    assert written.services.all_services == 2
    assert "gate" not in scenario.application.microservices


def test_rates_of_each_service_are_kept(digest_of: Callable[[str], Digest], tmp_path: Path) -> None:
    written, _ = made(digest_of("v2022"), tmp_path / "out", rps=40.0)
    lines = (written.scenario.parent / "services.csv").read_text().splitlines()
    assert lines[:3] == ["time_s,alpha,beta", "0,30.000,10.000", "60,30.000,10.000"]


def test_tables_of_different_times_are_refused(tmp_path: Path) -> None:
    result = with_hosts_later_by(60, tmp_path)
    with pytest.raises(ConfigError, match="do not overlap"):
        made(result, tmp_path / "out")


def test_how_many_minutes_of_calls_and_hosts_there_are_is_said(tmp_path: Path) -> None:
    written, _ = made(with_hosts_later_by(7, tmp_path), tmp_path / "out")
    assert (written.minutes_of_calls, written.minutes_of_hosts) == (3, 10)


def test_a_scenario_is_not_overwritten(digest_of: Callable[[str], Digest], tmp_path: Path) -> None:
    result = digest_of("v2021")
    made(result, tmp_path / "out")
    with pytest.raises(ConfigError, match="exists already"):
        made(result, tmp_path / "out")


def test_summary_says_what_is_in_the_files(digest_of: Callable[[str], Digest]) -> None:
    facts = {(fact.table.value, fact.name): fact.value for fact in summarise(digest_of("v2021"))}
    assert facts["hosts", "mean CPU utilisation"] == "0.45"
    assert facts["hosts", "deviation of the hosts' means"] == "0.224"  # of 0.1, 0.3, 0.5, 0.7
    assert facts["hosts", "autocorrelation after a minute"] == "-1.00"
    assert facts["containers", "containers"] == "5"
    assert facts["rates", "calls of all together"] == "750 calls/s"
    # alpha: 5 or 6 calls, the queue's among them, in 3 levels; beta: 3 in 2.
    assert facts["calls", "mean calls of a request"] == f"{(15 * 6 + 15 * 5 + 10 * 3) / 40:.2f}"
    assert facts["calls", "mean levels of a request"] == "2.75"


def test_long_names_are_shortened_where_that_tells_them_apart() -> None:
    one, other = "a" * 64, "b" * 64
    assert short_names({one, other, "plain name/x"}) == {one: "a" * 12, other: "b" * 12, "plain name/x": "plain-name-x"}
    close = {"a" * 64, "a" * 63 + "b"}
    assert short_names(close) == {name: name for name in close}
