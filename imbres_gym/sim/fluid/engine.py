"""The model of a scenario, and one step of an episode by it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbres_gym.measured import Measured, widened
from imbres_gym.scenario import Scenario
from imbres_gym.sim.fluid import draw, own, station
from imbres_gym.sim.fluid.bundle import bundle
from imbres_gym.sim.fluid.episode import FluidEpisode
from imbres_gym.sim.fluid.kinds import Kinds
from imbres_gym.sim.fluid.step import Model, new_work, step
from imbres_gym.sim.fluid.surfaces import Surfaces, load_surfaces
from imbres_gym.sim.fluid.weather import make_response
from imbres_gym.sim.opening import INTERFERENCE_STEP_S, TICK_S
from imbres_gym.sim.workload import ConstantWorkload
from imbres_gym.telemetry import ClusterInfo

Floats = NDArray[np.float64]


class Engine:
    """What does not change in an episode: kinds of calls, response surfaces, sizes of containers."""

    def __init__(self, scenario: Scenario, info: ClusterInfo, kinds: Kinds) -> None:
        app, effects = scenario.application, scenario.effects
        services = list(app.microservices.values())
        self._scenario = scenario
        idle_cores = np.array([service.idle_cores for service in services])
        quota = (info.cores - idle_cores) * effects.period_ms
        slack = np.minimum(effects.slack_ms * max(0.0, effects.cpus - 1.0) / quota, 0.5)
        self.model = Model(
            limits=station.Limits(
                quota=quota,
                parallelism=np.array([float(service.parallelism) for service in services]),
                places=np.array([float(service.workers + service.accept_queue) for service in services]),
                wake_loss_ms=effects.wake_loss_ms,
                period_ms=effects.period_ms,
                patience_s=max(request.deadline_ms for request in app.request_classes.values()) * 1e-3,
            ),
            tables=make_tables(load_surfaces(), slack),
            tails=own.make_tails(),
            response=make_response(app, effects),
            store_shape=effects.store_shape,
            waves=draw.bridge_waves(),
            sla_ms=info.sla_ms,
            idle_cores=idle_cores,
            host_cores=float(info.host_cores),
        )

    def step(self, episode: FluidEpisode, measured: Measured, seconds: float) -> None:
        """Let `seconds` pass in which nothing changes but the load of the hosts, and count what happens.

        Args:
            episode: is brought up to date.
            measured: what the episode will be measured into.
            seconds: how long.
        """
        listed = episode.tally.latencies
        if (episode.steps + 1) * draw.LISTED > listed.shape[1]:
            wider = widened(listed, 2 * episode.steps * draw.LISTED)
            episode.tally, episode.bundle = episode.tally._replace(latencies=wider), None
        self.prepare(episode, measured)
        background = episode.interference[self._moment(episode)]
        rps = self._mean_rate(episode.now_s, seconds)
        step(episode.bundle, episode.pool_weight, background, rps, seconds)
        episode.steps += 1

    def prepare(self, episode: FluidEpisode, measured: Measured) -> None:
        """Make room for the steps of the topology that is in force, and bundle all arrays, if they are not."""
        if episode.bundle is not None:
            return
        fleet, rows, factor = episode.topology.fleet, episode.topology.rows, episode.topology.factor
        if episode.work is None:
            episode.work = new_work(episode.kinds, fleet, len(episode.utilisation))
            disturb(episode)
        episode.bundle = bundle(
            self.model,
            episode.kinds,
            fleet,
            rows,
            factor,
            episode.slots,
            episode.streams,
            episode.utilisation,
            episode.work,
            episode.tally,
            episode.latency,
            episode.microservice_p95,
            episode.e2e,
            measured,
        )

    @staticmethod
    def _moment(episode: FluidEpisode) -> int:
        """Place in the path of interference."""
        return min(int(episode.now_s / INTERFERENCE_STEP_S + 1e-9), len(episode.interference) - 1)

    def _mean_rate(self, now_s: float, seconds: float) -> float:
        """End-user requests/s in a step: it is the same between two ticks."""
        workload = self._scenario.workload
        if isinstance(workload, ConstantWorkload):
            return workload.rps
        edges = np.arange(np.floor(now_s / TICK_S + 1e-9), np.ceil((now_s + seconds) / TICK_S - 1e-9)) * TICK_S
        lasts = np.minimum(edges + TICK_S, now_s + seconds) - np.maximum(edges, now_s)
        return float(sum(workload.rate(float(t)) * last for t, last in zip(edges, lasts, strict=True)) / seconds)


def disturb(episode: FluidEpisode) -> None:
    """Let the containers suffer the anomaly of the episode from the next step on."""
    if episode.work is None:
        return
    felt = episode.work.weather.anomaly
    felt[:] = 0.0
    if episode.anomaly is not None:
        felt[:] = episode.anomaly.reshape(-1, 4)[episode.topology.fleet.cell_place]


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
