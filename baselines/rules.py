"""Policies without learning and foresight: random actions, one fixed action, and the optimum of each task alone."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from baselines.policy import Observation, Policy, ProblemPolicy, batch_shape, unbound
from baselines.schemes import SCHEMES
from coinfer_gym import Decision, GainBelief, InvalidInputError, Problem, solve_exact, solve_robust
from coinfer_gym.checks import check_whole
from coinfer_gym.envs.base import unit_box
from coinfer_gym.errors import nearest
from coinfer_gym.laim.decision import check_cut
from coinfer_gym.laim.outcome import QUALITIES
from coinfer_gym.laim.spaces import ACTION_NAMES

__all__ = ["LAIM", "ConstantAction", "MyopicExact", "MyopicSCA", "RandomPolicy", "RobustExact", "best_constant_action"]

LAIM = "coinfer_gym/LAIM-v0"

_SHARE_OF_ELITES = 0.2
_STEP = 0.7  # of the way to the elites, so that a lucky round does not close the search
_LEAST_DEVIATION = 0.01  # smaller steps in a control hardly change the return
_FINE_DEVIATION = 0.1
_BROAD_ROUNDS, _FINE_ROUNDS = 10, 6
_TRIAL_SHARE = 16


class RandomPolicy(Policy):
    """Uniformly random actions, of LAIM-v0 until it is bound to another environment.

    Parameters
    ----------
    seed : int
        Seed of the policy, beside that of the world.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = check_whole("seed", seed, 0)
        self._space: gym.Space[Any] = unit_box(ACTION_NAMES)
        self.seed(0)

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Draw from this environment's actions from now on."""
        self._space = copy.deepcopy(env.action_space)  # the environment's own generator stays as it is
        self.seed(0)
        return self

    def seed(self, seed: int) -> None:
        """Seed the random numbers, with this and the policy's own seed."""
        self._space.seed(int(np.random.SeedSequence([self._seed, seed]).generate_state(1)[0]))

    def act(self, observation: Observation) -> NDArray[Any]:
        """Random action, one per row of a batch."""
        batch = batch_shape(observation)
        actions = [np.asarray(self._space.sample()) for _ in range(int(np.prod(batch)))]
        return np.reshape(actions, (*batch, *actions[0].shape))


class ConstantAction(Policy):
    """The same action for every task.

    Parameters
    ----------
    action : array_like, shape (n_act,)
        Components in [-1, 1]. In a configuration it may be left out: `tune` then finds the best.

    Raises
    ------
    InvalidInputError
        If it is not one row of numbers in [-1, 1].
    """

    def __init__(self, action: ArrayLike = "best") -> None:
        try:
            self.action = np.asarray(action, np.float32)
        except (OverflowError, TypeError, ValueError) as error:
            raise InvalidInputError("action", action, "Give numbers in [-1, 1].") from error
        if self.action.ndim != 1 or not (np.abs(self.action) <= 1.0).all():
            raise InvalidInputError("action", action, "Give one row of numbers in [-1, 1].")

    @classmethod
    def tune(
        cls, options: Mapping[str, Any], environment: str, env: Mapping[str, Any], seeds: Iterable[int]
    ) -> dict[str, Any]:
        """Options with the action of `best_constant_action`, where they leave it open (none, or ``"best"``)."""
        if options.get("action", "best") != "best":
            return dict(options)
        return {"action": best_constant_action(env, seeds, environment=environment).tolist()}

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Check that the environment takes an action of this shape."""
        if env.action_space.shape != self.action.shape:
            raise InvalidInputError("action", self.action.tolist(), f"The environment takes {env.action_space}.")
        return self

    def act(self, observation: Observation) -> NDArray[Any]:
        """The action, one copy per row of a batch."""
        return np.broadcast_to(self.action, (*batch_shape(observation), *self.action.shape)).copy()


class MyopicExact(ProblemPolicy):
    """The global optimum of each task, regardless of the tasks that follow.

    It solves P1, the problem of Lyu et al. (eq. 44), or one of the paper's designs that restrict it.

    Parameters
    ----------
    env : gymnasium.Env, optional
    scheme : str
        A key of `baselines.schemes.SCHEMES`.
    cut : int, optional
        The only cut to use; None leaves the choice.
    quality : str, optional
        Quality to maximise; by default the one that the environment pays. Lyu et al. maximise the rate-distortion
        bound, whatever the accuracy.

    Raises
    ------
    InvalidInputError
        If there is no such design or quality, or the design prescribes the cut itself.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any] | None = None,
        scheme: str = "joint",
        cut: int | None = None,
        quality: str | None = None,
    ) -> None:
        if quality is not None and str(quality) not in QUALITIES:
            raise InvalidInputError("quality", quality, nearest(str(quality), QUALITIES))
        if str(scheme) not in SCHEMES:
            raise InvalidInputError("scheme", scheme, nearest(str(scheme), SCHEMES))
        if cut is not None and SCHEMES[scheme].end:
            raise InvalidInputError("cut", cut, f"The design {scheme!r} fixes the cut: leave it out.")
        self._scheme, self._cut, self._quality = SCHEMES[scheme], cut, quality
        super().__init__(env)

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this environment from now on, see `ProblemPolicy.bind`; its network must have the cut."""
        super().bind(env)
        if self._cut is not None:
            check_cut(self._cut, self._env.scenario.workload)
        return self

    def solve(self, problem: Problem) -> Decision:
        """Global optimum of P1, restricted."""
        return solve_exact(self._designed(problem), self._cut_of(problem))

    def _designed(self, problem: Problem) -> Problem:
        restricted = self._scheme.restrict(problem)
        if self._quality is None:
            return restricted
        return replace(restricted, quality=self._quality, norm="l1", quality_scale="")

    def _cut_of(self, problem: Problem) -> int | None:
        return self._scheme.cut(problem) if self._cut is None else self._cut


class RobustExact(MyopicExact):
    """The most quality that can be expected of each task, where the gain is observed late or with noise.

    Only quality within both budgets counts, for the distribution of the gain that what is observed leaves open. With
    perfect channel state this is `MyopicExact`.

    Parameters
    ----------
    env, scheme, cut, quality
        As for `MyopicExact`.
    """

    _belief: GainBelief | None = None

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this environment from now on, see `MyopicExact.bind`; the channel must not be a trace seen late."""
        super().bind(env)
        self._belief = GainBelief(self._env.scenario)
        return self

    def solve(self, problem: Problem) -> Decision:
        """Global optimum of P1 in expectation, restricted."""
        if self._belief is None:
            raise unbound(self)
        return solve_robust(self._designed(problem), self._belief.given(problem.gain), self._cut_of(problem))


class MyopicSCA(MyopicExact):
    """The successive convex approximation (SCA) of Lyu et al. for each task.

    Parameters
    ----------
    env, scheme, cut, quality
        As for `MyopicExact`.
    starts : int
        Starting points per cut: the one of `baselines.solve_sca`, then random ones.
    """

    def __init__(self, env: gym.Env[Any, Any] | None = None, starts: int = 1, **options: Any) -> None:
        self._starts = check_whole("starts", starts, 1, 1000)
        super().__init__(env, **options)

    def solve(self, problem: Problem) -> Decision:
        """The best point at which the approximation stops."""
        from baselines.sca import solve_sca  # brings the convex solvers along, which no other rule needs

        return solve_sca(self._designed(problem), cut=self._cut_of(problem), starts=self._starts)


def best_constant_action(
    env: Mapping[str, Any], seeds: Iterable[int], *, environment: str = LAIM, candidates: int = 48
) -> NDArray[np.float32]:
    """The constant action that delivers most, by a cross-entropy search.

    A task within its limits counts its quality, and another ``-x / (1 + x)`` for its excess ``x``, which shows the
    search how far away the limits are.

    The cut is a choice, which a search by mean and deviation cannot handle. So each cut has its own search over the
    other components, on a sixteenth of the worlds. The results of all cuts are then compared on all worlds, because the
    channel of a few worlds may happen to be good, and the best one is refined there.

    Parameters
    ----------
    env : mapping
        Keyword arguments of the environment.
    seeds : iterable of int
        Seeds of the worlds to search on. Use other seeds to evaluate the action.
    environment : str
        Id of the environment; it must have a native vector environment and the cut as first component of its action.
    candidates : int
        Actions tried per cut and round.

    Returns
    -------
    ndarray of float32, shape (n_act,)
        Reproducible: the same arguments give the same action.

    Raises
    ------
    InvalidInputError
        If there is no seed, or the environment cannot be made.
    """
    seeds = [int(seed) for seed in seeds]
    if not seeds:
        raise InvalidInputError("seeds", seeds, "Give at least one seed.")
    single: Any = gym.make(environment, **env)
    cuts, controls = single.unwrapped.scenario.cuts, single.action_space.shape[0] - 1
    generator = np.random.default_rng(0)
    trial = _Trial(environment, env)
    few = seeds[::_TRIAL_SHARE]

    broad = _Search((2.0 * np.arange(cuts) + 1.0) / cuts - 1.0, np.zeros((cuts, controls)), 1.0, generator)
    for _ in range(_BROAD_ROUNDS):
        actions = broad.ask(candidates)
        broad.tell(actions, trial.scores(actions, few))
    finds = np.concatenate([broad.champions, broad.centres])
    find = finds[np.argmax(trial.scores(finds, seeds))]

    fine = _Search(find[:1], find[None, 1:], _FINE_DEVIATION, generator)
    for _ in range(_FINE_ROUNDS):
        actions = fine.ask(candidates)
        fine.tell(actions, trial.scores(actions, seeds))
    best: NDArray[np.float32] = fine.champions[0]
    return best


class _Trial:
    """What constant actions deliver, played in the native vector environment."""

    def __init__(self, environment: str, env: Mapping[str, Any]) -> None:
        self._environment, self._env = environment, env
        self._batches: dict[int, Any] = {}

    def scores(self, actions: NDArray[np.float32], seeds: Sequence[int]) -> NDArray[np.float64]:
        """Mean score, shape (...), of actions, shape (..., n_act); each meets the worlds of the same seeds."""
        flat = actions.reshape(-1, actions.shape[-1])
        count = len(flat) * len(seeds)
        if count not in self._batches:
            self._batches[count] = gym.make_vec(
                self._environment, count, vectorization_mode="vector_entry_point", **self._env
            )
        batch = self._batches[count]
        delivered, cost = (batch.lanes.info_names.index(name) for name in ("delivered", "cost"))
        repeated = np.repeat(flat, len(seeds), axis=0)
        batch.reset(seed=list(seeds) * len(flat))
        total, ended = np.zeros(batch.num_envs), np.zeros(batch.num_envs, np.bool_)
        while not ended.all():
            ends = batch.lanes.step(repeated, ended)[1]  # below the autoreset: a bad action ends many early
            infos = batch.lanes.infos[~ended]
            total[~ended] += infos[:, delivered] - infos[:, cost] / (1.0 + infos[:, cost])
            ended |= ends
        mean: NDArray[np.float64] = total.reshape(len(flat), len(seeds)).mean(axis=1).reshape(actions.shape[:-1])
        return mean


class _Search:
    """Cross-entropy searches side by side, one per cut (first component), over the other components of the action.

    `means` and `deviation` are those of the first samples; `champions` are the best actions so far, shape (n, n_act).
    """

    def __init__(
        self, cuts: NDArray[Any], means: NDArray[Any], deviation: float, generator: np.random.Generator
    ) -> None:
        self._cuts, self._means, self._generator = cuts, means.astype(np.float64), generator
        self._deviations = np.full(means.shape, deviation)
        self._records = np.full(len(cuts), -np.inf)
        self.champions = self.centres

    @property
    def centres(self) -> NDArray[np.float32]:
        """The action in the middle of each search, shape (n, n_act)."""
        return np.concatenate([self._cuts[:, None], self._means], axis=1).astype(np.float32)

    def ask(self, each: int) -> NDArray[np.float32]:
        """Actions to try, the centre first, shape (n, each, n_act)."""
        noise = self._generator.standard_normal((len(self._cuts), each, self._means.shape[1]))
        noise[:, 0] = 0.0
        controls = np.clip(self._means[:, None] + self._deviations[:, None] * noise, -1.0, 1.0)
        cuts = np.broadcast_to(self._cuts[:, None, None], (*controls.shape[:2], 1))
        return np.concatenate([cuts, controls], axis=2).astype(np.float32)

    def tell(self, actions: NDArray[np.float32], returns: NDArray[np.float64]) -> None:
        """Move each search towards the best of its actions, shape (n, m, n_act), by their returns, shape (n, m)."""
        order = np.argsort(-returns, axis=1, kind="stable")[:, : max(1, round(_SHARE_OF_ELITES * returns.shape[1]))]
        elites = np.take_along_axis(actions, order[:, :, None], axis=1)
        best = np.take_along_axis(returns, order[:, :1], axis=1)[:, 0]
        better = best > self._records
        self._records = np.where(better, best, self._records)
        self.champions = np.where(better[:, None], elites[:, 0], self.champions)
        controls = elites[:, :, 1:].astype(np.float64)
        self._means += _STEP * (controls.mean(axis=1) - self._means)
        self._deviations += _STEP * (np.maximum(controls.std(axis=1), _LEAST_DEVIATION) - self._deviations)
