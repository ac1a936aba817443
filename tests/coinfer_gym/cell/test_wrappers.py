"""Regret in a cell, to the best decision at the shares that a task held; and shares as actions, by name."""

import gymnasium as gym
import numpy as np
import pytest

from coinfer_gym import InvalidInputError, solve_exact
from coinfer_gym.cell.shares import CellSharesEnv
from coinfer_gym.cell.vector_wrappers import CellShareAction as LaneShareAction
from coinfer_gym.cell.wrappers import CellShareAction, Regret
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


def test_another_environment_is_an_error():
    with pytest.raises(InvalidInputError, match="Cell-v0 only"):
        Regret(gym.make("coinfer_gym/LAIM-v0"))
    with pytest.raises(InvalidInputError, match="Cell-v0 only"):
        CellShareAction(gym.make("coinfer_gym/LAIM-v0"))
    with pytest.raises(InvalidInputError, match="Cell-v0 only"):
        LaneShareAction(gym.make_vec("coinfer_gym/LAIM-v0", 2, "vector_entry_point"))
    with pytest.raises(InvalidInputError, match="before a wrapper"):
        CellShareAction(CellSharesEnv(tasks=3))
