"""Joint decisions in a cell: the task at hand and those that wait elsewhere are decided together, none that follow.

Shared out is what is free, and what the devices hold whose next task waits: they hand it back before they need more.
These rules see channel and queue of every device, as a scheduler at the base station would.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from baselines.box import Box
from baselines.cell.rules import CellRule
from baselines.optimizers import OPTIMIZERS, UNLIMITED, SearchProblem
from baselines.search import Floats, ends, excess_of, quality_of
from coinfer_gym import Problem
from coinfer_gym._compile import kernel
from coinfer_gym.cell.optimum import solve_cell
from coinfer_gym.cell.response import scale
from coinfer_gym.checks import check_number, check_whole
from coinfer_gym.envs.process import TINIEST
from coinfer_gym.laim.outcome import Tables
from coinfer_gym.laim.problem import with_tables
from coinfer_gym.world import block_at

__all__ = ["JointMyopic", "JointQuantum", "JointRule", "JointSearch", "Waiting", "waiting_tasks"]

_TOLERANCE = 0.01  # relative gap of a joint optimum, without branchings: shares change little beyond it
_VARIABLES = 8  # of a task in a search: those of P1, and two shares


class Waiting(NamedTuple):
    """A task that waits at another device: P1 when it can begin, the tasks behind it, and the shares held there."""

    problem: Problem
    behind: int
    band: float
    server: float


def waiting_tasks(cell: Any) -> list[Waiting]:
    """The next task of every device but that which decides, where it has come; `cell` is Cell-v0."""
    lanes, kinds, k = cell.lanes, cell.scenario.members, cell.device
    now, found = float(lanes.state[k]["clock"]), []
    for j, (lane, held) in enumerate(zip(lanes.state, lanes.model.held[0], strict=True)):
        came = float(lane["clock"] - lane["wait"])
        if j == k or came > now or not math.isfinite(held["ready"]):
            continue
        kind = kinds[j % len(kinds)]
        gain = lanes.gains[j, block_at(now - kind.csi_delay, kind.block_duration, lanes.gains.shape[1])]
        left = came + float(lane["delay_budget"]) - max(now, float(held["busy_until"]))
        energy = min(float(lane["energy_budget"]), max(float(lane["battery"]), TINIEST))
        band = float(held["band"]) if held["band_until"] > now else 0.0
        server = float(held["server"]) if held["busy_until"] > now else 0.0
        found.append(Waiting(kind.problem(float(gain), left, energy), int(lane["waiting"]), band, server))
    return found


class JointRule(CellRule):
    """Shares by a joint decision, which a subclass makes.

    Parameters
    ----------
    env, share, least, fraction
        As for `CellRule`; the tasks of the others keep to the same pace.
    reserve : float
        Number of tasks yet to come for which as much is left as the tasks that wait get on average.
    """

    def __init__(self, env: gym.Env[Any, Any] | None = None, reserve: float = 1.0, **pace: Any) -> None:
        self._reserve = check_number("reserve", reserve, 0.0)
        super().__init__(env, **pace)

    @abc.abstractmethod
    def share_out(self, problems: Sequence[Problem], band: float, server: float) -> tuple[float, float] | None:
        """Shares of what there is for the first task, a band in Hz and a share of the server; None if it gets none."""

    def shares(self) -> tuple[float, float]:
        """What the joint decision gives the task at hand; an equal part where it does not serve it."""
        own, others, pool = self._env.problem(1.0, 1.0), waiting_tasks(self._env), np.array(self._env.free)
        view = self._view(own)
        problems = [_within(own, self.pace(view.left, view.waiting, view.intensity))]
        for task in others:
            problems.append(_within(task.problem, self.pace(task.problem.delay_budget, task.behind)))
            pool += (task.band, task.server)
        count = len(problems)
        pool *= count / (count + self._reserve)
        alone = (1.0, 1.0) if count == 1 else None  # more never hurts
        found = alone or self.share_out(problems, own.bandwidth * pool[0], min(pool[1], 1.0))
        band, server = pool * (found or (1.0 / count, 1.0 / count))
        return float(band), float(server)


class JointMyopic(JointRule):
    """The joint optimum of the task at hand and those that wait, by `coinfer_gym.cell.optimum.solve_cell`.

    Parameters
    ----------
    env, reserve, share, least, fraction
        As for `JointRule`.
    """

    concave = True

    def share_out(self, problems: Sequence[Problem], band: float, server: float) -> tuple[float, float] | None:
        """Shares of the joint optimum."""
        found = solve_cell(problems, band, server, tolerance=_TOLERANCE, branchings=0)
        if not found.solutions[0].feasible:
            return None
        return float(found.band[0] / band), float(found.server[0] / server)


class JointQuantum(JointRule):
    """The joint problem by the quantum-inspired search of Mu et al., in the form ``mqhoa`` with five groups.

    Parameters
    ----------
    env, reserve, share, least, fraction
        As for `JointRule`.
    evaluations : int
        Joint decisions evaluated per task.
    seed : int
        Seed of the search; equal tasks get equal decisions.
    """

    def __init__(
        self, env: gym.Env[Any, Any] | None = None, evaluations: int = 5000, seed: int = 0, **options: Any
    ) -> None:
        self._evaluations = check_whole("evaluations", evaluations, 1, UNLIMITED)
        self._seed = check_whole("seed", seed, 0)
        super().__init__(env, **options)

    def share_out(self, problems: Sequence[Problem], band: float, server: float) -> tuple[float, float] | None:
        """Shares of the best joint decision found."""
        search = JointSearch(problems, band, server)
        found = OPTIMIZERS["quantum_mqhoa_5"](search, self._evaluations, self._seed)
        shares = search.shares(found.x[:, None])[:, :, 0]
        return float(shares[0, 0]), float(shares[0, 1])


class JointSearch(SearchProblem):
    """The joint problem as a black box: eight variables a task, those of `baselines.search.P1Search` and two shares.

    Shares that sum over what there is are scaled down to it. The objective is the sum of the qualities, taken negative;
    a task beyond its budgets counts ``-x / (1 + x)`` for its excess `x`, which shows the search how far they are.

    Parameters
    ----------
    problems : sequence of Problem
        One per task, with the constants of all of the server.
    band, server : float
        What there is to be shared: bandwidth in Hz, and a share of the server.
    """

    def __init__(self, problems: Sequence[Problem], band: float, server: float) -> None:
        bounds: list[tuple[float, float]] = []
        for problem in problems:
            bounds += [(0, problem.workload.cuts - 1), *[(0.0, 1.0)] * (_VARIABLES - 1)]
        super().__init__(self._objective, Box(bounds, [True, *[False] * (_VARIABLES - 1)] * len(problems)))
        self._there, self._tasks = (band, server), []
        for problem in problems:
            hardware, quality, cuts, blocks = problem.tables
            part = Tables(hardware.copy(), quality, cuts.copy(), blocks)
            task = (float(problem.gain), float(problem.delay_budget), float(problem.energy_budget))
            self._tasks.append((problem.tables, part, *ends(problem), task))

    def shares(self, points: Floats) -> Floats:
        """Shares of what there is that each task gets, shape (tasks, 2, S)."""
        asked = np.maximum(points.reshape(-1, _VARIABLES, points.shape[1])[:, -2:], 1e-6)
        given: Floats = asked / np.maximum(1.0, asked.sum(axis=0))
        return given

    def _objective(self, points: Floats) -> Floats:
        values, shares = np.zeros(points.shape[1]), self.shares(points)
        for m, task in enumerate(self._tasks):
            own = np.ascontiguousarray(points[m * _VARIABLES : (m + 1) * _VARIABLES])
            _take_off(*task, self._there, own, shares[m], values)
        return values


@kernel
def _take_off(
    whole: Tables,
    part: Tables,
    low: Floats,
    high: Floats,
    task: tuple[float, float, float],
    there: tuple[float, float],
    points: Floats,
    shares: Floats,
    values: Floats,
) -> None:
    """Take what a task earns off the value of each column."""
    for i in range(points.shape[1]):
        scale(whole, part, int(points[0, i]), shares[0, i] * there[0], shares[1, i] * there[1])
        excess = excess_of(part, low, high, task[0], (task[1], task[2]), points, i)
        values[i] -= quality_of(part, low, high, points, i) if excess <= 0.0 else -excess / (1.0 + excess)


def _within(problem: Problem, seconds: float) -> Problem:
    """The same with no more time than that."""
    if seconds >= problem.delay_budget:
        return problem
    return with_tables(replace(problem, delay_budget=seconds), problem.tables)
