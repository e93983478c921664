"""A tiny environment with made-up measurements, and agents that behave well or badly in it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from imbres_gym.agent import AgentConfig
from imbres_gym.config import ConfigError
from imbres_gym.evaluation.task import EpisodeTask
from imbres_gym.percentiles import tail_latency
from imbres_gym.scenario import Scenario, validate
from imbres_gym.telemetry import SPAN, ClusterInfo, Telemetry

ENVIRONMENT = "evaluation_fakes:fake/Cluster-v0"


def scenario(duration: float = 180.0) -> Scenario:
    """Two microservices, two request classes, two hosts."""
    operation = {"operations": {"do": {"cpu_ms": 2.0}}}
    application = {
        "name": "tiny",
        "container": {"cores": 0.1, "memory_mb": 100},
        "hop_ms": 0.1,
        "microservices": {"front": operation, "back": operation},
        "request_classes": {
            "read": {"share": 0.75, "tree": {"call": "front/do"}},
            "write": {"share": 0.25, "tree": {"call": "front/do", "stages": [[{"call": "back/do"}]]}},
        },
    }
    data = {
        "name": "tiny",
        "application": application,
        "hosts": {"count": 2, "cores": 4, "memory_mb": 8000},
        "workload": {"kind": "constant", "rps": 20},
        "interference": {"kind": "constant", "levels": [{"cpu": 0.1}, {"cpu": 0.5}]},
        "sla_ms": 100.0,
        "duration": duration,
    }
    return validate(Scenario, data, "tiny")


def task(seed: int = 1000, agent: str = "SteadyAgent", name: str = "steady", **options: Any) -> EpisodeTask:
    """One episode of the fake environment."""
    config = AgentConfig(name=name, agent=f"evaluation_fakes:{agent}", options=options)
    return EpisodeTask("tiny/fake", scenario(), name, config, seed, 30.0, ENVIRONMENT)


class FakeCluster(gym.Env[Any, Any]):
    """Latencies are drawn from the seed; more replicas make them shorter."""

    observation_space = gym.spaces.Dict({"time_s": gym.spaces.Box(0.0, np.inf, (1,))})
    action_space = gym.spaces.Discrete(100)

    trace_sampling: float
    """Of the scenario that the last one was made with."""

    def __init__(self, scenario: Scenario, scaling_interval_s: float | None = None) -> None:
        self.scenario = scenario
        FakeCluster.trace_sampling = scenario.trace_sampling
        self.cluster_info = ClusterInfo(
            microservices=("front", "back"),
            hosts=("a", "b"),
            classes=("read", "write"),
            pairs=((0, 1),),
            entries=(0,),
            called=((0, 1), (0, 1)),
            cores=np.full(2, 0.1),
            memory_mb=np.full(2, 100.0),
            host_cores=4.0,
            sla_ms=scenario.sla_ms,
            control_interval_s=5.0,
            scaling_interval_s=scaling_interval_s or 60.0,
            min_replicas=1,
            max_replicas=10,
            max_containers=20,
            connections_per_container=10,
            startup_s=5.0,
            initial_replicas=np.ones(2, np.int64),
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._time_s = 5.0
        return {"time_s": np.array([5.0], np.float32)}, {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._time_s += 5.0
        self.telemetry = telemetry = self._measure(int(action))
        info = {
            "metrics": {
                "containers": float(telemetry.ready.sum()),
                "load_variance": 0.25,
                "p95_ms": tail_latency(np.concatenate(telemetry.latencies_ms), int(telemetry.failed.sum()), 95.0),
                "reward": -1.5,
            },
            "reward_parts": {"resource": -1.0, "violation": -0.5},
            "illegal_actions": {"load": 2, "replicas": 1, "total": 300},
        }
        over = self._time_s >= self.scenario.duration
        return {"time_s": np.array([self._time_s], np.float32)}, -1.5, False, over, info

    def _measure(self, replicas: int) -> Telemetry:
        latencies = tuple(self.np_random.gamma(4.0, 100.0 / replicas, count) for count in (75, 25))
        failed = np.array([0, 1])
        slow = np.array([int((values > self.scenario.sla_ms).sum()) for values in latencies]) + failed
        ready = np.full((2, 2), replicas)
        return Telemetry(
            time_s=self._time_s,
            interval_s=5.0,
            container_id=np.zeros(0, np.int64),
            container_microservice=np.zeros(0, np.int64),
            container_host=np.zeros(0, np.int64),
            container_ready=np.zeros(0, np.bool_),
            container_rps=np.zeros(0),
            container_cpu=np.zeros(0),
            container_age_s=np.zeros(0),
            own_latency_ms=np.zeros((2, 2)),
            own_p95_ms=np.zeros((2, 2)),
            load_rps=np.zeros((2, 2)),
            samples=np.zeros((2, 2), np.int64),
            age_s=np.zeros((2, 2)),
            cpu_utilisation=np.zeros((2, 2)),
            microservice_p95_ms=np.zeros(2),
            ready=ready,
            pending=np.zeros((2, 2), np.int64),
            wanted=ready.sum(axis=1),
            interference=np.zeros((2, 4)),
            e2e_ms=np.array([[values.mean(), *np.percentile(values, [50, 95, 99])] for values in latencies]),
            requests=np.array([75, 26]),
            failed=failed,
            slow=slow,
            workload_rps=np.array([15.0, 5.2]),
            latencies_ms=latencies,
            proportions=np.full((2, 2), 0.5),
            connections=np.array([7]),
            connection_churn=0,
            pair_share=np.full((1, 2, 2), 0.25),
            spans=np.zeros(0, SPAN),
        )


class SteadyAgent:
    """Always wants the same replicas."""

    def __init__(self, info: ClusterInfo, *, seed: int, replicas: int = 9) -> None:
        self._replicas = replicas
        self.decision_ms = {"load": 0.5}

    def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> tuple[int, Any]:
        return self._replicas, state


class TellingAgent(SteadyAgent):
    """Says what it was built with."""

    built: dict[str, Any] = {}  # noqa: RUF012 (read by the tests)

    def __init__(self, info: ClusterInfo, *, seed: int, **options: Any) -> None:
        super().__init__(info, seed=seed)
        self.built.clear()
        self.built.update(options)


class RaisingAgent(SteadyAgent):
    """Fails in the middle of an episode."""

    def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> tuple[int, Any]:
        if observation["time_s"][0] > 60.0:
            raise RuntimeError("the agent lost its way")
        return 9, state


class PickyAgent(SteadyAgent):
    """Cannot be built."""

    def __init__(self, info: ClusterInfo, *, seed: int) -> None:
        raise ConfigError("load: cannot be so")


class DyingAgent(SteadyAgent):
    """Takes its whole process down."""

    def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> tuple[int, Any]:
        os._exit(3)


class DyingOnceAgent(SteadyAgent):
    """Its process is killed in the middle of the first episode that it runs."""

    def __init__(self, info: ClusterInfo, *, seed: int, file: str) -> None:
        super().__init__(info, seed=seed)
        self._file = Path(file)

    def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> tuple[int, Any]:
        if observation["time_s"][0] > 60.0 and not self._file.exists():
            self._file.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 9, state


class ExitingAgent(SteadyAgent):
    """Wants to end the program."""

    def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> tuple[int, Any]:
        raise SystemExit(0)


class WaitingAgent(SteadyAgent):
    """From seed 1001 on it writes down its process and its Ray node, and waits until it may go on."""

    def __init__(self, info: ClusterInfo, *, seed: int, folder: str) -> None:
        super().__init__(info, seed=seed)
        if seed > 1000:
            import ray

            note = Path(folder) / f"{seed}-{os.getpid()}.note"
            note.write_text(f"{os.getpid()} {ray.get_runtime_context().get_node_id()}\n")
            while not (Path(folder) / "go").exists():
                time.sleep(0.02)


def note_and_sleep(file: str) -> None:
    """Write down the own process id, then take for ever."""
    Path(file).write_text(str(os.getpid()))
    time.sleep(600.0)


def kill_itself(_: None) -> None:
    """What the kernel does to a process when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


gym.register("fake/Cluster-v0", entry_point=FakeCluster, disable_env_checker=True)
