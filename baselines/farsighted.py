"""Rules that look ahead: each task gets its exact optimum, in a time chosen with regard to the tasks after it.

All of them ask the environment for the optimisation problem P1 (Lyu et al., eq. 44) of the task at hand, so that each
decision is the exact optimum for the time it is to take. They differ in how they choose that time. Beside the
scenario's constants a rule knows what is observed: the gain, the age of the task, how many wait behind it, the estimate
of the arrival rate, the battery. Rules with a memory hand it over in the state of `predict`, as recurrent agents do;
without a state they start anew.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.checks import check_positive
from baselines.policy import Observation, ProblemPolicy, State
from baselines.quality_grid import build_grid
from coinfer_gym import Decision, GainBelief, GainPosterior, InvalidInputError, Problem, Solution, solve_robust
from coinfer_gym.checks import check_flag, check_number
from coinfer_gym.envs.observation import OBSERVATION_NAMES
from coinfer_gym.envs.process import intensity_high
from coinfer_gym.laim.optimum import solution_from_row, solve_within
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.world import build_world_tables, mean_arrival_rate

__all__ = [
    "Choice",
    "FarsightedPolicy",
    "Lyapunov",
    "QueueBudget",
    "Slowdown",
    "View",
    "serve_robustly",
    "serve_within",
]

Memory = NDArray[np.float64] | None

_CHOICES = 24  # service times that are weighed against each other


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


@dataclass(frozen=True)
class Choice:
    """What a rule chooses for a task.

    Attributes
    ----------
    seconds : float
        Time that the service may take.
    energy : float
        Energy that it may spend in J, where that is less than the budget.
    memory : tuple of float
        What the rule wants to remember; the delay of the decision is appended.
    """

    seconds: float
    energy: float = math.inf
    memory: tuple[float, ...] = ()


class FarsightedPolicy(ProblemPolicy):
    """Exact optimum within a time that a subclass chooses.

    Parameters
    ----------
    env : gymnasium.Env, optional
    """

    remembers = False
    """Whether the rule remembers anything from task to task."""

    caution = 1.0
    """Share of what is left of both budgets that a decision may plan with."""

    robust = False
    """Whether a decision is planned for what the observed gain tells of the gain, and not as if it were the gain."""

    sees: ClassVar[tuple[str, ...]] = OBSERVATION_NAMES
    """Components of the observation."""

    def __init__(self, env: gym.Env[Any, Any] | None = None) -> None:
        self._observation: NDArray[Any] = np.zeros(len(self.sees))
        self._memory: Memory = None
        super().__init__(env)

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this environment from now on, see `ProblemPolicy.bind`."""
        super().bind(env)
        if self._env.observation_space.shape != (len(self.sees),):
            remedy = f"{type(self).__name__} reads another observation: {', '.join(self.sees)}."
            raise InvalidInputError("env", str(env), remedy)
        scenario: Scenario = self._env.scenario
        tables = build_world_tables(scenario)
        self._intensity_high = intensity_high(scenario, tables)
        self._mean_rate = mean_arrival_rate(scenario, tables.arrival_trace)
        self._belief = GainBelief(scenario) if self.robust else None
        return self

    @abc.abstractmethod
    def choose(self, view: View, problem: Problem, memory: Memory) -> Choice:
        """Service time for a task; `memory` is None at the first task of an episode."""

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
        choice = self.choose(self._view(problem), problem, self._memory)
        seconds = min(choice.seconds, self.caution * problem.delay_budget)
        energy = min(choice.energy, self.caution * problem.energy_budget)
        if self._belief is None:
            solution = serve_within(problem, seconds, energy)
        else:
            solution = serve_robustly(problem, self._belief.given(problem.gain), seconds, energy)
        self._memory = np.array([*choice.memory, solution.delay]) if self.remembers else None
        return solution

    @property
    def world(self) -> Scenario:
        """World of the device that the task at hand is on."""
        scenario: Scenario = self._env.scenario
        return scenario

    def seen(self) -> dict[str, float]:
        """The observation by its names, from 0 to 1."""
        return dict(zip(self.sees, (0.5 * (self._observation.astype(np.float64) + 1.0)).tolist(), strict=True))

    def _view(self, problem: Problem) -> View:
        scenario, share = self.world, self.seen()
        capacity = scenario.battery_capacity
        return View(
            gain=problem.gain,
            wait=max(0.0, self._delay_budget() - problem.delay_budget),
            left=problem.delay_budget,
            waiting=round(share["queue"] * scenario.queue_capacity),
            intensity=share["intensity"] * self._intensity_high,
            energy_budget=problem.energy_budget,
            battery=math.inf if capacity is None else share["battery"] * capacity,
        )

    def _delay_budget(self) -> float:
        """Delay budget of the episode in s, as it is observed."""
        scenario = self.world
        if scenario.delay_budget_range is None:
            return scenario.delay_budget
        low, high = scenario.delay_budget_range
        level = 0.5 * (float(self._observation[OBSERVATION_NAMES.index("delay_budget")]) + 1.0)
        return float(low * (high / low) ** level)


def serve_within(problem: Problem, seconds: float, energy: float = math.inf) -> Solution:
    """Exact optimum within less time and energy than the budgets; where no decision is so fast, the fastest there is.

    Where even the budgets cannot be met it is the decision that `coinfer_gym.solve_exact` gives.
    """
    task = (problem.gain, problem.delay_budget, problem.energy_budget, seconds, energy)
    rows: Any = solve_within(problem, *(np.array([value]) for value in task))
    return solution_from_row(rows[0])


def serve_robustly(problem: Problem, posterior: GainPosterior, seconds: float, energy: float = math.inf) -> Solution:
    """Most expected quality within less time and energy than the budgets; if none is so fast, within the budgets."""
    within = replace(
        problem,
        delay_budget=min(seconds, problem.delay_budget),
        energy_budget=min(energy, problem.energy_budget),
    )
    solution = solve_robust(within, posterior)
    return solution if solution.feasible else solve_robust(problem, posterior)


class Slowdown(FarsightedPolicy):
    """Exact optimum in no more than a fraction of the mean time between arrivals.

    It uses the gain, the age of the task and the mean arrival rate of the scenario.

    Parameters
    ----------
    env : gymnasium.Env, optional
    fraction : float
        Share of the mean time between arrivals that a service may take.
    """

    def __init__(self, env: gym.Env[Any, Any] | None = None, fraction: float = 1.0) -> None:
        self._fraction = check_positive("fraction", fraction)
        super().__init__(env)

    def choose(self, view: View, problem: Problem, memory: Memory) -> Choice:
        """The same cap for every task; none where a task is always waiting."""
        cap = self._fraction / self._mean_rate if math.isfinite(self._mean_rate) else math.inf
        return Choice(min(view.left, cap))


class QueueBudget(FarsightedPolicy):
    """Exact optimum in a time that shrinks with the number of waiting tasks and with the observed arrival rate.

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
        Share of what is left of both budgets that a decision may plan with. Give less than 1 where the gain is observed
        late or with noise, so that an error of it need not cost a budget.
    robust : bool
        Plan for what the observed gain tells of the gain, by `coinfer_gym.solve_robust`.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any] | None = None,
        share: float = 0.4,
        least: float = 0.1,
        fraction: float | None = None,
        caution: float = 1.0,
        robust: bool = False,
    ) -> None:
        self.robust = check_flag("robust", robust)
        self.caution = check_number("caution", caution, 0.0, 1.0)
        self._share, self._least = check_positive("share", share), check_positive("least", least)
        self._fraction = math.inf if fraction is None else check_positive("fraction", fraction)
        super().__init__(env)

    def choose(self, view: View, problem: Problem, memory: Memory) -> Choice:
        """The smaller of both caps, but no less than `least`."""
        return Choice(self.pace(view.left, view.waiting, view.intensity))

    def pace(self, left: float, waiting: float, intensity: float = 0.0) -> float:
        """Time in s for a task that has some `left`, by the tasks that wait behind it and the observed rate in 1/s."""
        cap = self._share / waiting if waiting else math.inf
        if math.isfinite(self._fraction) and intensity > 0.0:
            cap = min(cap, self._fraction / intensity)
        return min(left, max(cap, self._least))


class Lyapunov(FarsightedPolicy):
    """Drift plus penalty: the service time that maximises ``V quality - backlog time - debt energy``.

    The backlog is the number of waiting tasks plus a virtual queue. To that each task adds its age at the end of its
    service, as a share of the delay budget, and takes off `target`. With a battery the debt is the energy missing from
    a full one, as observed. On mains power there is none.

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

    remembers = True

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

    def choose(self, view: View, problem: Problem, memory: Memory) -> Choice:
        """The best of some service times and, with a debt, of some energy budgets."""
        capacity = self._env.scenario.battery_capacity
        late = self._recall(memory)
        debt = 0.0 if capacity is None else capacity - view.battery
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

    def _recall(self, memory: Memory) -> float:
        """The virtual queue, the last task counted in."""
        if memory is None:
            return 0.0
        late, wait, delay = memory
        late += (wait + delay) / self._delay_budget() - self._target
        return max(0.0, float(late))
