"""PEMA's formulas worked by hand; alpha 0.5 and beta 0.3 as its authors set them, SLA 200 ms."""

from __future__ import annotations

import numpy as np
import pytest

from agents.scaling.pema import WorkloadRange, choice_weights, how_many, reduction


@pytest.mark.parametrize(
    ("slack", "count", "step"),
    [
        (0.00, 0, 0.00),
        (0.02, 0, 0.012),  # 12 / 0.5 * 0.02 = 0.48 microservices
        (0.10, 2, 0.06),  # 2.4 microservices; 0.3 / 0.5 * 0.1
        (0.25, 6, 0.15),
        (0.50, 12, 0.30),
        (0.90, 12, 0.30),  # no more than all, no more than beta
    ],
)
def test_how_many_shrink_and_how_far(slack: float, count: int, step: float) -> None:
    assert how_many(slack, 12, 0.5) == count
    assert reduction(slack, 0.5, 0.3) == pytest.approx(step)


def test_busy_microservices_are_chosen_less_often() -> None:
    # 0.1 is the least used (20 on the scale), 0.5 the most (80), 0.3 in the middle (50).
    np.testing.assert_allclose(choice_weights(np.array([0.1, 0.5, 0.3])), [80.0, 20.0, 50.0])
    np.testing.assert_allclose(choice_weights(np.array([0.4, 0.4])), [80.0, 80.0])


def test_the_threshold_follows_the_workload_once_it_is_known_how() -> None:
    known = WorkloadRange(start_rps=1150.0)
    # p95 rises by 0.4 ms per request/s: 40 ms over the range of 100.
    known.samples = [(1155.0 + 10.0 * i, 100.0 + 4.0 * i) for i in range(9)]
    assert known.threshold_ms(1150.0, 200.0) == 200.0  # nine samples are too few
    known.samples.append((1245.0, 136.0))
    assert known.threshold_ms(1250.0, 200.0) == pytest.approx(200.0)
    assert known.threshold_ms(1150.0, 200.0) == pytest.approx(160.0)
    assert known.threshold_ms(1175.0, 200.0) == pytest.approx(170.0)


def test_noise_of_a_constant_workload_moves_no_threshold() -> None:
    steady = WorkloadRange(start_rps=1150.0, samples=[(1195.0 + i, 100.0 + 5.0 * i) for i in range(20)])
    assert steady.threshold_ms(1200.0, 200.0) == 200.0


def test_a_range_goes_back_to_what_was_safe() -> None:
    known = WorkloadRange(start_rps=0.0)
    first, second, third = np.array([8.0, 8.0]), np.array([6.0, 8.0]), np.array([4.0, 8.0])
    assert known.roll_back(first) is None
    known.remember(first)
    known.remember(second)
    known.remember(second)
    restored = known.roll_back(third)
    assert restored is not None and restored.tolist() == [6.0, 8.0]
    restored = known.roll_back(second)  # it was not safe after all
    assert restored is not None and restored.tolist() == [8.0, 8.0]
    assert known.roll_back(first) is None
