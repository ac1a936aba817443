"""The ids whose actions share out the budgets: made by name alone, lane by lane the same, and within what is asked."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

from coinfer_gym import InvalidInputError
from coinfer_gym.budgets import BUDGET_TOLERANCE
from coinfer_gym.laim.wrappers import BudgetShareAction

IDS = ("coinfer_gym/LAIMShares-v0", "coinfer_gym/LayerwiseShares-v0", "coinfer_gym/CellShares-v0")


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version")  # which is meant
@pytest.mark.parametrize("name", IDS)
def test_the_id_alone_makes_it(name):
    env = gym.make(name, tasks=5)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert str(again) == str(env)
    assert again.action_space == env.action_space != env.unwrapped.action_space
    check_env(env, skip_render_check=True)


def test_shares_of_laim_are_those_of_the_wrapper():
    env, wrapped = gym.make(IDS[0]), BudgetShareAction(gym.make("coinfer_gym/LAIM-v0"))
    env.reset(seed=0)
    wrapped.reset(seed=0)
    action = np.array([0.3], np.float32)
    assert env.step(action)[1:] == wrapped.step(action)[1:]


@pytest.mark.parametrize("scenario", ["alexnet-rpi4b-4g", "regnet-tk1-3g"])
def test_every_layerwise_share_is_accurate_and_within_the_energy(scenario):
    lanes = gym.make_vec(IDS[1], 64, vectorization_mode="vector_entry_point", scenario=scenario)
    lanes.action_space.seed(0)
    lanes.reset(seed=0)
    for _ in range(8):
        *_, infos = lanes.step(lanes.action_space.sample())
        assert not infos["cost_accuracy"].any()
        assert infos["cost_energy"].max() < BUDGET_TOLERANCE
    *_, infos = lanes.step(np.ones(lanes.action_space.shape, np.float32))  # nothing pruned, nothing compressed
    assert (infos["compression"] == 1.0).all()


@pytest.mark.parametrize("name", IDS)
def test_nan_is_refused(name):
    env = gym.make(name, disable_env_checker=True)
    env.reset(seed=0)
    with pytest.raises(InvalidInputError, match="action"):
        env.step(np.full(env.action_space.shape, np.nan, np.float32))
