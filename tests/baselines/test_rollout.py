"""Rollouts and metrics: lanes against single environments, and metrics of decisions made by hand."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from baselines.laim import regrets
from baselines.rollout import join, metrics, play
from baselines.rules import ConstantAction
from coinfer_gym import load_scenario


def test_lanes_play_what_single_environments_play():
    world = {"tasks": 30, "arrivals": "poisson", "arrival_rate": 8.0}
    slow, seeds = ConstantAction([1.0, 1.0, 1.0, 1.0, -1.0, -1.0]), [9, 3, 4, 7]
    alone = play(gym.make("coinfer_gym/LAIM-v0", **world), slow, seeds)
    options = {"vectorization_mode": "vector_entry_point", "autoreset_mode": AutoresetMode.SAME_STEP}
    together = play(gym.make_vec("coinfer_gym/LAIM-v0", len(seeds), **options, **world), slow, seeds)
    assert len({len(episode["dropped"]) for episode in alone}) > 1  # lanes end at different steps
    for one, other in zip(alone, together, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"seconds"}:
            np.testing.assert_array_equal(one[name], other[name], name)
    joined = join(alone)
    assert len(joined["reward"]) == sum(len(episode["reward"]) for episode in alone)


def test_metrics_of_decisions_made_by_hand():
    # Delivered; too late; within time but given up; too costly, with two tasks lost before it.
    decisions = {
        "delivered": [0.8, 0.0, 0.0, 0.0],
        "quality": [0.8, 0.7, 0.0, 0.6],
        "cost_delay": [0.0, 0.5, 0.0, 0.0],
        "dropped": [0.0, 0.0, 0.0, 2.0],
        "wait_s": [0.0, 0.2, 0.4, 0.2],
        "delay_s": [0.4, 1.0, 0.1, 0.5],
        "energy_j": [0.1, 0.1, 0.1, 0.5],
        "violated": [0.0, 1.0, 1.0, 1.0],
        "reward": [0.8, 0.2, 0.0, -4.0],
    }
    assert metrics({name: np.array(column) for name, column in decisions.items()}) == pytest.approx(
        {
            "delivered": 0.8 / 6,
            "on_time": 2 / 6,
            "dropped": 2 / 6,
            "delay_s": 2.8 / 4,
            "service_s": 2.0 / 4,
            "energy_j": 0.2,
            "violated": 0.75,
            "return": -0.5,
        }
    )


def test_nothing_is_regretted_where_no_decision_meets_the_budgets():
    columns = {"gain_db": [-90.0] * 2, "delay_budget_s": [1e-6, 0.5], "energy_budget_j": [0.85] * 2}
    decisions = {name: np.array(column) for name, column in columns.items()} | {"delivered": np.zeros(2)}
    hopeless, feasible = regrets(load_scenario("bert-multimodal"), decisions)
    assert hopeless == 0.0
    assert feasible > 0.5
