"""Real connections follow the weights of a ConnectionPlan, and go back to Kubernetes' own balancing without it."""

from __future__ import annotations

import time

from connection_plans import PlanWriter, in_force
from live_cluster import Bed, served_by_pod, wait_for

WEIGHTS = (0.6, 0.3, 0.1)
DEVIATIONS = 4.0
"""Of the binomial distribution: a correct share is outside once in 16,000 comparisons."""


def shares(bed: Bed, seed: int) -> tuple[dict[str, float], int]:
    """Shares of the pods of pricing in a period of load, and the number of calls."""
    before = served_by_pod(bed, "pricing")
    requests = bed.load(30.0, 20.0, seed)
    assert all(request.ok for request in requests)
    counts = {ip: count - before[ip] for ip, count in served_by_pod(bed, "pricing").items()}
    total = sum(counts.values())
    assert total == len(requests)
    return {ip: count / total for ip, count in counts.items()}, int(total)


def assert_follow(found: dict[str, float], expected: dict[str, float], count: int) -> None:
    for ip, share in expected.items():
        deviation = (share * (1.0 - share) / count) ** 0.5
        assert abs(found[ip] - share) < DEVIATIONS * deviation, (found, expected, count)


def test_connections_follow_the_weights_then_other_weights_then_none(deployed: Bed, writer: PlanWriter) -> None:
    addresses = sorted(served_by_pod(deployed, "pricing"))
    first = dict(zip(addresses, WEIGHTS, strict=True))
    writer.write(first)
    applied_s = wait_for(lambda: in_force(deployed), "plans applied", 20.0, pause_s=0.05)
    found, count = shares(deployed, seed=1)
    assert_follow(found, first, count)

    second = dict(zip(addresses, reversed(WEIGHTS), strict=True))
    writer.write(second)
    wait_for(lambda: in_force(deployed), "plans applied", 20.0, pause_s=0.05)
    found, count = shares(deployed, seed=2)
    assert_follow(found, second, count)

    writer.delete()
    time.sleep(2.0)
    found, count = shares(deployed, seed=3)
    assert_follow(found, dict.fromkeys(addresses, 1.0 / 3.0), count)
    print(f"first plan in force after {applied_s:.2f} s; shares of {count} calls without a plan: {found}")


def test_a_plan_without_signs_of_life_goes_out_of_force(deployed: Bed, writer: PlanWriter) -> None:
    addresses = sorted(served_by_pod(deployed, "pricing"))
    writer.write({addresses[0]: 1.0}, expires_s=5.0)
    wait_for(lambda: in_force(deployed), "plans applied", 20.0)
    time.sleep(12.0)
    found, count = shares(deployed, seed=4)
    assert_follow(found, dict.fromkeys(addresses, 1.0 / 3.0), count)
