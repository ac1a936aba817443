"""Delay against the ratio of signal to noise, AlexNet on a Raspberry Pi 3B+ (Mu et al., Fig. 11, claim M7).

The rate follows from the ratio by eq. (1); the paper does not print the bandwidth, which is set so that the 4G link's
rate comes at `REFERENCE_DB`, the mean of the shipped 4G scenarios.

Without a codec the feature is sent as bits, without errors, and costs no accuracy. An encoder's output is sent as it is
and arrives with noise: the accuracy of designs with a codec comes from a predictor of networks that were tuned with
such noise. A scheme that has a codec takes the better of both.

Every scheme is judged twice: with the cuts of eq. (7), and with all cuts. All_Server sends the image in any case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from baselines.layerwise.cia import cia
from baselines.layerwise.designs import ParametersGenerator, select_best
from baselines.layerwise.framework import Framework
from coinfer_gym import InvalidInputError
from coinfer_gym.layerwise.designs import COMPRESSION, SENT, ratios_of
from coinfer_gym.layerwise.network import load_network
from coinfer_gym.layerwise.predictor import (
    RegressionPredictor,
    load_regression_predictor,
    shipped_regression_predictors,
)
from coinfer_gym.layerwise.problem import LayerwiseProblem
from coinfer_gym.physics import from_db
from studies.drawing import legend_below, panels
from studies.figure import Floats, Pictures, Study
from studies.mu import schemes
from studies.mu.rates import SAME, judge
from studies.mu.schemes import ALL, DEVICES, EQ_7, LINKS, METHODS, OWN, UNPRUNED, Choice, problem_at, range_text

NETWORK, DEVICE = "alexnet", "rpi3b"
PREDICTOR = f"{NETWORK}-noise"
SNRS_DB = tuple(float(value) for value in range(0, 51, 5))
REFERENCE_DB = 10.0
EVALUATIONS = 50_000
"""Designs with a codec that are looked at for each cut."""

COMMANDS = (
    f"python -m studies.mu.cifar.sweep --noise --weights FOLDER --output {PREDICTOR}.csv; "
    f"python -m studies.mu.cifar.fit {PREDICTOR}.csv "
    f"--output coinfer_gym/layerwise/predictors/{PREDICTOR}.json"
)
PAPER = {"second": (1.02, 1.5), "worst": (11.0, 25.5)}

_WITHOUT = {OWN: "Prune_Partition", "BottleNet++": "Neurosurgeon", "CIA": "CIA"}
"""What a scheme with a codec does without it."""

_PLAIN = tuple(method for method in METHODS if _WITHOUT.get(method, method) == method)
"""Schemes that do without a codec."""

Choices = dict[str, list[Choice]]
"""By scheme, one for every ratio."""


class Data(NamedTuple):
    """What every scheme chooses at every ratio of signal to noise, by the cuts that it has."""

    snrs_db: tuple[float, ...]
    choices: dict[str, Choices]


class _WithCodec(ParametersGenerator):
    """Designs of cuts behind groups, which send fewer channels than are kept before the cut."""

    def designs(self, points: Floats) -> Floats:
        designs = super().designs(points)
        groups = self._groups_sent[designs[:, 0].astype(int)]
        designs[:, SENT] = np.minimum(designs[:, SENT], designs[np.arange(len(designs)), groups] - 1.0)
        return designs


def compute(
    snrs_db: Sequence[float] = SNRS_DB,
    reference_db: float = REFERENCE_DB,
    evaluations: int = EVALUATIONS,
    predictor: RegressionPredictor | None = None,
    seed: int = 0,
) -> Data:
    """What every scheme chooses; the predictor of the noisy channel is the shipped one when left out."""
    noisy = predictor or shipped_predictor()
    choices: dict[str, Choices] = {cuts: {method: [] for method in METHODS} for cuts in (EQ_7, ALL)}
    for snr_db in tqdm(snrs_db, desc="noise", unit="SNR", disable=None):
        digital, analog = problems_at(snr_db, reference_db, noisy)
        coded = {method: _choose_coded(analog, method, evaluations, seed) for method in _WITHOUT}
        for cuts, found in choices.items():
            allowed = schemes.with_cuts(digital, cuts)
            uncoded = {each: _choose_plain(allowed, each, evaluations, seed) for each in _PLAIN}
            for method, chosen in found.items():
                plain = uncoded[_WITHOUT.get(method, method)]
                chosen.append(min(plain, coded.get(method, plain), key=lambda each: each.delay))
    return Data(tuple(snrs_db), choices)


def shipped_predictor() -> RegressionPredictor:
    """The shipped predictor of the noisy channel; an error says how to make it."""
    if PREDICTOR not in shipped_regression_predictors():
        raise InvalidInputError("predictor", PREDICTOR, f"There is none yet. Make it with: {COMMANDS}")
    return load_regression_predictor(PREDICTOR)


def problems_at(
    snr_db: float, reference_db: float, predictor: RegressionPredictor
) -> tuple[LayerwiseProblem, LayerwiseProblem]:
    """Problems at a ratio of signal to noise, of designs without a codec and with one."""
    bandwidth = LINKS["4g"] / math.log2(1.0 + from_db(reference_db))
    base = problem_at(NETWORK, DEVICE, LINKS["4g"])
    gain = from_db(snr_db) * base.noise_density * bandwidth / base.power_max
    digital = replace(base, bandwidth=bandwidth, gain=gain)
    return digital, replace(digital, predictor=predictor, snr_db=snr_db)


def _choice(problem: LayerwiseProblem, row: Floats, evaluations: int, accuracy: float | None = None) -> Choice:
    outcome = problem.evaluate(row[None])
    accuracy = float(outcome.accuracy[0]) if accuracy is None else accuracy
    return Choice(float(outcome.delay[0]), int(row[0]), accuracy, evaluations, math.nan, tuple(row.tolist()))


def _choose_plain(problem: LayerwiseProblem, method: str, evaluations: int, seed: int) -> Choice:
    """The fastest accurate design without a codec."""
    if method in ("All_Local", "All_Server"):
        return schemes.choose(problem, method, seed)
    as_it_is = method in UNPRUNED
    posed = schemes.without_accuracy(problem) if as_it_is else problem
    if method == "CIA":
        generator = partial(ParametersGenerator, compress=False)
        rows = [schemes.accurate(problem, lambda: cia(problem, seed, generator))]
    else:
        rows = [schemes.choose_at(posed, method, cut, evaluations, seed) for cut in problem.allowed_cuts]
    unpruned = problem.predictor.unpruned if as_it_is else None
    choices = [_choice(problem, row, evaluations, unpruned) for row in rows if row is not None]
    if not as_it_is:  # the unpruned network is always accurate enough
        choices.append(_choose_plain(problem, "Neurosurgeon", evaluations, seed))
    return min(choices, key=lambda each: each.delay)


def _choose_coded(problem: LayerwiseProblem, method: str, evaluations: int, seed: int) -> Choice:
    """The fastest accurate design with a codec; one of infinite delay if there is none."""
    if method == "CIA":
        rows = [schemes.accurate(problem, lambda: cia(problem, seed, _WithCodec))]
    elif method == OWN:
        framework = Framework(_WithCodec, evaluations=evaluations * len(problem.allowed_cuts))
        rows = [schemes.accurate(problem, lambda: framework.optimize(problem, seed))]
    else:
        designs = ParametersGenerator(problem, prune=False).compressed()
        row = select_best(problem, designs[ratios_of(problem.network, designs)[:, COMPRESSION] < 1.0])
        rows = [row] if problem.evaluate(row[None]).accuracy[0] >= problem.accuracy_min else []
    choices = [_choice(problem, row, evaluations) for row in rows if row is not None]
    return min(choices, key=lambda each: each.delay, default=Choice(math.inf, -1, math.nan, 0, math.nan, ()))


def verdict(data: Data) -> dict[str, Any]:
    """What the choices say about claim M7; with the cuts of eq. (7) All_Server is not among the others."""
    holds: dict[str, bool] = {}
    found, measured = [], {}
    snrs_db = data.snrs_db
    for title, by_method in data.choices.items():
        values = {method: np.array([choice.delay for choice in parts]) for method, parts in by_method.items()}
        server = values["All_Server"] if title == ALL else values.pop("All_Server")
        part = judge(values, snrs_db)
        second, worst = schemes.ratio_range(part["second"]), schemes.ratio_range(part["worst"])
        own = zip(snrs_db, by_method[OWN], strict=True)
        coded = [snr for snr, choice in own if choice.design and _compression(choice) < 1.0]
        holds |= {
            f"M7 ({title}): the proposed scheme has the lowest delay at every SNR": second[0] >= 1.0 - SAME,
            f"M7 ({title}): it leads the second best by the paper's least at every SNR": second[0]
            >= PAPER["second"][0],
            f"M7 ({title}): it leads the worst by the paper's least at every SNR": worst[0] >= PAPER["worst"][0],
        }
        found += [
            f"M7 ({title}): over the second best {range_text(second)}; paper {range_text(PAPER['second'])}.",
            f"M7 ({title}): over the worst {range_text(worst)}; paper {range_text(PAPER['worst'])}.",
            f"M7 ({title}): over All_Server {range_text(server / values[OWN])}.",
            f"M7 ({title}): the proposed scheme uses a codec at {coded} dB.",
        ]
        measured[title] = part | {"paper": PAPER, "with_codec_at": coded}
    digital, analog = problems_at(snrs_db[0], REFERENCE_DB, shipped_predictor())
    used = schemes.predictors_used({"without a codec": digital, "with a codec": analog})
    settings = {"bandwidth": digital.bandwidth, "predictors": used}
    return {"holds": holds, "found": found, "measured": measured, "limits": {"same": SAME}, "settings": settings}


def _compression(choice: Choice) -> float:
    """Share that is sent of the channels before the cut."""
    return float(ratios_of(load_network(NETWORK), [choice.design])[0, COMPRESSION])


def table(data: Data) -> list[list[Any]]:
    """All choices, the header first."""
    rows: list[list[Any]] = [["cuts", "scheme", "snr_db", "delay", "cut", "compression", "accuracy"]]
    for title, by_method in data.choices.items():
        for method, parts in by_method.items():
            for snr_db, choice in zip(data.snrs_db, parts, strict=True):
                share = _compression(choice) if choice.design else ""
                rows.append([title, method, snr_db, choice.delay, choice.cut, share, choice.accuracy])
    return rows


def draw(data: Data) -> Pictures:
    """Delays against the ratio of signal to noise, a panel for each choice of cuts."""
    title = f"AlexNet, {DEVICES[DEVICE]}, noisy channel (after Mu et al., Fig. 11)"
    figure, axes = panels(title, (5.2 * len(data.choices), 5.2), 1, len(data.choices), sharey=True)
    for axis, (cuts, by_method) in zip(axes[0], data.choices.items(), strict=True):
        for method, parts in by_method.items():
            axis.plot(data.snrs_db, [1e3 * choice.delay for choice in parts], label=method, **schemes.line_look(method))
        axis.set_yscale("log")
        axis.set_xlabel("SNR (dB)", fontsize=9)
        axis.set_title(cuts, fontsize=10)
    axes[0, 0].set_ylabel("delay (ms)", fontsize=9)
    legend_below(figure, axes[0, 0], 4, fontsize=8.5)
    return {"": figure}


STUDIES = (Study("layerwise_noise", compute, table, verdict, draw),)
