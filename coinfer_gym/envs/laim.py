"""LAIM-v0: co-inference of a large model over a fading channel with a queue of tasks, one decision per task."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces as gym_spaces
from numpy.typing import NDArray

from coinfer_gym.envs import dynamics, spaces
from coinfer_gym.envs.lanes import Lanes
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.problem import Decision, Problem, check_decision
from coinfer_gym.scenario import Scenario, load_scenario
from coinfer_gym.world import World, draw

DEFAULT_SCENARIO = "bert-multimodal"

_EMPTY = np.zeros(1, np.bool_)
_FIRST = np.zeros(1, np.int64)


def observation_space() -> gym_spaces.Box:
    """Space of one lane's observation."""
    return gym_spaces.Box(-1.0, 1.0, (len(spaces.OBSERVATION_NAMES),), np.float32)


def action_space() -> gym_spaces.Box:
    """Space of one lane's action."""
    return gym_spaces.Box(-1.0, 1.0, (len(spaces.ACTION_NAMES),), np.float32)


class LAIMEnv(gym.Env[Any, Any]):
    """Cut, prune, clock and send one inference task after another.

    ## Description
    A device and an edge server run one neural network together. Tasks arrive over time and wait in a finite queue while
    the channel fades; each step serves the task at the head. A decision that takes long gives a better answer and lets
    the next task wait. The world (arrival times and channel path) is drawn at reset and does not depend on the actions:
    two policies with the same seed meet the same world.

    ## Action Space
    ``Box(-1, 1, (6,), float32)``. A component outside is clipped and counted in ``info["clipped"]``; NaN is an error.

    | index | name | -1 | 1 | scale |
    |---|---|---|---|---|
    | 0 | cut | 0, on the server | J, on the device | equal bins |
    | 1 | retained_device | retained_device_min | 1 | linear |
    | 2 | retained_server | retained_server_min | 1 | linear |
    | 3 | power | power_min | power_max | linear in dB |
    | 4 | frequency_device | frequency_device_min | frequency_device_max | linear |
    | 5 | frequency_server | frequency_server_min | frequency_server_max | linear |

    ## Observation Space
    ``Box(-1, 1, (7,), float32)``, clipped; a quantity that does not vary in the scenario is constant.

    | index | name | -1 | 1 |
    |---|---|---|---|
    | 0 | gain of the channel in dB as observed | lower end of its range | upper end |
    | 1 | tasks waiting behind the head | 0 | queue_capacity |
    | 2 | age of the task at the head | 0 | delay budget |
    | 3 | estimate of the arrival rate | 0 | twice the highest rate |
    | 4 | delay budget, logarithmic | lower end of its range | upper end |
    | 5 | energy budget, logarithmic | lower end of its range | upper end |
    | 6 | battery | empty | full, or mains power |

    ## Rewards
    ``quality - w_T [age/T0 - 1]+ - w_E [E/E0 - 1]+ - w_drop drops``, with the age of the task at its end (waiting and
    service) and the tasks lost since the last decision: in the queue, or abandoned in service. The parts stand in
    ``info`` as ``quality``, ``cost_delay``, ``cost_energy``, ``dropped`` and ``abandoned``, raw quantities in SI units
    as listed in `coinfer_gym.envs.dynamics.INFO_NAMES`.

    ## Starting State
    The first task stands at the head of an otherwise empty queue.

    ## Episode End
    Truncation when all tasks of the episode were served or lost: the process would go on, so that the last observation
    is of one more task. There is no termination.

    ## Arguments
    ``scenario`` names a shipped world or a YAML file of one's own; every field of
    `coinfer_gym.scenario.Scenario` is a keyword, for example ``quality="magnitude_pruning"``,
    ``arrivals="one_at_a_time"`` or ``delay_budget=0.3``.

    ## Vectorized environment
    ``gym.make_vec("coinfer_gym/LAIM-v0", num_envs=1024, vectorization_mode="vector_entry_point")``. Lane `i` of a batch
    seeded ``s`` equals the single environment seeded ``s + i``, exactly.

    ## Version History
    - v0: first version.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array", "human"], "render_fps": 4}  # noqa: RUF012  gymnasium's form

    def __init__(self, scenario: str = DEFAULT_SCENARIO, render_mode: str | None = None, **overrides: Any) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise InvalidInputError("render_mode", render_mode, f"Give one of {self.metadata['render_modes']} or None.")
        self.render_mode = render_mode
        self.scenario: Scenario = load_scenario(scenario, **overrides)
        self.observation_space = observation_space()
        self.action_space = action_space()
        self._lanes = Lanes(self.scenario, 1)
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
            Seeds the generator that world seeds are drawn from.
        options : dict, optional
            ``{"world_seed": n}`` replays one world, for this episode only.

        Returns
        -------
        observation : ndarray of float32, shape (7,)
        info : dict of float

        Raises
        ------
        InvalidInputError
            If an option is unknown or not a whole number in ``0..2^64-1``.
        """
        super().reset(seed=seed)
        world_seed = next_world_seed(self.np_random, options)
        self._lanes.reset(_FIRST, np.array([world_seed], np.uint64))
        self._started, self._ended = True, False
        if self._viewer is not None:
            self._viewer.restart()
        info = self._info()
        self._show(info)
        return self._lanes.observation[0].copy(), info

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Decide the task at the head of the queue.

        Parameters
        ----------
        action : array_like, shape (6,)

        Returns
        -------
        observation : ndarray of float32, shape (7,)
            Of the next task.
        reward : float
        terminated : bool
            Always False.
        truncated : bool
            Whether no task is left.
        info : dict of float

        Raises
        ------
        InvalidInputError
            If the action has another shape or a NaN, or the episode has not begun or is over.
        """
        if not self._started or self._ended:
            raise InvalidInputError("step", "no running episode", "Call reset() first.")
        rewards, ends = self._lanes.step(np.asarray(action)[None], _EMPTY)
        self._ended = bool(ends[0])
        info = self._info()
        self._show(info)
        return self._lanes.observation[0].copy(), float(rewards[0]), False, self._ended, info

    def problem(self) -> Problem:
        """P1 of the task at the head, as far as the agent can know it, see `coinfer_gym.envs.lanes.Lanes.tasks`."""
        self._lane()
        gain, delay_budget, energy_budget = self._lanes.tasks()
        return self.scenario.problem(float(gain[0]), float(delay_budget[0]), float(energy_budget[0]))

    def action(self, decision: Decision) -> NDArray[np.float32]:
        """Action that makes a decision (a solution is one), up to the rounding of float32."""
        check_decision(decision, self.scenario.workload)
        return spaces.encode(self._lanes.constants.problem.hardware, self.scenario.workload.cuts, decision)

    def decision(self, action: NDArray[np.float32]) -> Decision:
        """Decision that an action makes, in SI units."""
        hardware = self._lanes.constants.problem.hardware
        clipped = np.clip(np.asarray(action, np.float64), -1.0, 1.0)[None]
        if clipped.shape != (1, 6) or np.isnan(clipped).any():
            raise InvalidInputError("action", action, "Give 6 numbers in [-1, 1].")
        ratio = float(self._lanes.constants.rules["log_power_ratio"][0])
        values = spaces.decode(hardware, self.scenario.workload.cuts, clipped, 0, ratio)
        return Decision(*values)

    def world(self) -> World:
        """The world of the running episode: arrival times, channel path and budgets."""
        return draw(self._lanes.constants.world, int(self._lane()["world_seed"]))

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
            raise InvalidInputError("environment", "no running episode", "Call reset() first.")
        return self._lanes.state[0]

    def _info(self) -> dict[str, Any]:
        return dict(zip(dynamics.INFO_NAMES, self._lanes.infos[0].tolist(), strict=True))

    def _show(self, info: dict[str, Any]) -> None:
        if self.render_mode is None:
            return
        if self._viewer is None:
            from coinfer_gym.envs.viewer import Viewer  # pictures need the extra "render"

            self._viewer = Viewer(self.scenario, self.metadata["render_fps"])
        self._viewer.note(info, self.world)
        if self.render_mode == "human":
            self._viewer.draw("human")

    def _draw(self) -> Any:
        self._lane()
        if self._viewer is None:  # closed since the last step
            self._show(self._info())
        return self._viewer.draw(self.render_mode)


def next_world_seed(generator: np.random.Generator, options: dict[str, Any] | None = None) -> int:
    """Seed of the next world: 64 bits of the generator, or the one that the options of a reset ask for.

    Raises
    ------
    InvalidInputError
        If an option is unknown or the seed is not a whole number in ``0..2^64-1``.
    """
    drawn = int(generator.bit_generator.random_raw())
    for key in options or {}:
        if key != "world_seed":
            raise InvalidInputError("options: key", key, "The only option of reset() is 'world_seed'.")
    asked = drawn if not options else options["world_seed"]
    if isinstance(asked, bool) or not isinstance(asked, (int, np.integer)) or not 0 <= asked < 2**64:
        raise InvalidInputError("options: world_seed", asked, "Give a whole number from 0 to 2**64 - 1.")
    return int(asked)
