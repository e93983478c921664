from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import evaluation_fakes as fakes
import numpy as np
import pytest

from imbres_gym.config import ConfigError
from imbres_gym.evaluation.comparison import prepare_folder, write_outputs
from imbres_gym.evaluation.episode import EpisodeResult, run_episode
from imbres_gym.evaluation.figures import draw_latency
from imbres_gym.evaluation.metrics import METRICS
from imbres_gym.evaluation.report import markdown_table, rich_tables, summarise
from imbres_gym.evaluation.runner import EpisodeFailure
from imbres_gym.evaluation.statistics import Estimate
from imbres_gym.evaluation.tensorboard import write_logs
from imbres_gym.percentiles import FAILED_MS


@pytest.fixture(scope="module")
def results() -> list[EpisodeResult]:
    agents = (("generous", 9), ("thrifty", 4))
    return [run_episode(fakes.task(seed, name=name, replicas=n)) for name, n in agents for seed in (1000, 1001, 1002)]


def test_the_summary_has_the_promised_form(results: list[EpisodeResult], tmp_path: Path) -> None:
    failure = EpisodeFailure("tiny/fake thrifty seed 1003", "lost", "")
    written = write_outputs(tmp_path, results, [failure], figures=False)
    summary = json.loads(written.summary.read_text())
    assert [(r["scenario"], r["agent"]) for r in summary["results"]] == [
        ("tiny/fake", "generous"),
        ("tiny/fake", "thrifty"),
    ]
    for row in summary["results"]:
        assert set(row) == {"scenario", "agent", "seeds", "metrics", "containers_to_oracle"}
        assert list(row["metrics"]) == list(METRICS)
        for estimate in row["metrics"].values():
            assert set(estimate) == {"mean", "low", "high"}
            assert estimate["low"] <= estimate["mean"] <= estimate["high"]
    assert summary["results"][0]["metrics"]["containers"] == {"mean": 36.0, "low": 36.0, "high": 36.0}
    assert summary["seeds"] == [1000, 1001, 1002]
    assert summary["failures"] == [{"episode": "tiny/fake thrifty seed 1003", "message": "lost"}]


def test_the_summary_is_of_the_settled_part(results: list[EpisodeResult]) -> None:
    row = summarise(results)[0]
    settled = [r.metrics["settled"]["p95_ms"] for r in results[:3]]
    assert row.metrics["p95_ms"].mean == pytest.approx(np.mean(settled))
    assert settled != [r.metrics["whole"]["p95_ms"] for r in results[:3]]


def test_tables_name_every_agent_and_its_main_metrics(results: list[EpisodeResult]) -> None:
    rows = summarise(results)
    lines = markdown_table(rows).splitlines()
    assert lines[2].startswith("| tiny/fake | 100 | generous | 36.0 |")
    assert len({line.count("|") for line in lines[:4]}) == 1
    (table,) = rich_tables(rows)
    assert table.row_count == 2
    assert len(table.columns) == 1 + len(METRICS) - 2  # load variance and churn: in summary.json and TensorBoard


def test_no_number_is_broken_on_a_narrow_terminal(results: list[EpisodeResult]) -> None:
    from rich.console import Console

    slow = [replace(result, agent="a-name-that-is-far-too-long-for-this") for result in results[:3]]
    rows = summarise(slow)
    huge = Estimate(123456.0, 23456.0, 223456.0)
    rows = [replace(row, metrics={**row.metrics, "p99_ms": huge}) for row in rows]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(*rich_tables(rows))
    assert "123,456" in console.export_text()


def test_requests_that_all_failed_make_a_curve(results: list[EpisodeResult]) -> None:
    failed = replace(results[0], quantiles_ms=np.full_like(results[0].quantiles_ms, FAILED_MS))
    body, tail = draw_latency([failed]).axes
    x, y = body.lines[0].get_data()
    assert float(np.interp(0.99 * FAILED_MS, x, y)) == 0.0
    assert float(np.interp(1.01 * FAILED_MS, x, y)) == 100.0
    assert np.nanmax(tail.lines[0].get_ydata()) == 100.0


def test_a_dozen_agents_can_be_told_apart(results: list[EpisodeResult]) -> None:
    body, _ = draw_latency([replace(results[0], agent=f"agent {index}") for index in range(12)]).axes
    assert len({(line.get_color(), line.get_linestyle()) for line in body.lines[:12]}) == 12


def test_figures_are_drawn_for_every_scenario(results: list[EpisodeResult], tmp_path: Path) -> None:
    renamed = [replace(result, scenario="tiny/other") for result in results[:1]]
    # A window in which requests waited and none ended has an infinite p95.
    endless = {**renamed[0].windows, "p95_ms": np.full_like(renamed[0].windows["p95_ms"], np.inf)}
    renamed = [replace(renamed[0], windows=endless)]
    written = write_outputs(tmp_path, [*results, *renamed], [])
    assert [path.name for path in written.figures] == [
        f"{scenario}.{kind}.png"
        for kind in ("over-time", "agents", "latency")
        for scenario in ("tiny--fake", "tiny--other")
    ] + ["performance-profiles.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written.figures)


def test_tensorboard_reads_the_curves_the_metrics_and_the_figures(results: list[EpisodeResult], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write_outputs(tmp_path, results[:1], [])
    # Writing again replaces the logs; doubled curves would be the sign of an old file that stayed.
    written = write_outputs(tmp_path, results[:1], [])
    log = EventAccumulator(str(written.tensorboard / "tiny/fake/generous/seed-1000"))
    log.Reload()
    tags = set(log.Tags()["scalars"])
    assert tags >= {"e2e/p95_ms", "e2e/p95_ms/read", "cluster/containers", "cluster/load_variance", "reward/total"}
    assert tags >= {"reward/violation", "decision/total_ms", "decision/load_ms", "replicas/front"}
    assert tags >= {f"metric/{name}" for name in METRICS}
    points = log.Scalars("e2e/p95_ms")
    assert [point.step for point in points] == [int(t) for t in results[0].series["time_s"]]
    assert [point.value for point in points] == pytest.approx(results[0].series["metrics/p95_ms"])
    images = EventAccumulator(str(written.tensorboard / "figures"))
    images.Reload()
    assert len(images.Tags()["images"]) == 3
    (image,) = images.Images("tiny--fake.latency")
    assert (image.width, image.height) == (1650, 600)


def test_no_name_of_an_agent_leads_out_of_the_log_folder(results: list[EpisodeResult], tmp_path: Path) -> None:
    write_logs([replace(results[0], agent="../../../out")], tmp_path / "logs")
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]
    assert len(list((tmp_path / "logs" / "tiny" / "fake").iterdir())) == 1


def test_a_folder_with_episodes_is_not_overwritten_unasked(tmp_path: Path) -> None:
    prepare_folder(tmp_path, resume=False)
    (tmp_path / "episodes" / "one.npz").touch()
    with pytest.raises(ConfigError, match="--resume"):
        prepare_folder(tmp_path, resume=False)
    prepare_folder(tmp_path, resume=True)


def test_evaluation_needs_no_torch(results: list[EpisodeResult], tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys, imbres_gym.evaluation.comparison, imbres_gym.evaluation.tensorboard as t\n"
        "from pathlib import Path\n"
        "from tensorboard.plugins.hparams.summary_v2 import hparams_pb\n"
        "print(sorted({'torch', 'tensorflow', 'ray', 'stable_baselines3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
