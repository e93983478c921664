"""Training FIRM's incremental support vector machine (OSDI '20, Algorithm 2) with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.scaling.firm.anomalies import Samples
from agents.scaling.firm.localisation import Localiser
from imbres_gym.config import ConfigError

EPOCHS, BATCH = 20, 256
"""Of FIRM's released code."""
COMPONENTS, GAMMA = 100, 0.5
"""scikit-learn's number of random features, and its gamma "scale" for two standardised inputs."""
HELD_OUT = 0.2
"""Share of the scenes that only measure (FIRM's 8:2)."""
FEW = 30
"""Samples of a microservice below which nothing is known about what is usual there."""


@dataclass(frozen=True)
class Quality:
    """How well held-out samples are told apart.

    Attributes:
        samples: held out.
        positives: share of them with an anomaly [0-1].
        accuracy, balanced_accuracy: of the decision [0-1].
        precision, recall: of the anomalies [0-1].
        auc: area under the ROC curve [0-1]; 0.5 is chance.
    """

    samples: int
    positives: float
    accuracy: float
    balanced_accuracy: float
    precision: float
    recall: float
    auc: float


def train_svm(samples: Samples, microservices: int, seed: int) -> tuple[Localiser, Quality]:
    """Hinge loss, l2, on random Fourier features, by mini-batches; both classes weigh the same.

    Scenes are held out as a whole, the last ones: windows of one scene resemble each other.

    Args:
        samples: of one application.
        microservices: number of them.
        seed: of the random features and of the order of the samples.

    Raises:
        ConfigError: there are too few samples.
    """
    from sklearn.kernel_approximation import RBFSampler
    from sklearn.linear_model import SGDClassifier

    scenes = np.unique(samples.scene)
    if len(scenes) < 2:
        raise ConfigError(f"samples: {len(samples.labels)} are of one scene, and another one has to measure; give more")
    held_out = samples.scene >= scenes[-max(1, round(HELD_OUT * len(scenes)))]
    inputs, labels = samples.inputs[~held_out], samples.labels[~held_out]
    microservice = samples.microservice[~held_out]
    mean, deviation = _usual(inputs, microservice, microservices)
    kernel = RBFSampler(gamma=GAMMA, n_components=COMPONENTS, random_state=seed)
    mapped = kernel.fit_transform((inputs - mean[microservice]) / deviation[microservice])
    share = labels.mean()
    machine = SGDClassifier(
        loss="hinge",
        penalty="l2",
        average=True,
        random_state=seed,
        class_weight={False: 0.5 / (1.0 - share), True: 0.5 / share},
    )
    rng = np.random.default_rng(seed)
    for _ in range(EPOCHS):
        order = rng.permutation(len(labels))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            machine.partial_fit(mapped[rows], labels[rows], classes=[False, True])
    localiser = Localiser(
        mean, deviation, kernel.random_weights_, kernel.random_offset_, machine.coef_[0], machine.intercept_
    )
    return localiser, _quality(localiser, samples, held_out)


def _usual(
    inputs: NDArray[np.float64], microservice: NDArray[np.int64], microservices: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation (M, 2) of the inputs of each microservice; of all, where it has too few samples."""
    mean = np.tile(inputs.mean(axis=0), (microservices, 1))
    deviation = np.tile(inputs.std(axis=0), (microservices, 1))
    for m in range(microservices):
        mine = inputs[microservice == m]
        if len(mine) >= FEW:
            mean[m], deviation[m] = mine.mean(axis=0), mine.std(axis=0)
    return mean, np.maximum(deviation, 1e-9)


def _quality(localiser: Localiser, samples: Samples, held_out: NDArray[np.bool_]) -> Quality:
    from sklearn import metrics

    labels = samples.labels[held_out]
    scores = localiser.scores(samples.inputs[held_out], samples.microservice[held_out])
    flagged = scores > 0.0
    return Quality(
        samples=len(labels),
        positives=float(labels.mean()),
        accuracy=float(metrics.accuracy_score(labels, flagged)),
        balanced_accuracy=float(metrics.balanced_accuracy_score(labels, flagged)),
        precision=float(metrics.precision_score(labels, flagged, zero_division=0.0)),
        recall=float(metrics.recall_score(labels, flagged, zero_division=0.0)),
        auc=float(metrics.roc_auc_score(labels, scores)),
    )
