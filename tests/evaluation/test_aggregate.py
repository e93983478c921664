"""The aggregate over scenarios: what it says, and what it does with episodes that are missing."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import evaluation_fakes as fakes
import pytest

from imbres_gym.evaluation.aggregate import aggregate
from imbres_gym.evaluation.aggregate_report import markdown_aggregate, rich_aggregate
from imbres_gym.evaluation.bars import bar_panels, draw_bar_panels
from imbres_gym.evaluation.comparison import write_outputs
from imbres_gym.evaluation.episode import EpisodeResult, run_episode
from imbres_gym.evaluation.profile_figure import draw_profiles
from imbres_gym.evaluation.report import markdown_table, rich_tables, summarise
from imbres_gym.evaluation.runner import EpisodeFailure
from imbres_gym.evaluation.statistics import Aggregate

# Containers and violations by scenario, agent and seed.
RUNS = {
    ("shop/high-strict", "thrifty"): [(50.0, 0.0), (60.0, 0.5)],
    ("shop/high-strict", "lavish"): [(100.0, 0.0), (100.0, 0.0)],
    ("shop/high-strict", "oracle"): [(40.0, 0.0), (48.0, 0.0)],
    ("shop/low-strict", "thrifty"): [(8.0, 0.0), (9.0, 0.0)],
    ("shop/low-strict", "lavish"): [(10.0, 0.0), (10.0, 0.0)],
    ("shop/low-strict", "oracle"): [(8.0, 0.0), (8.0, 0.0)],
}


@pytest.fixture(scope="module")
def template() -> EpisodeResult:
    return run_episode(fakes.task())


@pytest.fixture(scope="module")
def results(template: EpisodeResult) -> list[EpisodeResult]:
    def episode(scenario: str, agent: str, seed: int, containers: float, violation: float) -> EpisodeResult:
        settled = {**template.metrics["settled"], "containers": containers, "sla_violation": violation}
        metrics = {**template.metrics, "settled": settled}
        return replace(template, scenario=scenario, agent=agent, seed=seed, metrics=metrics)

    return [
        episode(scenario, agent, 1000 + index, *values)
        for (scenario, agent), runs in RUNS.items()
        for index, values in enumerate(runs)
    ]


def test_an_aggregate_by_hand(results: list[EpisodeResult]) -> None:
    thrifty, lavish, oracle = aggregate(results, "lavish").rows
    # Relative to lavish, seed by seed: 0.5, 0.6, 0.8, 0.9; the middle two of the four are left.
    assert thrifty.containers_to_reference is not None
    assert thrifty.containers_to_reference.value == pytest.approx(0.7)
    # To the oracle: 1.25, 1.25, 1, 1.125.
    assert thrifty.containers_to_oracle is not None
    assert thrifty.containers_to_oracle.value == pytest.approx((1.125 + 1.25) / 2)
    # One window share of 0.5 in four runs counts, though an inter-quartile mean would not see it.
    assert thrifty.sla_violation.value == pytest.approx(0.125)
    assert thrifty.fewer_containers == Aggregate(1.0, 1.0, 1.0)
    # Never fewer: ties in three quarters of the pairs, in high-strict half of the pairs are lost: (0.25 + 0.5) / 2.
    assert thrifty.fewer_violations is not None
    assert thrifty.fewer_violations.value == pytest.approx(0.375)
    assert lavish.containers_to_reference == Aggregate(1.0, 1.0, 1.0)
    assert (lavish.fewer_containers, lavish.fewer_violations) == (None, None)
    assert oracle.containers_to_oracle == Aggregate(1.0, 1.0, 1.0)
    assert [row.missing for row in (thrifty, lavish, oracle)] == [0, 0, 0]


def test_a_missing_episode_is_said_and_left_out_of_both_sides(results: list[EpisodeResult], tmp_path: Path) -> None:
    some = [r for r in results if (r.scenario, r.agent, r.seed) != ("shop/high-strict", "thrifty", 1001)]
    table = aggregate(some, "lavish")
    thrifty = table.rows[0]
    assert (thrifty.episodes, thrifty.missing) == (3, 1)
    assert thrifty.containers_to_reference is not None
    assert thrifty.containers_to_reference.value == pytest.approx((0.5 + 0.8 + 0.9) / 3)
    assert "| 3 (1 missing) |" in markdown_aggregate(table)
    assert "| 1 of 2 |" in markdown_table(summarise(some))
    assert "thrifty (3 of 4)" in {text.get_text() for text in draw_profiles(some, "lavish").axes[1].get_legend().texts}
    failure = EpisodeFailure("shop/high-strict thrifty seed 1001", "lost", "")
    summary = json.loads(write_outputs(tmp_path, some, [failure], False, "lavish").summary.read_text())
    assert summary["aggregate"]["agents"][0]["missing"] == 1
    assert summary["results"][0]["seeds"] == [1000]


def test_a_reference_without_episodes_leaves_what_can_be_said(results: list[EpisodeResult]) -> None:
    table = aggregate([r for r in results if r.agent == "thrifty"], "lavish")
    (thrifty,) = table.rows
    assert (thrifty.containers_to_reference, thrifty.fewer_containers, thrifty.containers_to_oracle) == (None,) * 3
    assert thrifty.sla_violation.value == pytest.approx(0.125)
    assert markdown_aggregate(table).splitlines()[2].startswith("| thrifty | - | 12.5 (")
    assert draw_profiles([r for r in results if r.agent == "thrifty"], "lavish").axes[0].lines


def test_one_scenario_is_judged_by_its_own_table(results: list[EpisodeResult], tmp_path: Path) -> None:
    one = [r for r in results if r.scenario == "shop/low-strict"]
    written = write_outputs(tmp_path, one, [], figures=False)
    assert written.aggregated is None
    summary = json.loads(written.summary.read_text())
    assert summary["aggregate"] is None
    # 8 / 8 and 9 / 8.
    assert summary["results"][0]["containers_to_oracle"]["mean"] == pytest.approx(1.0625)
    assert "containers / oracle" in written.table.read_text()


def test_the_first_agent_is_the_reference_if_none_is_named(results: list[EpisodeResult], tmp_path: Path) -> None:
    written = write_outputs(tmp_path, results, [], figures=False)
    summary = json.loads(written.summary.read_text())["aggregate"]
    assert summary["reference"] == "thrifty"
    assert summary["scenarios"] == ["shop/high-strict", "shop/low-strict"]
    assert set(summary["agents"][1]["containers_to_reference"]) == {"value", "low", "high"}


def test_no_oracle_no_column(results: list[EpisodeResult]) -> None:
    others = [r for r in results if r.agent != "oracle"]
    assert "oracle" not in markdown_aggregate(aggregate(others, "lavish"))
    assert "oracle" not in markdown_table(summarise(others))


def test_the_terminal_shows_intervals_and_gaps(results: list[EpisodeResult]) -> None:
    from rich.console import Console

    some = [r for r in results if (r.scenario, r.agent, r.seed) != ("shop/high-strict", "thrifty", 1001)]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(rich_aggregate(aggregate(some, "lavish")), *rich_tables(summarise(some)))
    shown = console.export_text()
    for text in ("2 scenarios together", "0.73", "0.70-0.77", "1 missing", "1 of 2 seeds"):
        assert text in shown


def test_a_panel_per_application_a_group_per_scenario_a_bar_per_agent(
    results: list[EpisodeResult], tmp_path: Path
) -> None:
    elsewhere = [replace(r, scenario=r.scenario.replace("shop", "train-station")) for r in results[:4]]
    rows = summarise([*results, *elsewhere])
    shop, station = (axis for axis in draw_bar_panels(rows, "containers").axes if axis.get_visible())
    assert (shop.get_title(), station.get_title()) == ("Shop", "Train Station")
    assert [label.get_text() for label in shop.get_xticklabels()] == ["high, strict", "low, strict"]
    heights = sorted(bar.get_height() for bar in shop.patches if bar.get_height() > 0.0)
    assert heights == [8.0, 8.5, 10.0, 44.0, 55.0, 100.0]
    # The oracle was not run in the other application.
    assert [text.get_text() for text in station.texts] == ["x"]
    bar_panels(rows, "sla_violation", tmp_path / "figures" / "fig7.png")
    assert (tmp_path / "figures" / "fig7.png").read_bytes().startswith(b"\x89PNG")


def test_error_bars_are_the_intervals_of_the_rows(results: list[EpisodeResult]) -> None:
    rows = summarise([r for r in results if r.agent == "thrifty"])
    (axis,) = draw_bar_panels(rows, "sla_violation").axes
    ends = [
        container.lines[2][0].get_segments()[0][:, 1].tolist()
        for container in axis.containers
        if hasattr(container, "has_yerr")
    ]
    assert ends == [
        pytest.approx([100.0 * row.metrics["sla_violation"].low, 100.0 * row.metrics["sla_violation"].high])
        for row in rows
    ]


def test_bars_of_nothing_or_of_an_unknown_metric_are_errors(results: list[EpisodeResult], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        bar_panels([], "containers", tmp_path / "a.png")
    with pytest.raises(ValueError, match="no bars of 'cost'; choose one of containers, sla_violation"):
        bar_panels(summarise(results), "cost", tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
