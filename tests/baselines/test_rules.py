"""The rules: what they choose, how they are named, and that stable-baselines3 takes them for agents."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy

from baselines import solve_conic, solve_sca
from baselines.laim import FAMILY
from baselines.policy import Predictor
from baselines.registry import make_policy
from baselines.rules import (
    ConstantAction,
    MyopicExact,
    MyopicSCA,
    RandomPolicy,
    best_constant_action,
)
from coinfer_gym import InvalidInputError, load_scenario, solve_exact

LAIM = "coinfer_gym/LAIM-v0"
ONE_AT_A_TIME = {"arrivals": "one_at_a_time", "tasks": 4}
QUEUEING = {"tasks": 12}
OPTIONS = {"constant": {"action": [0.9, 0.0, 0.0, 1.0, -0.2, 0.0]}, "myopic_sca": {"cut": 1}}


def episode(env, policy, seed=0):
    """Infos, returns and actions of an episode, with the problems that were decided."""
    observation, _ = env.reset(seed=seed)
    ended, steps = False, []
    while not ended:
        problem = env.unwrapped.problem()
        action, _ = policy.predict(observation, deterministic=True)
        observation, reward, terminated, truncated, info = env.step(action)
        steps.append((problem, action, reward, info))
        ended = terminated or truncated
    return steps


@pytest.mark.parametrize("name", ["random", "constant", *FAMILY.policies])
def test_policy_plays_an_episode(name):
    env = gym.make(LAIM, **QUEUEING)
    policy = make_policy(name, OPTIONS.get(name)).bind(env)
    assert isinstance(policy, Predictor)
    steps = episode(env, policy)
    assert all(env.action_space.contains(action) for _, action, _, _ in steps)
    assert len(steps) + sum(info["dropped"] for *_, info in steps) == QUEUEING["tasks"]
    assert not any(info["clipped"] for *_, info in steps)


@pytest.mark.parametrize("name", FAMILY.policies)
def test_before_it_is_bound_a_policy_says_so(name):
    policy = make_policy(name, OPTIONS.get(name))
    with pytest.raises(InvalidInputError, match=r"Call bind\(env\) first"):
        policy.predict(np.zeros(7))
    if name not in ("myopic_exact", "myopic_sca", "quantum"):  # these solve any problem
        with pytest.raises(InvalidInputError, match=r"Call bind\(env\) first"):
            policy.solve(load_scenario("bert-multimodal").problem(1e-9))


def test_the_model_of_dynamic_programming_needs_an_environment():
    with pytest.raises(InvalidInputError, match=r"Call bind\(env\) first"):
        _ = make_policy("stochastic_dp").model


def test_robust_exact_is_myopic_exact_where_the_gain_is_known():
    env = gym.make(LAIM, tasks=30)
    exact, robust = (episode(env, make_policy(name).bind(env), seed=3) for name in ("myopic_exact", "robust_exact"))
    assert len(exact) == len(robust)
    for (_, expected, _, _), (_, action, _, _) in zip(exact, robust, strict=True):
        assert np.array_equal(expected, action)


def test_robust_exact_delivers_more_where_the_gain_is_late():
    env = gym.make(LAIM, tasks=100, csi_delay=0.5, csi_noise_db=1.0)
    trusting, robust = (
        np.mean(
            [info["delivered"] for seed in range(4) for *_, info in episode(env, make_policy(name).bind(env), seed)]
        )
        for name in ("myopic_exact", "robust_exact")
    )
    assert robust > trusting + 0.05


@pytest.mark.parametrize("name", ["predictive_control", "stochastic_dp"])
def test_foresight_needs_a_queue(name):
    with pytest.raises(InvalidInputError, match="arrivals"):
        make_policy(name).bind(gym.make(LAIM, **ONE_AT_A_TIME))


@pytest.mark.parametrize(
    ("options", "cut"),
    [({"scheme": "on_device"}, -1), ({"scheme": "on_server"}, 0), ({}, None), ({"cut": 1}, 1)],
    ids=["device", "server", "exact", "cut1"],
)
@pytest.mark.parametrize("world", [{"arrivals": "one_at_a_time", "tasks": 30}, {"tasks": 30}], ids=["one", "queue"])
def test_solver_keeps_its_promise(options, cut, world):
    env = gym.make(LAIM, **world)
    policy = MyopicExact(env, **options)
    cut = env.unwrapped.scenario.workload.cuts - 1 if cut == -1 else cut
    feasible = 0
    for problem, _, _, info in episode(env, policy, seed=5):
        solution = solve_exact(problem, cut=cut)
        assert info["cut"] == solution.cut
        if solution.feasible:
            feasible += 1
            assert info["quality"] == pytest.approx(solution.quality, abs=1e-6)
            assert info["delay_s"] == pytest.approx(solution.delay, rel=1e-4)
            assert info["delivered"] == info["quality"]
        else:
            assert info["delivered"] == 0.0
    assert feasible > 5


def test_design_by_the_bound_is_paid_by_what_it_is_worth():
    env = gym.make(LAIM, scenario="minilm-squad", arrivals="one_at_a_time", tasks=30)
    lost = []
    for problem, _, _, info in episode(env, MyopicExact(env, quality="rate_distortion"), seed=2):
        design = solve_exact(replace(problem, quality="rate_distortion"))
        best = solve_exact(problem)
        assert info["cut"] == design.cut
        if design.feasible:
            assert info["quality"] == pytest.approx(problem.evaluate(design).quality, abs=1e-3)
            lost.append(best.quality - info["quality"])
    assert min(lost) > -1e-3
    assert len(lost) > 15


def test_convex_solvers_refuse_a_measured_accuracy():
    problem = load_scenario("minilm-squad").problem(1e-10)
    for solve in (solve_conic, solve_sca):
        with pytest.raises(InvalidInputError, match="need a formula"):
            solve(problem)


def test_approximation_comes_close_to_the_optimum():
    env = gym.make(LAIM, **ONE_AT_A_TIME)
    for problem, _, _, info in episode(env, MyopicSCA(env, cut=1), seed=2):
        exact = solve_exact(problem, cut=1)
        assert info["cut"] == 1
        assert info["delivered"] == pytest.approx(exact.quality if exact.feasible else 0.0, abs=1e-3)


@pytest.mark.parametrize("name", ["random", "myopic_exact"])
def test_stable_baselines3_evaluates_it(name):
    env = gym.make(LAIM, **ONE_AT_A_TIME)
    policy = make_policy(name, OPTIONS.get(name)).bind(env)
    env.reset(seed=11)
    returns, lengths = evaluate_policy(policy, env, n_eval_episodes=3, return_episode_rewards=True, warn=False)
    assert lengths == [4, 4, 4]
    env.reset(seed=11)
    if name == "random":
        assert np.isfinite(returns).all()
        return
    expected = []
    for _ in range(3):  # the same worlds: the ones that the generator draws next
        observation, _ = env.reset()
        rewards = []
        for _ in range(4):
            observation, reward, *_ = env.step(policy.predict(observation)[0])
            rewards.append(reward)
        expected.append(sum(rewards))
    assert returns == pytest.approx(expected, rel=1e-5)  # theirs are float32


def test_solver_wants_one_plain_environment():
    observation = np.zeros(7, np.float32)
    with pytest.raises(InvalidInputError, match="bind"):
        MyopicExact().predict(observation)
    env = gym.make(LAIM, **ONE_AT_A_TIME)
    env.reset(seed=0)
    policy = MyopicExact(env)
    assert policy.predict(observation)[0].shape == (6,)
    assert policy.predict(observation[None])[0].shape == (1, 6)
    with pytest.raises(InvalidInputError, match="one environment at a time"):
        policy.predict(np.zeros((2, 7), np.float32))
    with pytest.raises(InvalidInputError, match="action space"):
        policy.bind(gym.wrappers.RescaleAction(env, np.zeros(6, np.float32), np.float32(3.0)))
    with pytest.raises(InvalidInputError, match="problem"):
        policy.bind(gym.make("CartPole-v1"))
    with pytest.raises(InvalidInputError, match="cut"):
        MyopicExact(env, cut=99)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: RandomPolicy(seed="x"), "seed"),
        (lambda: RandomPolicy(seed=-1), "seed"),
        (lambda: MyopicSCA(starts="a"), "starts"),
        (lambda: MyopicSCA(starts=0), "starts"),
        (lambda: MyopicExact(scheme=["joint"]), "scheme"),
        (lambda: MyopicExact(quality="beauty"), "quality"),
    ],
)
def test_wrong_options(make, name):
    with pytest.raises(InvalidInputError) as caught:
        make()
    assert caught.value.field == name


def test_random_actions_follow_their_seeds_alone():
    batch = np.zeros((3, 7), np.float32)
    first, again, other = RandomPolicy(seed=1), RandomPolicy(seed=1), RandomPolicy(seed=2)
    drawn = first.predict(batch)[0]
    assert drawn.shape == (3, 6)
    assert drawn.dtype == np.float32
    np.testing.assert_array_equal(drawn, again.predict(batch)[0])
    assert (drawn != other.predict(batch)[0]).any()
    assert (drawn != first.predict(batch)[0]).any()
    first.seed(0)
    np.testing.assert_array_equal(drawn, first.predict(batch)[0])
    first.seed(1)
    assert (drawn != first.predict(batch)[0]).any()
    env = gym.make("CartPole-v1")
    env.action_space.seed(3)
    expected = [env.action_space.sample() for _ in range(5)]
    env.action_space.seed(3)
    policy = RandomPolicy().bind(env)
    assert {int(policy.predict(np.zeros(4))[0]) for _ in range(50)} == {0, 1}
    assert [env.action_space.sample() for _ in range(5)] == expected  # its generator was left alone


def test_constant_action_is_checked():
    policy = ConstantAction([0.0] * 6)
    assert policy.predict(np.zeros((2, 7)))[0].shape == (2, 6)
    for bad in ([0.0, 2.0], [[0.0] * 6], [float("nan")] * 6, "best", None):
        with pytest.raises(InvalidInputError, match="action"):
            ConstantAction(bad)
    with pytest.raises(InvalidInputError, match="action"):
        ConstantAction([0.0] * 5).bind(gym.make(LAIM, **ONE_AT_A_TIME))


def test_best_constant_action_of_the_layerwise_world_beats_random_ones():
    world = {"tasks": 4, "channel": "constant"}
    action = best_constant_action(world, range(4), environment="coinfer_gym/Layerwise-v0", candidates=32)
    lanes = gym.make_vec("coinfer_gym/Layerwise-v0", 101, vectorization_mode="vector_entry_point", **world)
    lanes.reset(seed=[0] * 101)
    rivals = np.random.default_rng(0).uniform(-1.0, 1.0, (100, len(action))).astype(np.float32)
    total = sum(lanes.step(np.concatenate([action[None], rivals]))[4]["delivered"] for _ in range(4))
    assert total[0] > total[1:].max()


def test_best_constant_action_beats_random_ones():
    world = {"arrivals": "one_at_a_time", "tasks": 5}
    search = {"seeds": range(5000, 5064), "candidates": 48}
    action = best_constant_action(world, **search)
    np.testing.assert_array_equal(action, best_constant_action(world, **search))
    generator = np.random.default_rng(0)
    rivals = generator.uniform(-1.0, 1.0, (200, 6)).astype(np.float32)
    actions = np.concatenate([action[None], rivals])
    lanes = gym.make_vec(LAIM, 16 * len(actions), vectorization_mode="vector_entry_point", **world)
    lanes.reset(seed=list(range(16)) * len(actions))
    total = sum(lanes.step(np.repeat(actions, 16, axis=0))[4]["delivered"] for _ in range(5))
    delivered = total.reshape(len(actions), 16).mean(axis=1)
    assert delivered[0] > delivered[1:].max()
