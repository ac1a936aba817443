"""Wrappers of the native vector environment: every lane acts as the single environment so wrapped."""

import gymnasium as gym
import numpy as np
import pytest

from coinfer_gym import InvalidInputError, solve_exact
from coinfer_gym.laim import vector_wrappers, wrappers

ID = "coinfer_gym:coinfer_gym/LAIM-v0"
LANES, STEPS, SEED = 3, 30, 11
WORLDS = {
    "battery": {"scenario": "bert-battery", "tasks": 25},
    "late csi": {"tasks": 25, "csi_delay": 0.5, "csi_noise_db": 2.0},
}
STACKS = {
    "discrete": ["DiscreteActions"],
    "exact within": ["BudgetShareAction"],
    "exact within, energy too": [("BudgetShareAction", {"energy": True})],
    "exact within, margin too": [("BudgetShareAction", {"energy": True, "margin": True})],
    "kept": ["KeepBudgets"],
    "kept discrete": ["KeepBudgets", "DiscreteActions"],
}


def named(layer):
    """Name and options of a wrapper, given as its name alone or as a pair of both."""
    return (layer, {}) if isinstance(layer, str) else layer


def vector(names, **world):
    env = gym.make_vec(ID, LANES, vectorization_mode="vector_entry_point", **world)
    for name, options in map(named, names):
        env = getattr(vector_wrappers, name)(env, **options)
    return env


def single(names, **world):
    env = gym.make(ID, **world)
    for name, options in map(named, names):
        env = getattr(wrappers, name)(env, **options)
    return env


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize("names", STACKS.values(), ids=STACKS)
def test_lane_equals_the_single_environment(names, world):
    lanes, singles = vector(names, **world), [single(names, **world) for _ in range(LANES)]
    lanes.action_space.seed(0)
    assert lanes.single_action_space == singles[0].action_space
    observations, _ = lanes.reset(seed=SEED)
    np.testing.assert_array_equal(observations, [env.reset(seed=SEED + i)[0] for i, env in enumerate(singles)])
    over = np.zeros(LANES, bool)
    for _ in range(STEPS):
        actions = lanes.action_space.sample()
        if actions.dtype.kind == "f":
            actions = 1.2 * actions  # some beyond the ends, which are counted
        observations, rewards, _, truncated, infos = lanes.step(actions)
        for i, env in enumerate(singles):
            if over[i]:  # the vector environment has used this step to reset
                observation, info = env.reset()
                reward, ended = 0.0, False
            else:
                observation, reward, _, ended, info = env.step(actions[i])
            assert {name: infos[name][i] for name in info} == info
            np.testing.assert_array_equal(observations[i], observation)
            assert (rewards[i], truncated[i]) == (reward, ended)
            over[i] = ended


@pytest.mark.parametrize("names", STACKS.values(), ids=STACKS)
def test_nobody_looks_at_the_action_of_a_lane_that_has_ended(names):
    """NaN there switched `KeepBudgets` off in all lanes."""
    one, two = (vector(names, tasks=4) for _ in range(2))
    one.action_space.seed(0)
    first = np.arange(LANES) == 0  # whose episode ends later than those of the others
    for env in (one, two):
        env.reset(seed=SEED)
        env.step(one.action_space.sample() * 0)
        env.reset(options={"reset_mask": first})
    met = 0
    for _ in range(12):
        actions = one.action_space.sample()
        over = one.unwrapped.ended
        met += over.any() and not over.all()
        marked = actions.copy()
        marked[over] = np.nan if actions.dtype.kind == "f" else -1
        ours, theirs = one.step(actions), two.step(marked)
        for mine, other in zip(ours[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(mine, other)
        np.testing.assert_equal(ours[4], theirs[4])
    assert met > 0


def test_what_kept_tells_of_an_episode_that_ends_stands_in_its_last_info():
    lanes = vector(["KeepBudgets"], tasks=3, autoreset_mode="SameStep")
    singles = [single(["KeepBudgets"], tasks=3) for _ in range(LANES)]
    _, infos = lanes.reset(seed=SEED)
    assert infos["kept"].tolist() == [0.0] * LANES
    for i, env in enumerate(singles):
        env.reset(seed=SEED + i)
    for _ in range(9):
        actions = np.full((LANES, 6), 1.1, np.float32)
        *_, ended, infos = lanes.step(actions)
        for i, env in enumerate(singles):
            *_, over, info = env.step(actions[i])
            told = infos["final_info"] if ended[i] else infos
            assert {name: told[name][i] for name in info} == info
            assert over == ended[i]
            if over:
                assert {name: infos[name][i] for name in info} == env.reset()[1]


def test_masks_are_those_of_the_single_environments():
    lanes, singles = vector(["DiscreteActions"]), [single(["DiscreteActions"]) for _ in range(LANES)]
    lanes.reset(seed=SEED)
    for i, env in enumerate(singles):
        env.reset(seed=SEED + i)
    masks = lanes.action_masks()
    np.testing.assert_array_equal(masks, [env.action_masks() for env in singles])
    assert 0 < masks.mean() < 1


def test_all_of_the_time_is_the_exact_optimum():
    env = single(["BudgetShareAction"], arrivals="one_at_a_time", tasks=20)
    env.reset(seed=3)
    for share in np.linspace(-1.0, 1.0, 20):
        problem = env.unwrapped.problem()
        best = solve_exact(problem)
        *_, info = env.step(np.array([share], np.float32))
        if share == 1.0:
            assert info["delivered"] == pytest.approx(best.quality if best.feasible else 0.0, abs=1e-6)
        if best.feasible:
            assert info["delivered"] <= best.quality + 1e-5
            fastest = solve_exact(problem).delay if share == 1.0 else info["delay_s"]
            assert info["delay_s"] <= max(0.5 * (share + 1.0) * problem.delay_budget, fastest) * (1 + 1e-5)
            assert not info["violated"]


@pytest.mark.parametrize(
    ("wrapper", "scenario"),
    [("BudgetShareAction", "bert-battery"), (("BudgetShareAction", {"energy": True}), "bert-multimodal")],
)
def test_shares_of_energy_come_with_a_battery_or_on_demand(wrapper, scenario):
    assert single(["BudgetShareAction"]).action_space.shape == (1,)
    assert single([("BudgetShareAction", {"energy": False})], scenario="bert-battery").action_space.shape == (1,)
    assert vector([wrapper], scenario=scenario).action_space.shape == (LANES, 2)
    env = single([wrapper], scenario=scenario)
    assert env.action_space.shape == (2,)
    env.reset(seed=0)
    problem = env.unwrapped.problem()
    *_, info = env.step(np.array([1.0, 0.0], np.float32))
    assert info["energy_j"] <= 0.5 * problem.energy_budget * (1 + 1e-5)


@pytest.mark.parametrize("name", ["DiscreteActions", "BudgetShareAction", "KeepBudgets"])
def test_only_the_native_environment_is_wrapped(name):
    for other in ("CartPole-v1", "coinfer_gym/Layerwise-v0"):
        with pytest.raises(InvalidInputError, match="LAIM-v0's native vector environment"):
            getattr(vector_wrappers, name)(gym.make_vec(other, 2))
    with pytest.raises(InvalidInputError, match="changes the action space"):
        getattr(vector_wrappers, name)(vector(["DiscreteActions"]))


def test_bad_actions_are_refused():
    env = vector(["DiscreteActions"])
    env.reset(seed=0)
    for bad in (np.full(LANES, 468), np.full(LANES, -1), np.zeros(LANES)):
        with pytest.raises(InvalidInputError, match="whole numbers"):
            env.step(bad)
    for name in ("BudgetShareAction", "KeepBudgets"):
        env = vector([name])
        env.reset(seed=0)
        with pytest.raises(InvalidInputError, match="action"):
            env.step(np.full(env.action_space.shape, np.nan, np.float32))
    with pytest.raises(InvalidInputError, match="action"):
        env.step(np.zeros((LANES, 5), np.float32))
