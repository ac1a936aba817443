"""The native vector environment: seeds, resets, and what is handed out is safe to hold on to."""

import copy
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import coinfer_gym  # noqa: F401  registers the ids
from coinfer_gym import InvalidInputError
from coinfer_gym.laim.dynamics import INFO_NAMES
from coinfer_gym.laim.env import LAIMEnv, LAIMVectorEnv
from tests.coinfer_gym.equal import actions_for, same

LAIM = "coinfer_gym/LAIM-v0"
LANES = 5
SHORT = {"tasks": 12}  # episodes end within a few steps, at times that differ where tasks are lost

modes = pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.value)


def frozen(item):
    """A deep copy that keeps nothing of the original."""
    return pickle.loads(pickle.dumps(item))  # noqa: S301  one's own pickle


@modes
def test_the_registry_makes_it(mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make_vec(LAIM, 3, vectorization_mode="vector_entry_point", autoreset_mode=mode.value, tasks=5)
        assert gym.make_vec(LAIM, num_envs=2).unwrapped.__class__ is LAIMVectorEnv  # the default where there is one
    assert env.unwrapped.__class__ is LAIMVectorEnv
    assert env.metadata["autoreset_mode"] is mode
    assert LAIMVectorEnv.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP, "the class's own has changed"
    assert env.spec.id == LAIM
    assert env.spec.kwargs["tasks"] == 5
    assert env.num_envs == 3
    assert env.observation_space.shape == (3, 7)
    assert env.action_space.shape == (3, 6)
    observations, _ = env.reset(seed=0)
    assert observations in env.observation_space
    assert env.step(env.action_space.sample())[0] in env.observation_space
    env.close()


def test_a_list_gives_every_lane_its_seed():
    env = LAIMVectorEnv(3)
    observations, infos = env.reset(seed=[9, 4, 9])
    assert np.array_equal(observations[0], observations[2])
    for i, seed in enumerate((9, 4, 9)):
        observation, info = LAIMEnv().reset(seed=seed)
        assert np.array_equal(observations[i], observation)
        assert infos["time_s"][i] == info["time_s"]
    env.reset(seed=[9, None, 4])  # a lane without a seed goes on with the generator it has
    single = LAIMEnv()
    single.reset(seed=4)
    single.reset()
    assert env.reset(seed=[None, None, None])[1]["time_s"][1] == single.reset()[1]["time_s"]


def test_unseeded_resets_draw_other_worlds():
    env = LAIMVectorEnv(2)
    times = [*env.reset()[1]["time_s"], *env.reset()[1]["time_s"], *LAIMVectorEnv(2).reset()[1]["time_s"]]
    assert len(set(times)) == 6


def test_a_partial_reset_leaves_the_other_lanes_alone():
    world = {"arrivals": "one_at_a_time", "tasks": 12}
    env, twin = (LAIMVectorEnv(4, autoreset_mode="Disabled", **world) for _ in range(2))
    env.reset(seed=0)
    twin.reset(seed=0)
    actions = actions_for(env, 10)
    for k in range(3):
        before = env.step(actions[k])
        twin.step(actions[k])
    mask = np.array([False, True, False, True])
    observations, infos = env.reset(seed=50, options={"reset_mask": mask})
    assert mask.tolist() == [False, True, False, True]
    assert np.array_equal(observations[~mask], before[0][~mask])
    assert all(infos[f"_{name}"].tolist() == mask.tolist() for name in INFO_NAMES)
    singles = {i: LAIMEnv(**world) for i in (1, 3)}
    for i, single in singles.items():
        observation, info = single.reset(seed=50 + i)
        assert np.array_equal(observations[i], observation)
        assert infos["gain_db"][i] == info["gain_db"]
    for k in range(3, 10):
        one, two = env.step(actions[k]), twin.step(actions[k])
        for a, b in zip(one[:4], two[:4], strict=True):
            assert np.array_equal(a[~mask], b[~mask])
        for i, single in singles.items():
            assert one[1][i] == single.step(actions[k][i])[1]


@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
def test_a_lane_reset_by_hand_is_not_reset_again(mode):
    env = LAIMVectorEnv(3, autoreset_mode=mode, arrivals="one_at_a_time", tasks=2)
    env.reset(seed=0)
    actions = np.zeros((3, 6))
    env.step(actions)
    assert env.step(actions)[3].all()
    env.reset(options={"reset_mask": np.ones(3, bool)})
    _, rewards, _, _, _ = env.step(actions)
    assert (rewards != 0.0).all()


def test_a_world_seed_puts_every_lane_into_one_world():
    env = LAIMVectorEnv(3)
    observations, infos = env.reset(seed=0, options={"world_seed": 5})
    observation, info = LAIMEnv().reset(seed=8, options={"world_seed": 5})
    for i in range(3):
        assert np.array_equal(observations[i], observation)
        assert infos["time_s"][i] == info["time_s"]
    single = LAIMEnv()
    single.reset(seed=1)
    assert env.reset()[1]["time_s"][1] == single.reset()[1]["time_s"], "the option leaked into the next reset"


@pytest.mark.parametrize("number", [0, 2.5])
def test_a_number_of_lanes_that_is_none_is_an_error(number):
    with pytest.raises(InvalidInputError, match="num_envs"):
        LAIMVectorEnv(number)


def test_an_unknown_mode_is_an_error():
    with pytest.raises(InvalidInputError, match="autoreset_mode"):
        LAIMVectorEnv(2, autoreset_mode="Sometimes")


def test_there_is_nothing_to_render():
    with pytest.raises(InvalidInputError, match="render_mode"):
        LAIMVectorEnv(2, render_mode="rgb_array")


@pytest.mark.parametrize(
    "mask",
    [
        np.array([True, False]),
        np.array([1, 0, 1]),
        None,
    ],
)
def test_a_mask_that_is_none_is_an_error(mask):
    env = LAIMVectorEnv(3)
    env.reset(seed=0)
    with pytest.raises(InvalidInputError, match="reset_mask"):
        env.reset(options={"reset_mask": mask})


def test_the_first_reset_is_of_all_lanes():
    with pytest.raises(InvalidInputError, match="reset_mask"):
        LAIMVectorEnv(3).reset(options={"reset_mask": np.array([True, False, True])})


@pytest.mark.parametrize("seed", [[1, 2], 1.5])
def test_seeds_that_are_not_one_per_lane_are_an_error(seed):
    with pytest.raises(InvalidInputError, match="seed"):
        LAIMVectorEnv(3).reset(seed=seed)


def test_an_unknown_option_is_an_error():
    with pytest.raises(InvalidInputError, match="options"):
        LAIMVectorEnv(3).reset(options={"wold_seed": 3})


@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
def test_a_nan_is_an_error_that_names_its_lane_and_changes_nothing(mode):
    env, twin = (LAIMVectorEnv(4, autoreset_mode=mode) for _ in range(2))
    observations, _ = env.reset(seed=0)
    twin.reset(seed=0)
    actions = np.zeros((4, 6))
    actions[2, 3] = np.nan
    with pytest.raises(InvalidInputError, match=r"action\[2\]: power: got nan"):
        env.step(actions)
    mask = np.array([True, False, False, False])
    same(env.reset(seed=9, options={"reset_mask": mask})[0][1:], observations[1:])
    twin.reset(seed=9, options={"reset_mask": mask})
    for actions in actions_for(env, 5):
        same(env.step(actions), twin.step(actions))


@pytest.mark.parametrize("shape", [(3, 6), (4,)])
def test_actions_of_another_shape_are_an_error(shape):
    env = LAIMVectorEnv(4)
    env.reset(seed=0)
    with pytest.raises(InvalidInputError, match="action"):
        env.step(np.zeros(shape))


def test_a_step_of_an_ended_lane_is_an_error_where_nobody_resets_it():
    env = LAIMVectorEnv(3, autoreset_mode="Disabled", arrivals="one_at_a_time", tasks=2)
    env.reset(seed=0)
    env.step(np.zeros((3, 6)))
    env.step(np.zeros((3, 6)))
    env.reset(options={"reset_mask": np.array([True, False, True])})
    with pytest.raises(ResetNeeded, match=r"lanes 1: .*reset_mask"):
        env.step(np.zeros((3, 6)))
    env.reset(options={"reset_mask": np.array([False, True, False])})
    env.step(np.zeros((3, 6)))


@modes
def test_what_was_handed_out_never_changes(mode):
    env = LAIMVectorEnv(LANES, autoreset_mode=mode, **SHORT)
    held = [env.reset(seed=0)]
    kept = [frozen(held[0])]
    for actions in actions_for(env, 50):
        before = actions.copy()
        held.append(env.step(actions))
        kept.append(frozen(held[-1]))
        assert np.array_equal(actions, before)
        done = held[-1][3]
        if mode is AutoresetMode.DISABLED and done.any():
            held.append(env.reset(options={"reset_mask": done}))
            kept.append(frozen(held[-1]))
    held.append(env.reset())
    same(held[:-1], kept)


def scribble(item):
    """Overwrite every array that was handed out."""
    if isinstance(item, np.ndarray):
        if item.dtype == object:
            for inner in item:
                scribble(inner)
        item[...] = None if item.dtype == object else ~item if item.dtype == bool else -7.0
    elif isinstance(item, (tuple, list)):
        for inner in item:
            scribble(inner)
    elif isinstance(item, dict):
        for inner in item.values():
            scribble(inner)
        item.clear()


@modes
def test_what_was_handed_out_may_be_overwritten(mode):
    env, twin = (LAIMVectorEnv(LANES, autoreset_mode=mode, **SHORT) for _ in range(2))
    one, two = env.reset(seed=0), twin.reset(seed=0)
    for actions in actions_for(env, 50):
        same(one, two)
        scribble(one)
        one, two = env.step(actions), twin.step(actions)
        done = two[3]
        if mode is AutoresetMode.DISABLED and done.any():
            same(one, two)
            scribble(one)
            mask = done.copy()
            (observations, _), (expected, _) = (e.reset(options={"reset_mask": mask}) for e in (env, twin))
            same(observations, expected)
            one, two = (observations, {}), (expected, {})


@modes
def test_a_copy_goes_on_like_the_original(mode):
    env = LAIMVectorEnv(LANES, autoreset_mode=mode, arrivals="one_at_a_time", tasks=30)
    env.reset(seed=0)
    actions = actions_for(env, 25)
    for k in range(5):
        env.step(actions[k])
    twins = [copy.deepcopy(env), frozen(env)]
    results = [env.step(a) for a in actions[5:]] + [env.reset()]
    for twin in twins:
        same([twin.step(a) for a in actions[5:]] + [twin.reset()], results)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_gymnasium_keeps_the_statistics_of_its_episodes(mode):
    env = RecordEpisodeStatistics(LAIMVectorEnv(LANES, autoreset_mode=mode, **SHORT))
    env.reset(seed=0)
    returns, lengths, over, seen = np.zeros(LANES), np.zeros(LANES, int), np.zeros(LANES, bool), 0
    for actions in actions_for(env, 60):
        _, rewards, _, truncations, infos = env.step(actions)
        if mode == "NextStep":
            returns[over], lengths[over] = 0.0, -1
        returns += rewards
        lengths += 1
        over = truncations
        if over.any():
            assert infos["_episode"].tolist() == over.tolist()
            assert infos["episode"]["r"][over] == pytest.approx(returns[over])
            assert infos["episode"]["l"][over].tolist() == lengths[over].tolist()
            seen += over.sum()
        if mode == "SameStep":
            returns[over], lengths[over] = 0.0, 0
    assert seen > LANES


def test_actions_in_another_memory_order_are_the_same_actions():
    one, two = LAIMVectorEnv(4, **SHORT), LAIMVectorEnv(4, **SHORT)
    one.reset(seed=0)
    two.reset(seed=0)
    for actions in actions_for(one, 5):
        same(one.step(actions), two.step(np.asfortranarray(actions)))
        same(one.step(actions), two.step(np.repeat(actions, 2, axis=1)[:, ::2].astype(np.float64)))
