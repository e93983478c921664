"""Rejections, errors and deadlines: who counts as failed, and what a failed call still costs."""

from __future__ import annotations

import numpy as np
import pytest

from imbres_gym.application import Application
from imbres_gym.sim.events import EventCluster
from imbres_gym.sim.workload import Step, StepWorkload
from imbres_gym.telemetry import Telemetry
from theory.builders import PLENTY, application, call, microservice, neutral, scenario, totals

OVERLOAD = StepWorkload(steps=[Step(at_s=0.0, rps=400.0), Step(at_s=20.0, rps=0.0)])
"""Twice what a container with 5 ms of CPU per call can bear, then silence."""


def until_quiet(app: Application, effects: object = None) -> list[Telemetry]:
    """Telemetry of an overload of 20 s and of the silence in which all that waits is served."""
    cluster = EventCluster(scenario(app, OVERLOAD, effects=effects or neutral(), trace_sampling=1.0))
    return [cluster.reset(41), *(cluster.advance(5.0) for _ in range(12))]


def test_every_request_ends_once_and_rejected_ones_are_no_spans() -> None:
    """Requests that ended = arrived; spans = those that were not rejected; latencies = those without failure."""
    measured = until_quiet(application({"a": microservice(5.0, workers=2, accept_queue=3)}, call("a")))
    requests, failed = (sum(int(getattr(t, name)[0]) for t in measured) for name in ("requests", "failed"))
    assert requests == totals(measured, "workload_rps")[0] == totals(measured, "load_rps")[0, 0]
    assert 0.4 < failed / requests < 0.6
    assert sum(t.latencies_ms[0].size for t in measured) == requests - failed
    assert sum(int(t.samples[0, 0]) for t in measured) == sum(len(t.spans) for t in measured) == requests - failed


def test_rejection_answers_at_once() -> None:
    """With constant demands no request waits longer than the queue and its own service allow."""
    app = application({"a": microservice(5.0, workers=1, accept_queue=3)}, call("a"))
    measured = until_quiet(app, neutral(demand_shape=1e8))
    slowest = max(float(t.latencies_ms[0].max()) for t in measured if t.latencies_ms[0].size)
    assert 3.9 * 5.0 < slowest <= 4.0 * 5.0 + 0.1


def test_failed_call_ends_the_work_of_its_caller() -> None:
    """A span whose child fails makes no further calls, does its last burst and fails its request, once."""
    app = application(
        {"a": microservice(0.1, 64.0), "b": microservice(5.0, workers=1, accept_queue=0), "c": microservice(0.1, 64.0)},
        call("a", [call("b")], [call("c")]),
    )
    measured = until_quiet(app)
    requests, failed = (sum(int(getattr(t, name)[0]) for t in measured) for name in ("requests", "failed"))
    calls = totals(measured, "load_rps")[:, 0]
    samples = sum(t.samples[:, 0] for t in measured)
    np.testing.assert_array_equal(calls, [requests, requests, requests - failed])
    np.testing.assert_array_equal(samples, [requests, requests - failed, requests - failed])
    assert failed / requests == pytest.approx(2.0 / 3.0, abs=0.03)  # Erlang B: 2 / (1 + 2), 8000 requests


def test_repetitions_stop_at_the_first_error() -> None:
    """Of five repetitions none follows one that failed: each failed request made one call that was rejected."""
    app = application(
        {"a": microservice(0.1, 64.0), "b": microservice(5.0, workers=1, accept_queue=0)},
        call("a", [call("b", repeat=5)]),
    )
    measured = until_quiet(app)
    failed = sum(int(t.failed[0]) for t in measured)
    rejected = totals(measured, "load_rps")[1, 0] - sum(int(t.samples[1, 0]) for t in measured)
    assert rejected == failed > 1000


def test_deadline_counts_and_sheds() -> None:
    """Under overload the queue gives up what is past its deadline: it is not served, and all in time is in time."""
    deadline = 200.0
    app = application({"a": microservice(5.0, workers=1, accept_queue=PLENTY)}, call("a"), deadline_ms=deadline)
    measured = until_quiet(app)
    requests, failed = (sum(int(getattr(t, name)[0]) for t in measured) for name in ("requests", "failed"))
    assert requests == totals(measured, "workload_rps")[0]
    assert all(np.all(t.latencies_ms[0] <= deadline) for t in measured)
    spans = np.concatenate([t.spans for t in measured])
    served_late = len(spans) - (requests - failed)  # taken before the deadline, ended after it
    assert 0 < served_late < failed
    # The container was busy for all of 20 s and the 0.2 s after: 4040 spans, give or take 4 standard errors.
    assert len(spans) == pytest.approx(20.2 / 0.005, abs=4.0 * (20.2 / 0.005) ** 0.5)


def test_slow_requests_are_those_over_the_sla_and_the_failed() -> None:
    """`slow` counts by the SLA, failures included."""
    app = application({"a": microservice(5.0, workers=1, accept_queue=40)}, call("a"))
    for t in until_quiet(app):
        assert t.slow[0] == t.failed[0] + np.sum(t.latencies_ms[0] > 100.0)
