"""The cell as an environment of agents: PettingZoo's own tests, and the same episode as the single environment."""

import gymnasium as gym
import numpy as np
import pytest

pettingzoo_test = pytest.importorskip("pettingzoo.test")

from coinfer_gym.cell.env import CellEnv  # noqa: E402
from coinfer_gym.cell.multiagent import CellAEC  # noqa: E402


@pytest.mark.parametrize("options", [{}, {"scenario": "cell-mixed", "devices": 6}, {"devices": 1}])
def test_pettingzoo_finds_nothing_wrong(options):
    pettingzoo_test.api_test(CellAEC(tasks=10, **options), num_cycles=60)


def test_the_same_seed_is_the_same_episode():
    pettingzoo_test.seed_test(lambda: CellAEC(tasks=6), num_cycles=30)


def test_pictures_come_in_all_modes():
    pytest.importorskip("PIL")
    env = CellAEC(tasks=3, render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (640, 960, 3)


def test_agents_play_the_episode_of_the_single_environment():
    agents, single = CellAEC(tasks=8), CellEnv(tasks=8)
    agents.reset(seed=3)
    seen, info = single.reset(seed=3)
    rng, paid, returns = np.random.default_rng(0), dict.fromkeys(agents.possible_agents, 0.0), {}
    for agent in agents.agent_iter():
        observation, reward, terminated, truncated, told = agents.last()
        returns[agent] = returns.get(agent, 0.0) + reward
        if truncated:
            agents.step(None)
            continue
        assert agent == f"device_{single.device}"
        assert not terminated
        assert observation.tolist() == seen.tolist()
        action = rng.uniform(-1.0, 1.0, 8).astype(np.float32)
        agents.step(action)
        seen, reward, _, ended, info = single.step(action)
        paid[agent] += reward
        assert agents.infos[agent] == info
    assert ended
    assert not agents.agents
    assert returns == pytest.approx(paid)
    assert told["time_s"] <= info["time_s"]


def test_a_step_before_the_reset_is_named():
    with pytest.raises(gym.error.ResetNeeded):
        CellAEC(scenario="cell-4").step(np.zeros(8, np.float32))
