"""Co-inference by automated machine learning (Zhang et al.): an agent sets the ratios layer by layer.

As in automated compression of one model (AMC, He et al., 2018), an episode goes through the network once: a step for
each group of layers, then one for the feature's compression and one for the cut. The design is judged at the end, and
all steps share its reward. An actor learns by the deterministic policy gradient of a critic.

As every step's reward is that of the whole episode, the critic learns this reward itself. It needs no estimate of later
steps, and so none of the slowly following copies of actor and critic that deep deterministic policy gradients have.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from baselines.layerwise.designs import (
    DELAY_CALCULATOR,
    LEAST_INACCURATE,
    DesignSearch,
    ParametersGenerator,
    assess,
    check_accuracy,
    select_best,
)
from baselines.layerwise.framework import Chosen
from coinfer_gym.checks import check_whole
from coinfer_gym.layerwise.designs import POWER
from coinfer_gym.layerwise.problem import LayerwiseProblem

__all__ = ["Episodes", "cia"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

ROUND = 512
"""Episodes after which progress is judged; as many are remembered."""

PROGRESS = 1e-3
"""A round counts as progress if it lowers the least excess or the best delay by more than this share."""

DEVIATIONS = (0.25, 0.01)
"""Standard deviation of the exploring actions at first, and the least with which another round begins."""

_AT_ONCE = 16  # episodes between two times of learning
_RANDOM = 128  # episodes with uniform actions at first
_UPDATES = 16  # of actor and critic each time
_BATCH, _HIDDEN, _RATE = 64, 64, 1e-3
_HALF = 0.1  # missing accuracy, or excess of energy, at which half of the reward is lost
_STATE = 5


class Episodes:
    """Designs of a network, decided number by number, and judged at the end.

    A number is the place of a group's retained ratio, of the compression or of the cut in the ranges of a generator.
    The ratios must be free there.

    Attributes
    ----------
    steps : int
        Numbers of a design.
    best : ndarray, shape (G + 4,)
        Best design within the limits so far; the unpruned network to begin with.
    best_delay, least_excess : float
        Its delay in s, and how far it is beyond the limits.
    history : list of (int, float)
        Designs judged at each improvement, and the delay there in s.
    judged : int
        Designs judged.
    """

    def __init__(self, problem: LayerwiseProblem, generator: ParametersGenerator) -> None:
        self._problem, self._generator = problem, generator
        self._search = DesignSearch(problem, generator, DELAY_CALCULATOR)
        self._groups, self.steps = len(problem.network.groups), len(generator.box.low)
        self._speed_device = problem.flops_per_cycle_device * problem.frequency_device_max
        self._speed_server = problem.flops_per_cycle_server * problem.frequency_server
        self._flops = float(problem.network.block_flops().sum())
        one_pruned = np.ones((self._groups, self._groups))
        np.fill_diagonal(one_pruned, 0.0)
        self._shares = np.zeros(self.steps + 1)
        self._shares[: self._groups] = self._pruned(one_pruned)
        self._to_come = np.minimum(1.0, np.cumsum(self._shares[::-1])[::-1] - self._shares)
        self.judged, self.history = 0, list[tuple[int, float]]()
        self.best = select_best(problem, generator.unpruned())
        values, excesses = assess(problem, self.best[None], DELAY_CALCULATOR)
        self._unpruned = self.best_delay = float(values[0])
        self.least_excess = float(excesses[0])

    def observe(self, places: Singles) -> Singles:
        """State of n episodes after k numbers, shape (n, 5), from these numbers, shape (n, k).

        All are in [0, 1]: share of the steps that are done, share of the FLOPs that the group of this step takes part
        in, share of the FLOPs pruned so far, share of the FLOPs in which groups to come take part, last number.
        """
        count, done = places.shape
        state = np.empty((count, _STATE), np.float32)
        state[:, 0], state[:, 1], state[:, 3] = done / self.steps, self._shares[done], self._to_come[done]
        ratios = np.ones((count, self._groups))
        ratios[:, :done] = places[:, : self._groups]
        state[:, 2] = self._pruned(ratios)
        state[:, 4] = places[:, -1] if done else 1.0
        return state

    def judge(self, places: Singles) -> Singles:
        """Reward of n designs, shape (n,), from all of their numbers, shape (n, steps).

        From -1 to 1: ``(t_0 - t) / (t_0 + t)`` of the delay t and that of the unpruned network at its best cut, t_0.
        Where a design misses the limits, the reward falls towards -1 by how much, without a jump.
        """
        rows = self._search.rows(self._points(places))
        delays, excesses = assess(self._problem, rows, DELAY_CALCULATOR)
        self.judged += len(rows)
        first = np.lexsort((delays, excesses))[0]
        if (excesses[first], delays[first]) < (self.least_excess, self.best_delay):
            self.least_excess, self.best_delay = float(excesses[first]), float(delays[first])
            self.best = rows[first]
            if self.least_excess == 0.0:
                self.history.append((self.judged, self.best_delay))
        missing = np.where(excesses >= LEAST_INACCURATE, excesses - LEAST_INACCURATE, excesses)
        lost = missing / (missing + _HALF)
        rewards = (1.0 - lost) * (self._unpruned - delays) / (self._unpruned + delays) - lost
        return rewards.astype(np.float32)

    def _pruned(self, places: Floats) -> Floats:
        """Share of the FLOPs that groups at some places save, shape (n,) for (n, G)."""
        numbers = np.ones((len(places), self.steps))
        numbers[:, : self._groups] = places
        rows = self._generator.designs(self._points(numbers))
        rows[:, POWER:] = self._problem.power_max, self._problem.frequency_device_max
        outcomes = self._problem.evaluate(rows)
        flops = outcomes.delay_device * self._speed_device + outcomes.delay_server * self._speed_server
        saved: Floats = np.maximum(0.0, 1.0 - flops / self._flops)
        return saved

    def _points(self, places: NDArray[np.floating]) -> Floats:
        """Points of the generator, whose first variable is the cut: the last number, if it is free."""
        free = int(len(self._generator.cuts) > 1)
        return self._generator.box.points(np.roll(places, free, axis=1).astype(np.float64))


class _Layers:
    """A network of two hidden layers, its gradient, and Adam."""

    def __init__(self, inputs: int, generator: np.random.Generator) -> None:
        shapes = [(inputs, _HIDDEN), (_HIDDEN,), (_HIDDEN, _HIDDEN), (_HIDDEN,), (_HIDDEN, 1), (1,)]
        ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
        bounds = [inputs**-0.5] * 2 + [_HIDDEN**-0.5] * 2 + [3e-3] * 2
        drawn = [generator.uniform(-bound, bound, shape) for bound, shape in zip(bounds, shapes, strict=True)]
        self._all: Singles = np.concatenate([part.ravel() for part in drawn]).astype(np.float32)
        self._slope, self._mean, self._square = (np.zeros_like(self._all) for _ in range(3))

        def parts(flat: Singles) -> list[Singles]:
            return [part.reshape(shape) for part, shape in zip(np.split(flat, ends), shapes, strict=True)]

        self._weights, self._slopes = parts(self._all), parts(self._slope)
        self._seen, self._updates = list[Singles](), 0

    def __call__(self, x: Singles) -> Singles:
        """Output, shape (n,)."""
        first, b, second, c, third, d = self._weights
        self._seen = [x, np.maximum(x @ first + b, 0.0)]
        self._seen.append(np.maximum(self._seen[1] @ second + c, 0.0))
        output: Singles = (self._seen[2] @ third + d)[:, 0]
        return output

    def back(self, slope: Singles, *, learn: bool) -> Singles:
        """Slope by the input, shape (n, inputs), from that by the last output; `learn` makes an update by it."""
        down = slope[:, None]
        for place in (2, 1, 0):
            seen = self._seen[place]
            if learn:
                np.matmul(seen.T, down, out=self._slopes[2 * place])
                down.sum(axis=0, out=self._slopes[2 * place + 1])
            down = down @ self._weights[2 * place].T
            if place:
                down = down * (seen > 0.0)
        if learn:
            self._update()
        return down

    def _update(self) -> None:
        """A step of Adam (Kingma and Ba, 2015) with its usual rates."""
        self._updates += 1
        self._mean += 0.1 * (self._slope - self._mean)
        self._square += 0.001 * (self._slope**2 - self._square)
        rate = _RATE * math.sqrt(1.0 - 0.999**self._updates) / (1.0 - 0.9**self._updates)
        self._all -= np.float32(rate) * self._mean / (np.sqrt(self._square) + np.float32(1e-8))


class _Agent:
    """Actor, critic, and the latest episodes."""

    def __init__(self, steps: int, generator: np.random.Generator) -> None:
        self._actor, self._critic = _Layers(_STATE, generator), _Layers(_STATE + 1, generator)
        self._states = np.empty((ROUND, steps, _STATE), np.float32)
        self._places, self._rewards = np.empty((ROUND, steps), np.float32), np.empty(ROUND, np.float32)
        self._steps, self._count, self._generator = steps, 0, generator

    def act(self, state: Singles) -> Singles:
        """Numbers in [0, 1], shape (n,), that the actor chooses."""
        numbers: Singles = np.clip(self._actor(state) + np.float32(0.5), 0.0, 1.0)
        return numbers

    def remember(self, states: Singles, places: Singles, rewards: Singles) -> None:
        """Keep episodes instead of the oldest ones."""
        at = (self._count + np.arange(len(rewards))) % ROUND
        self._states[at], self._places[at], self._rewards[at] = states, places, rewards
        self._count += len(rewards)

    def learn(self) -> None:
        """Update critic and actor once."""
        episode = self._generator.integers(0, min(self._count, ROUND), _BATCH)
        step = self._generator.integers(0, self._steps, _BATCH)
        state, share = self._states[episode, step], np.float32(1.0 / _BATCH)
        error = self._critic(np.column_stack([state, self._places[episode, step]])) - self._rewards[episode]
        self._critic.back(2.0 * share * error, learn=True)
        number = self._actor(state) + np.float32(0.5)
        self._critic(np.column_stack([state, np.clip(number, 0.0, 1.0)]))
        slope = self._critic.back(np.full(_BATCH, share), learn=False)[:, -1]
        room = np.where(slope > 0.0, 1.0 - number, number)  # inverted gradients (Hausknecht and Stone, 2016)
        self._actor.back(-slope * room, learn=True)


def cia(
    problem: LayerwiseProblem,
    seed: int = 0,
    generator: Callable[[LayerwiseProblem], ParametersGenerator] = ParametersGenerator,
) -> Chosen:
    """Best design of those that an agent tries while it learns, and of the one that it has settled on.

    It learns until it stops improving: a round of `ROUND` episodes without `PROGRESS` halves the deviation of the
    exploring actions, and where that falls below the least of `DEVIATIONS`, it is done. The same for the same arguments
    on the same machine; `InvalidInputError` where no design is accurate enough.
    """
    random = np.random.default_rng(check_whole("seed", seed, 0))
    began = time.perf_counter()
    episodes = Episodes(problem, generator(problem))
    agent = _Agent(episodes.steps, random)
    deviation, least = DEVIATIONS

    def explore(state: Singles) -> Singles:
        if episodes.judged < _RANDOM:
            return random.random(len(state), np.float32)
        return np.clip(agent.act(state) + deviation * random.standard_normal(len(state), np.float32), 0.0, 1.0)

    while deviation >= least:
        delay, excess = episodes.best_delay, episodes.least_excess
        for _ in range(ROUND // _AT_ONCE):
            agent.remember(*_play(episodes, explore, _AT_ONCE))
            if episodes.judged >= _RANDOM:
                for _ in range(_UPDATES):
                    agent.learn()
        if episodes.least_excess >= (1.0 - PROGRESS) * excess and episodes.best_delay > (1.0 - PROGRESS) * delay:
            deviation /= 2.0
    _play(episodes, agent.act, 1)
    solution = check_accuracy(problem, "CIA", problem.evaluate(problem.decision(episodes.best)))
    times, levels = zip(*episodes.history, strict=True) if episodes.history else ((), ())
    history = np.array(times, np.int64), np.array(levels, np.float64)
    return Chosen("CIA", solution, episodes.judged, time.perf_counter() - began, history)


def _play(episodes: Episodes, act: Callable[[Singles], Singles], count: int) -> tuple[Singles, Singles, Singles]:
    """States, numbers and rewards of some episodes."""
    states = np.empty((count, episodes.steps, _STATE), np.float32)
    places = np.empty((count, episodes.steps), np.float32)
    for step in range(episodes.steps):
        states[:, step] = episodes.observe(places[:, :step])
        places[:, step] = act(states[:, step])
    return states, places, episodes.judge(places)
