"""One step of the fluid engine: flows, stations, latencies and what is measured of them, for one episode."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbres_gym.scenario import Scenario
from imbres_gym.sim.fluid import compose, draw, end_to_end, flow, own, station
from imbres_gym.sim.fluid.episode import FluidEpisode
from imbres_gym.sim.fluid.kinds import Kinds
from imbres_gym.sim.fluid.surfaces import WIDTH, Surfaces, load_surfaces
from imbres_gym.sim.opening import TICK_S
from imbres_gym.sim.state import DRAINING
from imbres_gym.sim.workload import ConstantWorkload
from imbres_gym.sim.world import build_world, sensitivities
from imbres_gym.telemetry import ClusterInfo

Floats = NDArray[np.float64]

ROUNDS = 4
"""Upstream overload holds back calls, which may end overload downstream: passes over the flow of a step, at most."""


class Flows(NamedTuple):
    """What flows in one step, and what it meets.

    Attributes:
        class_rps: (C,) end-user requests/s.
        stations: how the containers fare.
        rates: (kinds x containers,) calls/s, see `Fleet.kind_begin`.
        losses: (kinds x containers, WIDTH) of a burst to the quota [ms].
        runs: (kinds x containers,) see `station.look_up`.
        refused: (K,) calls/s that find no container.
    """

    class_rps: Floats
    stations: station.Stations
    rates: Floats
    losses: NDArray[np.float32]
    runs: NDArray[np.int64]
    refused: Floats


class Engine:
    """What does not change in an episode: kinds of calls, response surfaces, sizes of containers."""

    def __init__(self, scenario: Scenario, info: ClusterInfo, kinds: Kinds) -> None:
        app, effects = scenario.application, scenario.effects
        services = list(app.microservices.values())
        self._scenario = scenario
        self._info = info
        self._sensitivity = sensitivities(app)
        self.idle_cores = np.array([service.idle_cores for service in services])
        quota = (info.cores - self.idle_cores) * effects.period_ms
        deadlines = [request.deadline_ms for request in app.request_classes.values()]
        self.limits = station.Limits(
            quota=quota,
            parallelism=np.array([float(service.parallelism) for service in services]),
            places=np.array([float(service.workers + service.accept_queue) for service in services]),
            wake_loss_ms=effects.wake_loss_ms,
            period_ms=effects.period_ms,
            patience_s=max(deadlines) * 1e-3,
        )
        slack = np.minimum(effects.slack_ms * max(0.0, effects.cpus - 1.0) / quota, 0.5)
        self.tables = make_tables(load_surfaces(), slack)
        self.store_shape = effects.store_shape
        self.tails = own.make_tails()
        self._waves = draw.bridge_waves()

    def step(self, episode: FluidEpisode, seconds: float) -> None:
        """Let `seconds` pass in which nothing changes but the load of the hosts, and add them to the interval."""
        kinds, limits, topology = episode.kinds, self.limits, episode.topology
        fleet = topology.fleet
        class_rps = kinds.class_share * self._mean_rate(episode.now_s, seconds)
        rates = np.zeros(fleet.kind_begin[-1])
        stations = station.new_stations(len(fleet.id))
        spread, refused = np.zeros(len(kinds.microservice)), np.zeros(len(kinds.microservice))
        before = episode.slots["excess"][fleet.slot]
        for _ in range(ROUNDS):
            passed = stations.passed.copy()
            flow.propagate(kinds, fleet, topology.rows, topology.pool_weight, class_rps, passed, rates, spread, refused)
            station.gather(kinds, fleet, rates, stations)
            self._interfere(episode, stations)
            world = episode.world
            station.settle(
                limits, self.tables, fleet, topology.factor, world.stretch, world.speed, seconds, before, stations
            )
            if np.abs(passed - stations.passed).max(initial=0.0) < 1e-3:
                break
        episode.expected = stations
        losses, runs = np.zeros((len(rates), WIDTH), np.float32), np.zeros(len(rates), np.int64)
        station.look_up(kinds, limits, self.tables, fleet, stations, rates, losses, runs)
        self._leave_over(episode, stations, seconds)
        self._observe(episode, seconds, Flows(class_rps, stations, rates, losses, runs, refused))

    def _mean_rate(self, now_s: float, seconds: float) -> float:
        """End-user requests/s in a step: it is the same between two ticks."""
        workload = self._scenario.workload
        if isinstance(workload, ConstantWorkload):
            return workload.rps
        edges = np.arange(np.floor(now_s / TICK_S + 1e-9), np.ceil((now_s + seconds) / TICK_S - 1e-9)) * TICK_S
        lasts = np.minimum(edges + TICK_S, now_s + seconds) - np.maximum(edges, now_s)
        return float(sum(workload.rate(float(t)) * last for t, last in zip(edges, lasts, strict=True)) / seconds)

    def _interfere(self, episode: FluidEpisode, stations: station.Stations) -> None:
        """Bring interference, and what the containers add to it, up to date."""
        topology, scenario = episode.topology, self._scenario
        place = min(int(episode.now_s / 5.0 + 1e-9), len(episode.interference) - 1)
        utilisation = episode.interference[place].copy()
        used = np.zeros(len(utilisation))
        station.own_use(self.limits, topology.fleet, topology.factor, episode.world.stretch, stations, used)
        idle = np.bincount(topology.fleet.host, self.idle_cores[topology.fleet.microservice], len(utilisation))
        utilisation[:, 0] += (used + idle) / self._info.host_cores
        episode.world = build_world(scenario.effects, self._sensitivity, utilisation)
        episode.utilisation = np.minimum(utilisation, 1.0)

    def _leave_over(self, episode: FluidEpisode, stations: station.Stations, seconds: float) -> None:
        """Keep the work that is left over; removed containers do what they have."""
        slots = episode.slots
        slots["excess"][episode.topology.fleet.slot] = stations.excess
        draining = slots["life"] == DRAINING
        if draining.any():
            cores = self.limits.quota[slots["microservice"][draining]] / self.limits.period_ms
            slots["excess"][draining] = np.maximum(0.0, slots["excess"][draining] - cores * seconds)

    def _observe(self, episode: FluidEpisode, seconds: float, flows: Flows) -> None:
        """Draw what is measured in the step."""
        kinds, fleet = episode.kinds, episode.topology.fleet
        of_class, of_container = np.zeros(len(kinds.root)), np.zeros(len(fleet.id))
        expected, noise = np.zeros(len(fleet.id)), np.zeros(len(fleet.id))
        draw.count_arrivals(
            kinds,
            fleet,
            flows.rates,
            flows.class_rps,
            seconds,
            episode.streams,
            of_class,
            of_container,
            expected,
            noise,
        )
        slots = episode.slots
        slots["arrivals"][fleet.slot] += of_container.astype(np.int64)
        surprise = np.divide(of_container, expected, out=np.ones(len(expected)), where=expected > 0.0)
        cores = self.limits.quota[fleet.microservice] / self.limits.period_ms
        slots["used"][fleet.slot] += np.minimum(flows.stations.used * surprise, cores) * seconds
        self._observe_spans(episode, flows, of_container)
        self._observe_requests(episode, flows, of_class)

    def _observe_spans(self, episode: FluidEpisode, flows: Flows, arrived: Floats) -> None:
        """Own latency per microservice and host, of the spans that end in the step."""
        kinds, fleet, interval = episode.kinds, episode.topology.fleet, episode.interval
        cells, shape = len(fleet.cell_place), episode.ready.shape
        moments, quantiles = np.zeros((cells, 4)), np.zeros((cells, own.N_LEVELS))
        own.own_latency(
            kinds,
            fleet,
            flows.stations,
            episode.world,
            self.tails,
            self.store_shape,
            flows.rates,
            flows.losses,
            flows.runs,
            moments,
            quantiles,
        )
        ended = arrived * np.minimum(flows.stations.passed, 1.0)
        samples = np.rint(np.bincount(fleet.cell, ended, cells)).astype(np.int64)
        mean, p95, scale = np.zeros(cells), np.zeros(cells), np.zeros(cells)
        draw.measured_own(moments, quantiles, samples, episode.streams, mean, p95, scale)
        of_microservice = np.zeros(shape[0])
        own.over_hosts(fleet, samples.astype(np.float64), quantiles, of_microservice, scale)
        calls = np.bincount(fleet.cell_place // shape[1], samples, shape[0])
        interval.samples.ravel()[fleet.cell_place] += samples
        interval.mean.ravel()[fleet.cell_place] += samples * mean
        interval.p95.ravel()[fleet.cell_place] += samples * p95
        interval.microservice_p95 += calls * of_microservice

    def _observe_requests(self, episode: FluidEpisode, flows: Flows, arrived: Floats) -> None:
        """E2E latency of each class, and how many requests end, fail and are slow."""
        kinds, fleet, interval, world = episode.kinds, episode.topology.fleet, episode.interval, episode.world
        times, composed = (
            compose.new_times(len(kinds.microservice), len(kinds.child) - 1),
            end_to_end.new_composed(len(kinds.root)),
        )
        rates, losses, runs, stations = flows.rates, flows.losses, flows.runs, flows.stations
        compose.compose(kinds, fleet, stations, world, self.store_shape, rates, losses, runs, times)
        end_to_end.end_to_end(kinds, world, times, composed)
        episode.kinds = kinds._replace(groups=times.groups, second_ms2=times.second_ms2)
        n_kinds, n_classes = len(kinds.microservice), len(kinds.root)
        fails, answered, excess = np.zeros(n_kinds), np.zeros(n_kinds), np.zeros(n_kinds)
        compose.outcomes(kinds, fleet, stations, rates, flows.refused, fails, answered)
        inflation = np.zeros(n_classes)
        draw.class_inflation(kinds, fleet, rates, losses, runs, composed, excess, inflation)
        every, failed = np.rint(arrived * answered[kinds.root]), fails[kinds.root]
        draw.failures(episode.streams, every, failed)
        bridge, upto = np.zeros(draw.BRIDGE_POINTS), np.zeros(end_to_end.BINS + 1)
        for c in range(n_classes):
            ended, bad = int(every[c]), int(failed[c])
            values = np.zeros(ended - bad)
            draw.measured_latencies(composed, c, self._waves, inflation[c], episode.streams, bridge, upto, values)
            if len(values) < draw.FEW:
                values.sort()
            good = int(np.searchsorted(values, kinds.deadline_ms[c], side="right"))
            slow = len(values) - int(np.searchsorted(values, self._info.sla_ms, side="right"))
            interval.arrived[c] += int(arrived[c])
            interval.ended[c] += ended
            interval.failed[c] += bad + len(values) - good
            interval.slow[c] += bad + max(slow, len(values) - good)
            interval.latencies[c].append(values[:good])


def make_tables(surfaces: Surfaces, slack: Floats) -> station.Tables:
    """The response surfaces for the slacks (M,) of the microservices."""
    different, place = np.unique(np.round(slack, 3), return_inverse=True)
    return station.Tables(
        values=np.stack([surfaces.with_slack(float(value)) for value in different]),
        loads=surfaces.loads,
        log2_calls=np.log2(surfaces.calls),
        log_shares=np.log(surfaces.shares),
        slack=place.astype(np.int64),
    )
