"""Problem P1: what is refused, what a decision yields by hand, and when a budget counts as met."""

import dataclasses
import math
import pickle

import numpy as np
import pytest

from coinfer_gym import load_scenario, solve_exact
from coinfer_gym.budgets import BUDGET_TOLERANCE, meets
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.decision import CONTROLS, Decision, Solution, check_cut
from coinfer_gym.laim.distortion import BOUNDS, QUALITIES
from coinfer_gym.laim.problem import HARDWARE, Problem
from coinfer_gym.laim.workload import Block, Workload

WORKLOAD = Workload(
    "three",
    4e6,
    (
        Block("a", 2e9, 1_000_000, 3e6, 20.0),
        Block("b", 0.0, 5_000_000, 2e6, 60.0),
        Block("c", 3e9, 2_000_000, 1e3, 150.0),
    ),
)
CONSTANTS = {
    "workload": WORKLOAD,
    "gain": 2e-11,
    "delay_budget": 0.5,
    "energy_budget": 0.4,
    "bandwidth": 1e7,
    "noise_density": 2e-20,
    "power_max": 0.2,
    "flops_per_cycle_device": 16.0,
    "flops_per_cycle_server": 64.0,
    "frequency_device_max": 2e9,
    "frequency_server_max": 3e9,
    "pue_device": 1.0,
    "pue_server": 1.4,
    "kappa_device": 1e-28,
    "kappa_server": 5e-28,
}
NOT_NEGATIVE = ["power_min", "frequency_device_min", "frequency_server_min"]
AS_THE_PAPER = {
    "static_power_device": 0.0,
    "static_power_server": 0.0,
    "waiting_power_device": 0.0,
    "circuit_power": 0.0,
    "amplifier_efficiency": 1.0,
    "rate_max": math.inf,
    "snr_gap": 1.0,
    "round_trip": 0.0,
    "memory_bandwidth_device": math.inf,
    "memory_bandwidth_server": math.inf,
    "memory_capacity_device": math.inf,
    "memory_capacity_server": math.inf,
    "sparsity_gain": 1.0,
}


def make(**changes):
    return Problem(**(CONSTANTS | changes))


def spend(problem, d):
    """Delay and energy of a decision, written out from eqs. 2-11."""
    work, c, times, energies = problem.workload, d.cut, [], []
    for retained, clock, flops, rate, pue, kappa in (
        (
            d.retained_device,
            d.frequency_device,
            sum(block.flops for block in work.blocks[:c]),
            problem.flops_per_cycle_device,
            problem.pue_device,
            problem.kappa_device,
        ),
        (
            d.retained_server,
            d.frequency_server,
            sum(block.flops for block in work.blocks[c:]),
            problem.flops_per_cycle_server,
            problem.pue_server,
            problem.kappa_server,
        ),
    ):
        if flops > 0:
            times.append(retained * flops / rate / clock)
            energies.append(pue * kappa * clock**3 * times[-1])
    if c < len(work.blocks):
        bits = work.input_bits if c == 0 else work.blocks[c - 1].activation_bits
        snr = d.power * problem.gain / (problem.noise_density * problem.bandwidth)
        times.append(bits / (problem.bandwidth * math.log2(1 + snr)))
        energies.append(d.power * times[-1])
    return sum(times), sum(energies)


def decisions(problem, count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield Decision(
            cut=int(rng.integers(problem.workload.cuts)),
            retained_device=rng.uniform(0.01, 1),
            retained_server=rng.uniform(0.01, 1),
            power=problem.power_max * 10 ** rng.uniform(-4, 0),
            frequency_device=problem.frequency_device_max * 10 ** rng.uniform(-2, 0),
            frequency_server=problem.frequency_server_max * 10 ** rng.uniform(-2, 0),
        )


# --- what is refused ---


def refused(**changes):
    with pytest.raises(InvalidInputError) as error:
        make(**changes)
    (name, value), *_ = changes.items()
    assert error.value.field == name
    assert error.value.value is value
    assert len(error.value.remedy) > 5
    return str(error.value)


@pytest.mark.parametrize("name", ["gain", *HARDWARE.names])
def test_constant_out_of_range_is_refused(name):
    for value in (math.nan, -1.0, -math.inf, "1", True):
        refused(**{name: value})
    if name in AS_THE_PAPER:
        assert getattr(make(**{name: AS_THE_PAPER[name]}), name) == AS_THE_PAPER[name]
    if AS_THE_PAPER.get(name) != math.inf:
        refused(**{name: math.inf})
    if name in NOT_NEGATIVE:
        upper = name.replace("min", "max")
        assert getattr(make(**{name: 0.0}), name) == 0.0
        assert getattr(make(**{name: CONSTANTS[upper]}), name) == CONSTANTS[upper]
        assert upper in refused(**{name: 1.01 * CONSTANTS[upper]})
    elif AS_THE_PAPER.get(name) != 0.0 and name != "sparsity_gain":
        refused(**{name: 0.0})


@pytest.mark.parametrize("name", ["delay_budget", "energy_budget"])
def test_budget_may_be_anything_but_nan(name):
    for value in (-1.0, 0.0, math.inf):
        assert getattr(make(**{name: value}), name) == value
    refused(**{name: math.nan})


def test_ratios_power_usage_and_bits_have_limits_of_their_own():
    refused(retained_device_min=1.3)
    refused(retained_server_min=1.3)
    assert make(retained_device_min=1.0).tables.hardware["retained_device_min"][0] == 1.0
    refused(pue_device=0.9)
    refused(pue_server=0.9)
    refused(parameter_bits=65.0)
    refused(parameter_bits=7.5)
    refused(amplifier_efficiency=1.1)
    refused(sparsity_gain=1.1)
    refused(snr_gap=0.9)


def test_unknown_words_are_refused():
    assert "'rate_distortion'" in refused(quality="rate_distorsion")
    for name in ("quality", "norm"):
        refused(**{name: ""})
    refused(norm="l3")
    refused(quality_scale="cubic")


@pytest.mark.parametrize("quality", [name for name in QUALITIES if name != "rate_distortion"])
def test_other_norm_needs_the_rate_distortion_bound(quality):
    with pytest.raises(InvalidInputError, match="norm"):
        make(quality=quality, norm="l2")


@pytest.mark.parametrize("quality", QUALITIES)
def test_log_scale_needs_a_bound(quality):
    if quality in BOUNDS:
        assert make(quality=quality, quality_scale="log").tables.quality["log_scale"][0] == 1
    else:
        with pytest.raises(InvalidInputError, match="quality_scale"):
            make(quality=quality, quality_scale="log")
    assert make(quality=quality, quality_scale="linear").tables.quality["log_scale"][0] == 0
    assert make(quality=quality).tables.quality["log_scale"][0] == (quality in BOUNDS)


@pytest.mark.parametrize("cut", [-1, 4, 1.5])
def test_cut_outside_the_network_is_refused(cut):
    with pytest.raises(InvalidInputError, match="cuts 0 to 3") as error:
        make().evaluate(Decision(cut, 1.0, 1.0, 0.1, 1e9, 1e9))
    assert error.value.field == "cut"
    assert error.value.value is cut


def test_whole_cuts_of_any_type_are_understood():
    for cut in (0, 3, np.int64(2), 1.0, np.float32(2)):
        assert check_cut(cut, WORKLOAD) == cut
        assert type(check_cut(cut, WORKLOAD)) is int


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retained_device", 1.3),
        ("retained_server", 0.0),
        ("retained_device", math.nan),
        ("power", -1.0),
        ("frequency_device", math.nan),
        ("frequency_server", math.inf),
    ],
)
def test_decision_that_means_nothing_is_refused(name, value):
    decision = dataclasses.replace(Decision(1, 0.5, 0.5, 0.1, 1e9, 1e9), **{name: value})
    rows = np.array([[0.5, 0.5, 0.1, 1e9, 1e9], [getattr(decision, each) for each in CONTROLS]])
    for arguments in ((decision,), (rows, 1), (rows[::-1], [1, 2])):
        with pytest.raises(InvalidInputError, match=name):
            make().evaluate(*arguments)


# --- what it is ---


def test_problem_survives_pickling_before_and_after_use():
    decision = Decision(1, 0.3, 0.6, 0.1, 1e9, 2e9)
    for problem in (make(), make(quality="magnitude_threshold")):
        for _ in range(2):
            again = pickle.loads(pickle.dumps(problem))  # noqa: S301  our own bytes
            assert again == problem
            assert hash(again) == hash(problem)
            first, second = again.evaluate(decision), problem.evaluate(decision)
            assert (first.delay, first.energy, first.quality) == (second.delay, second.energy, second.quality)


def test_changed_copy_has_tables_of_its_own():
    problem = make()
    assert problem.tables.hardware["power_max"][0] == 0.2
    assert dataclasses.replace(problem, power_max=0.1).tables.hardware["power_max"][0] == 0.1
    assert problem.tables is problem.tables


def test_tables_hold_the_sums_of_each_side():
    cuts = make().tables.cuts
    assert cuts["flops_device"].tolist() == [0, 2e9, 2e9, 5e9]
    assert cuts["flops_server"].tolist() == [5e9, 3e9, 3e9, 0]
    assert cuts["prunable_device"].tolist() == [0, 1e6, 6e6, 8e6]
    assert cuts["prunable_server"].tolist() == [8e6, 7e6, 2e6, 0]
    assert cuts["upload_bits"].tolist() == [4e6, 3e6, 2e6, 0]
    scales = np.array([1e6 / 20, 5e6 / 60, 2e6 / 150])
    np.testing.assert_allclose(cuts["scale_device"], [0, *np.cumsum(scales)], rtol=1e-14)
    np.testing.assert_allclose(cuts["scale_server"], [*np.cumsum(scales[::-1])[::-1], 0], rtol=1e-14)


def test_small_last_block_is_not_lost_in_the_sum_of_the_others():
    blocks = (Block("wide", 1e9, 10**11, 1e5, 0.01), Block("narrow", 1e9, 100, 1e5, 1000.0))
    cuts = make(workload=Workload("uneven", 1e6, blocks), quality="random_pruning").tables.cuts
    assert cuts["scale_server"][1] == pytest.approx(0.1, rel=1e-12)


# --- what a decision yields ---


@pytest.mark.parametrize("quality", QUALITIES)
def test_evaluate_agrees_with_the_equations_written_out(quality):
    problem = make(quality=quality)
    seen = set()
    for decision in decisions(problem, 200):
        solution = problem.evaluate(decision)
        delay, energy = spend(problem, decision)
        assert solution.delay == pytest.approx(delay, rel=1e-12)
        assert solution.energy == pytest.approx(energy, rel=1e-12)
        assert solution.feasible == (delay <= 0.5 * (1 + 1e-5) and energy <= 0.4 * (1 + 1e-5))
        assert 0 < solution.quality < 1
        assert {f.name: getattr(solution, f.name) for f in dataclasses.fields(Decision)} == dataclasses.asdict(decision)
        seen.add((decision.cut, solution.feasible))
    assert len(seen) >= 6


def test_evaluate_by_hand():
    # device: 0.5 * 2e9 / 16 = 6.25e7 cycles at 1 GHz: 62.5 ms, 1e-28 * 1e27 W = 0.1 W: 6.25 mJ
    # upload: 3e6 bit at 0.1 W * 2e-11 / 2e-13 W = SNR 10: 1e7 * log2(11) = 34.59 Mbit/s: 86.72 ms, 8.672 mJ
    # server: 0.25 * 3e9 / 64 = 1.171875e7 cycles at 2 GHz: 5.859 ms, 1.4 * 5e-28 * 8e27 = 5.6 W: 32.81 mJ
    solution = make().evaluate(Decision(1, 0.5, 0.25, 0.1, 1e9, 2e9))
    upload = 3e6 / (1e7 * math.log2(11))
    assert solution.delay == pytest.approx(0.0625 + upload + 0.005859375, rel=1e-13)
    assert solution.energy == pytest.approx(0.00625 + 0.1 * upload + 5.6 * 0.005859375, rel=1e-13)
    assert solution.quality == pytest.approx((0.5 * 1e6 + 0.25 * 7e6) / 8e6, rel=1e-13)
    assert solution.feasible
    assert isinstance(solution, Solution)
    assert solution.reason == ""


def test_unused_controls_of_a_cut_change_nothing():
    problem = make()
    for power, clock in ((0.0, 0.0), (0.2, 3e9)):
        whole = problem.evaluate(Decision(3, 0.5, 0.7, power, 1e9, clock))
        assert whole.delay == pytest.approx(0.5 * 5e9 / 16 / 1e9, rel=1e-13)
        assert whole.energy == pytest.approx(1e-28 * 1e18 * 0.5 * 5e9 / 16, rel=1e-13)
        assert whole.quality == pytest.approx(0.5, rel=1e-13)
    for clock in (0.0, 2e9):
        raw = problem.evaluate(Decision(0, 0.1, 0.7, 0.1, clock, 2e9))
        assert raw.delay == pytest.approx(4e6 / (1e7 * math.log2(11)) + 0.7 * 5e9 / 64 / 2e9, rel=1e-13)
        assert raw.quality == pytest.approx(0.7, rel=1e-13)


def test_silence_and_standstill_take_forever_and_are_infeasible():
    problem = make(delay_budget=1e9)
    silent = problem.evaluate(Decision(1, 0.5, 0.5, 0.0, 1e9, 1e9))
    assert silent.delay == math.inf
    assert not silent.feasible
    still = problem.evaluate(Decision(1, 0.5, 0.5, 0.1, 0.0, 1e9))
    assert still.delay == math.inf
    assert not still.feasible


def test_both_budgets_must_be_met():
    decision = Decision(1, 0.5, 0.25, 0.1, 1e9, 2e9)
    delay, energy = spend(make(), decision)
    for more_delay, more_energy in ((1.1, 1.1), (0.9, 1.1), (1.1, 0.9), (0.9, 0.9)):
        problem = make(delay_budget=more_delay * delay, energy_budget=more_energy * energy)
        assert problem.evaluate(decision).feasible == (more_delay > 1 and more_energy > 1)


@pytest.mark.parametrize("budget", [1e-9, 0.5, 1e6])
def test_budget_is_met_up_to_the_tolerance_and_not_beyond(budget):
    assert BUDGET_TOLERANCE == 1e-5
    assert meets(budget, budget)
    assert meets(0.0, budget)
    assert meets(budget * (1 + 0.99e-5), budget)
    assert not meets(budget * (1 + 1.01e-5), budget)


def test_tolerance_is_relative_for_budgets_of_any_sign():
    assert meets(0.0, 0.0)
    assert not meets(1e-300, 0.0)
    assert not meets(0.0, -1.0)
    assert not meets(0.0, -1e-9)
    assert meets(1e300, math.inf)
    assert not meets(math.nan, 1.0)
    assert not meets(math.inf, 1e300)


def test_rounding_of_a_float32_action_keeps_a_tight_budget():
    for decision in decisions(make(), 100, seed=3):
        delay, energy = spend(make(), decision)
        problem = make(delay_budget=delay, energy_budget=energy)
        rounded = {
            name: float(np.float32(value)) if name != "cut" else value
            for name, value in dataclasses.asdict(decision).items()
        }
        assert problem.evaluate(Decision(**rounded)).feasible


# --- many decisions at once ---


def test_arrays_give_what_each_decision_gives():
    problem = make(quality="magnitude_pruning")
    each = list(decisions(problem, 24, seed=1))
    rows = np.array([[getattr(decision, name) for name in CONTROLS] for decision in each]).reshape(2, 3, 4, 5)
    cuts = np.array([decision.cut for decision in each]).reshape(2, 3, 4)
    outcomes = problem.evaluate(rows, cuts)
    for i, decision in zip(np.ndindex(2, 3, 4), each, strict=True):
        one = problem.evaluate(decision)
        for name in ("quality", "distortion", "delay", "energy", "feasible"):
            assert getattr(outcomes, name)[i] == getattr(one, name), name
        assert outcomes.margins[i].tolist() == [0.5 - one.delay, 0.4 - one.energy]
    alone = problem.evaluate(rows[0, 0, 0], each[0].cut)
    assert alone.quality.shape == ()
    assert alone.margins.shape == (2,)
    assert problem.evaluate(np.empty((0, 5)), 1).quality.shape == (0,)
    for wrong, cut in ((rows[..., :4], 1), (rows, [1, 2]), ("row", 1), (rows, None)):
        with pytest.raises(InvalidInputError):
            problem.evaluate(wrong, cut)


def test_other_optimizers_come_to_the_exact_optimum():
    import cma
    from pymoo.algorithms.soo.nonconvex.de import DE
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.optimize import minimize
    from scipy.optimize import Bounds, NonlinearConstraint, differential_evolution

    problem, cut = load_scenario("bert-multimodal").problem(1e-11), 2
    best = solve_exact(problem, cut).quality
    lower, upper = problem.bounds()
    budgets = [problem.delay_budget, problem.energy_budget]
    limits = NonlinearConstraint(lambda x: problem.evaluate(x.T, cut).margins.T, 0.0, np.inf)
    arguments = {"constraints": limits, "vectorized": True, "polish": False, "rng": 0, "updating": "deferred"}
    by_scipy = differential_evolution(
        lambda x: -problem.evaluate(x.T, cut).quality, Bounds(lower, upper), **arguments
    ).x

    def loss(x):
        outcomes = problem.evaluate(x, cut)
        return -outcomes.quality - (outcomes.margins / budgets).clip(max=0).sum(-1)

    options = {"bounds": [lower, upper], "CMA_stds": upper - lower, "verbose": -9, "seed": 1}
    by_cma, _ = cma.fmin2(loss, upper, 0.3, options)

    class Own(PymooProblem):
        def __init__(self):
            super().__init__(n_var=5, n_obj=1, n_ieq_constr=2, xl=lower, xu=upper)

        def _evaluate(self, x, out, *args, **kwargs):
            outcomes = problem.evaluate(x, cut)
            out["F"], out["G"] = -outcomes.quality, -outcomes.margins

    by_pymoo = minimize(Own(), DE(), ("n_gen", 100), seed=1).X
    for found, room in ((by_scipy, 0.01), (by_cma, 1e-4), (by_pymoo, 0.03)):
        outcomes = problem.evaluate(found, cut)
        assert outcomes.feasible
        assert best - room < outcomes.quality <= best + 1e-4


# --- what the paper's model leaves out ---

# At cut 1: 2 GFLOPs and 1 M weights on the device, 3 GFLOPs and 2 M weights to read on the server, 3 Mbit to send.
PLAIN = Decision(1, 0.5, 0.25, 0.1, 1e9, 2e9)
T_DEVICE, T_SERVER = 0.5 * 2e9 / 16e9, 0.25 * 3e9 / 128e9
T_UPLOAD = 3e6 / (1e7 * math.log2(1 + 0.1 * 2e-11 / 2e-13))


@pytest.mark.parametrize(
    ("changes", "delay", "energy"),
    [
        ({"static_power_device": 0.5}, 0.0, 0.5 * T_DEVICE),
        ({"static_power_server": 20.0}, 0.0, 1.4 * 20.0 * T_SERVER),
        ({"waiting_power_device": 0.2}, 0.0, 0.2 * (T_UPLOAD + T_SERVER)),
        ({"waiting_power_device": 0.2, "round_trip": 0.03}, 0.03, 0.2 * (T_UPLOAD + 0.03 + T_SERVER)),
        ({"circuit_power": 1.5, "round_trip": 0.03}, 0.03, 1.5 * T_UPLOAD),
        ({"amplifier_efficiency": 0.25}, 0.0, 3 * 0.1 * T_UPLOAD),
        ({"rate_max": 3e7}, 0.1 - T_UPLOAD, 0.1 * (0.1 - T_UPLOAD)),
        ({"snr_gap": 10 / 3}, 0.15 - T_UPLOAD, 0.1 * (0.15 - T_UPLOAD)),
        # half of 4 MB at 20 MB/s, so at 0.625 of 1 GHz: 0.05 J at 1 GHz shrink with the square of the clock
        ({"memory_bandwidth_device": 2e7}, 0.1 - T_DEVICE, -1e-28 * 6.25e7 * 1e18 * (1 - 0.625**2)),
        ({"memory_bandwidth_device": 2e7, "static_power_device": 2.0}, 0.1 - T_DEVICE, 0.2 - 3.80859375e-3),
        # a quarter of 8 MB at 1 GB/s: the block without FLOPs is not read
        (
            {"memory_bandwidth_server": 2e8},
            0.01 - T_SERVER,
            -0.7e-27 * 0.25 * 3e9 / 64 * (4e18 - (0.25 * 3e9 / 64 / 0.01) ** 2),
        ),
        (
            {"sparsity_gain": 0.5},
            0.5 * T_DEVICE + 1.5 * T_SERVER,
            0.5 * 6.25e-3 + 1.5 * 0.7e-27 * 4e18 * 0.25 * 3e9 / 64,
        ),
        ({"memory_capacity_device": 2e6, "memory_capacity_server": 7e6}, 0.0, 0.0),
    ],
)
def test_what_each_further_constant_adds_to_delay_and_energy(changes, delay, energy):
    paper, real = make().evaluate(PLAIN), make(**changes).evaluate(PLAIN)
    assert real.delay - paper.delay == pytest.approx(delay, abs=1e-12)
    assert real.energy - paper.energy == pytest.approx(energy, abs=1e-12)
    assert real.quality == paper.quality


def test_memory_bounds_the_ratios_at_a_cut_and_says_what_does_not_fit():
    # cut 1: 4 MB of weights on the device; on the server 28 MB, of which 20 MB (block b) cannot be pruned
    blocks = (WORKLOAD.blocks[0], dataclasses.replace(WORKLOAD.blocks[1], prunable=0), WORKLOAD.blocks[2])
    problem = make(workload=Workload("w", 4e6, blocks), memory_capacity_device=2e6, memory_capacity_server=22e6)
    assert problem.bounds(1)[1][:2].tolist() == [0.5, 0.25]
    assert problem.evaluate(PLAIN).feasible
    for more in ({"retained_device": 0.51}, {"retained_server": 0.26}):
        assert not problem.evaluate(dataclasses.replace(PLAIN, **more)).feasible
    assert problem.bounds(2)[1][0] < 0.0  # 20 MB do not fit on the device
    lacking = solve_exact(problem, 2)
    assert (lacking.feasible, lacking.reason) == (False, "memory")
    assert lacking.memory_device_needed == 20e6 + 0.01 * 4e6
    assert lacking.memory_server_needed == 0.01 * 8e6
    found = solve_exact(problem)
    assert found.feasible
    assert found.cut in (0, 1)


def test_pruning_counts_the_weights_that_can_be_pruned():
    blocks = (dataclasses.replace(WORKLOAD.blocks[0], prunable=250_000), *WORKLOAD.blocks[1:])
    problem = make(workload=Workload("w", 4e6, blocks))
    share = (0.5 * 0.25 + 0.25 * 7.0) / 7.25
    assert problem.evaluate(PLAIN).quality == pytest.approx(share, rel=1e-12)
