"""Rules that look ahead: exact answers to each task, but in a time chosen with regard to the tasks that come after it.

All of them ask the environment for P1 of the task at hand, so that each decision is the exact optimum for the time
that it is to take, and differ in how they choose that time. What a rule knows beside the scenario's constants is what
is observed: the gain, the age of the task, how many wait behind it, the estimate of the arrival rate, the battery.
Rules with a memory hand it over in the state of `predict`, as recurrent agents do; without a state they start anew.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.checks import check_count, check_number, check_positive
from baselines.policy import Basis, Observation, ProblemPolicy, State
from baselines.table import QualityGrid, build_grid
from coinfer_gym import Decision, InvalidInputError, Problem, Solution
from coinfer_gym._compile import kernel
from coinfer_gym.envs.observation import OBSERVATION_NAMES
from coinfer_gym.envs.process import intensity_high
from coinfer_gym.laim.optimum import solution_from_row, solve_within
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.world import build_world_tables, draw, gain_db_range, load_arrival_trace

__all__ = [
    "FarsightedPolicy",
    "Lyapunov",
    "PredictiveControl",
    "QueueBudget",
    "Slowdown",
    "View",
    "mean_arrival_rate",
    "serve_within",
]

_QUEUE, _INTENSITY, _BATTERY = (OBSERVATION_NAMES.index(name) for name in ("queue", "intensity", "battery"))
_CHOICES = 24  # service times that are weighed against each other
_GAINS = 48


@dataclass(frozen=True)
class View:
    """What a rule sees of the task at hand.

    Attributes
    ----------
    gain : float
        Observed power gain.
    wait : float
        Age of the task in s.
    left : float
        What is left of its delay budget in s.
    waiting : int
        Tasks behind it.
    intensity : float
        Estimate of the arrival rate in 1/s.
    energy_budget : float
        What may be spent in J.
    battery : float
        Energy in the battery in J; infinite without one.
    """

    gain: float
    wait: float
    left: float
    waiting: int
    intensity: float
    energy_budget: float
    battery: float


class FarsightedPolicy(ProblemPolicy):
    """Exact optimum within a time that a subclass chooses.

    Parameters
    ----------
    env : gymnasium.Env, optional
    """

    uses: ClassVar[Basis] = "problem and observation"

    memory_size = 0
    """Numbers that the rule remembers from task to task."""

    caution = 1.0
    """Share of what is left of both budgets that a decision may plan with."""

    def __init__(self, env: gym.Env[Any, Any] | None = None) -> None:
        self._observation: NDArray[Any] = np.zeros(len(OBSERVATION_NAMES))
        self._memory: NDArray[np.float64] | None = None
        self._intensity_high = math.nan
        super().__init__(env)

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this environment from now on, see `ProblemPolicy.bind`."""
        super().bind(env)
        scenario: Scenario = self._env.scenario
        self._intensity_high = intensity_high(scenario, build_world_tables(scenario))
        return self

    @abc.abstractmethod
    def choose(self, view: View, problem: Problem, memory: NDArray[np.float64] | None) -> Choice:
        """Service time for a task.

        Parameters
        ----------
        view : View
        problem : Problem
        memory : ndarray or None
            None at the first task of an episode.

        Returns
        -------
        Choice
        """

    def predict(
        self,
        observation: Observation,
        state: State | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """Action for the task at hand, see `Predictor.predict`; the state carries the rule's memory."""
        if isinstance(observation, dict):
            raise InvalidInputError("observation", "a dict", "This policy reads the plain observation of LAIM-v0.")
        self._observation = np.asarray(observation).reshape(-1, np.shape(observation)[-1])[0]
        fresh = state is None or (episode_start is not None and bool(np.any(episode_start)))
        self._memory = None if fresh or state is None else np.asarray(state[0], np.float64)
        action, _ = super().predict(observation, state, episode_start, deterministic)
        return action, (state if self._memory is None else (self._memory,))

    def solve(self, problem: Problem) -> Decision:
        """Exact optimum within the chosen time."""
        scenario: Scenario = self._env.scenario
        choice = self.choose(self._view(problem, scenario), problem, self._memory)
        seconds = min(choice.seconds, self.caution * problem.delay_budget)
        solution = serve_within(problem, seconds, min(choice.energy, self.caution * problem.energy_budget))
        self._memory = None
        if self.memory_size:
            self._memory = np.array([*choice.memory, solution.delay])
        return solution

    def _view(self, problem: Problem, scenario: Scenario) -> View:
        share = 0.5 * (self._observation.astype(np.float64) + 1.0)
        delay_budget = self._delay_budget(scenario)
        left = problem.delay_budget
        return View(
            gain=problem.gain,
            wait=max(0.0, delay_budget - left),
            left=left,
            waiting=round(share[_QUEUE] * scenario.queue_capacity),
            intensity=share[_INTENSITY] * self._intensity_high,
            energy_budget=problem.energy_budget,
            battery=math.inf if scenario.battery_capacity is None else share[_BATTERY] * scenario.battery_capacity,
        )

    def _delay_budget(self, scenario: Scenario) -> float:
        """Delay budget of the episode in s, as it is observed."""
        if scenario.delay_budget_range is None:
            return scenario.delay_budget
        low, high = scenario.delay_budget_range
        level = 0.5 * (float(self._observation[OBSERVATION_NAMES.index("delay_budget")]) + 1.0)
        return float(low * (high / low) ** level)


@dataclass(frozen=True)
class Choice:
    """What a rule chooses for a task.

    Attributes
    ----------
    seconds : float
        Time that the service may take.
    energy : float
        Energy that it may spend in J, beside the budget.
    memory : tuple of float
        What the rule wants to remember; the delay of the decision is appended.
    """

    seconds: float
    energy: float = math.inf
    memory: tuple[float, ...] = ()


def serve_within(problem: Problem, seconds: float, energy: float = math.inf) -> Solution:
    """Exact optimum within less time and energy than the budgets; where no decision is so fast, the fastest there is.

    Parameters
    ----------
    problem : Problem
    seconds : float
        Time in s.
    energy : float
        Energy in J.

    Returns
    -------
    Solution
        Where even the budgets cannot be met, the one that `coinfer_gym.solve_exact` gives.
    """
    task = (problem.gain, problem.delay_budget, problem.energy_budget, seconds, energy)
    rows: Any = solve_within(problem, *(np.array([value]) for value in task))
    return solution_from_row(rows[0])


def mean_arrival_rate(scenario: Scenario) -> float:
    """Mean arrival rate in 1/s; infinite where a task is always waiting."""
    if scenario.arrivals == "one_at_a_time":
        return math.inf
    if scenario.arrivals == "trace":
        times = load_arrival_trace(scenario.arrival_trace or "")
        return float((times.size - 1) / times[-1])
    if scenario.arrivals == "mmpp":
        calm, burst = scenario.calm_duration, scenario.burst_duration
        return (calm * scenario.arrival_rate + burst * scenario.burst_rate) / (calm + burst)
    return scenario.arrival_rate


class Slowdown(FarsightedPolicy):
    """Exact optimum in no more than a fraction of the mean time between arrivals.

    It uses the gain, the age of the task and the mean arrival rate of the scenario.

    Parameters
    ----------
    env : gymnasium.Env, optional
    fraction : float
        Share of the mean time between arrivals that a service may take.
    """

    uses: ClassVar[Basis] = "problem"

    def __init__(self, env: gym.Env[Any, Any] | None = None, fraction: float = 1.0) -> None:
        self._fraction = check_positive("fraction", fraction)
        self._cap = math.inf
        super().__init__(env)

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this environment from now on, see `ProblemPolicy.bind`."""
        super().bind(env)
        rate = mean_arrival_rate(self._env.scenario)
        self._cap = self._fraction / rate if math.isfinite(rate) else math.inf
        return self

    def choose(self, view: View, problem: Problem, memory: NDArray[np.float64] | None) -> Choice:
        """The same cap for every task."""
        return Choice(min(view.left, self._cap))


class QueueBudget(FarsightedPolicy):
    """Exact optimum in a time that shrinks with the number of tasks that wait, and with the observed arrival rate.

    It uses the gain, the age of the task, the queue and the observed estimate of the arrival rate.

    Parameters
    ----------
    env : gymnasium.Env, optional
    share : float
        Time in s that is shared out among the waiting tasks: each service may take ``share / waiting``.
    least : float
        Time in s that a service may take however many wait.
    fraction : float, optional
        Share of the observed time between arrivals that a service may take; no such cap where not given.
    caution : float
        Share of what is left of both budgets that a decision may plan with: below 1 where the gain is observed late or
        with noise, so that an error of it need not cost a budget.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any] | None = None,
        share: float = 0.4,
        least: float = 0.1,
        fraction: float | None = None,
        caution: float = 1.0,
    ) -> None:
        self.caution = check_number("caution", caution, 0.0, 1.0)
        self._share, self._least = check_positive("share", share), check_positive("least", least)
        self._fraction = math.inf if fraction is None else check_positive("fraction", fraction)
        super().__init__(env)

    def choose(self, view: View, problem: Problem, memory: NDArray[np.float64] | None) -> Choice:
        """Both caps, at least `least`."""
        cap = self._share / view.waiting if view.waiting else math.inf
        if math.isfinite(self._fraction) and view.intensity > 0.0:
            cap = min(cap, self._fraction / view.intensity)
        return Choice(min(view.left, max(cap, self._least)))


class Lyapunov(FarsightedPolicy):
    """Drift plus penalty: the service time that maximises ``V quality - backlog time - debt energy``.

    The backlog is the number of waiting tasks and a virtual queue of lateness: each task adds what its age at the end
    exceeds `target` of the delay budget, or takes off what it falls short. With a battery the debt is what it lacks of
    being full, as observed: services add to it and the harvest takes off. On mains power there is none.

    It uses the gain, the age of the task, the queue, the battery, and its memory of its own services.

    Parameters
    ----------
    env : gymnasium.Env, optional
    tradeoff : float
        ``V`` in tasks times seconds: how much quality counts against the backlog.
    target : float
        Age that the virtual queue lets tasks have in the long run, as a share of the delay budget.
    gain_of_debt : float
        Weight of the debt in tasks times seconds per J^2; 0 ignores it.
    """

    memory_size = 3

    def __init__(
        self,
        env: gym.Env[Any, Any] | None = None,
        tradeoff: float = 1.0,
        target: float = 1.0,
        gain_of_debt: float = 0.0,
    ) -> None:
        self._tradeoff, self._target = check_positive("tradeoff", tradeoff), check_positive("target", target)
        self._gain_of_debt = check_number("gain_of_debt", gain_of_debt, 0.0)
        super().__init__(env)

    def choose(self, view: View, problem: Problem, memory: NDArray[np.float64] | None) -> Choice:
        """The best of some service times and, with a debt, of some energy budgets."""
        scenario: Scenario = self._env.scenario
        late = self._recall(memory, scenario)
        debt = 0.0 if scenario.battery_capacity is None else scenario.battery_capacity - view.battery
        price = self._gain_of_debt * debt
        fractions = np.array([1.0]) if price == 0.0 else np.array([0.25, 0.4, 0.6, 0.8, 1.0])
        energies = view.energy_budget * fractions
        seconds = view.left * np.linspace(0.0, 1.0, _CHOICES + 1)[1:] ** 1.5
        grid = build_grid(problem, [problem.gain], seconds, energies)
        quality, spent = grid.quality[0], grid.device_energy[0]
        worth = self._tradeoff * quality - (view.waiting + late) * seconds[:, None] - price * spent
        i, j = np.unravel_index(int(np.argmax(worth)), worth.shape)
        energy = math.inf if fractions.size == 1 else float(energies[j])
        return Choice(float(seconds[i]), energy, (late, view.wait))

    def _recall(self, memory: NDArray[np.float64] | None, scenario: Scenario) -> float:
        """The virtual queue of budget_residual, the last task counted in."""
        if memory is None:
            return 0.0
        late, wait, delay = memory
        late += (wait + delay) / self._delay_budget(scenario) - self._target
        return max(0.0, float(late))


class PredictiveControl(FarsightedPolicy):
    """Plans some tasks ahead as if the future were as expected, and serves the first as planned.

    The plan is the best one: dynamic programming over (task, time) with the exact optimum inside. Waiting tasks are
    taken to have come at even distances since the head did, later ones to come at even distances of the expected
    rate, which mixes the observed estimate with the scenario's mean. The gain is held, or expected to return to its
    mean.

    It uses the gain, the age of the task, the queue, the observed estimate of the arrival rate and the channel's
    correlation.

    Parameters
    ----------
    env : gymnasium.Env, optional
    horizon : int
        Tasks to plan beyond those that wait.
    trust : float
        Weight of the observed estimate against the mean rate, from 0 to 1.
    haste : float
        Factor on the expected rate: above 1 plans for more tasks than are expected.
    forecast : {"hold", "mean"}
        Whether the gain stays as it is or returns to its mean as its correlation says.
    steps : int
        Grid steps per delay budget.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any] | None = None,
        horizon: int = 6,
        trust: float = 0.7,
        haste: float = 1.0,
        forecast: Literal["hold", "mean"] = "mean",
        steps: int = 40,
    ) -> None:
        if forecast not in ("hold", "mean"):
            raise InvalidInputError("forecast", forecast, "Give 'hold' or 'mean'.")
        self._horizon, self._steps = check_count("horizon", horizon, 1), check_count("steps", steps, 1)
        self._trust, self._haste = check_number("trust", trust, 0.0, 1.0), check_positive("haste", haste)
        self._forecast = forecast
        self._grid: QualityGrid | None = None
        self._budgets = (0.0, 0.0)
        super().__init__(env)

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this environment from now on, see `ProblemPolicy.bind`."""
        super().bind(env)
        scenario: Scenario = self._env.scenario
        if scenario.arrivals == "one_at_a_time":
            raise InvalidInputError("arrivals", scenario.arrivals, "There is no queue to plan for.")
        self._grid, self._mean_rate = None, mean_arrival_rate(scenario)
        self._mean, self._correlation = _log_gain_moments(scenario)
        return self

    def choose(self, view: View, problem: Problem, memory: NDArray[np.float64] | None) -> Choice:
        """First service time of the best plan."""
        delay_budget = view.wait + view.left
        grid = self._tabulate(problem, delay_budget, view)
        step = delay_budget / self._steps
        arrivals = self._expect_arrivals(view)
        times = math.ceil((float(arrivals[-1]) + delay_budget) / step) + 2
        block = self._env.scenario.block_duration
        change = np.maximum(0, (np.arange(times) * step / block + 0.5).astype(np.int64))  # half a block is over
        rows = np.stack([self._quality_row(grid, view.gain, k) for k in range(int(change[-1]) + 1)])
        fastest = max(1, math.ceil(float(np.min(grid.fastest)) / step))
        k = _plan(arrivals, delay_budget, step, rows, change, fastest, np.zeros(times))
        return Choice(view.left if (k + 1) * step > view.left else k * step)

    def _tabulate(self, problem: Problem, delay_budget: float, view: View) -> QualityGrid:
        """The exact optimum for this episode's budgets."""
        budgets = (delay_budget, view.energy_budget)
        if self._grid is None or not np.allclose(budgets, self._budgets, rtol=1e-3, atol=0.0):
            low, high = gain_db_range(self._env.scenario)
            gains = 10.0 ** (np.linspace(low, high, _GAINS) / 10.0)
            self._grid = build_grid(problem, gains, np.arange(self._steps + 1) * (delay_budget / self._steps))
            self._budgets = budgets
        return self._grid

    def _quality_row(self, grid: QualityGrid, gain: float, blocks: int) -> NDArray[np.float64]:
        keep = 1.0 if self._forecast == "hold" else self._correlation**blocks
        quality, _ = grid.at(math.exp(self._mean + keep * (math.log(gain) - self._mean)))
        return quality[:, 0]

    def _expect_arrivals(self, view: View) -> NDArray[np.float64]:
        """Arrival times from the head's on, in s from now."""
        rate = self._haste * (self._trust * view.intensity + (1.0 - self._trust) * self._mean_rate)
        waiting = -view.wait * (1.0 - np.arange(1, view.waiting + 1) / (view.waiting + 1))
        later = np.arange(1, self._horizon + 1) / max(rate, 1e-3 * self._mean_rate)
        return np.concatenate([[-view.wait], waiting, later])


def _log_gain_moments(scenario: Scenario) -> tuple[float, float]:
    """Mean of the gain's natural logarithm, and its correlation from block to block."""
    path = np.log(draw(scenario, 2**63).gains)
    deviation = path - path.mean()
    variance = float(np.mean(deviation**2))
    if variance < 1e-12:
        return float(path.mean()), 1.0
    return float(path.mean()), max(0.0, float(np.mean(deviation[1:] * deviation[:-1])) / variance)


@kernel
def _plan(
    arrivals: NDArray[np.float64],
    delay_budget: float,
    step: float,
    rows: NDArray[np.float64],
    change: NDArray[np.int64],
    fastest: int,
    ahead: NDArray[np.float64],
) -> int:
    """Steps that the first task takes in the best plan; tasks are served in order, late ones are lost.

    ``ahead[n]`` is what the tasks after one earn from step `n` on. It is overwritten in rising order: a service looks
    ahead.
    """
    last = ahead.shape[0] - 1
    choice = fastest
    for i in range(arrivals.shape[0] - 1, -1, -1):
        first = max(0, math.ceil(arrivals[i] / step))
        due = min(last, int((arrivals[i] + delay_budget) / step + 1e-9))
        for n in range(last + 1):
            start = max(n, first)
            if start > due:
                continue
            best, choice = ahead[min(last, start + fastest)], fastest
            for end in range(start + 1, due + 1):
                earned = rows[change[start], end - start] + ahead[end]
                if earned > best:
                    best, choice = earned, end - start
            ahead[n] = best
            if i == 0:
                break  # the first task starts now
    return choice
