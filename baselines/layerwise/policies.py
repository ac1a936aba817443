"""Policies of Layerwise-v0: a scheme run once for the mean rate, an optimizer at every task, and a menu of optima."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, Self

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from baselines.layerwise.designs import ParametersGenerator, select_best
from baselines.layerwise.framework import Framework
from baselines.layerwise.rivals import RIVALS
from baselines.optimizers import OPTIMIZERS
from baselines.policy import ProblemPolicy
from coinfer_gym.checks import check_number, check_whole
from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.layerwise.designs import COMPRESSION, POWER, check_designs, make_designs, ratios_of
from coinfer_gym.layerwise.optimum import solve_exact
from coinfer_gym.layerwise.problem import LayerwiseDecision, LayerwiseProblem
from coinfer_gym.layerwise.scenario import LayerwiseScenario
from coinfer_gym.physics import snr_of_rate, transmission_rate

__all__ = [
    "LayerwiseExact",
    "LayerwiseMenu",
    "LayerwiseReoptimize",
    "LayerwiseRival",
    "LayerwiseStatic",
    "full_power_rates",
]

Floats = NDArray[np.float64]

FIRST_SEED = 10_000_000
"""Seed of the first world whose channel is measured where none are named."""

_WORLDS = 64
_COMPRESSIONS = np.exp(np.linspace(-0.3, 0.3, 121))  # relative to the optimum's
_WIDE = 8  # of these next to each other are room enough
_SPAN = (0.005, 0.995)  # quantiles of the rates between which a menu has designs


def full_power_rates(env: gym.Env[Any, Any], seeds: Iterable[int]) -> Floats:
    """Uplink rates in bit/s (eq. 1) at full power in the blocks of some worlds of Layerwise-v0, which is reset."""
    core: Any = env.unwrapped
    scenario: LayerwiseScenario = core.scenario
    gains = []
    for seed in seeds:
        core.reset(seed=seed)
        gains.append(core.world().gains)
    power, link = scenario.power_max, (scenario.bandwidth, scenario.noise_density)
    return np.array([transmission_rate(power, gain, *link) for gain in np.concatenate(gains).tolist()])


def _problem_at(scenario: LayerwiseScenario, rate: float) -> LayerwiseProblem:
    """The problem in which full power has a rate in bit/s."""
    snr = snr_of_rate(rate, scenario.bandwidth)
    return scenario.problem(snr * scenario.noise_density * scenario.bandwidth / scenario.power_max)


def _ratios(problem: LayerwiseProblem, designs: Sequence[Floats]) -> list[list[float]]:
    """Ratios of designs as plain values, of which `_check_design` makes the same designs."""
    ratios: list[list[float]] = ratios_of(problem.network, designs).tolist()
    return ratios


def _check_design(field: str, design: ArrayLike, env: gym.Env[Any, Any]) -> Floats:
    """Designs of ratios, if they are some of the environment's network."""
    core: Any = env.unwrapped
    rows = make_designs(core.scenario.network, np.array(design, np.float64, ndmin=2))
    check_designs(core.scenario.network, rows)
    if not len(rows):
        raise InvalidInputError(field, design, "Give at least one.")
    return rows


class _LayerwisePolicy(ProblemPolicy):
    """A policy of Layerwise-v0."""

    solves: ClassVar[type] = LayerwiseProblem
    home: ClassVar[str] = "Layerwise-v0"


class _Prepared(_LayerwisePolicy):
    """A policy whose designs are found once for a channel, and never during an episode."""

    option: ClassVar[str]
    """Name of the option that holds what was prepared."""

    def __init__(self, env: gym.Env[Any, Any] | None, given: Any) -> None:
        self._given = given
        self._rows: Floats = np.empty((0, 0))
        super().__init__(env)

    @abc.abstractmethod
    def prepare(self, scenario: LayerwiseScenario, rates: Floats) -> list[Any]:
        """Ratios of designs for a channel with such rates at full power in bit/s, as plain values of the option."""

    @classmethod
    def tune(
        cls, options: Mapping[str, Any], environment: str, env: Mapping[str, Any], seeds: Iterable[int]
    ) -> dict[str, Any]:
        """Options with designs for the channel of the worlds of some seeds, where they leave these open."""
        if options.get(cls.option) is not None:
            return dict(options)
        made = gym.make(environment, **dict(env))
        core: Any = made.unwrapped
        policy = cls(**options)
        policy.check(core)
        return {**options, cls.option: policy.prepare(core.scenario, full_power_rates(made, islice(seeds, _WORLDS)))}

    def bind(self, env: gym.Env[Any, Any]) -> Self:
        """Act in this environment from now on; prepares the designs where none were given."""
        super().bind(env)
        given = self._given
        if given is None:
            core: Any = env.unwrapped
            # of its own: the caller's environment keeps its episode
            other = gym.make(core.spec.id, **core.spec.kwargs)
            given = self.prepare(core.scenario, full_power_rates(other, range(FIRST_SEED, FIRST_SEED + _WORLDS)))
        self._rows = _check_design(self.option, given, env)
        return self


class LayerwiseRival(_Prepared):
    """One design for all tasks: what a scheme of the paper chooses for the channel's mean rate.

    Parameters
    ----------
    env : gymnasium.Env, optional
    name : str
        A key of `baselines.layerwise.rivals.RIVALS`.
    seed : int
        Of the scheme's search.
    design : sequence of float, shape (G + 4,), optional
        Ratios of the design, if it is known already, see `coinfer_gym.layerwise.designs.make_designs`.

    Raises
    ------
    InvalidInputError
        If there is no such scheme.
    """

    option: ClassVar[str] = "design"

    def __init__(
        self, name: str, seed: int = 0, design: Sequence[float] | None = None, env: gym.Env[Any, Any] | None = None
    ) -> None:
        if str(name) not in RIVALS:
            raise InvalidInputError("name", name, nearest(str(name), RIVALS))
        self._name, self._seed = str(name), check_whole("seed", seed, 0)
        super().__init__(env, design)

    def prepare(self, scenario: LayerwiseScenario, rates: Floats) -> list[float]:
        """The design for the mean rate, within the scenario's energy budget."""
        problem = _problem_at(scenario, float(rates.mean()))
        return _ratios(problem, [problem.row(RIVALS[self._name](problem, self._seed).solution)])[0]

    def solve(self, problem: LayerwiseProblem) -> LayerwiseDecision:
        """The design, whatever the task."""
        return problem.decision(self._rows[0])


class LayerwiseStatic(LayerwiseRival):
    """One design for all tasks: that of the framework for the mean rate, as the paper deploys it.

    Parameters
    ----------
    env : gymnasium.Env, optional
    seed, design
        As for `LayerwiseRival`.
    """

    def __init__(
        self, seed: int = 0, design: Sequence[float] | None = None, env: gym.Env[Any, Any] | None = None
    ) -> None:
        super().__init__("Proposed", seed, design, env)


class LayerwiseReoptimize(_LayerwisePolicy):
    """The search of Mu et al. (``quantum_mqhoa_5``) at every task, with its gain and what is left of its budgets.

    Parameters
    ----------
    env : gymnasium.Env, optional
    evaluations : int
        Designs that it looks at for a task at most.
    seed : int
        Of the search, the same for every task.
    """

    def __init__(self, evaluations: int = 5000, seed: int = 0, env: gym.Env[Any, Any] | None = None) -> None:
        self._framework = Framework(
            optimizer=OPTIMIZERS["quantum_mqhoa_5"],
            evaluations=check_whole("evaluations", evaluations, 1, 10**9),
            name="layerwise_reoptimize",
        )
        self._seed = check_whole("seed", seed, 0)
        super().__init__(env)

    def solve(self, problem: LayerwiseProblem) -> LayerwiseDecision:
        """The best design found; raises `InvalidInputError` if none is accurate enough."""
        return self._framework.optimize(problem, self._seed).solution


class LayerwiseExact(_LayerwisePolicy):
    """The proven optimum of every task, to a thousandth of its delay, by branch and bound.

    Parameters
    ----------
    env : gymnasium.Env, optional
    """

    def solve(self, problem: LayerwiseProblem) -> LayerwiseDecision:
        """The optimum of the task."""
        return solve_exact(problem, tolerance=1e-3)


class LayerwiseMenu(_Prepared):
    """The best for each task of designs that are optimal at some rates, with exact power and clock.

    The unpruned network at each cut is always on the menu, so that something of it is accurate enough.

    Parameters
    ----------
    env : gymnasium.Env, optional
    rates : int
        Rates to find the optimum of, on a logarithmic grid over those of the channel at full power.
    slack : float
        What is added to every retained ratio, if it is not 0; the compression then moves amid those that are accurate
        enough. An optimum lies on the edge of these, and an agent that imitates it needs room for its errors. It must
        be less than the range of the ratios, 1 minus the scenario's ``retained_min``.
    designs : sequence of float, shape (n, G + 4), optional
        Ratios of the menu, if it is known already, see `coinfer_gym.layerwise.designs.make_designs`; power and clock
        are without effect.
    """

    option: ClassVar[str] = "designs"

    def __init__(
        self,
        rates: int = 24,
        slack: float = 0.0,
        designs: Sequence[Sequence[float]] | None = None,
        env: gym.Env[Any, Any] | None = None,
    ) -> None:
        self._count = check_whole("rates", rates, 1, 1000)
        self._slack = check_number("slack", slack, 0.0, 1.0)
        super().__init__(env, designs)

    def prepare(self, scenario: LayerwiseScenario, rates: Floats) -> list[list[float]]:
        """Optimal designs for a grid of rates, each once."""
        if self._slack >= 1.0 - scenario.retained_min:
            remedy = f"Give less than {1.0 - scenario.retained_min:g}: it leaves nothing pruned."
            raise InvalidInputError("slack", self._slack, remedy)
        found = []
        low, high = np.quantile(rates, _SPAN).tolist()
        for rate in np.geomspace(low, high, self._count):
            problem = _problem_at(scenario, float(rate))
            solution = solve_exact(problem)
            if solution.accuracy >= problem.accuracy_min:
                found.append(self._loosen(problem, problem.row(solution)))
        unpruned = ParametersGenerator(problem).unpruned()
        unpruned[:, POWER:] = problem.power_max, problem.frequency_device_max
        known = {tuple(row[:POWER]): row for row in [*found, *unpruned]}
        return _ratios(problem, list(known.values()))

    def _loosen(self, problem: LayerwiseProblem, row: Floats) -> Floats:
        """The design with larger ratios, and a compression amid those with which it is accurate enough."""
        if self._slack == 0.0:
            return row
        looser = ratios_of(problem.network, row[None])
        looser[:, 1:COMPRESSION] = np.minimum(1.0, looser[:, 1:COMPRESSION] + self._slack)
        if looser[0, COMPRESSION] < 1.0:
            looser = np.repeat(looser, len(_COMPRESSIONS), axis=0)
            looser[:, COMPRESSION] = np.minimum(1.0, looser[:, COMPRESSION] * _COMPRESSIONS)
        rows = make_designs(problem.network, looser)
        enough = problem.evaluate(rows).accuracy >= problem.accuracy_min
        ends = np.flatnonzero(np.diff(enough, prepend=False, append=False)).reshape(-1, 2)
        widths = np.diff(ends)[:, 0]
        wide = ends[widths >= min(_WIDE, widths.max(initial=0))]
        return select_best(problem, rows[(wide.sum(axis=1) - 1) // 2]) if len(wide) else row

    def solve(self, problem: LayerwiseProblem) -> LayerwiseDecision:
        """The fastest of the designs within accuracy and energy budget."""
        return problem.decision(select_best(problem, self._rows.copy()))
