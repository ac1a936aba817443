"""Rules of Cell-v0: with one device those of LAIM-v0, their shares against what the cell holds, and their mistakes."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest

from baselines.cell.family import FAMILY, half_actions
from baselines.cell.joint import JointMyopic, JointQuantum
from baselines.cell.rules import ConstantPrices, EqualShares, ShareOfFree, SharesByQueue
from baselines.farsighted import QueueBudget, serve_within
from baselines.registry import bind, make_policy
from baselines.rollout import play
from baselines.rules import MyopicExact
from coinfer_gym import InvalidInputError

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
    policy = bind(make_policy(name, PACE), env)
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
        (lambda: EqualShares().bind(gym.make(LAIM)), "play it in Cell-v0"),
        (lambda: QueueBudget().bind(gym.make(CELL)), "another observation"),
        (lambda: EqualShares().bind(gym.make("coinfer_gym/CellShares-v0")), "wrapper changes the action space"),
    ],
)
def test_mistakes_are_explained(make, message):
    with pytest.raises(InvalidInputError, match=message):
        make()
