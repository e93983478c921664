"""A small feed-forward network as plain arrays, evaluated with numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Activation = Literal["tanh", "relu"]
Output = Literal["none", "tanh"]

EPSILON = 1e-8
"""Added to the variance before the division, as stable-baselines3's VecNormalize does."""


@dataclass(frozen=True, eq=False)
class Normalisation:
    """Inputs to mean 0 and variance 1, cut off at `clip`.

    Attributes:
        mean: (n,) float.
        variance: (n,) float, >= 0.
        clip: largest magnitude after it, > 0.
    """

    mean: NDArray[np.floating]
    variance: NDArray[np.floating]
    clip: float = 10.0

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.mean.shape != self.variance.shape:
            raise ValueError("mean and variance must be vectors of one length")
        if np.any(self.variance < 0.0) or not self.clip > 0.0:
            raise ValueError("variance must be >= 0 and clip > 0")

    def apply(self, inputs: NDArray[np.floating]) -> Floats:
        """(..., n) float32, normalised."""
        scaled = (inputs - self.mean) / np.sqrt(self.variance + EPSILON)
        return np.asarray(np.clip(scaled, -self.clip, self.clip), np.float32)


@dataclass(frozen=True, eq=False)
class Network:
    """Fully connected layers; the activation is between them, `output` after the last.

    Attributes:
        weights: per layer (outputs, inputs) float32, as in torch's Linear.
        biases: per layer (outputs,) float32.
        activation: "tanh" or "relu".
        output: "none" or "tanh".
        normalisation: of the inputs, or None.

    Raises:
        ValueError: no layers, shapes that do not fit together, or an unknown activation.
    """

    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    activation: Activation = "tanh"
    output: Output = "none"
    normalisation: Normalisation | None = None

    def __post_init__(self) -> None:
        if not self.weights or len(self.weights) != len(self.biases):
            raise ValueError("a network needs as many biases as weights, and at least one")
        if self.activation not in get_args(Activation) or self.output not in get_args(Output):
            raise ValueError(f"unknown activation {self.activation!r} or output {self.output!r}")
        width = self.weights[0].shape[-1]
        if self.normalisation is not None and self.normalisation.mean.shape != (width,):
            raise ValueError(f"the normalisation is of {len(self.normalisation.mean)} inputs, the network has {width}")
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if weight.ndim != 2 or weight.shape[1] != width or bias.shape != (weight.shape[0],):
                raise ValueError(
                    f"layer {index} has weights {weight.shape} and biases {bias.shape} after {width} values"
                )
            width = weight.shape[0]

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return int(self.weights[0].shape[1])

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return int(self.weights[-1].shape[0])

    def forward(self, inputs: NDArray[np.floating]) -> Floats:
        """(..., outputs) float32 of (..., inputs) numbers.

        Raises:
            ValueError: another number of inputs.
        """
        if inputs.shape[-1] != self.inputs:
            raise ValueError(f"the network takes {self.inputs} inputs, not {inputs.shape[-1]}")
        values = np.asarray(inputs, np.float32) if self.normalisation is None else self.normalisation.apply(inputs)
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = values @ weight.T + bias
            if index < last:
                values = np.tanh(values) if self.activation == "tanh" else np.maximum(values, np.float32(0.0))
        return np.tanh(values) if self.output == "tanh" else values
