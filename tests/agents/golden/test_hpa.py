"""The HPA's recommendation worked by hand; target 50 % unless it is said otherwise."""

from __future__ import annotations

import pytest

from agents.scaling.hpa import desired_replicas


@pytest.mark.parametrize(
    ("utilisation", "desired"),
    [
        (0.55, 10),  # ratio 1.1: within the tolerance
        (0.559, 10),  # 55 %: per cents are cut off
        (0.56, 12),  # ratio 1.12: ceil(11.2)
        (0.45, 10),  # ratio 0.9: within the tolerance
        (0.44, 9),  # ratio 0.88: ceil(8.8)
        (0.80, 16),
        (0.00, 0),
    ],
)
def test_proportional_rule_with_tolerance(utilisation: float, desired: int) -> None:
    assert desired_replicas(10, [utilisation] * 10, 0, 0.5) == desired


def test_the_mean_over_containers_counts() -> None:
    # (0.9 + 0.5) / 2 = 70 %: ratio 1.4, ceil(2.8).
    assert desired_replicas(2, [0.9, 0.5], 0, 0.5) == 3


def test_containers_to_come_damp_scaling_up() -> None:
    # 8 at 80 %: ratio 1.6; with 2 at 0 %: 64 %, ratio 1.28, ceil(1.28 * 10).
    assert desired_replicas(10, [0.8] * 8, 2, 0.5) == 13


def test_containers_to_come_can_make_scaling_up_needless() -> None:
    # 5 at 80 % and 5 at 0 %: 40 %, ratio 0.8: the direction would turn, so nothing happens.
    assert desired_replicas(10, [0.8] * 5, 5, 0.5) == 10
    # 7 at 80 % and 3 at 0 %: 56 %, ratio 1.12: ceil(11.2). With 4: 50.9 -> 50 %, within the tolerance.
    assert desired_replicas(10, [0.8] * 7, 3, 0.5) == 12
    assert desired_replicas(11, [0.8] * 7, 4, 0.5) == 11


def test_scaling_up_never_shrinks() -> None:
    # More replicas are wanted (20) than exist (10): ceil(1.28 * 10) = 13 would be fewer.
    assert desired_replicas(20, [0.8] * 8, 2, 0.5) == 20


def test_scaling_down_counts_only_ready_containers() -> None:
    # Ratio 0.4 of the 10 that are ready, whatever is still to come.
    assert desired_replicas(12, [0.2] * 10, 2, 0.5) == 4


def test_without_metrics_nothing_changes() -> None:
    assert desired_replicas(7, [], 7, 0.5) == 7
