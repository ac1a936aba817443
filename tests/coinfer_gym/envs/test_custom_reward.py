"""Rewards of one's own: the function sees the last decision of every lane, in both environments and all modes."""

import gymnasium as gym
import numpy as np
import pytest

from coinfer_gym import InvalidInputError
from coinfer_gym.envs.custom_reward import CustomReward, CustomVectorReward

LAIM, LAYERWISE = "coinfer_gym/LAIM-v0", "coinfer_gym/Layerwise-v0"
LANES, SEED, STEPS = 3, 4, 14
WORLD = {"tasks": 5, "arrivals": "one_at_a_time"}


def price(info):
    return info["quality"] - 2.0 * info["energy_j"] + 0.1


@pytest.mark.parametrize("name", [LAIM, LAYERWISE])
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_lanes_are_paid_as_the_single_environment(name, mode):
    singles = [CustomReward(gym.make(name, **WORLD), price) for _ in range(LANES)]
    inner = gym.make_vec(name, LANES, vectorization_mode="vector_entry_point", autoreset_mode=mode, **WORLD)
    lanes = CustomVectorReward(inner, price)
    lanes.reset(seed=SEED)
    for i, env in enumerate(singles):
        env.reset(seed=SEED + i)
    rng = np.random.default_rng(0)
    over = np.zeros(LANES, bool)
    for _ in range(STEPS):
        actions = rng.uniform(-1.0, 1.0, lanes.action_space.shape).astype(np.float32)
        _, rewards, _, truncated, _ = lanes.step(actions)
        for i, env in enumerate(singles):
            if over[i] and mode == "NextStep":
                env.reset()
                assert rewards[i] == 0.0
                over[i] = False
                continue
            _, reward, _, over[i], info = env.step(actions[i])
            assert rewards[i] == reward == pytest.approx(price(info))
            assert truncated[i] == over[i]
            if over[i] and mode == "SameStep":
                env.reset()


@pytest.mark.parametrize("paid", [None, "a", [1.0, 2.0, 3.0]])
def test_a_function_that_returns_no_reward_is_named(paid):
    lanes = gym.make_vec(LAIM, 2, vectorization_mode="vector_entry_point", **WORLD)
    for env in (CustomReward(gym.make(LAIM, **WORLD), lambda _: paid), CustomVectorReward(lanes, lambda _: paid)):
        env.reset(seed=0)
        with pytest.raises(InvalidInputError, match=r"reward of your function: got .* Return a number"):
            env.step(env.action_space.sample())


def test_stable_baselines3_trains_on_it():
    pytest.importorskip("stable_baselines3")
    from coinfer_gym.sb3 import NativeVecEnv

    inner = gym.make_vec(LAIM, 2, vectorization_mode="vector_entry_point", autoreset_mode="SameStep", **WORLD)
    env = NativeVecEnv(CustomVectorReward(inner, lambda info: -1.0))
    env.reset()
    assert env.step(np.zeros((2, 6), np.float32))[1].tolist() == [-1.0, -1.0]
    assert env.get_attr("scenario")[0].tasks == 5


def test_a_misspelt_key_of_the_info_is_named_and_another_key_is_not():
    for key, kind in (("deliverd", InvalidInputError), (7, KeyError)):
        env = CustomReward(gym.make(LAIM, **WORLD), lambda info, key=key: info[key])
        env.reset(seed=0)
        with pytest.raises(kind, match="'delivered'" if kind is InvalidInputError else "7"):
            env.step(env.action_space.sample())
