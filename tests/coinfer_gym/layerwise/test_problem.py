"""The latency problem: single designs and many, what counts as feasible, and what is said of bad input."""

import dataclasses
import math

import numpy as np
import pytest

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.layerwise.designs import make_designs
from coinfer_gym.layerwise.network import Block, Group, Layer, Network
from coinfer_gym.layerwise.predictor import RegressionPredictor, feature_names
from coinfer_gym.layerwise.problem import LayerwiseDecision, LayerwiseProblem
from coinfer_gym.layerwise.trees import LEAF
from tests.coinfer_gym.layerwise.hardware import CONSTANTS

NETWORK = Network(
    "tiny",
    (Group("a", 8), Group("b", 6)),
    (
        Block("conv", (Layer("conv", 3, "a", 4, 4, 3),), "a", 16),
        Block("fc", (Layer("fc", "a", "b", area=16),), "b", 1, True),
        Block("end", (Layer("fc", "b", 10),), 10, 1, True),
    ),
    48,
)
DESIGN = LayerwiseDecision(1, (0.5, 1.0), 0.5, 0.2, 5e5)


def predictor(noisy=False):
    """0.5, and 0.3 more where half of group a is kept, and 0.1 more where over 2^5 values are sent (or 20 dB)."""
    names = feature_names(["a", "b"], noisy)
    last = names.index("snr_db") if noisy else names.index("log2_values")
    tests = np.array([0, LEAF, LEAF, last, LEAF, LEAF])
    numbers = np.array([0.4, 0.0, 0.3, 20.0 if noisy else 5.0, 0.0, 0.1])
    return RegressionPredictor("mine", "tiny", 0.9, names, "Tree", {}, 0.5, np.zeros(len(names)), tests, numbers)


def make(**changes):
    given = {
        "network": NETWORK,
        "predictor": predictor(),
        "gain": 0.003,
        "delay_budget": math.inf,
        "energy_budget": math.inf,
        "accuracy_min": 0.85,
        **CONSTANTS,
    }
    return LayerwiseProblem(**(given | changes))


def random_rows(count=50):
    rng = np.random.default_rng(1)
    ratios = [
        rng.integers(0, 4, count),
        rng.uniform(0.05, 1.0, (count, 3)),
        rng.uniform(0.01, 0.5, count),
        rng.uniform(1e4, 1e6, count),
    ]
    return make_designs(NETWORK, np.column_stack(ratios))


def test_one_design_is_what_its_row_is():
    problem, rows = make(), random_rows()
    outcomes = problem.evaluate(rows)
    for i, row in enumerate(rows):
        solution = problem.evaluate(problem.decision(row))
        assert (solution.delay, solution.energy) == (outcomes.delay[i], outcomes.energy[i])
        assert (solution.accuracy, solution.feasible) == (outcomes.accuracy[i], outcomes.feasible[i])
        assert problem.row(solution).tolist() == row.tolist()


def test_sums_and_prediction_by_hand():
    solution = make().evaluate(DESIGN)
    a, sent = 4, 2
    device = 2 * 16 * 28 * a + 2 * 16 * (a + 1) * sent
    server = 2 * 16 * (sent + 1) * a + 16 * a + (2 * 16 * a - 1) * 6 + (2 * 6 - 1) * 10
    tau = 16 * sent * 32 / (2e5 * math.log2(1 + 0.2 * 0.003 / 2e-4))
    assert solution.delay == pytest.approx(device / (5e5 * 0.25) + tau + server / (3e6 * 8), rel=1e-12)
    energy = 1.1 * 2e-18 * 5e5**2 * device / 0.25 + 0.2 * tau + 1.4 * 3e-19 * 9e12 * server / 8
    assert solution.energy == pytest.approx(energy, rel=1e-12)
    assert solution.accuracy == pytest.approx(0.8)  # 32 values are not more than 2^5
    wider = make().evaluate(dataclasses.replace(DESIGN, compression=0.75))
    assert wider.accuracy == pytest.approx(0.9)


@pytest.mark.parametrize("field", ["delay_budget", "energy_budget", "accuracy_min"])
def test_every_limit_counts(field):
    problem = make(accuracy_min=0.1)
    solution = problem.evaluate(DESIGN)
    assert solution.feasible
    value, worse = {
        "delay_budget": (solution.delay, 0.999),
        "energy_budget": (solution.energy, 0.999),
        "accuracy_min": (solution.accuracy, 1.001),
    }[field]
    assert dataclasses.replace(problem, **{field: value}).evaluate(DESIGN).feasible
    assert not dataclasses.replace(problem, **{field: value * worse}).evaluate(DESIGN).feasible


def test_without_a_channel_only_the_device_ends():
    problem = make(gain=0.0)
    assert problem.evaluate(DESIGN).delay == math.inf
    assert math.isfinite(problem.evaluate(dataclasses.replace(DESIGN, cut=3)).delay)


def test_bounds_are_those_of_every_control():
    lower, upper = make().bounds()
    assert lower.tolist() == [0, 0.1, 0.1, 1 / 8, 0.01, 1e4]
    assert upper.tolist() == [3, 1, 1, 1, 0.5, 1e6]


def test_rate_at_full_power():
    assert make().rate == pytest.approx(2e5 * math.log2(1 + 0.5 * 0.003 / 2e-4), rel=1e-12)


def test_a_noisy_channel_is_predicted_at_its_ratio():
    accuracy = [make(predictor=predictor(True), snr_db=snr).evaluate(DESIGN).accuracy for snr in (10.0, 30.0)]
    assert accuracy == pytest.approx([0.8, 0.9])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bandwidth": 0.0}, "bandwidth"),
        ({"kappa_server": -1.0}, "kappa_server"),
        ({"power_max": math.nan}, "power_max"),
        ({"delay_budget": 0.0}, "delay_budget"),
        ({"energy_budget": math.nan}, "energy_budget"),
        ({"gain": -1e-9}, "gain"),
        ({"gain": math.nan}, "gain"),
        ({"predictor": predictor(True)}, "features.*without noise"),
        ({"snr_db": 10.0}, "features.*with noise"),
    ],
)
def test_a_bad_problem(changes, said):
    with pytest.raises(InvalidInputError, match=said):
        make(**changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cut": 4}, "cut.*0..3"),
        ({"cut": -1}, "cut"),
        ({"cut": 0.5}, "cut"),
        ({"retained": (0.0, 1.0)}, "retained of a"),
        ({"retained": (1.0, 1.5)}, "retained of b"),
        ({"retained": (1.0, math.nan)}, "retained of b"),
        ({"retained": (1.0,)}, "decision.*retained of a"),
        ({"compression": 0.0}, "compression"),
        ({"power": 0.0}, "power"),
        ({"frequency": -1.0}, "frequency"),
    ],
)
def test_a_bad_decision(changes, said):
    problem = make()
    decision = dataclasses.replace(DESIGN, **changes)
    with pytest.raises(InvalidInputError, match=said):
        problem.evaluate(decision)
