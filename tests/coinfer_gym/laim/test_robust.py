"""The optimum under uncertain gain: against brute force, other designs, simulation, and the exact optimum."""

import math
from dataclasses import replace

import numpy as np
import pytest

from coinfer_gym import (
    GainBelief,
    GainPosterior,
    InvalidInputError,
    load_scenario,
    solve_exact,
    solve_exact_batch,
    solve_robust,
)
from coinfer_gym.laim.distortion import QUALITIES
from coinfer_gym.laim.robust import TOLERANCE
from coinfer_gym.physics import from_db
from coinfer_gym.world import draw
from tests.coinfer_gym.laim.test_optimum import random_decision, random_problem, with_physics_and_budgets
from tests.interpreted import samples

LATE = {"csi_delay": 0.5, "csi_noise_db": 1.0}


def random_posterior(rng, gain):
    """Anything from a narrow bell to several clusters far apart, with certain values among them."""
    centres = math.log(gain) + rng.normal(0, 3, rng.integers(1, 4))
    points = np.concatenate([c + 10 ** rng.uniform(-3, 0.5) * rng.standard_normal(40) for c in centres])
    knots = np.exp(np.sort(np.concatenate([points, rng.choice(points, rng.integers(0, 3))])))
    survival = np.sort(rng.random(knots.size))[::-1]
    survival[0], survival[-1] = 1.0, rng.choice([0.0, survival[-1]])
    return GainPosterior(knots, survival)


def try_thresholds(problem, posterior, cut, count=1500):
    """Most that is expected of the exact optima at many gains, those of the posterior among them."""
    ends = posterior.gains[0] * 0.5, posterior.gains[-1]
    gains = np.concatenate([np.geomspace(*ends, count), posterior.gains])
    rows = solve_exact_batch(problem, gains, cut=cut)
    return (np.where(rows["reason"] == 0, rows["quality"], 0.0) * posterior.probability(gains)).max()


@pytest.mark.parametrize("quality", QUALITIES)
def test_robust_optimum_is_that_of_brute_force(quality):
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(samples(60)):
        problem = random_problem(rng, quality)
        if rng.random() < 0.7:
            problem = with_physics_and_budgets(rng, problem)
        posterior = random_posterior(rng, problem.gain)
        cut = None if rng.random() < 0.5 else int(rng.integers(problem.workload.cuts))
        robust = solve_robust(problem, posterior, cut)
        expected = try_thresholds(problem, posterior, cut, samples(1500))
        assert 0.0 <= robust.gap <= 1.01 * TOLERANCE
        assert expected - robust.gap - 1e-9 <= robust.expected_quality
        if robust.feasible:
            found += robust.expected_quality > 0.0
            exact = solve_exact(replace(problem, gain=robust.threshold), robust.cut)
            assert exact.quality == robust.quality
            assert robust.probability == posterior.probability(robust.threshold)
            assert robust.expected_quality == robust.quality * robust.probability
    assert found > samples(60) / 3


@pytest.mark.parametrize("quality", QUALITIES)
def test_exact_optimum_of_a_cut_is_concave_in_the_logarithm_of_the_gain(quality):
    """What the bounds of the search stand on, with all physics."""
    rng = np.random.default_rng(4)
    compared = 0
    for _ in range(samples(80)):
        problem = with_physics_and_budgets(rng, random_problem(rng, quality))
        cut = int(rng.integers(problem.workload.cuts))
        x = np.sort(math.log(problem.gain) + rng.normal(0, 4, (20, 2)))
        rows = solve_exact_batch(problem, np.exp(np.column_stack([x, x.mean(axis=1)])), cut=cut)
        feasible = (rows["reason"][:, :2] == 0).all(axis=1)
        compared += feasible.sum()
        assert (rows["reason"][feasible, 2] == 0).all()
        q = rows["quality"][feasible]
        assert (q[:, 2] >= 0.5 * (q[:, 0] + q[:, 1]) - 1e-9).all()
    assert compared > samples(80)


def test_measured_accuracy_is_only_known_to_rise():
    rng = np.random.default_rng(5)
    scenario = load_scenario("minilm-squad", csi_delay=0.5, csi_noise_db=1.0)
    belief = GainBelief(scenario)
    for _ in range(samples(15)):
        gain = from_db(scenario.mean_gain_db + rng.normal(0, 6))
        budgets = scenario.delay_budget * rng.uniform(0.3, 1), scenario.energy_budget * rng.uniform(0.5, 1.5)
        problem, posterior = scenario.problem(gain, *budgets), belief.given(gain)
        robust = solve_robust(problem, posterior)
        assert robust.gap <= 1.01e-4
        assert robust.expected_quality >= try_thresholds(problem, posterior, None, samples(1500)) - robust.gap


@pytest.mark.parametrize("name", ["bert-multimodal", "paper-lyu", "minilm-squad", "phone-5g-2026"])
def test_perfect_channel_state_gives_the_exact_optimum_in_every_bit(name):
    scenario, rng = load_scenario(name), np.random.default_rng(6)
    belief = GainBelief(scenario)
    for _ in range(samples(60)):
        gain = from_db(scenario.mean_gain_db + rng.normal(0, 8))
        problem = scenario.problem(gain, scenario.delay_budget * rng.uniform(0.1, 1.2))
        exact, robust = solve_exact(problem), solve_robust(problem, belief.given(gain))
        for field in type(exact).__dataclass_fields__:
            assert getattr(robust, field) == getattr(exact, field) or math.isnan(getattr(exact, field))
        assert (robust.threshold, robust.probability) == (gain, 1.0)
        assert robust.expected_quality == (exact.quality if exact.feasible else 0.0)


def test_no_other_design_is_expected_to_deliver_more():
    """Random designs, and optima of other gains and tighter budgets; of each the least gain that it is in time for."""
    rng = np.random.default_rng(7)
    scenario = load_scenario("bert-multimodal", **LATE)
    gain = from_db(scenario.mean_gain_db)
    problem, posterior = scenario.problem(gain, 0.25), GainBelief(scenario).given(gain)
    best, rivals = solve_robust(problem, posterior).expected_quality, []
    for k in range(samples(300)):
        rival = random_decision(rng, problem)
        if k % 2:
            budgets = problem.delay_budget * rng.uniform(0.8, 1.0), problem.energy_budget * rng.uniform(0.8, 1.0)
            rival = solve_exact(scenario.problem(gain * 10 ** rng.normal(-0.2, 0.5), *budgets))
        low, high = np.log(1e-25), np.log(1.0)
        for _ in range(50):
            middle = 0.5 * (low + high)
            feasible = replace(problem, gain=math.exp(middle)).evaluate(rival).feasible
            low, high = (low, middle) if feasible else (middle, high)
        rivals.append(problem.evaluate(rival).quality * posterior.probability(math.exp(high)))
    assert max(rivals) <= best + 1e-4  # a budget counts as met up to an excess of 1e-5
    assert max(rivals) > 0.95 * best


def test_expected_quality_is_delivered_in_simulated_worlds():
    """Plays the design of each observed gain at what the gain turns out to be, over independent worlds."""
    scenario = load_scenario("bert-multimodal", tasks=40, **LATE)
    belief, rng = GainBelief(scenario), np.random.default_rng(8)
    delivered, expected = [], []
    for seed in range(samples(1500)):
        gains = draw(scenario, seed).gains
        clock = rng.uniform(scenario.csi_delay, scenario.block_duration * gains.size)
        now, old = (int(t / scenario.block_duration) for t in (clock, clock - scenario.csi_delay))
        observed = gains[old] * from_db(scenario.csi_noise_db * rng.standard_normal())
        robust = solve_robust(scenario.problem(1.0, 0.2), belief.given(observed))
        delivered.append(robust.quality * (gains[now] >= robust.threshold))
        expected.append(robust.expected_quality)
    difference = np.subtract(delivered, expected)
    assert abs(difference.mean()) < 4.0 * difference.std() / math.sqrt(difference.size)
    assert difference.std() > 0.05


def test_without_any_feasible_gain_the_decision_misses_by_least():
    scenario = load_scenario("bert-multimodal", **LATE)
    posterior = GainBelief(scenario).given(1e-9)
    problem = scenario.problem(1e-9, 1e-3)
    robust = solve_robust(problem, posterior)
    exact = solve_exact(replace(problem, gain=float(posterior.gains[-1])))
    assert not robust.feasible
    assert robust.expected_quality == 0.0
    assert (robust.reason, robust.cut, robust.delay_needed) == (exact.reason, exact.cut, exact.delay_needed)


@pytest.mark.parametrize(
    ("change", "field"),
    [({"problem": 3}, "problem"), ({"posterior": 1e-9}, "posterior"), ({"cut": 13}, "cut"), ({"cut": -1}, "cut")],
)
def test_bad_input_is_refused(change, field):
    scenario = load_scenario("bert-multimodal", **LATE)
    given = {"problem": scenario.problem(1e-10), "posterior": GainBelief(scenario).given(1e-10), "cut": None}
    with pytest.raises(InvalidInputError, match=field):
        solve_robust(**(given | change))
