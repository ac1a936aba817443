"""Regret in a cell: to the best decision at the shares that a task held."""

import gymnasium as gym
import numpy as np
import pytest

from coinfer_gym import InvalidInputError, solve_exact
from coinfer_gym.cell.wrappers import Regret

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


def test_another_environment_is_an_error():
    with pytest.raises(InvalidInputError, match="Cell-v0 only"):
        Regret(gym.make("coinfer_gym/LAIM-v0"))
