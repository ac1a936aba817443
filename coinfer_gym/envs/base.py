"""Base class of the single environments: one decision after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces as gym_spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from coinfer_gym.checks import check_whole
from coinfer_gym.envs.lanes import Lanes
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.scenario import WorldScenario, read_model
from coinfer_gym.world import World, draw

_FIRST = np.zeros(1, np.int64)


def unit_box(names: tuple[str, ...]) -> gym_spaces.Box:
    """Space of observations or actions with these components, each in [-1, 1]."""
    return gym_spaces.Box(-1.0, 1.0, (len(names),), np.float32)


class Setup(NamedTuple):
    """What an environment is made of: the name of its default scenario, the class of scenarios, and that of lanes."""

    default: str
    model: type[WorldScenario]
    lanes: Callable[..., Lanes]

    def load(self, scenario: str, overrides: Mapping[str, Any]) -> WorldScenario:
        """The scenario of a name or path, by default that of the environment, with fields changed."""
        return read_model(self.model, self.default if scenario == "" else scenario, overrides)


class TaskEnv(gym.Env[Any, Any]):
    """An environment with one decision per task. `LAIMEnv`, `LayerwiseEnv` and `CellEnv` derive from it.

    Parameters
    ----------
    scenario : str, optional
        Name of a shipped scenario or path of a YAML file; by default that of `setup`.
    render_mode : str, optional
        One of ``metadata["render_modes"]``.
    **overrides
        Fields of the scenario to change.

    Raises
    ------
    InvalidInputError
        If there is no such mode, or the scenario cannot be used.
    """

    setup: ClassVar[Setup]

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array", "human"], "render_fps": 4}  # noqa: RUF012  gymnasium's form

    scenario: WorldScenario
    lanes: Lanes
    """The one lane that this environment is."""

    def __init__(self, /, scenario: str = "", render_mode: str | None = None, **overrides: Any) -> None:
        self.scenario = self.setup.load(scenario, overrides)
        self.lanes = self.setup.lanes(self.scenario, None)
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise InvalidInputError("render_mode", render_mode, f"Give one of {self.metadata['render_modes']} or None.")
        self.render_mode = render_mode
        self.observation_space = unit_box(self.lanes.observation_names)
        self.action_space = unit_box(self.lanes.action_names)
        self._started = False
        self._ended = False
        self._viewer: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Draw a new world.

        Parameters
        ----------
        seed : int, optional
            Seed of the generator that draws the seeds of the worlds.
        options : dict, optional
            ``{"world_seed": n}`` replays world `n`, for this episode only.

        Returns
        -------
        observation : ndarray of float32, shape (m,)
        info : dict of float

        Raises
        ------
        InvalidInputError
            If an option is unknown or not a whole number in ``0..2^64-1``.
        """
        super().reset(seed=seed)
        world_seed = next_world_seed(self.np_random, options)
        self.lanes.reset(_FIRST, np.array([world_seed], np.uint64))
        self._started, self._ended = True, False
        if self._viewer is not None:
            self._viewer.restart()
        info = self._info()
        self._show(info)
        return self.lanes.observation[0].copy(), info

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Serve the task at the head of the queue.

        Parameters
        ----------
        action : array_like
            Element of `action_space`.

        Returns
        -------
        observation : ndarray of float32, shape (m,)
            Of the next task.
        reward : float
        terminated : bool
            Always False.
        truncated : bool
            Whether the episode has ended: no task is left.
        info : dict of float

        Raises
        ------
        InvalidInputError
            If the action has another shape or a NaN.
        gymnasium.error.ResetNeeded
            Before the first reset, and after the end of an episode.
        """
        if not self._started or self._ended:
            raise ResetNeeded("No episode is running: call reset() before step().")
        rewards, ends = self.lanes.step(action)
        self._ended = bool(ends[0])
        info = self._info()
        self._show(info)
        return self.lanes.observation[0].copy(), float(rewards[0]), False, self._ended, info

    def tasks(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """What an agent can know of the task at hand: observed gain and both budgets, see `Lanes.tasks`."""
        self._lane()
        return self.lanes.tasks()

    def world(self) -> World:
        """The world of the running episode: arrival times, channel path and budgets."""
        return draw(self.lanes.worlds[0], int(self._lane()["world_seed"]))

    def render(self) -> Any:
        """Picture of the last decision: a string (``ansi``) or an array (``rgb_array``); ``human`` opens a window."""
        if self.render_mode is None:
            gym.logger.warn("render() without render_mode: pass render_mode='rgb_array', 'human' or 'ansi' to make().")
            return None
        return self._draw() if self.render_mode != "human" else None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._viewer is not None:
            self._viewer.close()
            self._viewer = None

    def _lane(self) -> Any:
        if not self._started:
            raise ResetNeeded("There is no task yet: call reset() first.")
        return self.lanes.state[0]

    def _info(self) -> dict[str, Any]:
        return dict(zip(self.lanes.info_names, self.lanes.infos[0], strict=False))

    def _show(self, info: dict[str, Any]) -> None:
        if self.render_mode is None:
            return
        if self._viewer is None:
            self._viewer = self._build_viewer()
        self._viewer.note(info, self.world)
        if self.render_mode == "human":
            self._viewer.draw("human")

    def _draw(self) -> Any:
        self._lane()
        if self._viewer is None:  # closed since the last step
            self._show(self._info())
        return self._viewer.draw(self.render_mode)

    def _build_viewer(self) -> Any:
        """Object that draws the decisions, with the methods of `coinfer_gym.envs.viewer.Viewer`."""
        raise NotImplementedError


class SharesEnv(gym.Wrapper[Any, Any, Any, Any]):
    """A wrapper that has an id of its own, under which it is made together with its environment."""

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]  # gymnasium declares an attribute too
        """The id and its arguments, without a wrapper: the id stands for both."""
        return self.env.spec


def next_world_seed(generator: np.random.Generator, options: dict[str, Any] | None = None) -> int:
    """Seed of the next world: 64 random bits, or the seed that the options of the reset give.

    Raises
    ------
    InvalidInputError
        If an option is unknown or the seed is not a whole number in ``0..2^64-1``.
    """
    drawn = int(generator.bit_generator.random_raw())
    if not isinstance(options, (dict, type(None))):
        raise InvalidInputError("options", options, "Give a mapping, {'world_seed': n}.")
    for key in options or {}:
        if key != "world_seed":
            raise InvalidInputError("options: key", key, "The only option of reset() is 'world_seed'.")
    return drawn if not options else check_whole("options: world_seed", options["world_seed"], 0, 2**64 - 1)
