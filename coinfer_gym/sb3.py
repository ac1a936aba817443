"""Native vector environments for Stable-Baselines3, which does not accept those of Gymnasium (extra ``agents``).

from stable_baselines3 import SAC
from coinfer_gym.sb3 import make_native

env = make_native("coinfer_gym/LAIM-v0", 64, scenario="bert-multimodal")
model = SAC("MlpPolicy", env).learn(100_000)
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from coinfer_gym.extras import install

try:
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn
except ImportError as error:
    raise ImportError(f"coinfer_gym.sb3 needs Stable-Baselines3: {install('agents')}") from error

import coinfer_gym  # noqa: F401  registers the ids
from coinfer_gym.envs.vector import info_names, last_infos
from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.named_wrappers import Wrappers, check_wrappers, find_vector_wrapper, wrap

Columns = dict[str, NDArray[Any]]
"""Values of all lanes, by their names in ``info``."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})  # one for all lanes, and read-only because of that


class NativeVecEnv(VecEnv):
    """A Gymnasium vector environment with the interface of Stable-Baselines3.

    Lane `i` seeded by ``seed(s)`` equals the single environment seeded ``s + i``. A dictionary per lane and step would
    cost several times the step itself. Therefore ``infos`` are empty except for lanes whose episode ended, and
    `decisions` has the values of all lanes as arrays.

    Parameters
    ----------
    env : gymnasium.vector.VectorEnv
        In the autoreset mode ``SameStep``.

    Raises
    ------
    InvalidInputError
        If the environment has another autoreset mode.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise InvalidInputError("autoreset_mode", mode, "Make the environment with autoreset_mode='SameStep'.")
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._raw: dict[str, Any] = {}
        self._decisions: Columns | None = None
        self._actions: NDArray[Any] = np.empty(0)
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self._start = time.time()

    @property
    def decisions(self) -> Columns:
        """Results of the last decision in every lane, an array per key of ``info``."""
        if self._decisions is None:
            self._decisions = last_infos(self._raw)
        return self._decisions

    def reset(self) -> NDArray[np.float32]:
        """Start an episode in every lane; this uses up the seeds and options."""
        seeds: Any = None if all(seed is None for seed in self._seeds) else self._seeds
        observations, infos = self.env.reset(seed=seeds, options=self._shared_options())
        self._reset_seeds()
        self._reset_options()
        self._note(infos)
        self._returns[:] = 0.0
        self._lengths[:] = 0
        self.reset_infos = _rows(infos, np.arange(self.num_envs))
        return cast("NDArray[np.float32]", observations)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Store the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Serve the task at the head of the queue in every lane.

        Returns
        -------
        observations : ndarray of float32
            Those of the next episode if one ended.
        rewards : ndarray of float32
        dones : ndarray of bool
        infos : list of dict
            Empty, except if an episode ended: then the last info, ``terminal_observation``, ``TimeLimit.truncated`` and
            the statistics of the ``episode``.
        """
        observations, rewards, terminated, truncated, infos = self.env.step(self._actions)
        self._note(infos)
        self._returns += rewards
        self._lengths += 1
        dones = terminated | truncated
        lanes = cast("list[dict[str, Any]]", [_NOTHING] * self.num_envs)
        if dones.any():
            self._close_episodes(np.flatnonzero(dones), infos, truncated & ~terminated, lanes)
        return observations, rewards.astype(np.float32), dones, lanes

    def close(self) -> None:
        """Release the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Attribute of the given lanes; the lanes of a native environment share it."""
        if isinstance(self.env, gym.vector.SyncVectorEnv):
            return [self.env.envs[i].get_wrapper_attr(attr_name) for i in self._get_indices(indices)]
        return [_attribute(self.env, attr_name)] * self._count(indices)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of all lanes.

        Raises
        ------
        InvalidInputError
            If `indices` are not all lanes.
        """
        if self._count(indices) != self.num_envs:
            raise InvalidInputError("indices", indices, "Lanes share their attributes: set them for all at once.")
        setattr(self.env.unwrapped, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the given lanes; of a native environment once for all of them.

        If the result is an array with a row per lane, such as action masks, each lane gets its row. Other results are
        shared.
        """
        if isinstance(self.env, gym.vector.SyncVectorEnv):
            return [method(*method_args, **method_kwargs) for method in self.get_attr(method_name, indices)]
        result = _attribute(self.env, method_name)(*method_args, **method_kwargs)
        if isinstance(result, np.ndarray) and len(result) == self.num_envs:
            return [result[i] for i in self._get_indices(indices)]
        return [result] * self._count(indices)

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Whether the lanes have a wrapper. True for `Monitor`, since episodes report their statistics."""
        env: Any = self.env
        found = issubclass(wrapper_class, Monitor) or isinstance(env, wrapper_class)
        while not found and isinstance(env, gym.vector.VectorWrapper):
            env = env.env
            found = isinstance(env, wrapper_class)
        return [found] * self._count(indices)

    def snapshot(self) -> dict[str, Any] | None:
        """State of all running episodes as arrays and plain values.

        Returns
        -------
        dict or None
            Pass it to `restore` of an equal environment, which then continues exactly like this one. None if the
            environment is not native.
        """
        inner: Any = self.env.unwrapped
        if not hasattr(inner, "lanes"):
            return None
        generators = [generator.bit_generator.state for generator in inner.generators]
        arrays = {name: value.copy() for name, value in vars(inner.lanes).items() if isinstance(value, np.ndarray)}
        statistics = {"returns": self._returns.copy(), "lengths": self._lengths.copy()}
        return {"generators": json.dumps(generators), "arrays": arrays, "statistics": statistics}

    def restore(self, state: dict[str, Any]) -> NDArray[np.float32]:
        """Continue from a `snapshot`; returns the current observations.

        Raises
        ------
        InvalidInputError
            If the snapshot is of another number of lanes or another scenario.
        """
        self.reset()
        inner: Any = self.env.unwrapped
        for name, saved in state["arrays"].items():
            array = getattr(inner.lanes, name)
            if array.shape != saved.shape or array.dtype != saved.dtype:
                raise InvalidInputError(f"snapshot: {name}", saved.shape, f"This environment has {array.shape}.")
            array[...] = saved
        for generator, known in zip(inner.generators, json.loads(state["generators"]), strict=True):
            generator.bit_generator.state = known
        self._returns[:] = state["statistics"]["returns"]
        self._lengths[:] = state["statistics"]["lengths"]
        return cast("NDArray[np.float32]", inner.lanes.observation.copy())

    def _note(self, infos: dict[str, Any]) -> None:
        self._raw, self._decisions = infos, None

    def _close_episodes(
        self,
        ended: NDArray[np.int64],
        infos: dict[str, Any],
        time_limit: NDArray[np.bool_],
        lanes: list[dict[str, Any]],
    ) -> None:
        """Write the last info of lanes whose episode ended, with the statistics that a `Monitor` adds."""
        now = round(time.time() - self._start, 6)
        last, first = _rows(infos["final_info"], ended), _rows(infos, ended)
        for k, i in enumerate(ended.tolist()):
            lanes[i] = last[k] | {
                "TimeLimit.truncated": bool(time_limit[i]),
                "terminal_observation": infos["final_obs"][i],
                "episode": {"r": round(float(self._returns[i]), 6), "l": int(self._lengths[i]), "t": now},
            }
            self.reset_infos[i] = first[k]
        self._returns[ended] = 0.0
        self._lengths[ended] = 0

    def _shared_options(self) -> dict[str, Any] | None:
        if any(options != self._options[0] for options in self._options):
            raise InvalidInputError("options", self._options, "Lanes share the options of a reset: give one mapping.")
        return self._options[0] or None

    def _count(self, indices: VecEnvIndices) -> int:
        return len(list(self._get_indices(indices)))


def make_native(env_id: str, n_envs: int, wrappers: Any = (), **env_kwargs: Any) -> NativeVecEnv:
    """Make many lanes of an environment of this package for Stable-Baselines3.

    Parameters
    ----------
    env_id : str
        For example ``"coinfer_gym/LAIM-v0"``.
    n_envs : int
        Number of lanes.
    wrappers : str, mapping, or sequence of these
        Wrappers as in `coinfer_gym.named_wrappers.check_wrappers`, innermost first. If each has a form for vector
        environments, these wrap all lanes at once. Otherwise single environments are wrapped, and a step is as slow as
        theirs.
    **env_kwargs
        As for ``gym.make``.

    Returns
    -------
    NativeVecEnv

    Raises
    ------
    InvalidInputError
        If an argument cannot be used, or the environment has no native vector form.
    """
    if env_id not in gym.registry:
        raise InvalidInputError("env", env_id, nearest(env_id, [name for name in gym.registry if "coinfer" in name]))
    mode = AutoresetMode.SAME_STEP
    chosen = check_wrappers(wrappers)
    layers = _vector_layers(chosen)
    if layers is None:
        make_one = partial(_make_wrapped, env_id, chosen, env_kwargs)
        return NativeVecEnv(gym.vector.SyncVectorEnv([make_one] * n_envs, autoreset_mode=mode))
    spec = gym.spec(env_id)
    if spec.vector_entry_point is None:
        raise InvalidInputError("env", env_id, "It has no vector environment.")
    env = gym.make_vec(spec.id, n_envs, vectorization_mode="vector_entry_point", autoreset_mode=mode, **env_kwargs)
    for layer in layers:
        env = layer(env)
    return NativeVecEnv(env)


def _vector_layers(wrappers: Wrappers) -> list[Any] | None:
    """The wrappers in the form for all lanes at once; None if one has no such form."""
    found = [(find_vector_wrapper(name), options) for item in wrappers for name, options in item.items()]
    if any(layer is None for layer, _ in found):
        return None
    return [partial(layer, **options) for layer, options in found]


def _make_wrapped(env_id: str, wrappers: Wrappers, env_kwargs: Mapping[str, Any]) -> gym.Env[Any, Any]:
    return wrap(gym.make(env_id, disable_env_checker=True, **env_kwargs), wrappers)


def _rows(infos: dict[str, Any], chosen: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Infos of some lanes, as the single environment gives them."""
    names = info_names(infos)
    columns = [infos[name][chosen].tolist() for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _attribute(env: Any, name: str) -> Any:
    """Attribute of an environment, or of the first wrapped one that has it."""
    while not hasattr(env, name) and isinstance(env, gym.vector.VectorWrapper):
        env = env.env
    return getattr(env, name)
