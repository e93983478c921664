"""Two made-up tables of scores: four scenarios with five runs each, with ties within and between them."""

from __future__ import annotations

import numpy as np

GROUPS = [
    np.array([0.82, 0.90, 0.87, 0.95, 0.79]),
    np.array([1.10, 1.02, 0.98, 1.10, 1.25]),
    np.array([0.50, 0.55, 0.52, 0.61, 0.47]),
    np.array([0.99, 1.00, 1.01, 1.00, 2.40]),
]
OTHERS = [
    np.array([0.90, 0.99, 0.93, 0.90, 1.05]),
    np.array([1.05, 1.10, 0.97, 1.01, 1.00]),
    np.array([0.62, 0.70, 0.49, 0.66, 0.58]),
    np.array([1.00, 1.00, 1.02, 0.98, 1.03]),
]
THRESHOLDS = np.array([0.4, 0.5, 0.8, 0.9, 1.0, 1.1, 2.0, 2.4])
