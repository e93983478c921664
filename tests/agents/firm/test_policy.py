"""FIRM as a scaling policy: who is resized when, by which actor; bundles that do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import make_info, make_observation

from agents.bundle import Bundle, save_bundle
from agents.network import Network
from agents.scaling.firm.localisation import Localiser
from agents.scaling.firm.policy import FirmScaling
from agents.scaling.firm.resizing import SERVED
from imbres_gym.config import ConfigError
from imbres_gym.observation import Observation
from imbres_gym.telemetry import ClusterInfo

CPU = 5  # column of the states


def actor() -> Network:
    """tanh(10 (u - 0.5)): grows above 50 % CPU, shrinks below."""
    weights = np.zeros((1, 9), np.float32)
    weights[0, CPU] = 10.0
    return Network((weights,), (np.array([-5.0], np.float32),), output="tanh")


def threshold() -> Localiser:
    """One random feature, sqrt(2) cos(RI - pi / 2) = sqrt(2) sin(RI): critical where RI is positive."""
    return Localiser(
        mean=np.zeros((2, 2)),
        deviation=np.ones((2, 2)),
        frequencies=np.array([[1.0], [0.0]]),
        phases=np.array([-np.pi / 2]),
        coefficients=np.ones(1),
        intercept=np.zeros(1),
    )


@pytest.fixture
def info() -> ClusterInfo:
    return make_info(initial_replicas=np.array([10, 10]))


@pytest.fixture
def bundle(info: ClusterInfo) -> Bundle:
    return Bundle(
        kind="firm",
        application="chain",
        microservices=info.microservices,
        hosts=len(info.hosts),
        classes=info.classes,
        networks={"actor": actor()},
        arrays={**threshold().arrays(), SERVED: np.ones((2, 1))},
    )


def made(bundle: Bundle, folder: Path) -> FirmScaling:
    save_bundle(bundle, folder / "firm.zip")
    return FirmScaling(bundle=str(folder / "firm.zip"))


def minute(info: ClusterInfo, p95_ms: float, ri: tuple[float, float], cpu: tuple[float, float]) -> Observation:
    return make_observation(
        info,
        [[5, 5], [5, 5]],
        time_s=[60.0],
        window_p95_ms=[p95_ms],
        critical_path=[[1.0, ri[0], 2.0], [1.0, ri[1], 2.0]],
        cpu_utilisation=np.repeat(cpu, 2).reshape(2, 2),
    )


@pytest.mark.parametrize(
    ("p95_ms", "ri", "cpu", "expected"),
    [
        (200.0, (0.5, -0.5), (0.9, 0.9), [15, 10]),  # too slow: only the critical one grows
        (200.0, (-0.5, -0.5), (0.1, 0.1), [10, 10]),  # too slow, nothing critical: nothing is taken
        (200.0, (0.5, 0.5), (0.9, 0.1), [15, 5]),  # the actor may also shrink a critical one
        (50.0, (-0.5, -0.5), (0.9, 0.1), [10, 5]),  # fast enough: the others may only shrink
        (50.0, (0.5, -0.5), (0.9, 0.9), [15, 10]),
    ],
)
def test_who_is_resized(
    info: ClusterInfo,
    bundle: Bundle,
    tmp_path: Path,
    p95_ms: float,
    ri: tuple[float, float],
    cpu: tuple[float, float],
    expected: list[int],
) -> None:
    policy = made(bundle, tmp_path)
    policy.reset(info, seed=0)
    # tanh(4) = 0.9993: 10 (1 +- 0.49966), rounded.
    assert policy.scale(minute(info, p95_ms, ri, cpu)).tolist() == expected


def test_who_does_not_serve_the_slow_class_may_shrink(bundle: Bundle, tmp_path: Path) -> None:
    info = make_info(classes=("a", "b"), initial_replicas=np.array([10, 10]))
    served = np.array([[1.0, 1.0], [1.0, 0.0]])
    policy = made(replace(bundle, classes=info.classes, arrays={**threshold().arrays(), SERVED: served}), tmp_path)
    policy.reset(info, seed=0)
    slow_b = {**minute(info, 50.0, (-0.5, -0.5), (0.1, 0.1)), "window_p95_ms": np.array([50.0, 200.0], np.float32)}
    assert policy.scale(slow_b).tolist() == [10, 5]


def test_decisions_fall_at_the_end_of_scaling_intervals(info: ClusterInfo, bundle: Bundle, tmp_path: Path) -> None:
    policy = made(bundle, tmp_path)
    policy.reset(info, seed=0)
    busy = minute(info, 200.0, (0.5, 0.5), (0.9, 0.9))
    early = {**busy, "time_s": np.array([55.0], np.float32)}
    assert policy.scale(early).tolist() == [10, 10]
    assert policy.scale(busy).tolist() == [15, 15]
    late = {**busy, "time_s": np.array([65.0], np.float32), "wanted": np.array([15, 15])}
    assert policy.scale(late).tolist() == [15, 15]
    policy.reset(info, seed=0)
    assert policy.scale(early).tolist() == [10, 10]


def test_without_traces_it_says_so(info: ClusterInfo, bundle: Bundle, tmp_path: Path) -> None:
    policy = made(bundle, tmp_path)
    policy.reset(info, seed=0)
    observation = make_observation(info, [[5, 5], [5, 5]], time_s=[60.0])
    with pytest.warns(UserWarning, match="trace_sampling"):
        policy.scale(observation)


def test_a_bundle_of_another_application_or_without_an_actor_is_refused(
    info: ClusterInfo, bundle: Bundle, tmp_path: Path
) -> None:
    policy = made(bundle, tmp_path)
    with pytest.raises(ConfigError, match="chain"):
        policy.reset(replace(info, microservices=("other", "names")), seed=0)
    with pytest.raises(ConfigError, match="actor"):
        made(replace(bundle, networks={}), tmp_path)
    with pytest.raises(ConfigError, match="svm"):
        made(replace(bundle, arrays={}), tmp_path)
    scaling = made(replace(bundle, kind="scaling"), tmp_path)
    with pytest.raises(ConfigError, match="kind"):
        scaling.reset(info, seed=0)
