"""The fluid engine agrees with the event engine; the whole comparison is `scripts/compare_engines.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))

from compare_engines import Case, compare, play

from imbres_gym.evaluation.task import plan_tasks
from imbres_gym.sim.fluid.surfaces import load_surfaces
from scripts.fit_latency_surfaces import errors, measure, random_points

SURFACES = load_surfaces()


@pytest.mark.parametrize(
    ("scenario", "plan", "load"),
    [
        ("social-network/high-strict", "balanced", 0.6),
        ("hotel-reservation/high-strict", "shifted", 0.6),
        ("media-service/low-strict", "random-10", 0.4),
    ],
)
def test_engines_agree(scenario: str, plan: str, load: float) -> None:
    """Load of the containers within 1 %, own latency and E2E p95 within 15 % in the median."""
    found = compare(Case(scenario, plan, load, measured_s=60.0))
    assert found.load < 0.01
    assert np.median(np.abs(found.own)) < 0.15
    assert np.median(np.abs(found.e2e_p95)) < 0.15
    assert np.median(np.abs(found.cpu)) < 0.03


def test_agents_rank_the_same_in_both_engines() -> None:
    """By containers and by p95: those three differ by more than the engines do (`docs/fluid-engine.md`)."""
    agents = ["imbres", "hpa-full", "static"]
    ranks: dict[str, list[list[str]]] = {}
    for engine in ("events", "fluid"):
        tasks = plan_tasks(["hotel-reservation/high-strict"], agents, 1, duration_s=600.0, engine=engine)
        found = {task.agent_name: play(task) for task in tasks}
        ranks[engine] = [
            sorted(agents, key=lambda name, of=found, by=metric: of[name][by])  # type: ignore[misc]
            for metric in ("containers", "p95_ms")
        ]
    assert ranks["events"] == ranks["fluid"] == [["imbres", "hpa-full", "static"], ["static", "hpa-full", "imbres"]]


def test_surfaces_fit_the_containers_of_the_event_engine_as_they_say() -> None:
    """Points between those of the table, simulated now: the mean loss, and the p95 of loss and demand."""
    points = random_points(40)
    found = np.nanmedian(np.abs(errors(SURFACES, points, [measure(point) for point in points])), axis=0)
    mean, _, p95, _ = SURFACES.error
    assert 0.0 < mean < 0.1 and 0.0 < p95 < 0.05
    assert np.all(found < 1.5 * np.array([mean, p95]))


def test_more_load_never_means_less_loss() -> None:
    assert np.all(np.diff(SURFACES.table, axis=2) >= 0.0)


@given(
    loads=st.tuples(st.floats(0.0, 1.2), st.floats(0.0, 1.2)).map(sorted),
    calls=st.floats(0.01, 1e4),
    slack=st.floats(0.0, 1.0),
    share=st.floats(1e-4, 2.0),
)
def test_nor_between_the_points_of_the_table(loads: list[float], calls: float, slack: float, share: float) -> None:
    less, more = (SURFACES.at(load, calls, slack, share) for load in loads)
    assert np.all(less >= 0.0) and np.all(np.isfinite(more))
    assert np.all(less <= more + 1e-9)
