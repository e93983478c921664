"""The experiment scripts at tiny settings: they run through, go on where they stopped, and follow their own rules."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from agents.bundle import load_bundle
from imbres_gym.evaluation.episode import EpisodeResult
from imbres_gym.evaluation.task import EpisodeTask
from imbres_gym.evaluation.tuning import Candidate, Knob, choose, tune
from imbres_gym.scenario import load_scenario
from scripts.experiments import (
    correlations,
    figure_4a,
    figure_13a,
    load_balancers,
    load_per_container,
    stretch_sweep,
    trace_driven,
)
from scripts.experiments.runs import run_episodes

TARGETS = Knob("target", (0.7, 0.3))


@dataclass
class InProcess:
    """Runs everything here and counts it; tiny episodes are not worth worker processes."""

    episodes: int = 0

    def run(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Generator[tuple[int, Any], None, None]:
        for index, item in enumerate(items):
            self.episodes += 1
            yield index, function(item)


@pytest.fixture
def executor() -> InProcess:
    return InProcess()


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    """A front that reads from a back, on two hosts of which one is disturbed."""
    operation = {"operations": {"work": {"cpu_ms": 2.0}}}
    tree = {"call": "front/work", "stages": [[{"call": "back/work"}]]}
    data = {
        "name": "tiny",
        "application": {
            "name": "tiny",
            "container": {"cores": 0.1, "memory_mb": 100},
            "hop_ms": 0.1,
            "microservices": {"front": operation, "back": operation},
            "request_classes": {"read": {"share": 1.0, "tree": tree}},
        },
        "hosts": {"count": 2, "cores": 8, "memory_mb": 16000},
        "workload": {"kind": "constant", "rps": 200},
        "interference": {"kind": "constant", "levels": [{"cpu": 0.1}, {"cpu": 0.6}]},
        "sla_ms": 100.0,
        "duration": 120,
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return str(path)


def test_figure_4a(tiny: str, tmp_path: Path, executor: InProcess) -> None:
    """Tuned and shipped agents end up in one comparison."""
    settings = figure_4a.Settings(
        scenarios=(tiny,),
        knobs={"hpa-full": TARGETS, "ls-fc": TARGETS},
        fixed=("imbres",),
        unlimited=("imbres-unlimited",),
        tuning_s=60.0,
        duration_s=60.0,
        warmup_s=30.0,
        seeds=2,
    )
    report = figure_4a.experiment(settings, tmp_path / "out", executor)
    assert "ls-fc against hpa-full" in report and "imbres against ls-fc" in report
    summary = json.loads((tmp_path / "out" / "evaluation" / "summary.json").read_text(encoding="utf-8"))
    assert {row["agent"] for row in summary["results"]} == {"hpa-full", "ls-fc", "imbres", "imbres-unlimited"}


def test_load_per_container(tiny: str, tmp_path: Path, executor: InProcess) -> None:
    """Every scheme is in the table; balanced load on a full connection is even but for the noise of arrivals."""
    settings = load_per_container.Settings(tiny, "back", duration_s=30.0, warmup_s=10.0, seeds=1)
    report = load_per_container.experiment(settings, tmp_path, executor)
    assert all(f"| {scheme} |" in report for scheme in load_per_container.SCHEMES)
    assert (tmp_path / "load-per-container.png").stat().st_size > 0


def test_load_balancers(tiny: str, tmp_path: Path, executor: InProcess) -> None:
    """A row for every balancer with every connection scheme, each with a load for both hosts."""
    settings = load_balancers.Settings(tiny, 0.4, duration_s=30.0, warmup_s=10.0, seeds=1)
    rows = [line for line in load_balancers.experiment(settings, tmp_path, executor).splitlines() if ", full |" in line]
    assert [row.split(",")[0].strip("| ") for row in rows] == list(load_balancers.BALANCERS)
    assert all(sum(int(share) for share in row.split("|")[5].split("/")) in (99, 100, 101) for row in rows)


def test_random_picks_by_calculation_agree_with_drawing_them(tiny: str) -> None:
    """`expect` against 20000 random draws: 6 upstream containers pick 10 of 25 each."""
    scenario = load_scenario(tiny, initial_replicas={"front": 6, "back": 25})
    picks = np.argsort(np.random.default_rng(0).random((20000, 6, 25)), axis=2) < 10
    draws = picks.sum(axis=1)
    expected = load_per_container.expect(scenario, "back")
    assert expected.left_out == pytest.approx(float((draws == 0).mean()), abs=0.005)
    assert expected.cv == pytest.approx(float(draws.std() / draws.mean()), rel=0.02)


def test_figure_13a(tiny: str, tmp_path: Path, executor: InProcess) -> None:
    """A curve per number of containers, with as many iterations as asked for."""
    settings = figure_13a.Settings(tiny, utilisations=(0.3, 0.5), iterations=6, final=3, seeds=2)
    report = figure_13a.experiment(settings, tmp_path, executor)
    assert executor.episodes == 2 * 2 * 2
    assert "0.5, E2E p95 [ms]" in report
    assert (tmp_path / "figure-13a.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("curve", "first", "stays"),
    [
        ([2.0, 1.5, 1.05, 0.95, 1.0], 3, 3),
        ([1.0, 2.0, 1.0, 1.0, 1.0], 1, 3),
        ([1.0, 1.0, 1.0, 1.0, 1.5], 1, None),
        ([3.0, 3.0, 3.0, 3.0, 3.0], None, None),
    ],
)
def test_settling(curve: list[float], first: int | None, stays: int | None) -> None:
    """Iterations are counted from 1; a curve that ends outside never stays."""
    assert figure_13a.settle(np.array(curve), 1.0, 0.1) == figure_13a.Settled(first, stays)


def test_correlations(tiny: str, tmp_path: Path, executor: InProcess) -> None:
    """Under balanced load the containers of the disturbed host are slower: latency goes with interference."""
    settings = correlations.Settings(tiny, iterations=4, seeds=2)
    report = correlations.experiment(settings, tmp_path, executor)
    first = next(line for line in report.splitlines() if line.startswith("| interference, each"))
    balanced = first.split("|")[5]
    assert float(balanced.split()[0]) > 0.5


def test_rank_correlation() -> None:
    """Any rising curve is 1, any falling one -1, and no curve is undefined."""
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert correlations.spearman(x, np.exp(x)) == pytest.approx(1.0)
    assert correlations.spearman(x, 1.0 / x) == pytest.approx(-1.0)
    assert np.isnan(correlations.spearman(x, np.ones(4)))


def test_stretch_sweep(tiny: str, tmp_path: Path, executor: InProcess) -> None:
    """Each factor scales what interference does, and has a row in both tables."""
    settings = stretch_sweep.Settings(
        tiny, (0.0, 2.0), (0.4,), TARGETS, ("imbres",), fixed_s=45.0, duration_s=60.0, warmup_s=30.0, seeds=1
    )
    report = stretch_sweep.experiment(settings, tmp_path, executor)
    assert report.count("\n| 1.00 |") == 2 and report.count("\n| 1.90 |") == 2
    assert (tmp_path / "stretch-sweep.png").stat().st_size > 0


def test_the_tuning_rule() -> None:
    """The thriftiest value that keeps the SLA; if none does, the one with fewest violations, then containers."""
    broken, kept, dear = Candidate(0.7, 100.0, 0.2), Candidate(0.6, 120.0, 0.05), Candidate(0.5, 150.0, 0.0)
    assert choose([broken, kept, dear]) == kept
    assert choose([broken, Candidate(0.6, 130.0, 0.1), Candidate(0.5, 125.0, 0.1)]).value == 0.5


def test_the_search_ends_where_the_sla_is_kept(tiny: str, tmp_path: Path, executor: InProcess) -> None:
    """With an SLA that every value keeps, only the first value is tried; a second call runs nothing again."""
    scenario = load_scenario(tiny, duration=60.0, sla_ms=5000.0)

    def run(tasks: Sequence[EpisodeTask]) -> list[EpisodeResult]:
        return run_episodes(tasks, tmp_path, executor)

    (tuned,), results = tune([scenario], {"hpa-full": TARGETS}, 30.0, run)
    assert tuned.met and tuned.chosen.value == 0.7 and len(tuned.candidates) == 1
    assert [result.seed for result in results] == [2000, 2001]
    assert tune([scenario], {"hpa-full": TARGETS}, 30.0, run)[0] == [tuned]
    assert tune([scenario], {}, 30.0, run) == ([], [])
    assert executor.episodes == 2


def test_the_trace_driven_experiment_profiles_tunes_and_compares(tmp_path: Path, executor: InProcess) -> None:
    settings = trace_driven.Settings(
        microservices=3,
        hosts=2,
        duration_s=180.0,
        warmup_s=60.0,
        seeds=1,
        targets=(0.6,),
        known_targets={"hpa": 0.5},
        profiled_loads=(0.3, 0.6, 0.9, 1.2),
        firm_samples=50,
        firm_transitions=30,
    )
    settings = replace(settings, firm_from=replace(settings, microservices=4))
    report = trace_driven.experiment(tmp_path, executor, settings)
    for agent in (*trace_driven.OURS, *trace_driven.RIVALS):
        assert f"| {agent} |" in report
    assert "hpa-full `target`" in report and "hpa `target`" not in report
    profile = 16 * 4  # levels of CPU x memory bandwidth, loads
    assert executor.episodes == profile + 1 + 11
    bundle = load_bundle(next(tmp_path.glob("firm-*/firm-alibaba-3-2000.zip")))
    assert bundle.recipe["start"] == "alibaba-4-2000"
    assert trace_driven.experiment(tmp_path, executor, settings) == report
    assert executor.episodes == profile + 1 + 11, "nothing is run twice"


def test_the_sla_of_the_trace_driven_experiment_is_kept_with_plenty(tmp_path: Path) -> None:
    scenario = trace_driven.make_scenario(trace_driven.Settings(microservices=3, hosts=2, duration_s=360.0), tmp_path)
    assert scenario.sla_ms % 10.0 == 0.0 and scenario.sla_ms > 0.0
    assert scenario.engine == "fluid"
