"""The agent that sets ratios layer by layer: its environment, and what it chooses."""

from dataclasses import replace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from baselines.layerwise.cia import CompressionEnv, cia
from baselines.layerwise.rivals import neurosurgeon
from coinfer_gym import InvalidInputError
from coinfer_gym.layerwise.problem import LayerwiseDecision
from tests.baselines.layerwise.synthetic import synthetic_problem

PROBLEM = synthetic_problem("regnet")


def play(env, actions):
    """Observations, reward and row of one episode."""
    seen, done, reward = [env.reset()[0]], False, 0.0
    for action in actions:
        assert not done
        observation, reward, done, _, _ = env.step(np.array([action], np.float32))
        seen.append(observation)
    assert done
    return np.array(seen), reward


def test_gymnasium_accepts_the_environment():
    check_env(CompressionEnv(PROBLEM), skip_render_check=True)


def test_the_unpruned_network_at_its_best_cut_costs_one():
    env = CompressionEnv(PROBLEM)
    cut = neurosurgeon(PROBLEM, 0).solution.cut
    seen, reward = play(env, [1.0] * 5 + [(cut + 0.5) / PROBLEM.network.cuts])
    assert reward == -1.0
    assert env.steps == 6
    np.testing.assert_array_equal(seen[:, 2], 0.0)
    np.testing.assert_allclose(seen[:, 0], np.arange(7) / 6)


def test_pruning_shows_in_the_state():
    seen, _ = play(CompressionEnv(PROBLEM), [0.5, 0.25, 1.0, 1.0, 1.0, 0.0])
    whole = PROBLEM.network.block_flops().sum()
    for step, ratios in ((1, [0.55, 1, 1, 1]), (2, [0.55, 0.325, 1, 1])):
        assert seen[step, 2] == pytest.approx(1 - PROBLEM.network.block_flops(ratios).sum() / whole, rel=1e-6)
    np.testing.assert_allclose(seen[1:4, 4], [0.5, 0.25, 1.0])


def test_what_is_not_accurate_enough_costs_more_than_one_and_what_it_lacks():
    env = CompressionEnv(PROBLEM)
    _, reward = play(env, [0.0] * 5 + [0.5])
    decision = LayerwiseDecision(13, (0.1,) * 4, 1 / 400, PROBLEM.power_max, PROBLEM.frequency_device_max)
    accuracy = PROBLEM.evaluate(decision).accuracy
    assert accuracy < PROBLEM.accuracy_min
    assert reward == pytest.approx(-2.0 - (PROBLEM.accuracy_min - accuracy), rel=1e-12)
    assert env.best[1:-3].tolist() == [group.channels for group in PROBLEM.network.groups]


def test_the_agent_beats_the_unpruned_network_and_repeats_itself():
    problem = replace(PROBLEM, accuracy_min=0.75)
    first, second = (cia(problem, 1, steps=360) for _ in range(2))
    assert first.solution == second.solution
    assert first.solution.feasible
    assert first.solution.delay < neurosurgeon(problem, 0).solution.delay
    assert first.evaluations == 61
    assert first.history[1][-1] == first.solution.delay


def test_an_accuracy_out_of_reach_is_an_error():
    with pytest.raises(InvalidInputError, match="CIA found no design"):
        cia(replace(PROBLEM, accuracy_min=0.95), 0, steps=60)
