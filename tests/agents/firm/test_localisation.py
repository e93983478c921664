"""The support vector machine: numpy says what scikit-learn says; it learns what can be learnt; samples are labelled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import SGDClassifier

from agents.scaling.firm.anomalies import Samples, collect_samples, random_anomaly
from agents.scaling.firm.localisation import Localiser, svm_inputs
from agents.scaling.firm.svm import train_svm
from imbres_gym.config import ConfigError
from imbres_gym.scenario import Scenario, load_scenario


def test_inputs() -> None:
    # CI of a microservice without traces is 0: its logarithm is that of a constant latency.
    features = np.array([[1.0, 0.5, np.e], [0.0, 0.0, 0.0]])
    assert svm_inputs(features).tolist() == [pytest.approx([0.5, 1.0]), [0.0, 0.0]]


def test_numpy_evaluates_what_scikit_learn_trained() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, 2))
    kernel = RBFSampler(gamma=0.5, n_components=20, random_state=1)
    machine = SGDClassifier(random_state=1).fit(kernel.fit_transform(inputs), inputs[:, 0] > 0.0)
    mine = Localiser(
        np.zeros((1, 2)),
        np.ones((1, 2)),
        kernel.random_weights_,
        kernel.random_offset_,
        machine.coef_[0],
        machine.intercept_,
    )
    expected = machine.decision_function(kernel.transform(inputs))
    assert mine.scores(inputs, np.zeros(200, np.int64)) == pytest.approx(expected)


def made_up(separation: float) -> Samples:
    """Ten scenes of 60 samples; anomalies shift RI by `separation` from what is usual of each microservice."""
    rng = np.random.default_rng(0)
    microservice = np.tile([0, 1], 300)
    labels = rng.random(600) < 0.3
    inputs = rng.normal(0.0, 0.1, (600, 2)) + np.where(microservice == 0, 5.0, -5.0)[:, None]
    inputs[:, 0] += separation * labels
    return Samples(inputs, microservice, labels, np.repeat(np.arange(10), 60))


def test_anomalies_that_stand_out_are_found() -> None:
    localiser, quality = train_svm(made_up(1.0), 2, seed=0)
    assert quality.samples == 120  # two of ten scenes
    assert quality.balanced_accuracy > 0.95 and quality.auc > 0.99
    # Whatever is known: RI 0, CI 0 means no traces, and that is never critical.
    assert localiser.critical(np.zeros((2, 3))).tolist() == [False, False]


def test_without_a_difference_it_is_chance() -> None:
    assert train_svm(made_up(0.0), 2, seed=0)[1].auc == pytest.approx(0.5, abs=0.15)


def test_training_is_deterministic() -> None:
    first, second = (train_svm(made_up(0.2), 2, seed=3)[0] for _ in range(2))
    for name, array in first.arrays().items():
        assert np.array_equal(array, second.arrays()[name])
    assert not np.array_equal(train_svm(made_up(0.2), 2, seed=4)[0].phases, first.phases)


def test_arrays_make_the_same_localiser() -> None:
    localiser = train_svm(made_up(0.2), 2, seed=0)[0]
    again = Localiser.from_arrays(localiser.arrays())
    inputs = np.random.default_rng(0).normal(size=(20, 2))
    which = np.arange(20) % 2
    assert np.array_equal(again.scores(inputs, which), localiser.scores(inputs, which))
    with pytest.raises(ConfigError, match="svm-mean"):
        Localiser.from_arrays({})


@given(st.integers(0, 1000))
def test_anomalies_hit_containers_only(seed: int) -> None:
    ready = np.array([[3, 0, 2], [0, 1, 0]])
    anomaly = random_anomaly(ready, np.random.default_rng(seed))
    assert np.all((anomaly >= 0.0) & (anomaly <= 1.0))
    assert not anomaly[ready == 0].any()
    for hosts in anomaly:
        hit = hosts[hosts.any(axis=1)]
        assert np.all(hit == hit[:1])  # the same types and intensities wherever it hits


@pytest.mark.parametrize("engine", ["events", "fluid"])
def test_samples_of_the_simulator(small_application: tuple[Scenario, ...], engine: str) -> None:
    bases = [load_scenario(base, engine=engine) for base in small_application]
    samples = collect_samples(bases, 45, first_seed=3500)
    again = collect_samples(bases, 45, first_seed=3500)
    assert np.array_equal(samples.inputs, again.inputs) and np.array_equal(samples.labels, again.labels)
    # 10 windows a scene, two microservices that are on every path; 30 % of them suffer.
    assert samples.microservice.tolist() == [0, 1] * 30
    assert 0.1 < samples.labels.mean() < 0.5
    assert np.all(np.abs(samples.inputs[:, 0]) <= 1.0) and np.all(samples.inputs[:, 1] >= 0.0)


def test_too_few_traces_are_said(small_application: tuple[Scenario, ...]) -> None:
    with pytest.raises(ConfigError, match=r"trace_sampling: 0.01: no microservice has the 30 traces"):
        collect_samples(small_application, 45, first_seed=3500, trace_sampling=0.01)
