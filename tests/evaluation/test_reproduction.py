"""The headline experiment: what it runs, what it computes, and what it says when something is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import evaluation_fakes
import pytest
import yaml

from imbres_gym.agent import make_agent
from imbres_gym.cluster import make_cluster
from imbres_gym.config import ConfigError, config_root
from imbres_gym.evaluation.episode import EpisodeResult, run_episode
from imbres_gym.evaluation.experiment import Experiment, load_experiment
from imbres_gym.evaluation.reproduction import Outcome, TuningFailed, run_experiment, saving, write_reproduction
from imbres_gym.evaluation.runner import EpisodeFailure
from imbres_gym.evaluation.task import EpisodeTask
from imbres_gym.scenario import load_scenario

QUICK = {"scenarios": ["hotel-reservation/low-slack"], "duration": "4m", "warmup": "1m", "tuning_values": 2}
APPLICATIONS = ("social-network", "media-service", "hotel-reservation", "train-ticket")


@pytest.fixture(scope="module")
def episode() -> EpisodeResult:
    """Any finished episode."""
    return run_episode(evaluation_fakes.task())


def made_up(episode: EpisodeResult, scenario: str, agent: str, seed: int, containers: float) -> EpisodeResult:
    """An episode with this many containers; 10 % of its windows are violated."""
    settled = {**episode.metrics["settled"], "containers": containers, "sla_violation": 0.1}
    return dataclasses.replace(
        episode, scenario=scenario, agent=agent, seed=seed, metrics={**episode.metrics, "settled": settled}
    )


def test_the_headline_experiment_is_the_papers() -> None:
    """Section 6.2: four applications, two levels of imbalance, two SLAs, five runs each; no file is missing."""
    headline = load_experiment("headline")
    assert set(headline.scenarios) == {
        f"{application}/{imbalance}-{sla}"
        for application in APPLICATIONS
        for imbalance in ("low", "high")
        for sla in ("strict", "slack")
    }
    assert {"imbres", "erms", "rhythm", "firm", "hpa", "oracle"} <= set(headline.agents)
    tasks = headline.tasks({})
    assert len(tasks) == 16 * len(headline.agents) * 5
    assert {task.seed for task in tasks} == set(range(1000, 1005))
    assert {task.scenario.duration for task in tasks} == {1800.0}
    assert {load_scenario(name).interference.kind for name in headline.scenarios} == {"constant"}


def test_the_quick_version_is_a_part_of_the_whole() -> None:
    """It runs some of the scenarios with all of the agents."""
    headline = load_experiment("headline")
    quick = headline.quickened()
    assert set(quick.scenarios) < set(headline.scenarios) and quick.agents == headline.agents
    assert quick.tuning.knobs["hpa"].values == headline.tuning.knobs["hpa"].values[:2]


def test_savings_are_paired_by_seed(episode: EpisodeResult) -> None:
    """1 - 50/100 and 1 - 80/100 on two seeds: 35 %; a seed that one agent lacks does not count."""
    results = [
        made_up(episode, "a/high", agent, seed, containers)
        for agent, seed, containers in (
            ("ours", 1000, 50.0),
            ("ours", 1001, 80.0),
            ("ours", 1002, 1.0),
            ("theirs", 1000, 100.0),
            ("theirs", 1001, 100.0),
        )
    ]
    found = saving(results, "ours", "theirs")
    assert found is not None and found.value == pytest.approx(0.35)
    assert 0.2 - 1e-9 <= found.low <= found.value <= found.high <= 0.5 + 1e-9
    assert saving(results, "ours", "nobody") is None


def small(**changes: object) -> Experiment:
    """An experiment over two shipped scenarios."""
    data = yaml.safe_load((config_root() / "experiments" / "headline.yaml").read_text())
    data["scenarios"] = ["hotel-reservation/low-slack", "media-service/high-strict"]
    data["agents"] = ["imbres", "erms", "hpa", "oracle"]
    return Experiment.model_validate({**data, **changes})


class Runner:
    """Answers with made-up episodes; keeps what it was asked for."""

    def __init__(self, episode: EpisodeResult, containers: dict[str, float], fail: str = "") -> None:
        self._episode = episode
        self._containers = containers
        self._fail = fail
        self.tasks: dict[str, list[EpisodeTask]] = {"tuning": [], "evaluation": []}

    def __call__(self, part: str, tasks: Sequence[EpisodeTask]) -> tuple[list[EpisodeResult], list[EpisodeFailure]]:
        """See `imbres_gym.evaluation.reproduction.Run`."""
        self.tasks[part] += tasks
        results = [
            made_up(self._episode, t.scenario_name, t.agent_name, t.seed, self._containers.get(t.agent_name, 100.0))
            for t in tasks
            if t.agent_name != self._fail
        ]
        return results, [EpisodeFailure(t.title, "broken", "") for t in tasks if t.agent_name == self._fail]


def test_it_tunes_evaluates_and_reports(episode: EpisodeResult, tmp_path: Path) -> None:
    """The value that was chosen on tuning seeds is evaluated; the tables hold our numbers beside the paper's."""
    experiment = small()
    run = Runner(episode, {"imbres": 60.0, "erms": 120.0, "oracle": 40.0, "hpa-0.6": 90.0})
    outcome = run_experiment(experiment, run)
    # 10 % violated windows keep no SLA, so every value is tried, and the fewest containers win.
    assert {task.seed for task in run.tasks["tuning"]} == {2000, 2001}
    assert len(run.tasks["tuning"]) == 2 * 11 * 2
    targets = {task.agent.options["scaling"]["target"] for task in run.tasks["evaluation"] if task.agent_name == "hpa"}
    assert targets == {0.6}
    written = write_reproduction(experiment, outcome, tmp_path)
    fig6 = written.reports["fig6"]
    assert "| against erms | 49 % | 50 % |" in fig6
    assert "| against hpa |  | 40 % |" in fig6
    assert "| imbres | 1.50 | 1.50 | 1.50 |" in fig6 and "| oracle | 1.00 |" in fig6
    assert "| the paper, per application |  |  | 49 % | 54 % |" in fig6
    fig7 = written.reports["fig7"]
    assert "| **mean** | 10 % | 10 % | 10 % | 10 % |" in fig7 and "| the paper | 5 % | 13.6 % |  |  |" in fig7
    assert all(figure.stat().st_size > 10_000 for figure in written.figures.values())
    assert fig6 in written.report.read_text() and "**90 (10%)**" in written.report.read_text()


def test_failed_episodes_are_not_hidden(episode: EpisodeResult, tmp_path: Path) -> None:
    """The report says how many are missing, and leaves their places empty."""
    experiment = small()
    outcome = run_experiment(experiment, Runner(episode, {}, fail="erms"))
    assert isinstance(outcome, Outcome) and len(outcome.failures) == 10
    report = write_reproduction(experiment, outcome, tmp_path).reports["fig6"]
    assert "10 episodes failed" in report and "| against erms | 49 % | - | - | - |" in report
    with pytest.raises(TuningFailed, match="broken"):
        run_experiment(experiment, Runner(episode, {}, fail="hpa-0.7"))


def changed_headline(folder: Path, change: dict[str, object]) -> Path:
    """A file with the headline experiment, but for some keys."""
    data = yaml.safe_load((config_root() / "experiments" / "headline.yaml").read_text())
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**data, **change}))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ours": "imbress"}, "did you mean 'imbres'"),
        ({"agents": ["imbres"]}, "'hpa' is not among the agents"),
        ({"sceanrios": []}, "sceanrios: unknown key; did you mean 'scenarios'"),
        ({"scenarios": ["hotel-reservation/low-slac"]}, r"scenarios\.0: .*did you mean 'hotel-reservation/low-slack'"),
        ({"seeds": 1001}, r"\bseeds: .*less than or equal to 1000"),
        ({"warmup": "30m"}, r"\bwarmup: 1800 s leave nothing of an episode of 1800 s \(duration\)"),
        ({"warmup": "15m"}, r"\bwarmup: 900 s leave nothing of an episode of 900 s \(tuning\.duration\)"),
        ({"quick": {**QUICK, "warmup": "238s"}}, r"quick\.warmup: 238 s leave nothing .*240 s \(quick\.duration\)"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], message: str, tmp_path: Path) -> None:
    """File, key, and what would be right."""
    with pytest.raises(ConfigError, match=rf"(?s)mine\.yaml:.*{message}"):
        load_experiment(changed_headline(tmp_path, change))


def test_a_knob_needs_a_scaling_tier_to_be_of(tmp_path: Path) -> None:
    agent = tmp_path / "bare.yaml"
    agent.write_text(yaml.safe_dump({"name": "bare", "agent": "evaluation_fakes:SteadyAgent"}))
    tuning = {"knobs": {str(agent): {"option": "target", "values": [0.5]}}, "duration": "15m"}
    path = changed_headline(tmp_path, {"agents": ["imbres", str(agent)], "tuning": tuning})
    with pytest.raises(ConfigError, match=rf"tuning\.knobs\.{agent}: has no scaling tier \(options\.scaling\)"):
        load_experiment(path)


def test_without_knobs_nothing_is_tuned(episode: EpisodeResult, tmp_path: Path) -> None:
    experiment = small(tuning={"knobs": {}, "duration": "5m"})  # no episode is so short, so the warm-up may be longer
    run = Runner(episode, {})
    outcome = run_experiment(experiment, run)
    assert run.tasks["tuning"] == [] and len(run.tasks["evaluation"]) == 2 * 4 * 5
    assert "# Tuning" not in write_reproduction(experiment, outcome, tmp_path).report.read_text()


@pytest.mark.parametrize("name", ["headline", "headroom"])
def test_shipped_experiments_can_be_run(name: str, episode: EpisodeResult, tmp_path: Path) -> None:
    """Every knob is an option that its agent takes, and the report is written without claims of the paper, too."""
    experiment = load_experiment(name).quickened()
    run = Runner(episode, {})
    outcome = run_experiment(experiment, run)
    scenario = load_scenario(experiment.scenarios[-1])
    info = make_cluster(scenario).info
    for config in [task.agent for task in run.tasks["tuning"]]:
        make_agent(config, info, 0, scenario)
    assert write_reproduction(experiment, outcome, tmp_path).report.stat().st_size > 0
