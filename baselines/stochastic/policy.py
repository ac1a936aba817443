"""The rule that value iteration finds, played from what is observed."""

from __future__ import annotations

import math
from typing import Any, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.farsighted import Choice, FarsightedPolicy, Memory, View
from baselines.policy import unbound
from baselines.quality_grid import locate
from baselines.stochastic.arrivals import note_arrival, update_belief
from baselines.stochastic.model import Fineness, Model, solve_process
from coinfer_gym import InvalidInputError, Problem
from coinfer_gym.checks import check_flag, check_whole
from coinfer_gym.laim.scenario import Scenario

Floats = NDArray[np.float64]

_FINEST = 1000  # levels of a quantity; tables grow with their product


class StochasticDP(FarsightedPolicy):
    """The best service time by value iteration on gain, age, queue, belief and battery.

    It uses the gain, the age of the task, the queue and the battery. Of the arrivals it uses what the observed estimate
    of their rate tells together with its memory of its own services: how many came meanwhile, and how long an empty
    queue stayed empty. Recorded and periodic arrivals are taken for Poisson ones of the same mean rate.

    With a battery it takes some twenty seconds to solve, and is no longer the best rule: nine levels and a few energy
    budgets are coarse, and tuned drift plus penalty (`baselines.farsighted.Lyapunov`) delivers more.

    Parameters
    ----------
    env : gymnasium.Env, optional
    gains, waits, queue, beliefs, times, levels, samples : int
        How finely the process is resolved, see `baselines.stochastic.model.Fineness`. ``queue=1`` does not look at the
        queue.
    robust : bool
        Plan for what the observed gain tells of the gain, by `coinfer_gym.solve_robust`. The observed gain is then a
        state of the process, and what it lets expect the reward.

    Attributes
    ----------
    compared : tuple of ndarray or None
        Service times in s that the last decision compared, shape (times,), and the value of each with each energy
        budget, in quality and up to a constant, shape (times, energies).
    """

    remembers = True

    def __init__(
        self,
        env: gym.Env[Any, Any] | None = None,
        gains: int = Fineness.gains,
        waits: int = Fineness.waits,
        queue: int = Fineness.queue,
        beliefs: int = Fineness.beliefs,
        times: int = Fineness.times,
        levels: int = Fineness.levels,
        samples: int = Fineness.samples,
        robust: bool = False,
    ) -> None:
        self.robust = check_flag("robust", robust)
        given = {"gains": gains, "waits": waits, "queue": queue, "beliefs": beliefs, "times": times, "levels": levels}
        least = {"waits": 2, "times": 2, "levels": 2}
        counts = {name: check_whole(name, value, least.get(name, 1), _FINEST) for name, value in given.items()}
        self._fineness = Fineness(**counts, samples=check_whole("samples", samples, 1, 10**6))
        self.compared: tuple[Floats, Floats] | None = None
        self._model: Model | None = None
        super().__init__(env)

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this environment from now on; solves its process, or takes the solution from the last time.

        The budgets must be fixed, and tasks must queue.
        """
        super().bind(env)
        scenario: Scenario = self._env.scenario
        check_plannable(scenario)
        self._model = solve_process(scenario.model_dump_json(by_alias=True), self._fineness, self.robust)
        return self

    @property
    def model(self) -> Model:
        """The solved process of the bound environment; `InvalidInputError` before `bind`.

        Episodes begin with an empty queue, and so deliver more than its ``mean_quality``.
        """
        if self._model is None:
            raise unbound(self)
        return self._model

    def choose(self, view: View, problem: Problem, memory: Memory) -> Choice:
        """Service time and energy with the best outlook."""
        choice, self.compared = plan(self.model, self.world, view, memory)
        return choice


def check_plannable(scenario: Scenario) -> None:
    """Raise `InvalidInputError` unless the budgets are fixed and tasks queue."""
    if scenario.delay_budget_range or scenario.energy_budget_range:
        raise InvalidInputError("delay_budget_range", scenario.delay_budget_range, "The budgets must be fixed.")
    if scenario.arrivals == "one_at_a_time":
        raise InvalidInputError("arrivals", scenario.arrivals, "There is no queue to plan for.")


def plan(model: Model, world: Scenario, view: View, memory: Memory) -> tuple[Choice, tuple[Floats, Floats]]:
    """Service time and energy with the best outlook, and what was compared, see `StochasticDP.compared`.

    The choice is to be remembered, and the delay of the service with it.
    """
    belief = _believe(model, world, view, memory)
    seconds, worth = compared = _weigh(model, world, view, belief)
    i, e = divmod(int(np.argmax(worth)), worth.shape[1])
    best = _peak(seconds, worth[:, e], i)
    energy = math.inf if len(model.energies) == 1 else float(model.energies[e])
    return Choice(min(best, view.left), energy, (belief, view.intensity)), compared


def _weigh(model: Model, world: Scenario, view: View, belief: float) -> tuple[Floats, Floats]:
    """Service times, and what each is worth with each energy, shape (times, energies)."""
    ahead, elapsed = _outlook(model, view, belief)
    quality, spent = model.quality.at(view.gain)
    fastest = float(np.min(model.quality.fastest))
    seconds = np.maximum(model.fractions * view.left, fastest)
    worth = np.empty((len(seconds), len(model.energies)))
    for j, joules in enumerate(model.energies):
        within = (seconds <= view.left) & (joules <= view.battery)
        worth[:, j] = np.where(within, np.interp(seconds, model.quality.delays, quality[:, j]), 0.0)
        if len(model.levels) == 1:
            worth[:, j] += ahead[:, 0]
            continue
        used = np.interp(seconds, model.quality.delays, spent[:, j])
        level = view.battery - np.minimum(used, view.battery) + world.harvest_power * elapsed
        worth[:, j] += [np.interp(level[i], model.levels, ahead[i]) for i in range(len(ahead))]
    return seconds, worth


def _believe(model: Model, world: Scenario, view: View, memory: Memory) -> float:
    """Probability of a burst, from what has come since the last decision."""
    process = model.process
    if len(model.beliefs) == 1:
        return 0.0
    if memory is None:
        stationary = process.leave_calm / (process.leave_calm + process.leave_burst)
        return note_arrival(stationary, process)
    belief, intensity, seconds = (float(value) for value in memory)
    memory_time = world.intensity_time
    if view.wait == 0.0 and view.waiting == 0 and view.intensity > 1.0 / memory_time and intensity > 0.0:
        # One task came to an empty queue: the decay of the estimate tells how long that took.
        decay = (view.intensity - 1.0 / memory_time) / intensity
        if 0.0 < decay < 1.0:
            elapsed = max(seconds, -memory_time * math.log(decay))
            return note_arrival(update_belief(belief, process, 0, elapsed), process)
    came = (view.intensity - intensity * math.exp(-seconds / memory_time)) * memory_time
    arrivals = max(0, round(came * math.exp(0.5 * seconds / memory_time)))
    return update_belief(belief, process, arrivals, seconds)


def _outlook(model: Model, view: View, belief: float) -> tuple[Floats, Floats]:
    """What lies ahead by service time and battery, shape (fractions, levels), and the mean time until the next task."""
    n = min(view.waiting, model.ahead.shape[1] - 1)
    w, w_share = locate(model.waits, view.wait)
    b, b_share = locate(model.beliefs, belief)
    g, g_share = locate(model.log_gains, math.log(view.gain))
    ahead = np.zeros((len(model.fractions), len(model.levels)))
    elapsed = np.zeros(len(model.fractions))
    for i, in_w in ((w, 1.0 - w_share), (min(w + 1, len(model.waits) - 1), w_share)):
        for j, in_b in ((b, 1.0 - b_share), (min(b + 1, len(model.beliefs) - 1), b_share)):
            elapsed += in_w * in_b * model.elapsed[i, n, j]
            for k, in_g in ((g, 1.0 - g_share), (min(g + 1, len(model.log_gains) - 1), g_share)):
                ahead += in_w * in_b * in_g * model.ahead[i, n, j, :, k]
    return ahead, elapsed


def _peak(seconds: Floats, worth: Floats, i: int) -> float:
    """Top of the parabola through the best time and its neighbours."""
    if not 0 < i < len(seconds) - 1:
        return float(seconds[i])
    x, y = seconds[i - 1 : i + 2], worth[i - 1 : i + 2]
    left, right = x[1] - x[0], x[2] - x[1]
    if min(left, right) <= 0.0:
        return float(x[1])
    falls, rises = (y[1] - y[2]) / right, (y[1] - y[0]) / left
    return float(x[1] + 0.5 * (rises * right - falls * left) / max(rises + falls, 1e-12))
