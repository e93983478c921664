"""Gymnasium environments of a microservice cluster.

Importing this package registers them:

    import envs
    env = gym.make("imbres_gym/Cluster-v0", scenario="social-network/high-strict")

`gym.make("envs:imbres_gym/Cluster-v0")` does both in one line.

Many at once, on all cores: `gym.make_vec(id, num_envs=64, vectorization_mode="vector_entry_point")`
(`envs.vector.MicroserviceVectorEnv`).
"""

from __future__ import annotations

import gymnasium as gym

ENVIRONMENTS = {
    "imbres_gym/LoadShifting-v0": "envs.load_shifting:LoadShiftingEnv",
    "imbres_gym/Connections-v0": "envs.connections:ConnectionsEnv",
    "imbres_gym/Scaling-v0": "envs.scaling:ScalingEnv",
    "imbres_gym/Cluster-v0": "envs.cluster:ClusterEnv",
}
"""Environment id of a simulated cluster -> entry point."""
LIVE_ENVIRONMENT = "imbres_gym/LiveCluster-v0"
"""The joint environment on a real cluster; there is one of it, so that it has no vector environment."""


def _vector_entry_point(entry_point: str) -> str:
    return "envs.vector:" + entry_point.split(":")[1].removesuffix("Env") + "VectorEnv"


for _id, _entry_point in ENVIRONMENTS.items():
    if _id not in gym.registry:
        gym.register(id=_id, entry_point=_entry_point, vector_entry_point=_vector_entry_point(_entry_point))

if LIVE_ENVIRONMENT not in gym.registry:
    gym.register(id=LIVE_ENVIRONMENT, entry_point="envs.live:LiveClusterEnv", nondeterministic=True)
