"""Which microservices are critical: FIRM's support vector machine on RI and CI (OSDI '20, Algorithm 2), in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbres_gym.config import ConfigError
from imbres_gym.critical_path import CI, RI


def svm_inputs(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """RI and the logarithm of CI, (n, 2) float64, of features (n, 3) as in `imbres_gym.critical_path`.

    The logarithm because under CFS bandwidth control a p99 is anything from one to several hundred times the median.
    """
    ci = np.maximum(np.asarray(features[:, CI], np.float64), 1.0)
    return np.stack([np.asarray(features[:, RI], np.float64), np.log(ci)], axis=1)


@dataclass(frozen=True, eq=False)
class Localiser:
    """A linear machine on D random Fourier features, which approximate an RBF kernel (Rahimi and Recht, 2007).

    One machine for all microservices, but each has its own usual RI and CI: a front end always goes with the total, a
    leaf never does. What counts is how far they are from usual.

    Attributes:
        mean, deviation: (M, 2) of the inputs of each microservice, to standardise them.
        frequencies: (2, D) of the random features.
        phases: (D,) of the random features [0, 2 pi].
        coefficients: (D,) of the separating plane.
        intercept: (1,) of the separating plane.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    phases: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    intercept: NDArray[np.float64]

    def scores(self, inputs: NDArray[np.float64], microservice: NDArray[np.integer]) -> NDArray[np.float64]:
        """Distance from the separating plane, positive on the critical side.

        Args:
            inputs: (n, 2) `svm_inputs`.
            microservice: (n,) index of the microservice of each.

        Returns:
            (n,) float64.
        """
        standard = (inputs - self.mean[microservice]) / self.deviation[microservice]
        kernel = np.cos(standard @ self.frequencies + self.phases) * np.sqrt(2.0 / len(self.phases))
        return np.asarray(kernel @ self.coefficients + self.intercept)

    def critical(self, features: NDArray[np.floating]) -> NDArray[np.bool_]:
        """(M,) whether a microservice is critical, of its features (M, 3); one without RI and CI never is."""
        known = np.asarray(features[:, CI]) > 0.0
        scores = self.scores(svm_inputs(features), np.arange(len(features)))
        return np.asarray(known & (scores > 0.0))

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Everything as arrays for a bundle."""
        return {f"svm-{field.name}": getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Localiser:
        """The inverse of `arrays`.

        Raises:
            ConfigError: an array is missing.
        """
        try:
            return cls(**{field.name: np.asarray(arrays[f"svm-{field.name}"], np.float64) for field in fields(cls)})
        except KeyError as error:
            raise ConfigError(f"bundle: it has no array {error}; train it again") from None
