"""One segment of training with stable-baselines3: from the state before it to the state after it.

A segment depends on the recipe, the state before, and its seed, and on nothing else: model, buffers and normalisation
are made anew from the state, the environments start new episodes. So a run that was resumed continues the same curve.

Imports stable-baselines3 and torch, so import it where it is used.
"""

from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DDPG, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise, VectorizedActionNoise
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from imbres_gym.config import ConfigError, nearest
from imbres_gym.training.recipe import Recipe

ACTOR_RATE = 0.1
"""Learning rate of the actors of DDPG and SAC as a share of their critics' (Lillicrap et al. 2016, section 7: 1e-4 and
1e-3). An actor as fast as the critic runs ahead of it, to actions that the critic knows nothing of."""

VARIANCE_FLOOR = 1e-4
"""Added to the variance of every input before the division. Inputs lie in [0, 1]; one that hardly moved in training
must not fill the network when it is a little different later. Estimate."""

LAST_LAYER = 3e-3
"""The last layer of an untrained actor of SAC and DDPG is uniform in +-3e-3 (Lillicrap et al. 2016, section 7), so that
it starts near action 0, as PPO's does."""

_OURS = ("self", "policy", "env", "seed", "verbose", "tensorboard_log", "policy_kwargs", "action_noise", "device")
_REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class CentredRewards(VecNormalize):
    """Inputs and rewards to mean 0 and variance 1.

    `VecNormalize` leaves the mean of rewards, which here is most of them (resources cost at every step): critics would
    spend the training on learning a constant. Episodes are of one length, so that a constant changes no policy.
    """

    def normalize_reward(self, reward: NDArray[Any]) -> NDArray[Any]:
        """The rewards, centred and scaled by what was seen until now, cut off at 10."""
        scaled = (reward - self.ret_rms.mean) / np.sqrt(self.ret_rms.var + 1e-8)
        return np.asarray(np.clip(scaled, -self.clip_reward, self.clip_reward), np.float32)


class SlowActorDDPG(DDPG):
    """DDPG whose actor learns at `ACTOR_RATE` times the learning rate."""

    def _update_learning_rate(self, optimizers: Any) -> None:
        super()._update_learning_rate(optimizers)
        _slow_down(self.actor.optimizer)


class SlowActorSAC(SAC):
    """SAC whose actor learns at `ACTOR_RATE` times the learning rate."""

    def _update_learning_rate(self, optimizers: Any) -> None:
        super()._update_learning_rate(optimizers)
        _slow_down(self.actor.optimizer)


def _slow_down(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        group["lr"] *= ACTOR_RATE


ALGORITHMS: dict[str, Any] = {"PPO": PPO, "SAC": SlowActorSAC, "DDPG": SlowActorDDPG}


class Learner:
    """An algorithm of stable-baselines3 whose whole state goes in and out as tensors.

    Args:
        recipe: algorithm and hyperparameters.
        environments: the environments; they get new episodes.
        seed: of everything random in this segment.
        state: `state()` of the segment before; empty for the first.

    Raises:
        ConfigError: a hyperparameter is unknown or wrong.
    """

    def __init__(self, recipe: Recipe, environments: VecEnv, seed: int, state: Mapping[str, Any]) -> None:
        self._recipe = recipe
        # Sums whose order depends on the number of cores would not repeat.
        torch.set_num_threads(1)
        self._normalised = CentredRewards(environments, epsilon=VARIANCE_FLOOR, gamma=0.0)
        self._model = _make_model(recipe, self._normalised, seed)
        if state:
            self._restore(state)
        elif recipe.algorithm != "PPO":
            self._calm_actor()

    def learn(self, steps: int, on_step: Callable[[int], None]) -> dict[str, float]:
        """Learn for `steps` steps (over all environments).

        Args:
            steps: a multiple of what the algorithm collects between updates.
            on_step: called with the steps that have passed since its last call.

        Returns:
            Means over the segment: `loss/...` of the algorithm, `reward/...` and `metrics/...` of the environments.
        """
        losses, watch = _Losses(), _Watch(on_step)
        self._model.set_logger(losses)
        self._model.learn(steps, callback=watch, reset_num_timesteps=False, log_interval=None)
        return {**losses.means(), **watch.means()}

    def state(self) -> dict[str, Any]:
        """Everything that the next segment needs: tensors, numbers and dictionaries of them."""
        model = self._model
        _, variables = model._get_torch_save_params()
        state: dict[str, Any] = {
            "parameters": model.get_parameters(),
            "variables": {name: getattr(model, name).detach().clone() for name in variables},
            "steps": model.num_timesteps,
            "updates": model._n_updates,
            "inputs": _statistics(self._normalised.obs_rms),
            "returns": _statistics(self._normalised.ret_rms),
        }
        buffer = getattr(model, "replay_buffer", None)
        if buffer is not None:
            used = buffer.buffer_size if buffer.full else buffer.pos
            arrays = {name: torch.from_numpy(getattr(buffer, name)[:used].copy()) for name in _REPLAY}
            state["replay"] = {**arrays, "pos": buffer.pos, "full": buffer.full}
        return state

    def _restore(self, state: Mapping[str, Any]) -> None:
        model = self._model
        model.set_parameters(state["parameters"])
        for name, value in state["variables"].items():
            getattr(model, name).data.copy_(value)
        model.num_timesteps, model._n_updates = state["steps"], state["updates"]
        running: dict[str, Any] = {"inputs": self._normalised.obs_rms, "returns": self._normalised.ret_rms}
        for name, target in running.items():
            target.mean, target.var = state[name]["mean"].numpy().copy(), state[name]["variance"].numpy().copy()
            target.count = state[name]["count"]
        if "replay" in state:
            buffer, replay = model.replay_buffer, state["replay"]
            for name in _REPLAY:
                getattr(buffer, name)[: len(replay[name])] = replay[name].numpy()
            buffer.pos, buffer.full = replay["pos"], replay["full"]

    def _calm_actor(self) -> None:
        policy, recipe = self._model.policy, self._recipe
        last = policy.actor.mu if recipe.algorithm == "SAC" else policy.actor.mu[-2]
        with torch.no_grad():
            last.weight.uniform_(-LAST_LAYER, LAST_LAYER)
            last.bias.zero_()
            if recipe.algorithm == "SAC" and recipe.noise is not None:
                policy.actor.log_std.weight.zero_()
                policy.actor.log_std.bias.fill_(math.log(recipe.noise))
        if recipe.algorithm == "DDPG":
            policy.actor_target.load_state_dict(policy.actor.state_dict())


def actor_arrays(recipe: Recipe, state: Mapping[str, Any]) -> dict[str, Any]:
    """The deterministic policy in a learner's state, as keywords of `agents.network.Network` without normalisation."""
    parameters = state["parameters"]["policy"]
    prefixes = {
        "PPO": ("mlp_extractor.policy_net", "action_net"),
        "SAC": ("actor.latent_pi", "actor.mu"),
        "DDPG": ("actor.mu", ""),
    }[recipe.algorithm]
    # Layers alternate with activations, so that those of a Sequential are numbered 0, 2, 4, ...
    names = [f"{prefixes[0]}.{2 * index}" for index in range(len(recipe.layers))]
    names.append(prefixes[1] or f"{prefixes[0]}.{2 * len(recipe.layers)}")
    return {
        "weights": tuple(parameters[f"{name}.weight"].numpy().copy() for name in names),
        "biases": tuple(parameters[f"{name}.bias"].numpy().copy() for name in names),
        "activation": recipe.activation,
        "output": "none" if recipe.algorithm == "PPO" else "tanh",
    }


def input_statistics(state: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of the inputs in a learner's state; the variance with `VARIANCE_FLOOR`."""
    inputs = state["inputs"]
    return inputs["mean"].numpy().copy(), inputs["variance"].numpy() + VARIANCE_FLOOR


def is_finite(state: Mapping[str, Any]) -> bool:
    """Whether no parameter of the policy is infinite or NaN."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in state["parameters"]["policy"].values())


def _make_model(recipe: Recipe, environments: VecEnv, seed: int) -> Any:
    algorithm = ALGORITHMS[recipe.algorithm]
    known = [name for name in inspect.signature(algorithm.__init__).parameters if name not in _OURS]
    for key in recipe.hyperparameters:
        if key not in known:
            raise ConfigError(
                f"recipe {recipe.name!r}: hyperparameters.{key}: unknown to {recipe.algorithm}; {nearest(key, known)}"
            )
    keywords: dict[str, Any] = dict(recipe.hyperparameters)
    policy: dict[str, Any] = {"activation_fn": torch.nn.Tanh if recipe.activation == "tanh" else torch.nn.ReLU}
    policy["net_arch"] = {"pi": recipe.layers, "vf": recipe.layers} if recipe.algorithm == "PPO" else recipe.layers
    if recipe.noise is not None and recipe.algorithm == "PPO":
        policy["log_std_init"] = math.log(recipe.noise)
    if recipe.noise is not None and recipe.algorithm == "DDPG":
        size = environments.action_space.shape or ()
        one = NormalActionNoise(np.zeros(size), np.full(size, recipe.noise))
        keywords["action_noise"] = VectorizedActionNoise(one, environments.num_envs)
    try:
        return algorithm("MlpPolicy", environments, seed=seed, device="cpu", policy_kwargs=policy, **keywords)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"recipe {recipe.name!r}: hyperparameters: {recipe.algorithm} refuses: {error}") from error


def _statistics(running: Any) -> dict[str, Any]:
    return {
        "mean": torch.from_numpy(np.array(running.mean)),
        "variance": torch.from_numpy(np.array(running.var)),
        "count": float(running.count),
    }


class _Means:
    """Running means of named numbers."""

    def __init__(self) -> None:
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._counts: defaultdict[str, int] = defaultdict(int)

    def add(self, name: str, value: float) -> None:
        """One more value."""
        self._sums[name] += value
        self._counts[name] += 1

    def get(self) -> dict[str, float]:
        """Mean per name."""
        return {name: self._sums[name] / self._counts[name] for name in self._sums}


class _Losses(Logger):
    """Keeps the mean of what the algorithm logs about its updates."""

    def __init__(self) -> None:
        super().__init__(folder=None, output_formats=[])
        self._means = _Means()

    def record(self, key: str, value: Any, exclude: Any = None) -> None:
        """Called by the algorithm."""
        group, _, name = key.partition("/")
        if group == "train" and name != "n_updates" and np.isfinite(value):
            self._means.add(f"loss/{name}", float(value))

    def means(self) -> dict[str, float]:
        """Mean per name."""
        return self._means.get()


class _Watch(BaseCallback):
    """Keeps the means of what the environments report, and tells of progress."""

    def __init__(self, on_step: Callable[[int], None]) -> None:
        super().__init__()
        self._on_step_taken = on_step
        self._means = _Means()

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            for name, value in info["metrics"].items():
                self._means.add(f"metrics/{name}", value)
            for name, value in info["reward_parts"].items():
                self._means.add(f"reward/{name}", value)
        self._on_step_taken(len(self.locals["infos"]))
        return True

    def means(self) -> dict[str, float]:
        """Mean per name."""
        return self._means.get()
