"""How many steps per second the environments make: one, many in one process, many on all cores, and peers.

Run from a checkout: `python scripts/benchmark_vector.py` (about a minute). The joint environment with its full
observation on the fluid engine; the action keeps what is in force, as an agent that is content does, over full
connection, and in one row changes between two plans of ten random connections per container. Peers of the same run:
Gymnasium's `SyncVectorEnv` of the single environment, and CartPole, for scale.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gymnasium as gym
import numpy as np
from gymnasium.spaces import GraphInstance

import envs  # noqa: F401 (registers the environments)
from agents.connections.random_k import RandomConnections
from imbres_gym.action import encode_connections
from imbres_gym.telemetry import ClusterInfo

ID = "imbres_gym/Cluster-v0"
SEED = 3000  # a training seed
WARM_UP = 15


def content(observation: dict[str, Any]) -> dict[str, Any]:
    """An action that keeps everything."""
    full = GraphInstance(nodes=np.zeros(1, np.int64), edges=None, edge_links=None)
    return {"proportions": observation["proportions"], "connections": full, "replicas": observation["wanted"]}


def batch_action(seen: dict[str, Any]) -> dict[str, Any]:
    """The same for every environment of a vector environment."""
    rows = [content({key: seen[key][i] for key in seen}) for i in range(len(seen["wanted"]))]
    return {
        "proportions": np.stack([row["proportions"] for row in rows]),
        "connections": tuple(row["connections"] for row in rows),
        "replicas": np.stack([row["replicas"] for row in rows]),
    }


def per_second(step: Callable[[], None], seconds: float, clock: Callable[[], float]) -> float:
    """Calls of `step` per second, after a warm-up."""
    for _ in range(WARM_UP):
        step()
    begin, calls = clock(), 0
    while clock() - begin < seconds:
        step()
        calls += 1
    return calls / (clock() - begin)


def two_plans(seen: dict[str, Any], info: ClusterInfo) -> list[GraphInstance]:
    """Ten random connections per container, drawn twice."""
    graphs = []
    for seed in (SEED, SEED + 1):
        policy = RandomConnections(k=10)
        policy.reset(info, seed)
        graphs.append(encode_connections(policy.connect(seen, seen["proportions"].astype(np.float64)), seen))
    return graphs


def single(arguments: dict[str, Any], seconds: float, reconnect: bool = False) -> float:
    """Steps per second of processor time of one environment."""
    env = gym.make(ID, disable_env_checker=True, **arguments).unwrapped
    seen, _ = env.reset(seed=SEED)
    plans = itertools.cycle(two_plans(seen, env.cluster_info) if reconnect else [content(seen)["connections"]])

    def step() -> None:
        nonlocal seen
        seen, *_ = env.step({**content(seen), "connections": next(plans)})

    rate = per_second(step, seconds, time.process_time)
    env.close()
    return rate


def vector(many: Any, seconds: float) -> float:
    """Steps per second of all environments together."""
    seen, _ = many.reset(seed=SEED)
    action = batch_action(seen)  # made once: what an agent costs is not what is measured
    rate = per_second(lambda: many.step(action), seconds, time.perf_counter) * many.num_envs
    many.close()
    return rate


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="social-network/high-strict")
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    options = parser.parse_args()
    arguments = {"scenario": options.scenario, "engine": "fluid", "duration": "24h"}
    count = options.num_envs
    rates = {
        "one environment, per second of processor time": single(arguments, options.seconds),
        "the same, ten random connections per container, others in each step": single(arguments, options.seconds, True),
    }
    sync = gym.vector.SyncVectorEnv([lambda: gym.make(ID, disable_env_checker=True, **arguments)] * count)
    rates[f"SyncVectorEnv of {count}"] = vector(sync, options.seconds)
    for workers, name in ((1, "one process"), (None, "one process per core")):
        many = gym.make_vec(ID, num_envs=count, vectorization_mode="vector_entry_point", workers=workers, **arguments)
        rates[f"vector_entry_point, {count}, {name}"] = vector(many, options.seconds)
    poles = gym.make_vec("CartPole-v1", num_envs=count, vectorization_mode="sync")
    poles.reset(seed=SEED)
    pushes = np.zeros(count, np.int64)
    rates[f"CartPole, SyncVectorEnv of {count}"] = count * per_second(
        lambda: poles.step(pushes), options.seconds, time.perf_counter
    )
    first = next(iter(rates.values()))
    print("| | steps/s | ratio |\n|---|---:|---:|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:,.0f} | {rate / first:.2f} |")


if __name__ == "__main__":
    main()
