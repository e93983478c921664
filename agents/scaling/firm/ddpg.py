"""FIRM's learner: stable-baselines3's DDPG with the network, noise and rates of the source.

From FIRM's released code (ddpg/): two hidden layers of 40 with ReLU and a tanh head, last layers uniform in +-0.003,
Adam at 3e-4 (actor) and 3e-3 (critic), gamma 0.9, tau 1e-3, 1e5 transitions of replay, batches of 64, a warm-up of 70
transitions, noise of sigma 0.2.

Differences: stable-baselines3 has no batch normalisation and gives the action to the critic's first layer (there: to
its second); it has one learning rate, which is split here. The code's noise is an Ornstein-Uhlenbeck process whose
memory (1 / (theta dt) = 667 steps) is longer than an episode here. Since actions add up in the container counts, it
drove most microservices to one container or to the limit, where nothing can be learnt; here it has no memory. Its
decay in the code, 1e-6 per update, makes 1.5 % over a whole training, and is left out. Targets start as copies, as in
DDPG; the code starts them at random.
"""

from __future__ import annotations

import numpy as np
import torch
from stable_baselines3 import DDPG
from stable_baselines3.common.noise import NormalActionNoise, VectorizedActionNoise
from stable_baselines3.common.utils import update_learning_rate

from agents.network import Network
from agents.scaling.firm.task import Units
from agents.scaling.firm.vec_env import MicroserviceVecEnv

HIDDEN = (40, 40)
ACTOR_RATE, CRITIC_RATE = 3e-4, 3e-3
GAMMA = 0.9
TAU = 1e-3
REPLAY = 100_000
BATCH = 64
WARM_UP = 70
SIGMA = 0.2
LAST_LAYER = 3e-3


class TwoRateDDPG(DDPG):
    """DDPG whose actor and critic have learning rates of their own."""

    def _update_learning_rate(self, optimizers: list[torch.optim.Optimizer] | torch.optim.Optimizer) -> None:
        assert isinstance(optimizers, list)
        for optimizer, rate in zip(optimizers, (ACTOR_RATE, CRITIC_RATE), strict=True):
            update_learning_rate(optimizer, rate)


def make_learner(env: MicroserviceVecEnv, seed: int) -> TwoRateDDPG:
    """A new learner, with one gradient step per transition."""
    noise = NormalActionNoise(np.zeros(1), np.full(1, SIGMA))
    learner = TwoRateDDPG(
        "MlpPolicy",
        env,
        buffer_size=REPLAY,
        learning_starts=WARM_UP,
        batch_size=BATCH,
        tau=TAU,
        gamma=GAMMA,
        train_freq=(1, "step"),
        gradient_steps=-1,
        action_noise=VectorizedActionNoise(noise, env.num_envs),
        policy_kwargs={"net_arch": list(HIDDEN)},
        seed=seed,
        device="cpu",
    )
    for module in (learner.actor, learner.critic):
        for parameter in _layers(module)[-1].parameters():
            torch.nn.init.uniform_(parameter, -LAST_LAYER, LAST_LAYER)
    learner.actor_target.load_state_dict(learner.actor.state_dict())
    learner.critic_target.load_state_dict(learner.critic.state_dict())
    return learner


def actor_network(learner: TwoRateDDPG, units: Units) -> Network:
    """The learner's actor for numpy: (..., 9) states as they are measured -> (..., 1) actions in [-1, 1]."""
    layers = _layers(learner.actor)
    return Network(
        weights=tuple(layer.weight.detach().numpy().copy() for layer in layers),
        biases=tuple(layer.bias.detach().numpy().copy() for layer in layers),
        activation="relu",
        output="tanh",
        normalisation=units.normalisation,
    )


def _layers(module: torch.nn.Module) -> list[torch.nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
