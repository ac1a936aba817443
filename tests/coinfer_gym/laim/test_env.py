"""The environments as their users meet them: checkers, seeds, copies, specs, errors, and what is promised."""

import copy
import dataclasses
import hashlib
import importlib
import itertools
import json
import math
import os
import pickle
import random
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import coinfer_gym
from coinfer_gym import Decision, InvalidInputError, load_scenario, shipped_scenarios, solve_exact, solve_exact_batch
from coinfer_gym.laim import vector_wrappers
from coinfer_gym.laim.dynamics import INFO_NAMES
from coinfer_gym.laim.env import LAIMEnv, LAIMVectorEnv
from coinfer_gym.laim.wrappers import KeepBudgets
from coinfer_gym.world import draw, gain_db_range
from tests.coinfer_gym.equal import plain

LAIM = "coinfer_gym/LAIM-v0"
ROOT = Path(__file__).parents[3]
ONE_AT_A_TIME = {"arrivals": "one_at_a_time"}
LAYERWISE, CELL = "coinfer_gym/Layerwise-v0", "coinfer_gym/Cell-v0"
MIXED = {"scenario": "cell-mixed", "devices": 5, "kinds": [{"scenario": "vit-image", "tasks": 4}, {"tasks": 7}]}
REGNET = {"scenario": "regnet-rpi3b-wifi", "accuracy_loss": 0.05, "delay_budget_range": [0.2, 0.5], "tasks": 30}
CASES = [
    *((name, {}) for name in sorted(gym.registry) if name.startswith("coinfer_gym/") and name != LAIM),
    *((LAIM, {"scenario": name} | arrivals) for name in shipped_scenarios() for arrivals in ({}, ONE_AT_A_TIME)),
    (LAYERWISE, REGNET),
    (CELL, MIXED),
    (CELL, {"scenario": "bert-battery", "devices": 3, "battery_capacity": 0.5, "tasks": 8}),
    (CELL, {"devices": 6, "share_min": 0.4, "tasks": 5, "csi_delay": 0.5, "csi_noise_db": 1.0}),
]
NAMES = [field.name for field in dataclasses.fields(Decision)]

FEW = [case for case in CASES if case[1].get("scenario") in (None, "bert-battery", "minilm-squad") or case[0] != LAIM]

cases = pytest.mark.parametrize(("name", "kwargs"), FEW)


def make(**kwargs):
    return gym.make(LAIM, **kwargs).unwrapped


def steps(env, count, seed=None):
    """What `count` random steps hand out; a new episode begins where one ends."""
    if seed is not None:
        env.action_space.seed(seed)
    out = []
    for _ in range(count):
        result = env.step(env.action_space.sample())
        out.append(result)
        if result[2] or result[3]:
            out.append(env.reset())
    return out


def digest(name, kwargs):
    env = gym.make(name, **kwargs)
    first = env.reset(seed=11)
    return hashlib.sha256(repr(plain([first, *steps(env, 50, seed=3)])).encode()).hexdigest()


@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_gymnasium_finds_nothing_to_warn_of(name, kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(name, **kwargs).unwrapped, skip_render_check=True)


@cases
def test_stable_baselines_finds_nothing_to_warn_of(name, kwargs):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(gym.make(name, **kwargs).unwrapped, warn=True, skip_render_check=True)


def test_another_process_plays_the_same_episodes():
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "123"}
    command = [sys.executable, __file__]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    assert json.loads(out.stdout) == [digest(*case) for case in FEW]


def test_an_id_with_its_module_needs_no_import():
    code = (
        "import gymnasium as gym\n"
        f"env = gym.make('coinfer_gym:{LAIM}')\n"
        "print(env.reset(seed=5)[1]['gain_db'])\n"
        f"print(gym.make_vec('coinfer_gym:{LAIM}', num_envs=2).reset(seed=5)[1]['gain_db'][0])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", code]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    expected = make().reset(seed=5)[1]["gain_db"]
    assert [float(line) for line in out.stdout.split()] == [expected, expected]


@cases
def test_another_seed_is_another_episode(name, kwargs):
    env = gym.make(name, **kwargs).unwrapped
    assert plain(env.reset(seed=0)) == plain(env.reset(seed=0))
    assert plain(env.reset(seed=0)) != plain(env.reset(seed=1))
    assert plain(env.reset()) != plain(env.reset())


@cases
def test_a_copy_goes_on_like_the_original(name, kwargs):
    env = gym.make(name, **kwargs).unwrapped
    env.reset(seed=2)
    steps(env, 7, seed=4)
    twins = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]  # noqa: S301  one's own pickle
    expected = plain([*steps(env, 40, seed=5), env.reset()])
    for twin in twins:
        assert plain([*steps(twin, 40, seed=5), twin.reset()]) == expected


@cases
def test_a_spec_rebuilds_its_environment_from_json(name, kwargs):
    env = gym.make(name, **kwargs)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.spec == env.spec
    env.reset(seed=8)
    again.reset(seed=8)
    assert plain(steps(again, 20, seed=1)) == plain(steps(env, 20, seed=1))


def test_a_spec_with_every_kind_of_keyword_rebuilds_its_environment():
    kwargs = {
        "scenario": "bert-battery",
        "quality": "magnitude_pruning",
        "delay_budget_range": (0.2, 1.5),
        "tasks": 30,
        "workload": "vit-base",
        "input_bits": None,
    }
    env = gym.make(LAIM, **kwargs)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.scenario == env.unwrapped.scenario
    assert again.unwrapped.scenario.delay_budget_range == (0.2, 1.5)
    assert again.unwrapped.scenario.workload.name == "vit-base"


def test_a_keyword_changes_its_field():
    env = make(scenario="bert-text", delay_budget=0.3, arrivals="poisson", queue_capacity=3)
    assert env.scenario.name == "bert-text"
    assert (env.scenario.delay_budget, env.scenario.arrivals, env.scenario.queue_capacity) == (0.3, "poisson", 3)
    assert env.reset(seed=0)[1]["delay_budget_s"] == 0.3


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"delay_bugdet": 0.3}, "delay_bugdet.*Did you mean 'delay_budget'"),
        ({"scenario": "bert-multimodel"}, "Did you mean 'bert-multimodal'"),
        ({"delay_budget_range": (2.0, 1.0)}, "delay_budget_range"),
        ({"scenario": "no-such-file.yaml"}, "no such file"),
    ],
)
def test_a_wrong_keyword_is_an_error_that_helps(kwargs, message):
    for build in (LAIMEnv, LAIMVectorEnv):
        with pytest.raises(InvalidInputError, match=message):
            build(**kwargs)


@cases
def test_what_a_step_hands_out_has_plain_types(name, kwargs):
    env = gym.make(name, **kwargs).unwrapped
    observation, info = env.reset(seed=0)
    keys = set(info)
    for _ in range(30):
        assert observation in env.observation_space
        assert set(info) == keys
        assert all(type(value) is np.float64 and math.isfinite(value) for value in info.values())
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
        if terminated or truncated:
            observation, info = env.reset()


def test_info_has_the_documented_keys_and_no_nan():
    env = make(scenario="bert-battery")
    _, info = env.reset(seed=0)
    for result in steps(env, 300, seed=0):
        assert tuple(result[-1]) == INFO_NAMES == tuple(info)
        assert not any(math.isnan(value) for value in result[-1].values())


def test_observations_stay_within_their_space_to_the_end():
    for name, arrivals in itertools.product(shipped_scenarios(), ("poisson", "one_at_a_time")):
        kwargs = {"arrivals": arrivals, "tasks": 40, "shadowing_db": 20.0, "csi_noise_db": 10.0, "arrival_rate": 5.0}
        env = make(scenario=name, **kwargs)
        observation, _ = env.reset(seed=1)
        for result in steps(env, 80, seed=1):
            observation = result[0]
            assert observation.dtype == np.float32
            assert np.isfinite(observation).all()
            assert np.abs(observation).max() <= 1.0


@pytest.mark.parametrize("name", ["bert-multimodal", "bert-battery"])
@pytest.mark.parametrize("arrivals", [{}, ONE_AT_A_TIME])
def test_the_world_does_not_depend_on_the_actions(name, arrivals):
    worlds, met = [], []
    for policy in (lambda rng: rng.uniform(-1, 1, 6), lambda rng: -np.ones(6), lambda rng: np.ones(6)):
        env, rng, truncated = make(scenario=name, **arrivals), np.random.default_rng(0), False
        env.reset(seed=21)
        world = env.world()
        while not truncated:
            _, _, _, truncated, info = env.step(policy(rng))
            assert info["gain_db"] == pytest.approx(10.0 * math.log10(world.gain_at(info["time_s"])))
            if not arrivals:
                assert np.abs(world.arrivals - (info["time_s"] - info["wait_s"])).min() < 1e-9
            met.append(info["time_s"])
        worlds.append(env.world())
    for world in worlds:
        assert np.array_equal(world.arrivals, worlds[0].arrivals)
        assert np.array_equal(world.gains, worlds[0].gains)
        assert (world.delay_budget, world.energy_budget) == (worlds[0].delay_budget, worlds[0].energy_budget)
    assert len(set(met)) > 100  # the three played differently


def test_a_world_seed_replays_a_world_for_one_episode_only():
    env = make(delay_budget_range=(0.2, 2.0))
    env.reset(seed=1)
    plain_seeds = [env.world().seed]
    for _ in range(3):
        env.reset()
        plain_seeds.append(env.world().seed)
    env.reset(seed=1)
    replayed = env.reset(options={"world_seed": 77})
    assert env.world().seed == 77
    assert np.array_equal(env.world().arrivals, draw(env.scenario, 77).arrivals)
    assert replayed[1]["delay_budget_s"] == draw(env.scenario, 77).delay_budget
    again = make(delay_budget_range=(0.2, 2.0)).reset(seed=999, options={"world_seed": 77})
    assert plain(replayed) == plain(again)
    env.reset()
    assert env.world().seed == plain_seeds[2], "the option changed the worlds after it"
    env.reset(options={})
    assert env.world().seed == plain_seeds[3]


@pytest.mark.parametrize("options", [3, "ab", {"world_sed": 1}, {"world_seed": 1, "gain": 2}])
def test_an_unknown_option_is_an_error(options):
    with pytest.raises(InvalidInputError, match="options"):
        make().reset(options=options)


@pytest.mark.parametrize("value", [-1, 2**64, 1.5, True])
def test_a_world_seed_that_is_no_64_bit_number_is_an_error(value):
    with pytest.raises(InvalidInputError, match="world_seed"):
        make().reset(options={"world_seed": value})


@pytest.mark.parametrize("component", [0, 3])
def test_nan_is_an_error_that_leaves_the_episode_as_it_was(component):
    env, twin = make(), make()
    env.reset(seed=4)
    twin.reset(seed=4)
    action = np.zeros(6)
    action[component] = np.nan
    names = ("cut", "retained_device", "retained_server", "power", "frequency_device", "frequency_server")
    with pytest.raises(InvalidInputError, match=rf"{names[component]}: got nan"):
        env.step(action)
    assert plain(steps(env, 10, seed=0)) == plain(steps(twin, 10, seed=0))


BAD_ACTIONS = {
    "another length": np.zeros(5),
    "another dimension": np.zeros((1, 6)),
    "nothing": None,
    "text": ["0.5"] * 6,
    "complex": np.zeros(6, complex),
    "masked": np.ma.masked_array(np.zeros(6), [True, *[False] * 5]),
    "dates": np.zeros(6, "datetime64[s]"),
    "durations": np.zeros(6, "timedelta64[s]"),
    "records": np.zeros(6, [("a", float)]),
    "ragged": [[0.0], *[[0.0, 1.0]] * 5],
    "objects": [object()] * 6,
    "truths": [True] * 6,
}


@pytest.mark.parametrize("action", BAD_ACTIONS.values(), ids=BAD_ACTIONS)
def test_an_action_of_anything_but_six_real_numbers_is_one_error(action):
    env, lane = make(), gym.make_vec("coinfer_gym/LAIM-v0", 1, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    lane.reset(seed=0)
    for take in (env.step, env.decision, KeepBudgets(env).step):
        with pytest.raises(InvalidInputError, match=r"^[^\n]*action[^\n]*Give 6 real numbers") as caught:
            take(action)
        assert len(str(caught.value)) < 400
    for batch in (lane, vector_wrappers.KeepBudgets(lane)):
        with pytest.raises(InvalidInputError, match=r"^[^\n]*action[^\n]*Give 1 x 6 real numbers"):
            batch.step(action[None] if isinstance(action, np.ndarray) else action and [action])


def test_a_tensor_with_a_gradient_is_one_error():
    torch = pytest.importorskip("torch")
    env = make()
    env.reset(seed=0)
    env.step(torch.zeros(6))
    with pytest.raises(InvalidInputError, match="Give 6 real numbers"):
        env.step(torch.zeros(6, requires_grad=True))


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_a_step_before_a_reset_or_after_the_end_needs_a_reset(name):
    for env in (gym.make(name), gym.make_vec(name, 2), gym.make(name).unwrapped):
        with pytest.raises(ResetNeeded, match="reset"):
            env.step(np.zeros(env.action_space.shape))
    env = gym.make(name, tasks=3, arrivals="one_at_a_time").unwrapped
    for look in (env.problem, env.world):
        with pytest.raises(ResetNeeded, match="reset"):
            look()
    action = np.zeros(env.action_space.shape)
    env.reset(seed=0)
    count = 3 * getattr(env, "devices", 1)  # of a cell each device has three tasks
    assert [env.step(action)[3] for _ in range(count)] == [False] * (count - 1) + [True]
    for _ in range(2):
        with pytest.raises(ResetNeeded, match="reset"):
            env.step(action)
    env.reset()
    env.step(action)


@pytest.mark.parametrize("name", [LAIM, LAYERWISE, CELL])
def test_actions_out_of_range_are_clipped_and_counted(name):
    env, twin = (gym.make(name).unwrapped for _ in range(2))
    env.reset(seed=0)
    twin.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(30):
        action = rng.uniform(-1.5, 1.5, env.action_space.shape)
        action[0] = rng.choice([-np.inf, np.inf, 0.3])
        kept = action.copy()
        *one, info = env.step(action)
        *two, info_of_clipped = twin.step(np.clip(action, -1.0, 1.0))
        assert plain(one) == plain(two)
        assert info.pop("clipped") == np.sum(np.abs(action) > 1.0)
        assert info_of_clipped.pop("clipped") == 0.0
        assert info == info_of_clipped
        assert np.array_equal(action, kept), "the caller's array was written to"


def test_what_was_handed_out_never_changes_and_may_be_changed():
    env, twin = make(tasks=20), make(tasks=20)
    held, kept = [env.reset(seed=0)], []
    twin.reset(seed=0)
    kept.append(copy.deepcopy(held[0]))
    for k in range(60):
        action = np.full(6, math.sin(k), np.float32)
        result, expected = env.step(action), twin.step(action)
        assert plain(result) == plain(expected)
        held.append(result)
        kept.append(copy.deepcopy(result))
        if result[3]:
            held.append(env.reset())
            kept.append(copy.deepcopy(held[-1]))
            twin.reset()
    assert plain(held) == plain(kept)
    observation, info = env.reset(seed=1)
    expected = twin.reset(seed=1)
    for _ in range(25):
        observation[:] = -7.0
        info.clear()
        action = np.zeros(6, np.float32)
        observation, _, _, truncated, info = result = env.step(action)
        action[:] = np.nan
        assert plain(result) == plain(twin.step(np.zeros(6)))
        if truncated:
            break


def test_global_random_states_are_untouched():
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002  that is the point
    env = make(scenario="bert-battery", csi_noise_db=2.0)
    env.reset(seed=0)
    steps(env, 250, seed=0)
    env.reset()
    vector = LAIMVectorEnv(3)
    vector.reset(seed=0)
    vector.step(np.zeros((3, 6)))
    assert plain(list(np.random.get_state())) == plain(list(numpy_state))  # noqa: NPY002
    assert random.getstate() == python_state


def test_float64_float32_and_lists_are_the_same_action():
    results = []
    action = np.array([0.5, -0.25, 0.0, 1.0, -1.0, 0.75])
    for same in (action, action.tolist(), action.astype(np.float32), np.repeat(action, 2)[::2]):
        env = make()
        env.reset(seed=0)
        results.append(plain(env.step(same)))
    assert results == [results[0]] * 4


# A tight budget leaves the promise no room: patience 1 would give up what is late by rounding, and so does a battery
# that holds just what the solution spends.
PROMISES = [
    ({}, 80),
    ({"scenario": "minilm-squad"}, 80),
    ({"arrivals": "one_at_a_time"}, 80),
    ({"patience": 1.0}, 80),
    ({"scenario": "bert-battery", "battery_capacity": 0.8, "harvest_power": 0.5}, 80),
    ({"quality": "magnitude_pruning"}, 80),
    ({"quality": "parallel_laplacian", "scenario": "vit-image"}, 40),
    ({"delay_budget_range": (0.2, 2.0), "energy_budget_range": (0.3, 1.7), "tasks": 20}, 60),
]


@pytest.mark.parametrize(("kwargs", "count"), PROMISES)
def test_a_solution_yields_what_it_promises(kwargs, count):
    env, played = make(**kwargs), 0
    env.reset(seed=6)
    for _ in range(count):
        solution = solve_exact(env.problem())
        _, _, _, truncated, info = env.step(env.action(solution))
        if solution.feasible:
            played += 1
            promised = [solution.quality, solution.delay, solution.energy]
            assert [info["quality"], info["delay_s"], info["energy_j"]] == pytest.approx(promised, rel=1e-5)
            assert (info["violated"], info["cut"], info["clipped"]) == (0.0, solution.cut, 0.0)
            assert info["delivered"] == info["quality"]
        if truncated:
            env.reset()
    assert played > count // 4


def test_the_problem_is_that_of_the_task_at_hand():
    env = make(scenario="bert-battery", battery_capacity=0.05)
    _, info = env.reset(seed=3)
    limited = 0
    for k in range(60):
        problem = env.problem()
        _, _, _, truncated, info = env.step(env.action_space.sample() if k % 2 else env.action(solve_exact(problem)))
        assert 10.0 * math.log10(problem.gain) == pytest.approx(info["gain_db"])
        assert problem.delay_budget == pytest.approx(info["delay_budget_s"])
        assert problem.energy_budget == pytest.approx(min(info["energy_budget_j"], info["battery_j"]))
        assert problem.workload == env.scenario.workload
        limited += problem.energy_budget < info["energy_budget_j"]
        if truncated:
            env.reset()
    assert limited > 0


def test_an_empty_battery_has_a_problem_without_solution():
    env = make(battery_capacity=1.0, battery_initial=0.0, arrivals="one_at_a_time")
    env.reset(seed=0)
    solution = solve_exact(env.problem())
    assert not solution.feasible
    assert np.isfinite(env.action(solution)).all()


def random_decision(rng, s):
    return Decision(
        int(rng.integers(s.workload.cuts)),
        rng.uniform(s.retained_device_min, 1.0),
        rng.uniform(s.retained_server_min, 1.0),
        s.power_min * (s.power_max / s.power_min) ** rng.uniform(),
        rng.uniform(s.frequency_device_min, s.frequency_device_max),
        rng.uniform(s.frequency_server_min, s.frequency_server_max),
    )


@pytest.mark.parametrize("name", ["bert-multimodal", "vit-image"])
def test_decisions_become_actions_and_come_back(name):
    env, rng = make(scenario=name), np.random.default_rng(0)
    for _ in range(100):
        decision = random_decision(rng, env.scenario)
        action = env.action(decision)
        assert action in env.action_space
        back = env.decision(action)
        assert back.cut == decision.cut
        assert dataclasses.astuple(back) == pytest.approx(dataclasses.astuple(decision), rel=6e-6)
        again = env.action(env.decision(env.action_space.sample()))
        assert env.decision(again) == env.decision(again.copy())


def test_both_ends_have_a_quarter_of_the_scale_and_the_cuts_between_them_equal_shares():
    env = make()
    actions = np.zeros((4400, 6))
    actions[:, 0] = np.linspace(-1.0, 1.0, 4400)
    cuts = [env.decision(action).cut for action in actions]
    assert cuts == sorted(cuts)
    assert np.bincount(cuts).tolist() == pytest.approx([1100, *[200] * 11, 1100], abs=1)


@pytest.mark.parametrize("cut", [-1, 13])
def test_a_cut_that_the_workload_does_not_have_is_an_error(cut):
    env = make()
    env.reset(seed=0)
    decision = Decision(cut, 1.0, 1.0, 0.1, 1e9, 1e9)
    for use in (env.action, env.problem().evaluate):
        with pytest.raises(InvalidInputError, match="cut"):
            use(decision)


@pytest.mark.parametrize("action", [np.full(6, np.nan), np.zeros(3)])
def test_there_is_no_decision_in_a_malformed_action(action):
    with pytest.raises(InvalidInputError, match="action"):
        make().decision(action)


def actions_of(s, rows):
    """Actions of a batch of solutions, by the table of the action space."""
    bins = np.array([-0.75, *((np.arange(1, s.cuts - 1) - 0.5) / (s.cuts - 2) - 0.5), 0.75])
    columns = [bins[rows["cut"]]]
    for name in NAMES[1:]:
        low, high = getattr(s, f"{name}_min"), getattr(s, f"{name}_max", 1.0)
        power = {"retained": 2.0 / 3.0, "frequency": 2.0}.get(name.split("_")[0], 1.0)
        if name.startswith("retained"):
            part = ((np.clip(rows[name], low, high) - low) / (high - low)) ** power
        else:
            part = (np.clip(rows[name], low, high) ** power - low**power) / (high**power - low**power)
        columns.append(2.0 * part - 1.0)
    return np.stack(columns, axis=1)


def play(lanes, policy, arrivals, **reset):
    """Mean delivered quality per task of the first episode in every lane, and the world seeds."""
    env = LAIMVectorEnv(lanes, autoreset_mode=AutoresetMode.SAME_STEP, **arrivals)
    env.reset(**reset)
    seeds = [int(seed) for seed in env.lanes.state["world_seed"]]
    total, over = np.zeros(lanes), np.zeros(lanes, bool)
    while not over.all():
        _, _, _, truncated, infos = env.step(policy(env))
        delivered = infos["final_info"]["delivered"] if truncated.any() else infos["delivered"]
        total += np.where(over, 0.0, np.where(truncated, delivered, infos["delivered"]))
        over |= truncated
    return total / env.scenario.tasks, seeds


def myopic(cut=None):
    """The exact optimum of every task by itself, over all cuts or at one."""

    def policy(env):
        state, s = env.lanes.state, env.scenario
        problem = s.problem(1.0)
        gains, left = 10.0 ** (state["gain_db"] / 10.0), state["delay_budget"] - state["wait"]
        return actions_of(s, solve_exact_batch(problem, gains, left, state["energy_budget"], cut, parallel=False))

    return policy


@pytest.mark.parametrize("arrivals", [{}, ONE_AT_A_TIME | {"delay_budget_range": [0.1, 0.5]}])
def test_the_default_scenario_has_something_to_decide(arrivals):
    """In the queue, where waiting takes time; one at a time only if budgets differ: with 0.5 s the device is best."""
    best, seeds = play(16, myopic(), arrivals, seed=0)
    assert best.mean() > 0.2
    for cut in (0, load_scenario("bert-multimodal").workload.cuts - 1):
        restricted, _ = play(16, myopic(cut), arrivals, seed=0)
        assert restricted.mean() < 0.9 * best.mean(), f"cut {cut} alone is nearly as good"
    constants = np.random.default_rng(0).uniform(-1.0, 1.0, (1000, 6))
    worlds = [play(1000, lambda _: constants, arrivals, options={"world_seed": seed})[0] for seed in seeds]
    assert np.mean(worlds, axis=0).max() < 0.9 * best.mean(), "one constant action is nearly as good"


def test_the_best_cut_of_the_default_scenario_changes_with_the_channel():
    s = load_scenario("bert-multimodal")
    gains_db = np.linspace(*gain_db_range(s), 200)
    left = 0.3 * s.delay_budget  # after a wait; a task that has all of its time is best served on the device
    rows = solve_exact_batch(s.problem(1.0, left), 10.0 ** (gains_db / 10.0), parallel=False)
    cuts = rows["cut"][rows["reason"] == 0]
    assert {0, s.cuts - 1} < set(cuts.tolist())
    sent = np.array([s.workload.upload_bits[cut] for cut in cuts])
    assert (np.diff(sent) >= 0.0).all(), "a better channel moves the cut to where more bits are sent"


def test_importing_twice_registers_once():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.reload(coinfer_gym)
    assert LAIM in gym.registry


if __name__ == "__main__":
    print(json.dumps([digest(*case) for case in FEW]))


@pytest.mark.parametrize("field", ["delay_budget", "energy_budget"])
def test_budget_that_no_decision_can_meet_is_refused_with_what_would_do(field):
    with pytest.raises(InvalidInputError, match="No decision meets both") as caught:
        gym.make("coinfer_gym/LAIM-v0", **{field: 1e-6})
    assert caught.value.field == field
    needed = float(caught.value.remedy.split()[-2])  # before the unit
    gym.make("coinfer_gym/LAIM-v0", **{field: 1.01 * needed})


def test_action_of_an_impossible_decision_is_refused():
    env = gym.make("coinfer_gym/LAIM-v0").unwrapped
    with pytest.raises(InvalidInputError, match="retained_device"):
        env.action(Decision(1, 1.3, 0.5, 0.1, 1e9, 1e9))
    with pytest.raises(InvalidInputError, match="Give a Decision"):
        env.action(np.ones(5))


def test_another_workload_brings_its_own_raw_sample(tmp_path):
    workload = coinfer_gym.load_workload("gpt2")
    workload.save(tmp_path / "mine.yaml")
    env = gym.make("coinfer_gym/LAIM-v0", workload=str(tmp_path / "mine.yaml"), value_bits=None).unwrapped
    assert env.scenario.workload == workload
