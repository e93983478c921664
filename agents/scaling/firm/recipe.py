"""Training FIRM on one application from nothing to a bundle and its learning curve."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from agents.bundle import Bundle, save_bundle
from agents.scaling.firm.anomalies import TRACE_SAMPLING, Samples, collect_samples
from agents.scaling.firm.ddpg import Learnt
from agents.scaling.firm.resizing import SERVED, served_classes
from agents.scaling.firm.scenes import bases_of
from agents.scaling.firm.svm import Quality, train_svm
from agents.scaling.firm.task import Score, Units
from agents.scaling.firm.training import FIRST_SEED, STEPS, TRANSITIONS, CurvePoint, Trained, train_actor
from imbres_gym.config import ConfigError
from imbres_gym.evaluation.storage import write_atomically
from imbres_gym.evaluation.task import scenario_hash
from imbres_gym.scenario import Scenario

SAMPLES = 3_000
"""Labelled samples; FIRM has 10 000 (estimate: enough for two inputs)."""
FIRST_SAMPLE_SEED = 3500
"""Scene n with anomalies has the seed 3500 + n; learning stays below it."""


def train_firm(
    scenario: Scenario,
    folder: Path,
    *,
    transitions: int = TRANSITIONS,
    samples: int = SAMPLES,
    trace_sampling: float = TRACE_SAMPLING,
    seed: int = FIRST_SEED,
    start: Bundle | None = None,
    on_point: Callable[[CurvePoint], None] | None = None,
) -> Bundle:
    """Train, or go on where an earlier call was interrupted; writes `firm-APPLICATION.zip` and `-curve.csv`.

    Args:
        scenario: of a shipped application only that and the engine count, see `agents.scaling.firm.scenes.bases_of`.
        folder: for both files, and for what a resumed training needs (a folder `firm-APPLICATION`).
        transitions: of the agent, at least.
        samples: of the support vector machine, at least.
        trace_sampling: share of the requests that are traced for them.
        seed: of the agent's first episode and of its learner.
        start: a bundle of FIRM for another application, whose networks are trained on (FIRM's transfer learning).
        on_point: called after every episode of the agent.

    Raises:
        ConfigError: `folder` holds another training or a damaged checkpoint, `samples` are too few, or `start` is no
            bundle of FIRM.
    """
    bases, application = bases_of(scenario), scenario.application.name
    work = folder / f"firm-{application}"
    seen = _samples(bases, work / "samples.npz", samples, trace_sampling)
    before = None if start is None else _learnt(start)
    trained = train_actor(bases, work, transitions=transitions, seed=seed, start=before, on_point=on_point)
    microservices = scenario.application.microservice_names
    localiser, quality = train_svm(seen, len(microservices), seed)
    bundle = Bundle(
        kind="firm",
        application=application,
        microservices=microservices,
        hosts=scenario.hosts.count,
        classes=scenario.application.class_names,
        recipe={
            "samples": len(seen.labels),
            "transitions": trained.curve[-1].transitions,
            "best_after": trained.best.transitions,
            "steps_per_episode": STEPS,
            "start": None if start is None else start.application,
            "units": asdict(trained.learnt.units),
        },
        seeds={"agent": seed, "anomalies": FIRST_SAMPLE_SEED},
        steps=trained.best.transitions // len(microservices),
        metrics=_metrics(trained, quality),
        networks={"actor": trained.learnt.actor, "critic": trained.learnt.critic},
        arrays={**localiser.arrays(), SERVED: served_classes(scenario.application).astype(np.float64)},
    )
    save_bundle(bundle, folder / f"firm-{application}.zip")
    write_atomically(folder / f"firm-{application}-curve.csv", curve_csv(trained).encode())
    return bundle


def curve_csv(trained: Trained) -> str:
    """The learning curve as CSV: one row per episode; the first is the untrained actor, the last changes nothing."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    scores = [field.name for field in fields(Score)]
    table.writerow(["actor", "episode", "transitions", "training_reward", *(f"evaluation_{name}" for name in scores)])
    for point in trained.curve:
        table.writerow(
            ["firm", point.episode, point.transitions, _number(point.training_reward), *_row(point.evaluation)]
        )
    table.writerow(["static", "", "", "", *_row(trained.static)])
    return text.getvalue()


def _row(score: Score | None) -> list[str]:
    return [_number(None if score is None else getattr(score, field.name)) for field in fields(Score)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _samples(bases: Sequence[Scenario], file: Path, count: int, trace_sampling: float) -> Samples:
    """The samples of an earlier call if they are of these scenarios and enough, or new ones."""
    names = [field.name for field in fields(Samples)]
    origin = " ".join([*map(scenario_hash, bases), f"{trace_sampling:g}"])
    if file.is_file():
        try:
            with np.load(file, allow_pickle=False) as stored:
                found, theirs = Samples(*(stored[name] for name in names)), str(stored["origin"])
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise ConfigError(f"{file}: damaged ({error}); remove it to collect the samples again") from error
        if theirs == origin and len(found.labels) >= count:
            return found
    samples = collect_samples(bases, count, FIRST_SAMPLE_SEED, trace_sampling)
    data = io.BytesIO()
    np.savez_compressed(data, origin=np.array(origin), **{name: getattr(samples, name) for name in names})
    write_atomically(file, data.getvalue())
    return samples


def _learnt(start: Bundle) -> Learnt:
    try:
        stored: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in start.recipe["units"].items()
        }
        return Learnt(start.networks["actor"], start.networks["critic"], Units(**stored))
    except (KeyError, TypeError, AttributeError):
        raise ConfigError(f"start: the bundle is of kind {start.kind!r}; give one of kind 'firm'") from None


def _metrics(trained: Trained, quality: Quality) -> dict[str, float]:
    """Scores before and after training and of changing nothing, and the quality of the support vector machine."""
    scores: dict[str, Any] = {
        "before": trained.curve[0].evaluation,
        "trained": trained.best.evaluation,
        "static": trained.static,
        "svm": quality,
    }
    return {f"{name}/{key}": float(value) for name, score in scores.items() for key, value in asdict(score).items()}
