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

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from stable_baselines3 import DDPG
from stable_baselines3.common.noise import NormalActionNoise, VectorizedActionNoise
from stable_baselines3.common.utils import update_learning_rate

from agents.network import Network, Normalisation, Output
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


@dataclass(frozen=True, eq=False)
class Learnt:
    """What a training leaves behind, and another one can go on from.

    Attributes:
        actor: (..., 9) states as they are measured -> (..., 1) actions in [-1, 1].
        critic: (..., 10) states and actions, both in `units` -> (..., 1) discounted reward in `units`.
        units: of the training.
    """

    actor: Network
    critic: Network
    units: Units

    def digest(self) -> str:
        """A hash of all weights."""
        arrays = (array for one in (self.actor, self.critic) for array in (*one.weights, *one.biases))
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]


def make_learner(env: MicroserviceVecEnv, seed: int, start: Learnt | None) -> TwoRateDDPG:
    """A new learner, with one gradient step per transition.

    Args:
        env: the microservices.
        seed: of the networks and of the batches.
        start: networks to go on from, or None.
    """
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
    if start is not None:
        _fill(learner.actor, start.actor)
        _fill(learner.critic, start.critic)
    learner.actor_target.load_state_dict(learner.actor.state_dict())
    learner.critic_target.load_state_dict(learner.critic.state_dict())
    return learner


def learnt(learner: TwoRateDDPG, units: Units) -> Learnt:
    """The learner's networks for numpy."""
    return Learnt(
        _network(learner.actor, "tanh", units.normalisation),
        _network(learner.critic, "none", None),
        units,
    )


def _network(module: torch.nn.Module, output: Output, normalisation: Normalisation | None) -> Network:
    layers = _layers(module)
    return Network(
        weights=tuple(layer.weight.detach().numpy().copy() for layer in layers),
        biases=tuple(layer.bias.detach().numpy().copy() for layer in layers),
        activation="relu",
        output=output,
        normalisation=normalisation,
    )


def _fill(module: torch.nn.Module, network: Network) -> None:
    with torch.no_grad():
        for layer, weight, bias in zip(_layers(module), network.weights, network.biases, strict=True):
            layer.weight.copy_(torch.as_tensor(weight))
            layer.bias.copy_(torch.as_tensor(bias))


def _layers(module: torch.nn.Module) -> list[torch.nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
