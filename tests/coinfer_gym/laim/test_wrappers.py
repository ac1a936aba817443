"""The wrappers: what they let through, what they change, and that agents, copies and specs get along with them."""

import copy
import dataclasses
import pickle
import warnings
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from coinfer_gym import Decision, InvalidInputError, load_scenario, solve_exact, solve_exact_batch
from coinfer_gym.envs.custom_reward import CustomReward
from coinfer_gym.envs.hybrid import HybridActions
from coinfer_gym.laim import spaces, vector_wrappers
from coinfer_gym.laim.decision import as_tuple
from coinfer_gym.laim.outcome import fit
from coinfer_gym.laim.safety import DECISION, decisions_that_meet, keep_decision
from coinfer_gym.laim.wrappers import BudgetShareAction, DiscreteActions, KeepBudgets, Regret

ID = "coinfer_gym:coinfer_gym/LAIM-v0"
WRAPPERS = {
    "discrete": DiscreteActions,
    "dict": lambda env: HybridActions(env, kind="dict"),
    "tuple": lambda env: HybridActions(env, kind="tuple"),
    "kept": KeepBudgets,
    "exact within": BudgetShareAction,
    "regret": Regret,
    "stack": lambda env: Regret(DiscreteActions(KeepBudgets(env), retained_levels=[1.0, [0.1, 1.0]], cuts=[0, 1, 12])),
}
NAMES = [field.name for field in dataclasses.fields(Decision)]

# Scenarios that differ in what binds; gains and budgets are drawn around them.
SCENARIOS = [
    load_scenario("bert-multimodal"),
    load_scenario("paper-lyu"),
    load_scenario("bert-multimodal", workload="resnet-152", quality="magnitude_pruning"),
    load_scenario("bert-multimodal", input_bits=1e4, quality="rate_distortion"),
    load_scenario("bert-multimodal", power_min=0.2, retained_server_min=1.0),
    load_scenario(
        "bert-multimodal",
        static_power_device=0.02,
        static_power_server=0.2,
        waiting_power_device=0.005,
        circuit_power=0.02,
        amplifier_efficiency=0.5,
        rate_max=4e7,
        snr_gap=2.0,
        round_trip=0.02,
        memory_bandwidth_device=5e9,
        memory_bandwidth_server=2e10,
        memory_capacity_device=2e8,
        memory_capacity_server=3.5e8,
        sparsity_gain=0.9,
    ),
]
unit = st.floats(-1.0, 1.0)
tasks = st.tuples(
    st.sampled_from(SCENARIOS),
    st.floats(-140.0, -80.0),  # gain in dB
    st.floats(-2.0, 1.0),  # powers of ten of the nominal budgets
    st.floats(-2.0, 1.0),
)
actions = st.tuples(*[unit] * 6)


def make(name="", **overrides):
    env = gym.make(ID, **({"tasks": 20} | overrides))
    return WRAPPERS[name](env) if name else env


def problem_of(task):
    scenario, gain_db, delay, energy = task
    return scenario.problem(
        10.0 ** (gain_db / 10.0), scenario.delay_budget * 10.0**delay, scenario.energy_budget * 10.0**energy
    )


def decode(scenario, action):
    rows = np.asarray(action, np.float64)[None]
    return Decision(*spaces.decode(scenario.tables, rows, 0))


def keep_budgets(problem, decision):
    task = (problem.gain, problem.delay_budget, problem.energy_budget)
    changed, kept = keep_decision(problem.tables, *map(float, task), as_tuple(decision))
    return Decision(*kept) if changed else decision


def keep(task, decision):
    return keep_budgets(problem_of(task), decision)


def marks(problem, table):
    task = (problem.gain, problem.delay_budget, problem.energy_budget)
    return decisions_that_meet(problem.tables, tuple(np.array([each], np.float64) for each in task), table)[0]


@pytest.mark.parametrize("name", WRAPPERS)
def test_gymnasium_checker_has_nothing_to_say(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*is different from the unwrapped version")  # what a wrapper is
        check_env(make(name), skip_render_check=True)


@pytest.mark.parametrize("name", ["kept", "stack"])
def test_sb3_checker_has_nothing_to_say(name):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(make(name))


@pytest.mark.parametrize("name", WRAPPERS)
def test_specs_rebuild_the_stack(name):
    env = make(name)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.spec == env.spec
    assert str(again) == str(env)
    assert again.action_space == env.action_space


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])  # noqa: S301
def test_copies_go_on_by_themselves(name, duplicate):
    env = make(name)
    env.reset(seed=3)
    env.action_space.seed(3)
    env.step(env.action_space.sample())
    twin = duplicate(env)
    for _ in range(5):
        action = env.action_space.sample()
        ours, theirs = env.step(action), twin.step(action)
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1:] == theirs[1:]
    assert twin.unwrapped is not env.unwrapped


@pytest.mark.parametrize("name", ["CartPole-v1", "coinfer_gym/Layerwise-v0"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_other_environments_are_refused(wrapper, name):
    if name == "CartPole-v1" or wrapper not in ("dict", "tuple"):
        with pytest.raises(InvalidInputError, match=r": env: .*(works with LAIM-v0 only|of coinfer_gym)"):
            WRAPPERS[wrapper](gym.make(name))


@pytest.mark.parametrize("wrapper", [DiscreteActions, BudgetShareAction, HybridActions, KeepBudgets])
def test_wrappers_of_actions_need_the_plain_ones(wrapper):
    with pytest.raises(InvalidInputError, match="changes the action space"):
        wrapper(make("dict"))


# --- DiscreteActions


def test_discrete_actions_are_the_table():
    env = make("discrete")
    env.reset(seed=0)
    for action in range(0, env.action_space.n, 97):
        env.reset(seed=action)
        info = env.step(action)[4]
        decision = env.decision(action)
        found = (
            info["cut"],
            info["retained_device"],
            info["retained_server"],
            info["power_w"],
            info["frequency_device_hz"],
            info["frequency_server_hz"],
        )
        np.testing.assert_allclose(found, dataclasses.astuple(decision), rtol=1e-6)
    assert env.action_space.n == 13 * 12 * 3


def test_discrete_table_follows_its_levels():
    env = DiscreteActions(
        make(), retained_levels=[0.5, (1.0, 0.2)], power_levels=[0.1, 1.0], frequency_levels=[0.5], cuts=[1, 12]
    )
    table = [env.decision(n) for n in range(env.action_space.n)]
    assert [row.cut for row in table] == [1] * 4 + [12] * 4
    assert [(row.retained_device, row.retained_server) for row in table[:4]] == [(0.5, 0.5)] * 2 + [(1.0, 0.2)] * 2
    assert [row.power for row in table[:2]] == pytest.approx([0.02, 0.2])
    assert table[0].frequency_device == 1.2e9  # half of the highest


@pytest.mark.parametrize("name", ["bert-multimodal", "paper-lyu"])
def test_discrete_clocks_save_time_at_one_price(name):
    """Energy for a second saved by either clock, from finite differences of the evaluation."""
    scenario = load_scenario(name)
    problem = scenario.problem(1e-10, 1e3, 1e3)
    decision = DiscreteActions(make(scenario=name)).decision(18 * 13)
    assert scenario.frequency_server_min < decision.frequency_server < scenario.frequency_server_max
    prices = []
    for clock in ("frequency_device", "frequency_server"):
        at = getattr(decision, clock)
        slow, fast = (
            problem.evaluate(dataclasses.replace(decision, **{clock: factor * at})) for factor in (1 - 1e-5, 1 + 1e-5)
        )
        prices.append((fast.energy - slow.energy) / (slow.delay - fast.delay))
    assert prices[0] > 0.0
    assert prices[1] == pytest.approx(prices[0], rel=1e-4)


def test_discrete_values_stay_in_bounds():
    env = DiscreteActions(
        make(retained_device_min=0.4, frequency_server_min=2e9), retained_levels=[0.1], frequency_levels=[1e-3]
    )
    decision = env.decision(0)
    assert (decision.retained_device, decision.frequency_device, decision.frequency_server) == (0.4, 3e8, 2e9)


@pytest.mark.parametrize(
    "arguments",
    [
        {"retained_levels": []},
        {"power_levels": [1.5]},
        {"frequency_levels": [float("nan")]},
        {"cuts": [13]},
        {"cuts": 1},
        {"cuts": ["1"]},
        {"retained_levels": 0.5},
        {"retained_levels": ["0.5"]},
        {"retained_levels": [[0.1, None]]},
        {"power_levels": "half"},
        {"frequency_levels": [True]},
    ],
)
def test_discrete_levels_are_checked(arguments):
    with pytest.raises(InvalidInputError, match=next(iter(arguments))):
        DiscreteActions(make(), **arguments)


@pytest.mark.parametrize("action", [-1, 13 * 36, 0.5])
def test_discrete_rows_are_checked(action):
    env = make("discrete")
    env.reset(seed=0)
    with pytest.raises(InvalidInputError, match="action"):
        env.step(action)


@given(tasks, st.lists(actions, min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_masks_agree_with_evaluation(task, rows):
    scenario, problem = task[0], problem_of(task)
    decisions = [decode(scenario, row) for row in rows]
    table = np.array([dataclasses.astuple(decision) for decision in decisions], DECISION)
    mask = marks(problem, table)
    held = [Decision(*fit(scenario.tables.cuts, as_tuple(decision))) for decision in decisions]  # what memories hold
    outcomes = [problem.evaluate(decision) for decision in held]
    if any(outcome.feasible for outcome in outcomes):
        assert mask.tolist() == [outcome.feasible for outcome in outcomes]
    else:
        worst = [max(o.delay / problem.delay_budget, o.energy / problem.energy_budget) for o in outcomes]
        assert mask.sum() == 1
        assert worst[np.argmax(mask)] == min(worst)


def test_masks_are_of_the_task_at_hand():
    env = make("discrete", csi_delay=0.5, csi_noise_db=3.0)
    env.reset(seed=5)
    seen = set()
    for _ in range(15):
        mask = env.action_masks()
        problem = env.unwrapped.problem()
        feasible = np.array([problem.evaluate(env.decision(n)).feasible for n in range(env.action_space.n)])
        assert mask.dtype == np.bool_
        assert mask.any()
        if feasible.any():
            np.testing.assert_array_equal(mask, feasible)
        seen.add(int(mask.sum()))
        env.step(int(np.flatnonzero(mask)[-1]))
    assert len(seen) > 5


@pytest.mark.parametrize(("delay", "energy"), [(-1.0, 1.0), (0.0, 0.0), (1.0, -1.0)])
def test_masks_of_hopeless_tasks_have_one_true(delay, energy):
    env = make("discrete")
    table = np.array([dataclasses.astuple(env.decision(n)) for n in range(env.action_space.n)], DECISION)
    assert marks(env.unwrapped.scenario.problem(1e-10, delay, energy), table).sum() == 1


# --- HybridActions


@pytest.mark.parametrize("kind", ["dict", "tuple"])
def test_hybrid_actions_are_plain_ones(kind):
    env, plain = HybridActions(make(), kind=kind), make()
    cuts = plain.unwrapped.scenario.workload.cuts
    for cut in range(cuts):
        env.reset(seed=cut)
        plain.reset(seed=cut)
        env.action_space.seed(cut)
        action = env.action_space.sample()
        if kind == "dict":
            action["cut"] = np.int64(cut)
            controls = action["controls"]
        else:
            action = (np.int64(cut), action[1])
            controls = action[1]
        info = env.step(action)[4]
        assert info["cut"] == cut
        middle = {0: -0.75, cuts - 1: 0.75}.get(cut, (cut - 0.5) / (cuts - 2) - 0.5)
        assert info == plain.step(np.array([middle, *controls], np.float32))[4]


def test_hybrid_kinds_and_cuts_are_checked():
    with pytest.raises(InvalidInputError, match="'dict' or 'tuple'"):
        HybridActions(make(), kind="list")
    env = make("dict")
    env.reset(seed=0)
    controls = np.zeros(5, np.float32)
    for cut in (13, -1, 1.0, "1", None, [1, 2]):
        with pytest.raises(InvalidInputError, match="cut"):
            env.step({"cut": cut, "controls": controls})
    for action in (None, 3, (1, controls), {"cut": 1}):
        with pytest.raises(InvalidInputError, match=r"action: got .* Give \{'cut'"):
            env.step(action)
    for wrong in (controls[:4], None, ["a"] * 5, controls[None]):
        with pytest.raises(InvalidInputError, match=r"controls: got .* Give 5 real numbers"):
            env.step({"cut": 1, "controls": wrong})


@pytest.mark.parametrize(
    "wrapper", [*WRAPPERS.values(), *map(partial(getattr, vector_wrappers), vector_wrappers.__all__)]
)
def test_what_is_no_environment_is_refused_in_one_line(wrapper):
    with pytest.raises(InvalidInputError, match=r"^\w+: env: got 3\. [^\n]*$"):
        wrapper(3)


@pytest.mark.parametrize(("component", "margin_db"), [(1.0, 0.0), (0.4, 3.0), (-1.0, 10.0)])
def test_a_margin_plans_at_a_lower_gain(component, margin_db):
    env = BudgetShareAction(make(csi_delay=0.5, csi_noise_db=1.0), margin=True)
    for seed in range(5):
        env.reset(seed=seed)
        problem = env.unwrapped.problem()
        lower = solve_exact(dataclasses.replace(problem, gain=problem.gain * 10.0 ** (-margin_db / 10.0)))
        found = env.action(np.array([1.0, component], np.float32))
        np.testing.assert_allclose(found, env.unwrapped.action(lower), atol=1e-5)


def test_options_of_wrappers_are_checked():
    for option in ("energy", "margin"):
        with pytest.raises(InvalidInputError, match=f"{option}: got 'yes'"):
            BudgetShareAction(make(), **{option: "yes"})
    with pytest.raises(InvalidInputError, match="function: got 3"):
        CustomReward(make(), 3)


# --- KeepBudgets


@given(tasks, actions)
@settings(max_examples=100, deadline=None)
def test_kept_decisions_meet_the_budgets_and_the_bounds(task, action):
    scenario, problem = task[0], problem_of(task)
    wanted = decode(scenario, action)
    kept = keep(task, wanted)
    outcome = problem.evaluate(kept)
    if solve_exact(problem).feasible:
        assert outcome.delay <= problem.delay_budget * (1 + 1e-5)
        assert outcome.energy <= problem.energy_budget * (1 + 1e-5)
    elif not outcome.feasible:  # a budget counts as met up to its tolerance: the hopeless may just do
        assert kept is wanted
    for name in ("power", "frequency_device", "frequency_server"):
        low, high = getattr(problem, f"{name}_min"), getattr(problem, f"{name}_max")
        assert low * (1 - 1e-12) <= getattr(kept, name) <= high * (1 + 1e-12)
    for side in ("device", "server"):
        assert getattr(problem, f"retained_{side}_min") * (1 - 1e-12) <= getattr(kept, f"retained_{side}") <= 1.0


@given(tasks, actions)
@settings(max_examples=100, deadline=None)
def test_keeping_is_idempotent_also_through_float32(task, action):
    scenario = task[0]
    kept = keep(task, decode(scenario, action))
    assert keep(task, kept) is kept
    if solve_exact(problem_of(task)).feasible:
        rounded = decode(scenario, spaces.encode(scenario.tables, kept))
        assert keep(task, rounded) is rounded


@given(tasks, actions)
@settings(max_examples=60, deadline=None)
def test_decisions_in_budget_and_optima_pass(task, action):
    scenario, problem = task[0], problem_of(task)
    wanted = decode(scenario, action)
    if problem.evaluate(wanted).feasible:
        assert keep(task, wanted) is wanted
    optimum = solve_exact(problem)
    if optimum.feasible:
        assert keep(task, optimum) is optimum


@given(tasks, actions)
@settings(max_examples=60, deadline=None)
def test_the_nearest_cut_that_can_be_served_is_kept(task, action):
    scenario, problem = task[0], problem_of(task)
    wanted = decode(scenario, action)
    kept = keep(task, wanted)
    able = [cut for cut in range(scenario.workload.cuts) if solve_exact(problem, cut).feasible]
    if able:
        assert abs(kept.cut - wanted.cut) <= min(abs(cut - wanted.cut) for cut in able)


@given(tasks, actions)
@settings(max_examples=60, deadline=None)
def test_ratios_and_pace_change_by_no_more_than_needed(task, action):
    scenario, problem = task[0], problem_of(task)
    wanted = decode(scenario, action)
    kept = keep(task, wanted)
    if kept is wanted:
        return
    ratios, asked = (np.array([d.retained_device, d.retained_server]) for d in (kept, wanted))
    assert (ratios <= asked).all()
    if (ratios < asked).any():  # a little more of what was asked for cannot be served by any clocks and power
        more = ratios + 1e-4 * (asked - ratios)
        held = dataclasses.replace(problem, retained_device_min=more[0], retained_server_min=more[1])
        beyond = solve_exact(held, kept.cut)
        assert not beyond.feasible or np.allclose(ratios, asked, rtol=1e-6)
    else:  # as fast as wanted, else as the delay budget asks for, else as the energy budget allows
        pace = problem.evaluate(dataclasses.replace(wanted, cut=kept.cut)).delay
        target, outcome = min(pace, problem.delay_budget), problem.evaluate(kept)
        if outcome.delay < target * (1 - 1e-7):  # slower costs more where static power prevails
            slower = dataclasses.replace(
                kept,
                frequency_device=max(scenario.frequency_device_min, 0.999 * kept.frequency_device),
                frequency_server=max(scenario.frequency_server_min, 0.999 * kept.frequency_server),
            )
            assert problem.evaluate(slower).energy >= outcome.energy * (1 - 1e-9)
        elif outcome.delay > target * (1 + 1e-7):
            assert outcome.energy == pytest.approx(problem.energy_budget, rel=1e-7)


def test_clocks_without_a_lower_bound_are_found():
    scenario = load_scenario("paper-lyu")  # without static power, slower is always cheaper
    problem = dataclasses.replace(
        scenario.problem(1e-10, 1e3, 0.1), power_min=0.0, frequency_device_min=0.0, frequency_server_min=0.0
    )
    wanted = Decision(1, 1.0, 1.0, 0.2, 2e9, 3e9)
    kept = keep_budgets(problem, wanted)
    assert problem.evaluate(kept).feasible
    assert kept.retained_device == kept.retained_server == 1.0


@pytest.mark.parametrize(("delay", "energy"), [(np.inf, 0.2), (0.3, np.inf), (np.inf, np.inf)])
def test_budgets_may_be_unlimited(delay, energy):
    scenario = load_scenario("bert-multimodal")
    problem = scenario.problem(1e-10, delay, energy)
    for action in np.random.default_rng(0).uniform(-1.0, 1.0, (50, 6)):
        kept = keep_budgets(problem, decode(scenario, action))
        assert problem.evaluate(kept).feasible


@pytest.mark.parametrize(("delay", "energy"), [(-1.0, 1.0), (1.0, 0.0), (1e-9, 1.0)])
def test_hopeless_tasks_leave_the_decision_alone(delay, energy):
    scenario = load_scenario("bert-multimodal")
    wanted = decode(scenario, np.zeros(6))
    assert keep_budgets(scenario.problem(1e-10, delay, energy), wanted) is wanted


def test_kept_episodes_violate_nothing_that_can_be_met():
    env = Regret(make("kept", tasks=120))
    env.action_space.seed(1)
    changed = 0
    for seed in range(2):
        _, info = env.reset(seed=seed)
        assert info["kept"] == 0.0
        ended = False
        while not ended:
            able = solve_exact(env.unwrapped.problem()).feasible
            _, _, _, ended, info = env.step(env.action_space.sample())
            assert info["violated"] == 0.0 or not able
            changed += info["kept"]
    assert changed > 100


def test_a_kept_cut_keeps_its_component():
    env = make("kept")
    env.action_space.seed(0)
    env.reset(seed=0)
    found = 0
    for _ in range(50):
        action = env.action_space.sample()
        kept = env.keep(action)
        wanted, taken = env.unwrapped.decision(action), env.unwrapped.decision(kept)
        if kept is not action and wanted.cut == taken.cut:
            found += 1
            assert kept[0] == action[0]
            assert kept.dtype == np.float32
    assert found


def test_actions_in_budget_are_not_copied_and_bad_ones_refused():
    env = make("kept", delay_budget=100.0, energy_budget=100.0)
    env.reset(seed=0)
    beyond = np.array([1.0, 5.0, 1.0, 1.0, 1.0, 1.0])
    assert env.keep(beyond) is beyond
    assert env.step(beyond)[4]["clipped"] == 1.0
    for bad in (np.full(6, np.nan), np.zeros(5)):
        with pytest.raises(InvalidInputError, match="action"):
            env.step(bad)


def test_clipped_components_are_those_of_the_agent():
    plain, env = make(tasks=50), make("kept", tasks=50)
    generator = np.random.default_rng(0)
    seen = set()
    for seed in range(50):
        action = generator.uniform(-1.5, 1.5, 6).astype(np.float32)
        plain.reset(seed=seed)
        env.reset(seed=seed)
        expected, info = plain.step(action)[4], env.step(action)[4]
        assert info["clipped"] == expected["clipped"]
        seen.add((info["kept"], info["clipped"] > 0.0))
    assert {(0.0, True), (1.0, True)} <= seen
    env.reset(seed=0)
    info = env.step([2.0, 1.0, -np.inf, 1.0, 1.0, 1.0])[4]
    assert (info["kept"], info["clipped"]) == (1.0, 2.0)


def test_battery_counts_as_a_budget():
    env = make("kept", battery_capacity=0.3, energy_budget=10.0)
    env.reset(seed=0)
    info = env.step(np.ones(6, np.float32))[4]
    assert info["kept"] == 1.0
    assert info["energy_j"] <= 0.3 * (1 + 1e-5)


# --- Regret


def test_regret_of_the_exact_policy_is_zero():
    env = make("regret", tasks=60)
    for seed in range(2):
        _, info = env.reset(seed=seed)
        assert (info["regret"], info["optimal_quality"]) == (0.0, 0.0)
        ended = False
        while not ended:
            solution = solve_exact(env.unwrapped.problem())
            _, _, _, ended, info = env.step(env.unwrapped.action(solution))
            assert 0.0 <= info["regret"] <= 1e-6
            if solution.feasible:
                assert info["optimal_quality"] == pytest.approx(solution.quality, abs=1e-12)


@pytest.mark.parametrize(("name", "quality"), [("regret", "magnitude_pruning"), ("stack", "rate_distortion")])
def test_regret_is_never_negative_and_adds_up(name, quality):
    env = make(name, tasks=100, quality=quality, csi_noise_db=3.0)
    env.action_space.seed(0)
    env.reset(seed=0)
    ended, total = False, 0.0
    while not ended:
        _, _, _, ended, info = env.step(env.action_space.sample())
        assert info["regret"] >= 0.0
        assert info["optimal_quality"] - info["delivered"] >= -1e-4  # not hidden by the floor at 0
        assert info["regret"] == pytest.approx(max(0.0, info["optimal_quality"] - info["delivered"]))
        total += info["regret"]
    assert total > 1.0


def test_regret_knows_the_true_gain():
    env = make("regret", csi_delay=1.0, csi_noise_db=10.0)
    env.reset(seed=4)
    info = env.step(np.zeros(6, np.float32))[4]
    problem = env.unwrapped.scenario.problem(
        10.0 ** (info["gain_db"] / 10.0), info["delay_budget_s"], info["energy_budget_j"]
    )
    assert info["optimal_quality"] == float(solve_exact_batch(problem)["quality"])
