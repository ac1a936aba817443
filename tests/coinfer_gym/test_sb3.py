"""The lanes under the interface of Stable-Baselines3, against a `DummyVecEnv` of single environments."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from coinfer_gym import InvalidInputError
from coinfer_gym.laim.env import LAIMVectorEnv
from coinfer_gym.named_wrappers import find_wrapper
from coinfer_gym.sb3 import NativeVecEnv, make_native
from tests.coinfer_gym.lanes import LAIM, LANES, ONE, QUEUE, make_dummy, random_actions


def both(seed, **env_kwargs):
    pair = make_native(LAIM, LANES, **env_kwargs), make_dummy(LANES, **env_kwargs)
    for env in pair:
        env.seed(seed)
    return pair


@pytest.mark.parametrize("env_kwargs", [QUEUE, ONE])
def test_equals_single_environments(env_kwargs):
    native, dummy = both(11, **env_kwargs)
    assert np.array_equal(native.reset(), dummy.reset())
    assert native.reset_infos == dummy.reset_infos
    ended = np.zeros(LANES, int)
    for actions in random_actions(0, 60):
        ours, theirs = native.step(actions), dummy.step(actions)
        for mine, other in zip(ours[:3], theirs[:3], strict=True):
            assert np.array_equal(mine, other)
            assert mine.dtype == other.dtype
        for i in np.flatnonzero(ours[2]):
            last = {key: value for key, value in ours[3][i].items() if key != "episode"}
            assert np.array_equal(last.pop("terminal_observation"), theirs[3][i].pop("terminal_observation"))
            assert last == theirs[3][i]
            assert native.reset_infos[i] == dummy.reset_infos[i]
        for name, column in native.decisions.items():
            assert column.tolist() == [info[name] for info in theirs[3]], name
        ended += ours[2]
    assert (ended >= 3).all()


def test_infos_are_empty_but_for_ended_lanes():
    env = make_native(LAIM, 3, **ONE)
    env.reset()
    for actions in random_actions(1, 6, 3):
        _, _, dones, infos = env.step(actions)
        assert not dones.any()
        assert all(not info for info in infos)
    with pytest.raises(TypeError):
        infos[0]["mine"] = 1  # shared by all lanes
    _, _, dones, infos = env.step(random_actions(2, 1, 3)[0])
    assert dones.all()
    assert all(info["TimeLimit.truncated"] is True for info in infos)


def test_episode_statistics_are_those_of_a_monitor():
    native, dummy = both(3, **QUEUE)
    monitored = VecMonitor(dummy)
    native.reset()
    monitored.reset()
    seen = 0
    for actions in random_actions(4, 40):
        ours, theirs = native.step(actions)[3], monitored.step(actions)[3]
        for mine, other in zip(ours, theirs, strict=True):
            assert ("episode" in mine) == ("episode" in other)
            if "episode" in mine:
                seen += 1
                assert mine["episode"]["l"] == other["episode"]["l"]
                assert mine["episode"]["r"] == pytest.approx(other["episode"]["r"], rel=1e-5)
    assert seen > LANES


def test_the_same_seed_gives_the_same_lanes():
    first, second = make_native(LAIM, 4, **QUEUE), make_native(LAIM, 4, **QUEUE)
    assert first.seed(7) == [7, 8, 9, 10]
    second.seed(8)
    a, b = first.reset(), second.reset()
    assert np.array_equal(a[1:], b[:3])
    assert not np.array_equal(a, first.reset())  # a seed is used up


def test_options_are_used_up_by_a_reset():
    env = make_native(LAIM, 2, **QUEUE)
    env.set_options({"world_seed": 5})
    observations = env.reset()
    assert np.array_equal(observations[0], observations[1])
    after = env.reset()
    assert not np.array_equal(after[0], after[1])
    env.set_options([{"world_seed": 5}, {"world_seed": 6}])
    with pytest.raises(InvalidInputError, match="Lanes share"):
        env.reset()


def test_attributes_and_methods_belong_to_the_batch():
    env = make_native(LAIM, 3, **QUEUE)
    assert [scenario.tasks for scenario in env.get_attr("scenario", [0, 2])] == [12, 12]
    assert env.has_attr("scenario")
    assert not env.has_attr("scenery")
    env.set_attr("note", 1)
    assert env.get_attr("note") == [1, 1, 1]
    with pytest.raises(InvalidInputError, match="all at once"):
        env.set_attr("note", 2, indices=[0])
    assert env.env_method("close", indices=1) == [None]
    assert env.env_is_wrapped(Monitor) == [True] * 3
    assert env.env_is_wrapped(gym.wrappers.TimeLimit, indices=[1]) == [False]
    assert env.env_is_wrapped(gym.vector.VectorWrapper) == [False] * 3


def test_evaluate_policy_takes_it():
    env = make_native(LAIM, 2, **ONE)
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=16, seed=0, device="cpu")
    returns, lengths = evaluate_policy(model, env, n_eval_episodes=4, return_episode_rewards=True)
    assert len(returns) == 4
    assert lengths == [7] * 4


def test_spaces_pass_the_checker_of_stable_baselines3():
    env = make_native(LAIM, 1)
    single = gym.make(LAIM)
    check_env(single)
    assert env.observation_space == single.observation_space
    assert env.action_space == single.action_space


def test_refuses_other_autoreset_modes():
    with pytest.raises(InvalidInputError, match="SameStep"):
        NativeVecEnv(LAIMVectorEnv(2, autoreset_mode=AutoresetMode.NEXT_STEP))


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(InvalidInputError, match="LAIM-v0"):
        make_native("coinfer_gym/LAIM-v1", 1)


SMALL = {"cuts": [0, 1, 12], "retained_levels": [0.2, 0.6], "frequency_levels": [0.6]}


def make_wrapped(lanes, *layers, **env_kwargs):
    def make():
        env = gym.make(LAIM, **env_kwargs)
        for name, options in layers:
            env = find_wrapper(name)(env, **options)
        return env

    return DummyVecEnv([make] * lanes)


@pytest.mark.parametrize(
    ("wrappers", "fast"),
    [
        (["coinfer_gym.laim.wrappers.KeepBudgets"], True),
        (["BudgetShareAction"], True),
        (["KeepBudgets", {"DiscreteActions": SMALL}], True),
        (["KeepBudgets", "Regret"], False),
        ([{"DiscreteActions": SMALL}, "Regret"], False),
    ],
)
@pytest.mark.parametrize("world", [ONE, QUEUE])
def test_wrapped_lanes_equal_wrapped_single_environments(wrappers, fast, world):
    layers = [(item, {}) if isinstance(item, str) else next(iter(item.items())) for item in wrappers]
    native, dummy = make_native(LAIM, 2, wrappers, **world), make_wrapped(2, *layers, **world)
    assert native.action_space == dummy.action_space
    for env in (native, dummy):
        env.seed(2)
        env.action_space.seed(0)
    assert np.array_equal(native.reset(), dummy.reset())
    for _ in range(16):
        actions = np.array([native.action_space.sample() for _ in range(2)])
        if is_masking_supported(native):
            assert np.array_equal(get_action_masks(native), get_action_masks(dummy))
        ours, theirs = native.step(actions), dummy.step(actions)
        assert all(np.array_equal(mine, other) for mine, other in zip(ours[:3], theirs[:3], strict=True))
        assert native.decisions["violated"].tolist() == [info["violated"] for info in theirs[3]]
    assert (native.snapshot() is not None) == fast
    assert is_masking_supported(native) == ("DiscreteActions" in str(wrappers))


def test_every_lane_has_its_own_masks():
    env = make_native(LAIM, 4, [{"DiscreteActions": SMALL}], **QUEUE)
    env.seed(0)
    env.reset()
    masks = get_action_masks(env)
    assert masks.shape == (4, 6)
    assert len(np.unique(masks, axis=0)) > 1
    assert np.array_equal(env.env_method("action_masks", indices=[2, 0]), masks[[2, 0]])
    slow = make_native(LAIM, 4, [{"DiscreteActions": SMALL}, "Regret"], **QUEUE)
    slow.seed(0)
    slow.reset()
    assert np.array_equal(get_action_masks(slow), masks)
    assert slow.get_attr("scenario", [1])[0].tasks == 12
    assert not slow.has_attr("scenery")


@pytest.mark.parametrize(("env_id", "size"), [(LAIM, 6), ("coinfer_gym/CellShares-v0", 3)])
def test_restored_lanes_go_on_as_if_never_stopped(env_id, size):
    env, other = make_native(env_id, LANES, **QUEUE), make_native(env_id, LANES, **QUEUE)
    env.seed(1)
    env.reset()
    actions = random_actions(6, 50)[..., :size]
    for row in actions[:20]:
        observations = env.step(row)[0]
    state = env.snapshot()
    assert np.array_equal(other.restore(state), observations)
    for row in actions[20:]:
        ours, theirs = env.step(row), other.step(row)
        assert all(np.array_equal(mine, their) for mine, their in zip(ours[:3], theirs[:3], strict=True))
        for mine, their in zip(ours[3], theirs[3], strict=True):
            assert mine.get("episode", {}).get("r") == their.get("episode", {}).get("r")


def test_a_snapshot_of_other_lanes_is_refused():
    env = make_native(LAIM, 2, **QUEUE)
    env.reset()
    with pytest.raises(InvalidInputError, match="snapshot"):
        make_native(LAIM, 3, **QUEUE).restore(env.snapshot())


def test_without_stable_baselines3_the_extra_is_named():
    code = "import sys; sys.modules['stable_baselines3'] = None; import coinfer_gym.sb3"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: coinfer_gym.sb3 needs Stable-Baselines3: pip install 'coinfer-gym[agents]'" in done.stderr
