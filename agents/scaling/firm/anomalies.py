"""Labelled samples for FIRM's support vector machine: anomalies injected into single containers of the simulator.

As FIRM does with iBench and the like (OSDI '20, section 3.6): an anomaly on a random subset of the microservices and
hosts, of random types and intensities, lasts 10 s and is followed by 5 s of rest, so that a window takes 15 s. Each
microservice on the critical path gives one sample per window; its label says whether it suffered an anomaly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from agents.connections.random_k import RandomConnections
from agents.scaling.firm.localisation import svm_inputs
from agents.scaling.firm.scenes import random_scene
from imbres_gym.cluster import make_cluster
from imbres_gym.config import ConfigError
from imbres_gym.critical_path import CI, MIN_TRACES, PathWindow
from imbres_gym.observer import Observer
from imbres_gym.plan import Plan, balanced_proportions
from imbres_gym.scenario import Scenario
from imbres_gym.sim.interference import RESOURCES

ANOMALY_S, REST_S = 10.0, 5.0
EPISODE_WINDOWS = 10
"""Windows of one scene; few, since those of one scene resemble each other."""
TRACE_SAMPLING = 1.0
"""Share of requests that are traced: in 10 s about as many as in a scaling interval at run time with its 0.1."""
AFFECTED = 0.3
"""Chance that an anomaly hits a microservice (estimate)."""
AFFECTED_HOSTS = 0.5
"""Chance that it hits its containers on a host; at least those of one host (estimate)."""
AFFECTED_RESOURCES = 0.5
"""Chance that it stresses a resource; at least one (estimate)."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Labelled samples.

    Attributes:
        inputs: (n, 2) float64, RI and log CI.
        microservice: (n,) int64.
        labels: (n,) bool, whether the microservice suffered an anomaly.
        scene: (n,) int64, seed of the scene.
    """

    inputs: NDArray[np.float64]
    microservice: NDArray[np.int64]
    labels: NDArray[np.bool_]
    scene: NDArray[np.int64]


def collect_samples(
    bases: Sequence[Scenario], count: int, first_seed: int, trace_sampling: float = TRACE_SAMPLING
) -> Samples:
    """At least `count` samples, of whole scenes with the seeds `first_seed`, `first_seed + 1`, ...

    Raises:
        ConfigError: a scene has none.
    """
    found: list[Samples] = []
    while sum(len(samples.labels) for samples in found) < count:
        found.append(_scene_samples(bases, first_seed + len(found), trace_sampling))
        if len(found[-1].labels) == 0:
            raise ConfigError(
                f"trace_sampling: {trace_sampling:g}: no microservice has the {MIN_TRACES} traces of one request class "
                f"in {ANOMALY_S:g} s that a sample needs; trace more"
            )
    names = [field.name for field in fields(Samples)]
    return Samples(*(np.concatenate([getattr(one, name) for one in found]) for name in names))


def random_anomaly(ready: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """(M, H, 4) utilisation [0-1] of an anomaly: a random subset of the resources, each at an intensity of its own.

    Args:
        ready: (M, H) containers; only where there are some, an anomaly is put.
        rng: draws it.
    """
    microservices, hosts = ready.shape
    anomaly = np.zeros((microservices, hosts, len(RESOURCES)))
    for m in np.flatnonzero(rng.random(microservices) < AFFECTED):
        places = np.flatnonzero(ready[m] > 0)
        hit = rng.random(len(places)) < AFFECTED_HOSTS
        hit[rng.integers(len(places))] = True
        kinds = rng.random(len(RESOURCES)) < AFFECTED_RESOURCES
        kinds[rng.integers(len(RESOURCES))] = True
        anomaly[m, places[hit]] = kinds * (1.0 - rng.random(len(RESOURCES)))
    return anomaly


def _scene_samples(bases: Sequence[Scenario], seed: int, trace_sampling: float) -> Samples:
    rng = np.random.default_rng(seed)
    duration_s = EPISODE_WINDOWS * (ANOMALY_S + REST_S)
    scenario = random_scene(bases, seed, duration_s, trace_sampling=trace_sampling)
    cluster = make_cluster(scenario)
    info = cluster.info
    observer, connections = Observer(info), RandomConnections()
    connections.reset(info, seed)
    first = cluster.reset(seed)
    proportions = balanced_proportions(first.ready)
    cluster.apply(Plan(proportions, connections.connect(observer.observe(first), proportions)))
    inputs: list[NDArray[np.float64]] = []
    microservices: list[NDArray[np.int64]] = []
    labels: list[NDArray[np.bool_]] = []
    for _ in range(EPISODE_WINDOWS):
        anomaly = random_anomaly(first.ready, rng)
        cluster.inject(anomaly)
        window = PathWindow(len(info.microservices), ANOMALY_S)
        telemetry = cluster.advance(ANOMALY_S)
        window.add(telemetry.spans, telemetry.time_s)
        cluster.inject(None)
        cluster.advance(REST_S)
        features = window.features()
        known = np.flatnonzero(features[:, CI] > 0.0)
        inputs.append(svm_inputs(features[known]))
        microservices.append(known.astype(np.int64))
        labels.append(np.any(anomaly[known] > 0.0, axis=(1, 2)))
    cluster.close()
    scene = np.full(sum(map(len, labels)), seed, np.int64)
    return Samples(np.concatenate(inputs), np.concatenate(microservices), np.concatenate(labels), scene)
