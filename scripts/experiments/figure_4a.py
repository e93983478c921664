"""Fig. 4(a) of the paper: containers of HPA, of HPA with load shifting, and of Imbres, under the same SLA.

Run from a checkout: `python scripts/experiments/figure_4a.py --workers 2`. Section 2.3 sets HPA "ensuring that the 95th
percentile E2E latency remains within SLA", so each agent on HPA first gets its utilisation target by the rule of
`tuning.py`. Imbres runs as shipped and with a margin to the SLA; and both without its maximum load per container (50 %
CPU, section 6.6), which otherwise ends scaling in before the SLA does.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from imbres_gym.agent import load_agent_config  # noqa: E402
from imbres_gym.evaluation.comparison import write_outputs  # noqa: E402
from imbres_gym.evaluation.episode import EpisodeResult  # noqa: E402
from imbres_gym.evaluation.executor import Executor  # noqa: E402
from imbres_gym.evaluation.markdown import table  # noqa: E402
from imbres_gym.evaluation.report import markdown_table  # noqa: E402
from imbres_gym.evaluation.task import EpisodeTask  # noqa: E402
from imbres_gym.evaluation.tuning import Knob, Tuned, tune, tuning_table, with_option  # noqa: E402
from imbres_gym.scenario import load_scenario  # noqa: E402
from scripts.experiments.runs import (  # noqa: E402
    evaluation_seeds,
    percent,
    relative_change,
    run_episodes,
    run_from_command_line,
    run_time,
)

TARGETS = Knob("target", (0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2))

UNLIMITED = {"imbres-unlimited": "imbres", "imbres-margin-unlimited": "imbres-margin"}
"""Name -> shipped agent that is also run without a maximum load."""

CLAIMS = (
    ("ls-rc", "hpa", "-31 %"),
    ("ls-fc", "ls-rc", "-23 %"),
    ("ls-fc", "hpa-full", ""),
    ("hpa-full", "hpa", ""),
    ("imbres", "ls-rc", ""),
    ("imbres", "ls-fc", "-24 %"),
    ("imbres", "hpa-full", ""),
    ("imbres-margin", "imbres", ""),
    ("imbres-unlimited", "imbres", ""),
    ("imbres-margin-unlimited", "imbres-unlimited", ""),
)
"""Agent, the one it is compared with, and what section 2.3 says of the containers; empty where it says nothing."""


@dataclass(frozen=True)
class Settings:
    """What is run; the defaults are the experiment.

    Attributes:
        scenarios: names or YAML files.
        knobs: agent -> option that is tuned.
        fixed: agents that run as they are.
        unlimited: names of `UNLIMITED` that run too.
        tuning_s, duration_s: length of a tuning and of an evaluation episode [s].
        warmup_s: start that does not count: HPA may scale in for the first time after 300 s, and gets a minute for it.
        seeds: number of evaluation seeds.
    """

    scenarios: tuple[str, ...] = ("social-network/high-strict", "social-network/low-strict")
    knobs: Mapping[str, Knob] = field(
        default_factory=lambda: dict.fromkeys(("hpa", "hpa-full", "ls-rc", "ls-fc"), TARGETS)
    )
    fixed: tuple[str, ...] = ("imbres", "imbres-margin")
    unlimited: tuple[str, ...] = tuple(UNLIMITED)
    tuning_s: float = 900.0
    duration_s: float = 1800.0
    warmup_s: float = 360.0
    seeds: int = 5


def experiment(settings: Settings, out: Path, executor: Executor) -> str:
    """Tune, evaluate, and write the outputs of a comparison to `out/evaluation`; returns the report (Markdown)."""
    short = [load_scenario(name, duration=settings.tuning_s) for name in settings.scenarios]
    tuned, tuning = tune(
        short, settings.knobs, settings.warmup_s, lambda tasks: run_episodes(tasks, out / "tuning", executor)
    )
    results = run_episodes(_tasks(settings, tuned), out / "evaluation", executor)
    written = write_outputs(out / "evaluation", results, [])
    parts = [
        "## Tuning",
        tuning_table(tuned),
        "## Evaluation",
        markdown_table(written.rows),
        "## Containers, beside the paper",
        claims_table(results),
        run_time([*tuning, *results]),
    ]
    return "\n\n".join(parts) + "\n"


def _tasks(settings: Settings, tuned: Sequence[Tuned]) -> list[EpisodeTask]:
    tasks = []
    for reference in settings.scenarios:
        scenario = load_scenario(reference, duration=settings.duration_s)
        agents = {item.agent: item.config for item in tuned if item.scenario == scenario.name}
        agents.update({name: load_agent_config(name) for name in settings.fixed})
        agents.update({name: with_option(UNLIMITED[name], "maximum_load", False) for name in settings.unlimited})
        tasks += [
            EpisodeTask(scenario.name, scenario, name, config, seed, settings.warmup_s)
            for name, config in agents.items()
            for seed in evaluation_seeds(settings.seeds)
        ]
    return tasks


def claims_table(results: Sequence[EpisodeResult]) -> str:
    """Markdown: relative change of containers for `CLAIMS`, per scenario, as far as their agents were run."""
    scenarios = list(dict.fromkeys(result.scenario for result in results))
    agents = {result.agent for result in results}
    rows = []
    for agent, reference, said in CLAIMS:
        if {agent, reference} <= agents:
            ours = [
                percent(relative_change([r for r in results if r.scenario == name], agent, reference, "containers"))
                for name in scenarios
            ]
            rows.append([f"{agent} against {reference}", said or "-", *ours])
    return table(["containers", "paper", *scenarios], rows)


if __name__ == "__main__":
    run_from_command_line(__doc__, "runs/figure-4a", lambda out, executor: experiment(Settings(), out, executor))
