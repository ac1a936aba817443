"""The agent that sets ratios layer by layer: its episodes, its learning, and what it chooses."""

from dataclasses import replace

import numpy as np
import pytest

from baselines.layerwise import cia as module
from baselines.layerwise.cia import Episodes, cia
from baselines.layerwise.designs import ParametersGenerator
from baselines.layerwise.rivals import neurosurgeon
from coinfer_gym import InvalidInputError
from coinfer_gym.layerwise.problem import LayerwiseDecision
from tests.baselines.layerwise.synthetic import synthetic_problem

PROBLEM = synthetic_problem("regnet")


def episodes(problem=PROBLEM):
    return Episodes(problem, ParametersGenerator(problem))


def test_the_unpruned_network_at_its_best_cut_is_worth_nothing():
    cut = neurosurgeon(PROBLEM, 0).solution.cut
    found = episodes()
    places = np.array([[1.0] * 5 + [(cut + 0.5) / PROBLEM.network.cuts]], np.float32)
    assert found.steps == 6
    assert found.judge(places) == [0.0]
    for k in range(6):
        state = found.observe(places[:, :k])[0]
        assert (state[0], state[2]) == pytest.approx((k / 6, 0.0))
        assert 0.0 <= state.min() <= state.max() <= 1.0


def test_pruning_shows_in_the_state():
    found = episodes()
    places = np.array([[0.5, 0.25, 1.0], [1.0, 1.0, 0.0]], np.float32)
    whole = PROBLEM.network.block_flops().sum()

    def pruned(ratios):
        return 1 - PROBLEM.network.block_flops(ratios).sum() / whole

    for done, first, second in (
        (1, [0.55, 1, 1, 1], [1, 1, 1, 1]),
        (2, [0.55, 0.325, 1, 1], [1, 1, 1, 1]),
        (3, [0.55, 0.325, 1, 1], [1, 1, 0.1, 1]),
    ):
        state = found.observe(places[:, :done])
        assert state[:, 2] == pytest.approx([pruned(first), pruned(second)], rel=1e-5)
        np.testing.assert_array_equal(state[:, 4], places[:, done - 1])
        assert state[0, 1] == pytest.approx(pruned([0.1 if g == done else 1.0 for g in range(4)]), rel=1e-5)


def test_what_is_not_accurate_enough_is_worth_less_without_a_jump():
    found = episodes()
    places = np.array([[0.0] * 5 + [0.5]], np.float32)
    decision = LayerwiseDecision(13, (0.1,) * 4, 1 / 400, PROBLEM.power_max, PROBLEM.frequency_device_max)
    solution = PROBLEM.evaluate(decision)
    missing = PROBLEM.accuracy_min - solution.accuracy
    assert missing > 0.0
    unpruned = neurosurgeon(PROBLEM, 0).solution.delay
    faster = (unpruned - solution.delay) / (unpruned + solution.delay)
    lost = missing / (missing + 0.1)
    assert found.judge(places)[0] == pytest.approx((1 - lost) * faster - lost, rel=1e-5)
    assert found.best[1:-3].tolist() == [group.channels for group in PROBLEM.network.groups]
    barely = replace(PROBLEM, accuracy_min=solution.accuracy + 1e-9)
    assert episodes(barely).judge(places)[0] == pytest.approx(faster, rel=1e-5)


def test_a_cut_that_is_given_is_no_number_of_the_design():
    problem = replace(PROBLEM, cuts=(3, 3))
    found = episodes(problem)
    assert found.steps == 5
    assert found.judge(np.ones((1, 5), np.float32)) == [0.0]
    assert found.best[0] == 3.0


def test_slopes_are_those_of_finite_differences():
    generator = np.random.default_rng(0)
    layers = module._Layers(4, generator)
    x = generator.normal(size=(7, 4)).astype(np.float32)
    weight = generator.normal(size=7).astype(np.float32)
    for part in layers._weights:  # large enough for single precision
        part *= 3.0

    def value():
        return float(weight.astype(float) @ layers(x).astype(float))

    value()
    down = layers.back(weight, learn=False)
    layers._update = lambda: None
    value()
    layers.back(weight, learn=True)
    for part, slopes in (*zip(layers._weights, layers._slopes, strict=True), (x, down)):
        place = tuple(generator.integers(0, n) for n in part.shape)
        before = part[place]
        values = []
        for step in (1e-2, -1e-2):
            part[place] = before + np.float32(step)
            values.append(value())
        part[place] = before
        assert (values[0] - values[1]) / 2e-2 == pytest.approx(slopes[place], rel=2e-2, abs=1e-4)


def test_it_learns_until_it_stops_improving_and_repeats_itself(monkeypatch):
    monkeypatch.setattr(module, "ROUND", 160)
    problem = replace(PROBLEM, accuracy_min=0.75)
    first, second = (cia(problem, 1) for _ in range(2))
    assert first.solution == second.solution
    assert first.solution.feasible
    assert first.solution.delay < neurosurgeon(problem, 0).solution.delay
    assert first.history[1][-1] == first.solution.delay
    rounds, rest = divmod(first.evaluations - 1, 160)
    assert rest == 0
    # Five deviations from 0.25 to 0.0156 end in a round without progress each; all other rounds have some.
    levels = [first.history[1][first.history[0] <= 160 * k].min(initial=np.inf) for k in range(1, rounds + 1)]
    start = neurosurgeon(problem, 0).solution.delay
    before = np.minimum(start, [np.inf, *levels[:-1]])
    idle = np.minimum(levels, before) > (1.0 - module.PROGRESS) * before
    assert idle.sum() == 5
    assert idle[-1]


def test_an_accuracy_out_of_reach_is_an_error(monkeypatch):
    monkeypatch.setattr(module, "ROUND", 16)
    with pytest.raises(InvalidInputError, match="CIA found no design"):
        cia(replace(PROBLEM, accuracy_min=0.95), 0)
