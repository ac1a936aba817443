"""Rules of Cell-v0: with one device those of LAIM-v0, their shares against what the cell holds, and their mistakes."""

import itertools
from functools import partial

import gymnasium as gym
import numpy as np
import pytest

from baselines.cell.family import FAMILY, half_actions
from baselines.cell.joint import JointMyopic, JointQuantum
from baselines.cell.one_device import OneDeviceDP
from baselines.cell.rules import ConstantPrices, EqualShares, ShareOfFree, SharesByQueue
from baselines.farsighted import QueueBudget, serve_within
from baselines.registry import bind, make_policy
from baselines.rollout import play
from baselines.rules import MyopicExact
from baselines.stochastic import StochasticDP
from coinfer_gym import InvalidInputError, solve_exact
from coinfer_gym.cell.env import share_problem

CELL, LAIM = "coinfer_gym/Cell-v0", "coinfer_gym/LAIM-v0"
PACE = {"share": 0.15, "least": 0.08, "fraction": 1.5}


def columns(env, policy, seed):
    [episode] = play(env, bind(policy, env), [seed])
    return {name: column for name, column in episode.items() if name != "seconds"}


@pytest.mark.parametrize(
    "rule",
    [
        ShareOfFree,
        EqualShares,
        partial(SharesByQueue, reserve=0.0),
        partial(ConstantPrices, band=0.0, server=0.0),
        partial(JointMyopic, reserve=0.0),
        partial(JointQuantum, reserve=0.0),
    ],
)
def test_with_one_device_a_rule_is_that_of_laim(rule):
    cell = columns(gym.make(CELL, scenario="bert-multimodal", devices=1, tasks=60), rule(**PACE), 3)
    laim = columns(gym.make(LAIM, scenario="bert-multimodal", tasks=60), QueueBudget(**PACE), 3)
    assert len(laim["quality"]) > 30
    for name, column in laim.items():
        assert np.array_equal(cell[name], column), name


def test_all_that_is_free_in_all_the_time_left_is_the_myopic_optimum():
    env = gym.make(CELL, scenario="cell-4", tasks=10)
    one, two = columns(env, ShareOfFree(), 1), columns(env, MyopicExact(), 1)
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_shares_follow_from_what_the_cell_holds():
    env = gym.make(CELL, scenario="cell-16", tasks=6)
    cell, least = env.unwrapped, 0.01
    part, equal, queue = (rule.bind(env) for rule in (ShareOfFree(part=0.3), EqualShares(), SharesByQueue(reserve=2.0)))
    observation, _ = env.reset(seed=4)
    ended, crowded = False, 0
    while not ended:
        free = cell.free
        row = cell.lanes.state[cell.device]
        wanted = {part: [0.3 * each for each in free], equal: [1.0 / 16.0] * 2}
        own, elsewhere = 1.0 + row["waiting"], cell.lanes.model.cells[0]["waiting"]
        wanted[queue] = [own / (own + elsewhere + 2.0) * each for each in free]
        crowded += own + elsewhere > 4.0
        for rule, shares in wanted.items():
            action, _ = rule.predict(observation)
            expected = [max(least, min(share, each)) for share, each in zip(shares, free, strict=True)]
            assert cell.shares(action) == pytest.approx(expected, rel=1e-5)
        observation, _, _, ended, _ = env.step(action)
    assert crowded > 5


def test_what_costs_nothing_is_taken_as_far_as_it_is_free():
    env = gym.make(CELL, scenario="cell-4", tasks=10)
    one, two = columns(env, ConstantPrices(band=0.0, server=0.0, **PACE), 1), columns(env, ShareOfFree(**PACE), 1)
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_no_shares_on_a_grid_earn_more_than_those_at_a_price():
    env = gym.make(CELL, scenario="cell-4", tasks=4)
    cell, prices = env.unwrapped, (0.25, 0.15)
    rule = ConstantPrices(band=prices[0], server=prices[1]).bind(env)
    observation, _ = env.reset(seed=3)
    ended, shared = False, 0
    while not ended:
        action, _ = rule.predict(observation)
        free = cell.free
        grid = [(b * free[0], p * free[1]) for b in np.linspace(0.05, 1.0, 12) for p in np.linspace(0.05, 1.0, 12)]
        best = 0.0
        for shares in grid:
            found = serve_within(cell.problem(*shares), 9.0)
            cost = np.dot(prices, shares) if found.cut < cell.kind.cuts - 1 else 0.0
            best = max(best, found.quality - cost if found.feasible else 0.0)
        shares = cell.shares(action)
        found = serve_within(cell.problem(*shares), 9.0)
        cost = np.dot(prices, shares) if found.cut < cell.kind.cuts - 1 else 0.0
        assert (found.quality if found.feasible else 0.0) - cost >= best - 0.01
        shared += cost > 0.0
        observation, _, _, ended, _ = env.step(action)
    assert shared > 3


def test_with_one_device_and_without_prices_dynamic_programming_is_that_of_laim():
    cell = gym.make(CELL, scenario="bert-multimodal", devices=1, tasks=60)
    found = columns(cell, OneDeviceDP(band=0.0, server=0.0), 3)
    laim = columns(gym.make(LAIM, scenario="bert-multimodal", tasks=60), StochasticDP(), 3)
    assert len(laim["quality"]) > 30
    for name, column in laim.items():
        assert np.array_equal(found[name], column), name


def test_dynamic_programming_takes_less_where_it_is_dearer_and_remembers_each_device():
    env = gym.make(CELL, scenario="cell-4", tasks=15)
    rules = [OneDeviceDP(env, band, 0.8) for band in (0.3, 3.0)]
    observation, _ = env.reset(seed=3)
    ended, states, taken = False, [None, None], []
    while not ended:
        device, played = env.unwrapped.device, [rule.predict(observation, states[k]) for k, rule in enumerate(rules)]
        for before, (_, after) in zip(states, played, strict=True):
            others = np.delete(after[0], device, axis=0)
            assert np.isfinite(after[0][device]).all()
            assert before is None or np.array_equal(others, np.delete(before[0], device, axis=0), equal_nan=True)
        states = [state for _, state in played]
        taken.append([env.unwrapped.shares(action)[0] for action, _ in played])
        observation, _, _, ended, _ = env.step(played[0][0])
    cheap, dear = np.mean(taken, axis=0)
    assert 0.1 < dear < 0.7 * cheap
    assert rules[1].models[0].mean_quality < rules[0].models[0].mean_quality - 0.01


def test_a_service_is_worth_what_the_best_shares_on_a_grid_leave():
    prices, shares = np.array([0.3, 0.8]), np.linspace(0.02, 1.0, 12)
    env = gym.make(CELL, scenario="cell-4", tasks=15)
    [model], whole = OneDeviceDP(env, *prices).models, env.unwrapped.scenario.members[0]
    for i, j in [(10, 30), (30, 20), (40, 40), (50, 63), (60, 10)]:
        gain, seconds = np.exp(model.quality.log_gains[i]), model.quality.delays[j]
        problem, best = whole.problem(float(gain), float(seconds)), 0.0
        for held in itertools.product(shares, shares):
            found = solve_exact(share_problem(problem, *held))
            paid = seconds * prices @ held if found.cut < whole.cuts - 1 else 0.0
            best = max(best, found.quality - paid if found.feasible else 0.0)
        assert best - 0.004 <= model.quality.quality[i, j, 0] <= best + 0.02


@pytest.mark.parametrize("scenario", ["cell-4", "cell-mixed"])
def test_a_batch_of_cells_decides_as_one_cell(scenario):
    env = gym.make(CELL, scenario=scenario, tasks=4)
    batch = gym.make_vec(CELL, 2, vectorization_mode="vector_entry_point", scenario=scenario, tasks=4)
    rule = ShareOfFree(part=0.5).bind(env)
    observation, _ = env.reset(seed=8)
    batch.reset(seed=7)
    for _ in range(12):
        actions, (action, _) = half_actions(batch.unwrapped), rule.predict(observation)
        np.testing.assert_allclose(actions[1], action, atol=1e-6)
        observation, *_ = env.step(action)
        batch.step(actions)


def test_foresight_of_others_pays():
    env = gym.make(CELL, scenario="cell-4", tasks=30)
    earned = {}
    for label, rule in {"free": ShareOfFree(), "queue": SharesByQueue(), "paced": SharesByQueue(**PACE)}.items():
        found = [columns(env, rule, seed) for seed in range(2)]
        earned[label] = sum(episode["delivered"].sum() for episode in found)
    assert earned["free"] < earned["queue"] < earned["paced"]


@pytest.mark.parametrize("name", sorted(FAMILY.policies))
def test_rules_play_kinds_of_devices_and_take_a_batch_of_one(name):
    kinds = [{}, {"scenario": "vit-image", "tasks": 4}, {"scenario": "bert-battery"}]
    env = gym.make(CELL, scenario="cell-4", devices=6, tasks=2, kinds=kinds)
    policy = bind(make_policy(name, {} if name == "cell_dp" else PACE), env)
    observation, _ = env.reset(seed=0)
    ended = False
    while not ended:
        action, _ = policy.predict(observation)
        assert policy.predict(observation[None])[0].tolist() == [action.tolist()]
        assert env.action_space.contains(action)
        observation, _, _, ended, _ = env.step(action)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ShareOfFree(part=1.5), "part"),
        (lambda: ShareOfFree(part="half"), "part"),
        (lambda: SharesByQueue(reserve=-1.0), "reserve"),
        (lambda: EqualShares(share=0.0), "share"),
        (lambda: ConstantPrices(band=-0.1), "band"),
        (lambda: ConstantPrices(server="dear"), "server"),
        (lambda: ConstantPrices().bind(gym.make(CELL, scenario="cell-mixed")), "need not be concave"),
        (lambda: OneDeviceDP(gym.make(CELL, delay_budget_range=(0.3, 0.6))), "budgets must be fixed"),
        (lambda: OneDeviceDP(gym.make(CELL, arrivals="one_at_a_time")), "no queue to plan for"),
        (lambda: EqualShares().bind(gym.make(LAIM)), "play it in Cell-v0"),
        (lambda: QueueBudget().bind(gym.make(CELL)), "another observation"),
        (lambda: EqualShares().bind(gym.make("coinfer_gym/CellShares-v0")), "wrapper changes the action space"),
    ],
)
def test_mistakes_are_explained(make, message):
    with pytest.raises(InvalidInputError, match=message):
        make()
