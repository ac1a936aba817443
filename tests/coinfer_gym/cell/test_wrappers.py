"""Wrappers of a cell: regret and budgets at the shares that a task takes; and shares as actions, by name."""

import gymnasium as gym
import numpy as np
import pytest

from coinfer_gym import InvalidInputError, solve_exact
from coinfer_gym.cell import vector_wrappers
from coinfer_gym.cell.shares import CellSharesEnv
from coinfer_gym.cell.wrappers import CellShareAction, KeepCellBudgets, Regret
from coinfer_gym.laim.wrappers import KeepBudgets
from coinfer_gym.named_wrappers import wrap

CELL = "coinfer_gym/Cell-v0"


def test_the_optimum_at_its_shares_has_no_regret_and_others_have():
    env = Regret(gym.make(CELL, scenario="cell-mixed", tasks=4))
    cell = env.unwrapped
    _, info = env.reset(seed=1)
    assert (info["optimal_quality"], info["regret"]) == (0.0, 0.0)
    ended, regrets, count = False, [], 0
    while not ended:
        shares = [min(0.3, free) for free in cell.free]
        best = solve_exact(cell.problem(*shares))
        alone = solve_exact(cell.problem(*shares), cut=cell.kind.cuts - 1)
        if count % 2:
            _, _, _, ended, info = env.step(np.zeros(8, np.float32))
            regrets.append(info["regret"])
        else:
            _, _, _, ended, info = env.step(cell.action(best, *shares))
            promised = alone if info["band"] == 0.0 else best
            assert info["optimal_quality"] == pytest.approx(promised.quality if promised.feasible else 0.0, abs=1e-4)
            assert info["regret"] == pytest.approx(0.0, abs=1e-4)
        count += 1
    assert min(regrets) >= 0.0
    assert max(regrets) > 0.1


def test_cell_v0_in_the_wrapper_of_this_name_is_the_id_of_its_own():
    wrapped, own = wrap(gym.make(CELL, tasks=3), ["CellShareAction"]), CellSharesEnv(tasks=3)
    assert wrapped.action_space == own.action_space
    assert np.array_equal(wrapped.reset(seed=2)[0], own.reset(seed=2)[0])
    rng, ended = np.random.default_rng(0), False
    while not ended:
        action = rng.uniform(-1.0, 1.0, 3).astype(np.float32)
        ours, theirs = wrapped.step(action), own.step(action)
        ended = ours[3]
        assert np.array_equal(ours[0], theirs[0])
        assert ours[1:4] == theirs[1:4]


def test_random_actions_keep_the_budgets_wherever_their_shares_allow_it():
    env = KeepCellBudgets(gym.make(CELL, scenario="cell-mixed", tasks=40))
    cell, rng = env.unwrapped, np.random.default_rng(3)
    assert env.reset(seed=4)[1]["kept"] == 0.0
    ended, kept, lost = False, 0, 0
    while not ended:
        action = rng.uniform(-1.2, 1.2, 8).astype(np.float32)
        shares = cell.shares(action)
        served = solve_exact(cell.problem(*shares)).feasible
        within = cell.problem(*shares).evaluate(cell.decision(action)).feasible
        _, _, _, ended, info = env.step(action)
        assert info["kept"] == float(served and not within)
        assert info["clipped"] == np.count_nonzero(np.abs(action) > 1.0)
        if served:
            assert info["cost"] < 1e-6  # a budget counts as met up to here
        if info["band"] > 0.0:
            assert (info["band"], info["server"]) == pytest.approx(shares, rel=1e-12)
        kept, lost = kept + int(info["kept"]), lost + (not served)
    assert kept > 50
    assert lost > 10


def test_each_lane_keeps_budgets_as_the_single_cell_does():
    options = {"scenario": "cell-mixed", "tasks": 6}
    lanes = gym.make_vec(CELL, 3, "vector_entry_point", **options)
    lanes = vector_wrappers.KeepCellBudgets(lanes)
    singles = [KeepCellBudgets(gym.make(CELL, **options)) for _ in range(3)]
    lanes.reset(seed=7)
    for lane, env in enumerate(singles):
        env.reset(seed=7 + lane)
    rng, kept = np.random.default_rng(5), 0
    for _ in range(20):
        actions = rng.uniform(-1.1, 1.1, (3, 8)).astype(np.float32)
        observations, rewards, _, truncated, infos = lanes.step(actions)
        assert not truncated.any()
        for lane, env in enumerate(singles):
            observation, reward, *_, info = env.step(actions[lane])
            assert np.array_equal(observations[lane], observation)
            assert rewards[lane] == reward
            assert {name: infos[name][lane] for name in info} == info
            kept += info["kept"]
    assert kept > 20


def test_one_device_that_takes_all_keeps_budgets_as_laim_does():
    cell = KeepCellBudgets(gym.make(CELL, scenario="bert-multimodal", devices=1, tasks=30))
    alone = KeepBudgets(gym.make("coinfer_gym/LAIM-v0", tasks=30))
    cell.reset(seed=9)
    alone.reset(seed=9)
    rng, ended, kept = np.random.default_rng(6), False, 0.0
    while not ended:
        action = np.append(rng.uniform(-1.0, 1.0, 6), [1.0, 1.0]).astype(np.float32)
        _, reward, _, ended, info = cell.step(action)
        _, expected, _, also_ended, other = alone.step(action[:6])
        assert (reward, ended, info["kept"]) == (expected, also_ended, other["kept"])
        kept += info["kept"]
    assert kept > 5.0


def test_a_cell_that_is_reset_keeps_nothing_and_goes_on():
    lanes = vector_wrappers.KeepCellBudgets(gym.make_vec(CELL, 3, "vector_entry_point", scenario="cell-4", tasks=3))
    lanes.reset(seed=1)
    rng, ended, resets = np.random.default_rng(2), np.zeros(3, np.bool_), 0
    for _ in range(60):
        _, rewards, _, truncated, infos = lanes.step(rng.uniform(-1.0, 1.0, (3, 8)).astype(np.float32))
        assert np.isfinite(rewards).all()
        assert (infos["kept"][ended] == 0.0).all()
        resets += np.count_nonzero(ended)
        ended = truncated
    assert resets > 5


def test_another_environment_is_an_error():
    with pytest.raises(InvalidInputError, match="Cell-v0 only"):
        KeepCellBudgets(gym.make("coinfer_gym/LAIM-v0"))
    with pytest.raises(InvalidInputError, match="Cell-v0 only"):
        Regret(gym.make("coinfer_gym/LAIM-v0"))
    with pytest.raises(InvalidInputError, match="Cell-v0 only"):
        CellShareAction(gym.make("coinfer_gym/LAIM-v0"))
    with pytest.raises(InvalidInputError, match="Cell-v0 only"):
        vector_wrappers.CellShareAction(gym.make_vec("coinfer_gym/LAIM-v0", 2, "vector_entry_point"))
    with pytest.raises(InvalidInputError, match="before a wrapper"):
        CellShareAction(CellSharesEnv(tasks=3))
