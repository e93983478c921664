"""The metrics are exact: checked against series worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from imbres_gym.evaluation.metrics import (
    METRICS,
    QUANTILE_LEVELS,
    Recording,
    cut_windows,
    episode_metrics,
    latency_quantiles,
)


def recording(
    latencies: list[list[list[float]]],
    failed: list[list[int]] | None = None,
    interval_s: float = 30.0,
    arrivals: list[list[float]] | None = None,
    sla_ms: float = 100.0,
    containers: list[float] | None = None,
    start_s: float = 0.0,
) -> Recording:
    """A recording of the latencies [interval][class][request]."""
    count = len(latencies)
    failures = np.array(failed if failed else np.zeros((count, len(latencies[0]))), np.int64)
    ended = np.array([[len(values) for values in row] for row in latencies]) + failures
    slow = np.array([[sum(v > sla_ms for v in values) for values in row] for row in latencies]) + failures
    return Recording(
        time_s=start_s + interval_s * np.arange(1, count + 1),
        interval_s=np.full(count, interval_s),
        containers=np.array(containers or [10.0] * count),
        connections=np.arange(count, dtype=np.float64),
        connection_churn=np.full(count, 3.0),
        load_variance=np.linspace(0.0, 0.3, count),
        arrivals=np.array(arrivals if arrivals else ended, np.float64),
        requests=ended,
        failed=failures,
        slow=slow,
        decision_ms=np.full(count, 2.0),
        latencies_ms=tuple(tuple(np.array(values, np.float64) for values in row) for row in latencies),
    )


def test_every_metric_of_a_small_episode() -> None:
    # Two windows of two intervals; one class; twenty requests in each interval. Window 1: p95 40. Window 2: 300.
    intervals = [[[10.0, 20.0] * 10], [[30.0, 40.0] * 10], [[50.0, 60.0] * 10], [[200.0] * 16 + [300.0] * 4]]
    metrics = episode_metrics(recording(intervals, containers=[8, 8, 12, 16]), sla_ms=100.0)
    assert tuple(metrics) == METRICS
    assert metrics == {
        "containers": 11.0,
        "sla_violation": 0.5,
        "request_violation": 0.25,
        "p50_ms": 45.0,
        "p95_ms": pytest.approx(205.0),  # position 0.95 * 79 = 75.05 of .. 200, 300
        "p99_ms": 300.0,
        "connections": 1.5,
        "connection_churn": 6.0,  # 4 x 3 in 2 minutes
        "load_variance": pytest.approx(0.15),
        "decision_ms": 2.0,
    }


def test_containers_are_averaged_over_time_not_over_decisions() -> None:
    uneven = recording([[[1]], [[1]]], containers=[10, 40])
    uneven = Recording(**{**vars(uneven), "interval_s": np.array([45.0, 15.0]), "time_s": np.array([45.0, 60.0])})
    assert episode_metrics(uneven, 100.0)["containers"] == pytest.approx((10 * 45 + 40 * 15) / 60)


def test_failed_requests_count_as_slower_than_all_others() -> None:
    quick = [[[1.0] * 19]] * 2
    assert episode_metrics(recording(quick), 100.0)["sla_violation"] == 0.0
    broken = episode_metrics(recording(quick, failed=[[3], [3]]), 100.0)
    assert broken["sla_violation"] == 1.0
    assert broken["request_violation"] == pytest.approx(6 / 44)
    assert broken["p99_ms"] == 10_000.0


def test_one_violating_class_is_enough() -> None:
    both = recording([[[1] * 40, [500] * 10], [[1] * 40, [500] * 10]])
    windows = cut_windows(both, 100.0)
    assert windows.p95_ms.tolist() == [[1.0, 500.0]]
    assert windows.violated.tolist() == [True]


def test_requests_that_never_end_violate_the_sla() -> None:
    stuck = recording([[[]], [[]]], arrivals=[[50.0], [50.0]])
    assert episode_metrics(stuck, 100.0)["sla_violation"] == 1.0
    assert episode_metrics(stuck, 100.0)["request_violation"] == 1.0
    # Those of the last interval may still end in time, and no request at all violates nothing.
    assert episode_metrics(recording([[[]], [[]]], arrivals=[[0.0], [50.0]]), 100.0)["sla_violation"] == 0.0
    assert episode_metrics(recording([[[]], [[]]], arrivals=[[0.0], [0.0]]), 100.0)["request_violation"] == 0.0


def test_a_p95_of_fewer_than_twenty_requests_is_not_judged() -> None:
    def violation(ended: int, arrived: float, latency: float = 500.0) -> float:
        return episode_metrics(recording([[[latency] * ended], [[]]], arrivals=[[arrived], [0.0]]), 100.0)[
            "sla_violation"
        ]

    assert violation(ended=19, arrived=19.0) == 0.0
    assert violation(ended=20, arrived=20.0) == 1.0
    assert violation(ended=1, arrived=20.0, latency=1.0) == 1.0  # the others are late
    assert violation(ended=0, arrived=19.0) == 0.0
    assert violation(ended=0, arrived=20.0) == 1.0


@pytest.mark.parametrize(("intervals", "ends"), [(5, [25.0]), (11, [55.0]), (12, [60.0]), (25, [60.0, 120.0])])
def test_an_unfinished_window_is_left_out_unless_it_is_the_only_one(intervals: int, ends: list[float]) -> None:
    windows = cut_windows(recording([[[1.0]]] * intervals, interval_s=5.0), 100.0)
    assert windows.end_s.tolist() == ends


def test_the_warm_up_is_left_out_exactly() -> None:
    whole = recording([[[900.0]]] * 6 + [[[1.0]]] * 12, interval_s=5.0)
    settled = whole.since(30.0)
    assert settled.time_s.tolist() == [35.0 + 5.0 * i for i in range(12)]
    assert episode_metrics(settled, 100.0)["request_violation"] == 0.0
    assert episode_metrics(whole, 100.0)["request_violation"] == pytest.approx(6 / 18)
    assert cut_windows(settled, 100.0).start_s.tolist() == [30.0]


def test_percentiles_are_those_of_all_requests_together() -> None:
    rng = np.random.default_rng(3)
    values = rng.exponential(50.0, (24, 2, 40))
    metrics = episode_metrics(recording(values.tolist(), interval_s=5.0), 100.0)
    expected = np.percentile(values.reshape(-1), [50, 95, 99])
    assert [metrics["p50_ms"], metrics["p95_ms"], metrics["p99_ms"]] == pytest.approx(expected.tolist(), rel=1e-12)
    assert metrics["request_violation"] == (values > 100.0).mean()
    quantiles = latency_quantiles(recording(values.tolist(), interval_s=5.0))
    assert quantiles == pytest.approx(np.quantile(values, QUANTILE_LEVELS))


def test_nothing_measured_is_an_error() -> None:
    with pytest.raises(ValueError, match="no interval"):
        episode_metrics(recording([[[1.0]]]).since(1000.0), 100.0)
