"""CellShares-v0: the exact optimum at the shares of an action."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from coinfer_gym import InvalidInputError, solve_exact
from coinfer_gym.cell.shares import CellSharesEnv

SHARES = "coinfer_gym/CellShares-v0"


def test_it_decides_the_exact_optimum_at_its_shares():
    env = gym.make(SHARES, tasks=15)
    cell = env.unwrapped
    env.reset(seed=1)
    rng, ended, met = np.random.default_rng(2), False, 0
    while not ended:
        action = np.append(1.0, rng.uniform(-1.0, 1.0, 2)).astype(np.float32)  # all of the time
        band, server = cell.shares(np.append(np.zeros(6), action[1:]).astype(np.float32))
        best = solve_exact(cell.problem(band, server))
        _, _, _, ended, info = env.step(action)
        if best.feasible:
            assert info["quality"] == pytest.approx(best.quality, abs=1e-4)
            assert not info["violated"]
            met += 1
    assert met > 20


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version")  # which is meant
def test_the_checker_of_stable_baselines_finds_nothing_to_warn_of():
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(CellSharesEnv(tasks=3), warn=True, skip_render_check=True)


def test_the_energy_is_a_component_where_a_device_has_a_battery():
    assert gym.make(SHARES).action_space.shape == (3,)
    assert gym.make(SHARES, scenario="bert-battery", tasks=3).action_space.shape == (4,)
    assert gym.make(SHARES, scenario="bert-battery", energy=False, tasks=3).action_space.shape == (3,)
    assert gym.make(SHARES, kinds=[{}, {"battery_capacity": 5.0}], tasks=3).action_space.shape == (4,)
    with pytest.raises(InvalidInputError, match="energy"):
        gym.make(SHARES, energy="yes")


def test_wrong_actions_are_errors():
    with pytest.raises(ResetNeeded, match="reset"):
        CellSharesEnv(tasks=3).step(np.zeros(3, np.float32))
    env = CellSharesEnv(tasks=3)
    env.reset(seed=0)
    with pytest.raises(InvalidInputError, match="action: got nan"):
        env.step(np.array([0.0, np.nan, 0.0], np.float32))
    with pytest.raises(InvalidInputError, match="shape of action"):
        env.step(np.zeros(8, np.float32))
