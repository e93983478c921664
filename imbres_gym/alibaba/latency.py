"""Latency of an application without load, for an SLA that it can meet."""

from __future__ import annotations

import math

from imbres_gym.application import Application, Call

SLA_FACTOR = 3.0
"""SLA of all request classes, times the mean latency of the slowest one without load: estimate."""


def reachable_sla_ms(application: Application) -> float:
    """An SLA [ms], in steps of 10: `SLA_FACTOR` times the mean latency of the slowest request class without load."""
    slowest = max(mean_latency_ms(application, request.tree) for request in application.request_classes.values())
    return 10.0 * math.ceil(SLA_FACTOR * slowest / 10.0)


def mean_latency_ms(application: Application, call: Call) -> float:
    """Rough mean latency of a call [ms]: own work, then stages one after another, each as long as its longest call."""
    if call.target in application.stores:
        own = application.stores[call.target].operations[call.operation]
    else:
        own = application.hop_ms + application.microservices[call.target].operations[call.operation].cpu_ms
    below = sum(max(mean_latency_ms(application, child) for child in stage) for stage in call.stages)
    return (own + below) * call.repeat * call.probability
