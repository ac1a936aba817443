"""What the figures of Mu et al. share: problems by rate, the schemes' choices, designs cut by cut, and their looks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from baselines.journal import digest, digest_source
from baselines.layerwise.designs import ParametersGenerator
from baselines.layerwise.framework import Chosen, Framework
from baselines.layerwise.rivals import RIVALS, fpgm_predictor
from baselines.output import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from coinfer_gym import InvalidInputError
from coinfer_gym.files import read_json, write_text
from coinfer_gym.layerwise.network import Network
from coinfer_gym.layerwise.predictor import RegressionPredictor, feature_names
from coinfer_gym.layerwise.problem import LayerwiseProblem
from coinfer_gym.layerwise.scenario import load_layerwise_scenario
from coinfer_gym.physics import snr_of_rate
from studies.figure import Floats

EQ_7, ALL = "cuts of eq. (7)", "all cuts"
"""Cuts that schemes may choose: those with computation on both sides, the default; or also the ends, to send the image
itself or to stay on the device. All_Server and All_Local stand there in any case."""

NETWORKS = {"alexnet": "AlexNet", "regnet": "RegNetX-400MF"}
DEVICES = {"rpi3b": "Raspberry Pi 3B+", "rpi4b": "Raspberry Pi 4B", "tk1": "Jetson TK1"}
LINKS = {"3g": 1.19e6, "4g": 11.22e6, "5g": 52.24e6, "wifi": 54.19e6}
"""Uplink rates in bit/s (Table III)."""
LINK_TITLES = {"3g": "3G", "4g": "4G", "5g": "5G", "wifi": "WiFi"}

METHODS = tuple(RIVALS)
OWN = "Proposed"
UNPRUNED = ("All_Local", "All_Server", "Neurosurgeon")
"""Schemes that leave the network as it is, so that its accuracy is measured, not predicted."""

LOOKS: dict[str, dict[str, Any]] = {
    "All_Local": {"color": GREY, "linestyle": ":", "marker": "s"},
    "All_Server": {"color": BLACK, "linestyle": ":", "marker": "o"},
    "Neurosurgeon": {"color": ORANGE, "linestyle": "--", "marker": "^"},
    "Prune_Partition": {"color": GREEN, "linestyle": "-.", "marker": "D"},
    "2_Step Pruning": {"color": SKY, "linestyle": "--", "marker": "v"},
    "FPGM": {"color": PURPLE, "linestyle": "-.", "marker": "P"},
    "BottleNet++": {"color": BLUE, "linestyle": "--", "marker": "X"},
    "CIA": {"color": "#882255", "linestyle": "-", "marker": "*"},
    "Proposed": {"color": VERMILION, "linestyle": "-", "marker": "o"},
}
"""Colour, line and marker of each scheme."""

_SOURCES = ("baselines/layerwise", "coinfer_gym/layerwise")


class Choice(NamedTuple):
    """What a scheme chose for a problem."""

    delay: float  # in s; NaN if the scheme found no accurate design
    cut: int  # -1 if nothing was found
    accuracy: float  # predicted; measured if the network is left as it is
    evaluations: int
    seconds: float  # wall-clock time
    design: tuple[float, ...]  # row of `coinfer_gym.layerwise.designs.SENT`; empty if nothing was found


def problem_at(network: str, device: str, rate: float, link: str = "4g", cuts: str = EQ_7) -> LayerwiseProblem:
    """Problem without budgets of a shipped scenario, with the gain at which full power has a rate in bit/s."""
    scenario = load_layerwise_scenario(f"{network}-{device}-{link}")
    gain = snr_of_rate(rate, scenario.bandwidth) * scenario.noise_density * scenario.bandwidth / scenario.power_max
    return with_cuts(scenario.problem(gain, math.inf, math.inf), cuts)


def with_cuts(problem: LayerwiseProblem, cuts: str) -> LayerwiseProblem:
    """The problem with the cuts of `EQ_7` or with `ALL`."""
    return replace(problem, cuts=(1, problem.network.cuts - 2) if cuts == EQ_7 else None)


def without_accuracy(problem: LayerwiseProblem, network: Network | None = None) -> LayerwiseProblem:
    """The problem of a network, its own or another, whose accuracy plays no part: it is predicted as 1."""
    network = problem.network if network is None else network
    constant = linear_predictor(network, 1.0, np.zeros(0))
    return replace(problem, network=network, predictor=constant, accuracy_min=0.0, snr_db=None)


def linear_predictor(network: Network, base: float, slopes: Floats) -> RegressionPredictor:
    """A predictor whose accuracy rises with the retained ratios at given slopes, and does not with anything else."""
    features = feature_names([group.name for group in network.groups], noisy=False)
    coefficients = np.concatenate([slopes, np.zeros(len(features) - len(slopes))])
    none = np.empty(0, np.int64), np.empty(0)
    return RegressionPredictor("made up", network.name, 1.0, features, "Linear", {}, base, coefficients, *none)


def choose(problem: LayerwiseProblem, method: str, seed: int = 0) -> Choice:
    """What a scheme of `RIVALS` chooses.

    The accuracy of the unpruned network is measured. So schemes that leave it as it is need no prediction, and the
    others may fall back on it if the predictor allows nothing better.
    """
    problem = _as_pruned(problem, method)
    as_it_is = method in UNPRUNED
    found = if_accurate(lambda: RIVALS[method](without_accuracy(problem) if as_it_is else problem, seed))
    choice = Choice(math.nan, -1, math.nan, 0, math.nan, ())
    if found is not None:
        solution, row = found.solution, tuple(problem.row(found.solution).tolist())
        accuracy = problem.predictor.unpruned if as_it_is else solution.accuracy
        choice = Choice(solution.delay, solution.cut, accuracy, found.evaluations, found.seconds, row)
    if as_it_is:
        return choice
    unpruned = choose(problem, "Neurosurgeon", seed)
    if choice.delay <= unpruned.delay:
        return choice
    return unpruned._replace(evaluations=choice.evaluations, seconds=choice.seconds)


def _as_pruned(problem: LayerwiseProblem, method: str) -> LayerwiseProblem:
    """The problem with the predictor of networks that are pruned as by the scheme, if there is one."""
    own = fpgm_predictor(problem) if method == "FPGM" else None
    return problem if own is None else replace(problem, predictor=own)


class Store:
    """Choices that take long, kept in a JSON file as soon as they are there.

    They are kept under a digest of the problem and of the schemes' sources: a change of either makes them anew.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._choices: dict[str, list[Any]] = read_json(path, "work") if path.is_file() else {}
        rows = self._choices.values() if isinstance(self._choices, dict) else [None]
        if any(not isinstance(each, list) or len(each) != len(Choice._fields) for each in rows):
            raise InvalidInputError("work", str(path), "The file is damaged: delete it.")

    def choose(self, problem: LayerwiseProblem, method: str, seed: int = 0) -> Choice:
        """As the function of that name."""
        key = self._key(_as_pruned(problem, method), method, seed)
        if key not in self._choices:
            self._choices[key] = list(choose(problem, method, seed))
            write_text(self._path, json.dumps(self._choices))
        *numbers, design = self._choices[key]
        return Choice._make([*numbers, tuple(design)])

    def _key(self, problem: LayerwiseProblem, method: str, seed: int) -> str:
        posed = (problem.hardware.tobytes().hex(), problem.network.to_dict(), problem.predictor.to_dict(), problem.cuts)
        settings = (problem.gain, problem.snr_db, problem.accuracy_min, problem.delay_budget, problem.energy_budget)
        return digest([*posed, *settings, method, seed, *map(digest_source, _SOURCES)])


def choose_at(problem: LayerwiseProblem, method: str, cut: int, evaluations: int, seed: int = 0) -> Floats | None:
    """A scheme's best design at one cut, shape (G + 4,); None if none is accurate enough."""
    problem = replace(problem, cuts=(cut, cut))
    if method not in ("Prune_Partition", OWN):
        return accurate(problem, lambda: RIVALS[method](problem, seed))
    compress = method == OWN and 0 < cut < problem.network.cuts - 1
    framework = Framework(partial(ParametersGenerator, compress=compress), evaluations=evaluations)
    return accurate(problem, lambda: framework.optimize(problem, seed))


def accurate(problem: LayerwiseProblem, choose: Callable[[], Chosen]) -> Floats | None:
    """The design that is chosen, shape (G + 4,); None if none is accurate enough."""
    found = if_accurate(choose)
    return None if found is None else problem.row(found.solution)


def if_accurate(choose: Callable[[], Chosen]) -> Chosen | None:
    """What is chosen; None if no design is accurate enough."""
    try:
        return choose()
    except InvalidInputError as error:
        if error.field != "accuracy_min":
            raise
        return None


def ratio_range(values: Iterable[float]) -> list[float]:
    """Smallest and largest of some ratios; NaN if there is none."""
    numbers = [value for value in values if not math.isnan(value)]
    return [min(numbers), max(numbers)] if numbers else [math.nan, math.nan]


def range_text(values: Iterable[float]) -> str:
    """Smallest and largest of some ratios as ``1.2 to 3.4x``."""
    low, high = ratio_range(values)
    return f"{low:.3g}x and more" if math.isinf(high) else f"{low:.3g} to {high:.3g}x"


def predictors_used(problems: Mapping[str, LayerwiseProblem]) -> dict[str, str]:
    """Name and description of the predictor of each problem, for a verdict."""
    return {name: f"{each.predictor.name}: {each.predictor.description}" for name, each in problems.items()}


def line_look(method: str) -> dict[str, Any]:
    """Look of a scheme's curve. The proposed scheme is wide and pale: a curve on top of it is equally fast."""
    wide = {"linewidth": 4.0, "alpha": 0.45, "markersize": 7.0} if method == OWN else {"linewidth": 1.2}
    return {"markersize": 4.0} | LOOKS[method] | wide
