"""Algorithm 2 worked by hand."""

from __future__ import annotations

from agents.scaling.per_application import Measured, StepSizes, scale_application

BOUNDS = (2, 100)
PAPER = StepSizes()
UNLIMITED = StepSizes(limit=False)


def test_the_first_step_is_first_order() -> None:
    # P = 1000 / 10 = 100, dP = 0.2 * (100 - 200) * 100 / 200 = -10, R* = 1000 / 90 = 11.1 -> 12.
    assert scale_application(10, 200.0, 100.0, 1000.0, None, PAPER, BOUNDS) == 2


def test_newton_when_latency_rose_with_the_load_per_container() -> None:
    # (200 - 100)(100 - 50) > 0 and 100 / 200 >= 0.1: dP = 0.5 * 50 * (100 - 200) / 100 = -25, R* = 13.3 -> 14.
    assert scale_application(10, 200.0, 100.0, 1000.0, Measured(P=50.0, L=100.0), PAPER, BOUNDS) == 4


def test_a_small_change_of_latency_is_noise() -> None:
    # 5 / 200 < 0.1: first order, although the signs agree.
    assert scale_application(10, 200.0, 100.0, 1000.0, Measured(P=50.0, L=195.0), PAPER, BOUNDS) == 2


def test_the_threshold_itself_is_enough_for_newton() -> None:
    # |200 - 180| / 200 = 0.1: dP = 0.5 * (100 - 80) * (100 - 200) / 20 = -50, R* = 20; first order would give 12.
    assert scale_application(10, 200.0, 100.0, 1000.0, Measured(P=80.0, L=180.0), PAPER, BOUNDS) == 10


def test_latency_that_rose_as_the_load_fell_is_noise() -> None:
    assert scale_application(10, 200.0, 100.0, 1000.0, Measured(P=120.0, L=100.0), PAPER, BOUNDS) == 2


def test_below_the_sla_containers_are_given_back() -> None:
    # dP = 0.2 * (100 - 80) * 100 / 80 = 5, R* = 1000 / 105 = 9.5 -> 10: nothing to give back.
    assert scale_application(10, 80.0, 100.0, 1000.0, None, PAPER, BOUNDS) == 0
    # dP = 0.2 * 50 * 100 / 50 = 20, R* = 8.3 -> 9.
    assert scale_application(10, 50.0, 100.0, 1000.0, None, PAPER, BOUNDS) == -1


def test_a_step_is_limited_to_a_factor_of_two() -> None:
    # dP = 0.2 * 90 * 100 / 10 = 180: P = 280, limited to 200: R* = 5, not 3.6 -> 4.
    assert scale_application(10, 10.0, 100.0, 1000.0, None, PAPER, BOUNDS) == -5
    assert scale_application(10, 10.0, 100.0, 1000.0, None, UNLIMITED, BOUNDS) == -6
    # Newton: dP = 0.5 * 80 * (100 - 400) / 100 = -120: P = -20, limited to 50: R* = 20.
    last = Measured(P=20.0, L=300.0)
    assert scale_application(10, 400.0, 100.0, 1000.0, last, PAPER, BOUNDS) == 10
    assert scale_application(10, 400.0, 100.0, 1000.0, last, UNLIMITED, BOUNDS) == 90


def test_bounds_hold() -> None:
    assert scale_application(10, 10.0, 100.0, 1000.0, None, PAPER, (8, 100)) == -2
    assert scale_application(10, 1000.0, 100.0, 1000.0, None, PAPER, (2, 11)) == 1
