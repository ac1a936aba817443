"""Co-inference by automated machine learning (Zhang et al.): a DDPG agent sets the ratios layer by layer.

As in automated compression of one model (He et al., 2018), an episode goes through the network once: a step for each
group of layers, then one for the feature's compression and one for the cut. The design is judged at the end.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.checks import check_count
from baselines.layerwise.designs import (
    DELAY_CALCULATOR,
    DesignSearch,
    ParametersGenerator,
    assess,
    check_accuracy,
    select_best,
)
from baselines.layerwise.framework import Chosen
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.layerwise.problem import LayerwiseProblem

__all__ = ["CompressionEnv", "cia"]

Floats = NDArray[np.float64]

STEPS = 4000
"""Steps that the agent learns from; about 20 s on one core."""

_STATE = 5
_FIRST_RANDOM_EPISODES = 50
_NOISE = 0.2


class CompressionEnv(gym.Env[NDArray[np.float32], NDArray[np.float32]]):
    """A design of the network, decided step by step.

    Observations, all in [0, 1]: share of the steps that are done, share of the FLOPs that the group of this step takes
    part in, share of the FLOPs pruned so far, share of the FLOPs in which groups to come take part, last action.

    Actions, in [0, 1]: places of the group's retained ratio, of the compression and of the cut in the ranges of
    `ParametersGenerator`.

    The reward comes at the end: minus the delay, relative to that of the unpruned network at its best cut, and -1 where
    it is longer; below -1, by as much as it misses them, where a design misses the limits.

    Attributes
    ----------
    best : ndarray, shape (G + 4,)
        Best design within the limits so far; the unpruned network to begin with.
    history : list of (int, float)
        Designs judged at each improvement, and the delay there in s.
    judged : int
        Designs judged.
    """

    def __init__(self, problem: LayerwiseProblem) -> None:
        self.observation_space = gym.spaces.Box(0.0, 1.0, (_STATE,), np.float32)
        self.action_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
        self._problem = problem
        self._generator = ParametersGenerator(problem)
        self._search = DesignSearch(problem, self._generator, DELAY_CALCULATOR)
        self._groups = len(problem.network.groups)
        self._flops = float(problem.network.block_flops().sum())
        least = [self._pruned([1.0] * g + [problem.retained_min]) for g in range(self._groups)]
        self._shares = np.array([*least, 0.0, 0.0])
        self._places: list[float] = []
        self.judged, self.history = 0, list[tuple[int, float]]()
        self.best = select_best(problem, self._generator.unpruned())
        values, excesses = assess(problem, self.best[None], DELAY_CALCULATOR)
        self._reference = self._best_delay = float(values[0])
        self._least_excess = float(excesses[0])

    @property
    def steps(self) -> int:
        """Steps of an episode."""
        return self._groups + 2

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin with the unpruned network."""
        super().reset(seed=seed)
        self._places = []
        return self._observe(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Decide one number; the last one is the cut."""
        self._places.append(float(np.clip(action, 0.0, 1.0)[0]))
        done = len(self._places) == self.steps
        return self._observe(), self._judge() if done else 0.0, done, False, {}

    def _judge(self) -> float:
        *places, cut = self._places
        row = self._search.rows(self._generator.box.points(np.array([[cut, *places]])))
        values, excesses = assess(self._problem, row, DELAY_CALCULATOR)
        delay, excess = float(values[0]), float(excesses[0])
        self.judged += 1
        if (excess, delay) < (self._least_excess, self._best_delay):
            self._least_excess, self._best_delay, self.best = excess, delay, row[0]
            if excess == 0.0:
                self.history.append((self.judged, delay))
        return -1.0 - excess if excess > 0.0 else -min(1.0, delay / self._reference)

    def _observe(self) -> NDArray[np.float32]:
        done = len(self._places)
        low = self._problem.retained_min
        ratios = [low + place * (1.0 - low) for place in self._places[: self._groups]]
        share = self._shares[done] if done < self.steps else 0.0
        last = self._places[-1] if done else 1.0
        state = (done / self.steps, share, self._pruned(ratios), min(1.0, self._shares[done + 1 :].sum()), last)
        return np.array(state, np.float32)

    def _pruned(self, ratios: list[float]) -> float:
        """Share of the FLOPs that pruning the first groups saves."""
        retained = ratios + [1.0] * (self._groups - len(ratios))
        return 1.0 - float(self._problem.network.block_flops(retained).sum()) / self._flops


def cia(problem: LayerwiseProblem, seed: int = 0, steps: int = STEPS) -> Chosen:
    """Best design of those that a DDPG agent tries while it learns, and of the one that it has settled on.

    The same for the same arguments on the same machine; `InvalidInputError` where no design is accurate enough.
    """
    seed, steps = check_count("seed", seed, 0), check_count("steps", steps, 1, 10**9)
    try:
        from stable_baselines3 import DDPG
        from stable_baselines3.common.noise import NormalActionNoise
    except ImportError as error:
        raise InvalidInputError("CIA", "no stable-baselines3", "Install coinfer-gym[agents].") from error
    began = time.perf_counter()
    env = CompressionEnv(problem)
    agent = DDPG(
        "MlpPolicy",
        env,
        gamma=1.0,  # an episode has one reward, at its end
        learning_starts=_FIRST_RANDOM_EPISODES * env.steps,
        action_noise=NormalActionNoise(np.zeros(1), np.full(1, _NOISE)),
        batch_size=64,
        policy_kwargs={"net_arch": [64, 64]},
        device="cpu",
        seed=seed,
    )
    agent.learn(steps)
    observation, done = env.reset()[0], False
    while not done:
        action, _ = agent.predict(observation, deterministic=True)
        observation, _, done, _, _ = env.step(action)
    solution = check_accuracy(problem, "CIA", problem.evaluate(problem.decision(env.best)))
    times, levels = zip(*env.history, strict=True) if env.history else ((), ())
    history = np.array(times, np.int64), np.array(levels, np.float64)
    return Chosen("CIA", solution, env.judged, time.perf_counter() - began, history)
