"""The joint optimum of a cell against grids of shares, all combinations of cuts, and a conic solver."""

import itertools
import math
from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest

from coinfer_gym import load_scenario
from coinfer_gym.cell.optimum import solve_cell
from coinfer_gym.cell.response import PIECE, Region, Task, begin, respond
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.optimum import solve_exact
from coinfer_gym.laim.outcome import Tables
from coinfer_gym.physics import from_db
from studies.fuzz.certificate import random_problem
from tests.baselines.small_problem import PHYSICS, small_problem

SHARES = np.array([0.02, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.98])


def at_shares(problem, band, server):
    """P1 of a task that has a band in Hz and a share of the server."""
    constants = ("flops_per_cycle_server", "kappa_server", "static_power_server", "memory_bandwidth_server")
    return replace(problem, bandwidth=band, **{name: server * getattr(problem, name) for name in constants})


def earned(problem, band=1.0, server=1.0, cut=None):
    """Quality of the optimum at shares; 0 where there is none."""
    solution = solve_exact(at_shares(problem, band, server), cut)
    return solution.quality if solution.feasible else 0.0


def drawn(devices, seed, load=0.5):
    """Tasks as users of the default scenario have them, and the band: `load` of what each has there alone."""
    rng, scenario = np.random.default_rng(seed), load_scenario("bert-multimodal")
    problems = []
    for _ in range(devices):
        gain = from_db(scenario.reference_gain_db + scenario.shadowing_db * rng.normal()) * rng.exponential()
        gain *= rng.uniform(20.0, 120.0) ** -scenario.path_loss_exponent
        waited = rng.choice([0.0, rng.uniform(0.0, 0.4)])
        problem = scenario.problem(float(gain), delay_budget=scenario.delay_budget - waited)
        problems.append(at_shares(problem, problem.bandwidth, load * devices))
    return problems, load * devices * scenario.bandwidth


# --- one device, and tasks that do not need to share ---


def test_one_task_takes_all():
    for seed in range(30):
        problem, _ = random_problem(np.random.default_rng(seed))
        joint, alone = solve_cell([problem], problem.bandwidth), solve_exact(problem)
        solution = joint.solutions[0]
        assert solution.feasible == alone.feasible
        if alone.feasible:
            assert joint.bound == pytest.approx(alone.quality, abs=1e-3)
            assert joint.quality == pytest.approx(alone.quality, abs=1e-3)
            assert joint.quality <= alone.quality + 1e-9 <= joint.bound + 2e-9


@pytest.mark.parametrize("delay_budget", [0.065, 1e-3])  # with and without a decision that is feasible
def test_the_device_alone_takes_nothing(delay_budget):
    problem = small_problem(gain=1e-18, delay_budget=delay_budget)
    joint, alone = solve_cell([problem] * 3, 1e7), solve_exact(problem, cut=problem.workload.cuts - 1)
    assert alone.feasible == (delay_budget > 0.01)
    assert joint.quality == pytest.approx(3 * alone.quality if alone.feasible else 0.0)
    assert joint.bound == pytest.approx(joint.quality)
    assert not joint.band.any()
    assert not joint.server.any()
    assert [solution.cut for solution in joint.solutions] == [alone.cut] * 3
    assert [solution.reason for solution in joint.solutions] == [alone.reason] * 3


# --- bound and optimum ---


def split_in_two(problems, band):
    """Best sum of two tasks over a grid of shares and their complements, and all or nothing."""
    values = [
        {(b, s): earned(problem, band * SHARES[b], SHARES[s]) for b, s in np.ndindex(len(SHARES), len(SHARES))}
        for problem in problems
    ]
    last = len(SHARES) - 1
    best = max(values[0][b, s] + values[1][last - b, last - s] for b, s in values[0])
    for one, other in (problems, problems[::-1]):
        best = max(best, earned(one, band) + earned(other, cut=other.workload.cuts - 1))
    return best


def test_no_split_on_a_grid_is_better_than_the_bound():
    gaps = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        first, _ = random_problem(rng)
        second = random_problem(rng)[0] if seed % 2 else replace(first, gain=first.gain * 10 ** rng.uniform(-1, 1))
        first, second = (replace(task, delay_budget=2.0 * task.delay_budget) for task in (first, second))
        joint = solve_cell([first, second], 2.0 * first.bandwidth)
        searched = split_in_two([first, second], 2.0 * first.bandwidth)
        assert searched <= joint.bound * (1.0 + 1e-9), seed
        assert searched <= joint.quality * (1.0 + 1e-2) + 1e-9, seed
        gaps.append(joint.bound - joint.quality)
        check_shares([first, second], joint, 2.0 * first.bandwidth)
    assert np.mean(np.array(gaps) <= 2e-3) > 0.9  # a few have a least power, with which the search gives up


def test_the_bound_holds_without_branchings():
    for seed in range(6):
        problems, band = drawn(3, seed)
        whole, quick = (solve_cell(problems, band, branchings=count) for count in (64, 0))
        assert quick.quality <= whole.bound * (1.0 + 1e-12)
        assert whole.quality <= quick.bound * (1.0 + 1e-12)
        check_shares(problems, quick, band)


def check_shares(problems, joint, band):
    """That the shares are there, and every solution is what P1 at its shares allows."""
    assert joint.band.sum() <= band * (1.0 + 1e-12)
    assert joint.server.sum() <= 1.0 + 1e-12
    assert joint.quality == sum(solution.quality for solution in joint.solutions if solution.feasible)
    for problem, share, server, solution in zip(problems, joint.band, joint.server, joint.solutions, strict=True):
        if solution.feasible and min(share, server) > 0.0:
            assert solution.quality == earned(problem, share, server)
        elif solution.feasible:
            assert solution.cut == problem.workload.cuts - 1
            assert solution.quality == earned(problem, cut=solution.cut)


@pytest.mark.parametrize(("devices", "seed"), [(2, 4), (3, 0), (4, 2), (4, 3)])
def test_equals_the_best_of_all_combinations_of_cuts(devices, seed):
    problems, band = drawn(devices, seed)
    parts = (1.0, 0.5, 0.25, 0.125)
    cuts = [  # those that are best at some shares, and the device alone
        sorted({problem.workload.cuts - 1} | {solve_exact(at_shares(problem, band * x, x)).cut for x in parts})
        for problem in problems
    ]
    joint = solve_cell(problems, band)
    every = [solve_cell(problems, band, cuts=each) for each in itertools.product(*cuts)]
    best = max(each.quality for each in every)
    assert len(every) > devices
    assert best <= joint.bound
    assert joint.quality >= best * (1.0 - 1e-3)
    assert joint.quality <= max(each.bound for each in every) * (1.0 + 1e-9)


@pytest.mark.parametrize(("devices", "gap"), [(4, 1e-2), (8, 1e-3), (16, 1e-3)])
def test_gap_of_tasks_as_the_default_scenario_draws_them(devices, gap):
    for seed in range(12):
        problems, band = drawn(devices, seed, (0.25, 0.5, 1.0)[seed % 3])
        joint = solve_cell(problems, band)
        assert joint.quality <= joint.bound <= joint.quality * (1.0 + gap)
        check_shares(problems, joint, band)
        equal = [earned(problem, band / devices, 1.0 / devices) for problem in problems]
        assert sum(equal) <= joint.bound


def test_random_shares_earn_no_more_than_the_bound():
    rng = np.random.default_rng(0)
    for seed in range(6):
        problems, band = drawn(5, seed, 0.3)
        joint = solve_cell(problems, band)
        for _ in range(40):
            shares = rng.dirichlet(np.full(5, rng.choice([0.3, 1.0, 5.0])), 2)
            total = sum(earned(each, band * one, two) for each, one, two in zip(problems, *shares, strict=True))
            assert total <= joint.bound


@pytest.mark.parametrize("quality", ["rate_distortion", "magnitude_pruning"])
def test_equals_the_conic_solver_where_the_cuts_are_fixed(quality):
    changes = dict.fromkeys(("memory_bandwidth_device", "memory_bandwidth_server"), math.inf)
    changes |= {"rate_max": math.inf, "memory_capacity_server": math.inf, "memory_capacity_device": math.inf}
    changes |= {"retained_server_min": 1.0, "sparsity_gain": 1.0, "quality": quality}  # convex at one server's ratio
    changes |= {"delay_budget": 0.3, "energy_budget": 0.55}
    problems = [small_problem(**(PHYSICS | changes | {"gain": gain})) for gain in (3e-11, 1e-10, 4e-10)]
    cuts = [2, 1, 2]
    joint, conic = solve_cell(problems, 1e7, cuts=cuts, tolerance=2e-6), solve_jointly(problems, cuts, 1e7)
    assert [solution.cut for solution in joint.solutions] == cuts
    assert 1.5 < conic < 2.99  # the budgets bind
    assert joint.quality == pytest.approx(conic, abs=1e-5)
    assert conic - 1e-6 <= joint.bound <= conic + 1e-5


def solve_jointly(problems, cuts, band):
    """Optimum at fixed cuts, with the server's ratio at 1, as a conic program in shares, durations and ratios.

    Band-seconds ``w^2 <= beta tau`` and server-seconds ``v^2 <= phi t`` make the energies of upload and server convex.
    The upload's is not a cone: its tangents are added where the last solution stood, until none is missing.
    """
    count = len(problems)
    shares, servers, ratios = cp.Variable(count), cp.Variable(count), cp.Variable(count)
    device, upload, server = cp.Variable(count), cp.Variable(count), cp.Variable(count)  # durations over T0
    hot, sent, roots, speeds = cp.Variable(count), cp.Variable(count), cp.Variable(count), cp.Variable(count)
    limits = [cp.sum(shares) <= 1, cp.sum(servers) <= 1, ratios <= 1, hot >= 0, sent >= 0, roots >= 0]
    worth, energies = 0, []
    for k, (p, cut) in enumerate(zip(problems, cuts, strict=True)):
        t0, e0, blocks = p.delay_budget, p.energy_budget, p.workload.blocks
        work_device = sum(block.flops for block in blocks[:cut]) / p.flops_per_cycle_device
        work_server = sum(block.flops for block in blocks[cut:]) / p.flops_per_cycle_server
        bits, gain = p.workload.upload_bits[cut], p.gain / p.snr_gap
        # device: hot^(1/3) device^(2/3) >= cube ratio
        cube = (p.pue_device * p.kappa_device * work_device**3 / (e0 * t0**2)) ** (1 / 3)
        limits += [
            cp.PowCone3D(hot[k], device[k], cube * ratios[k], 1 / 3),
            ratios[k] * (work_device / (p.frequency_device_max * t0)) <= device[k],
            ratios[k] >= p.retained_device_min,
        ]
        # server: v = roots sqrt(a / f_max), at full clock v^2 = a / f_max
        fastest = work_server / p.frequency_server_max
        limits += [cp.geo_mean(cp.hstack([servers[k], server[k]])) >= np.sqrt(fastest / t0) * roots[k], roots[k] >= 1]
        burnt = p.pue_server * p.kappa_server * work_server * p.frequency_server_max**2
        idle = p.pue_server * p.static_power_server * fastest
        # upload: w = speeds sqrt(T0)
        limits += [cp.geo_mean(cp.hstack([shares[k], upload[k]])) >= speeds[k]]
        snr = p.power_max * gain / (p.noise_density * band)
        least = bits * math.log(2.0) / (band * t0)
        limits += [least * cp.inv_pos(upload[k]) <= -cp.rel_entr(shares[k], shares[k] + snr)]
        trip = p.round_trip
        limits += [device[k] + upload[k] + server[k] + trip / t0 <= 1]
        energies.append(
            hot[k]
            + sent[k]
            + (burnt * cp.power(roots[k], -4) + idle * cp.square(roots[k]) + p.waiting_power_device * trip) / e0
            + p.pue_device * p.static_power_device * t0 / e0 * device[k]
            + (p.circuit_power + p.waiting_power_device) * t0 / e0 * upload[k]
            + p.waiting_power_device * t0 / e0 * server[k]
        )
        limits.append(energies[-1] <= 1)
        prunable = np.array([block.prunable for block in blocks], float)
        if p.quality == "rate_distortion":
            worth += (prunable[:cut].sum() * ratios[k] + prunable[cut:].sum()) / prunable.sum()
        else:
            scales = prunable / p.workload.laplacian_rates
            inside = scales[:cut].sum() / scales.sum()
            worth += 1 - inside + inside * (ratios[k] + cp.entr(ratios[k]))

    def radiated(k, w):
        """Energy of the amplifier over E0 at ``w = sqrt(beta tau / T0)``, and its slope."""
        p = problems[k]
        unit = p.noise_density * band * p.delay_budget * p.snr_gap / (p.gain * p.amplifier_efficiency * p.energy_budget)
        nats = p.workload.upload_bits[cuts[k]] * math.log(2.0) / (band * p.delay_budget * w * w)
        return unit * w * w * math.expm1(nats), 2 * unit * w * (math.expm1(nats) - nats * math.exp(nats))

    tangents, last = [], math.inf
    for k, w in itertools.product(range(count), np.geomspace(0.03, 1.0, 30)):
        nats = problems[k].workload.upload_bits[cuts[k]] * math.log(2.0) / (band * problems[k].delay_budget * w * w)
        if nats < 15.0:
            tangents.append((k, w))
    for _ in range(30):
        planes = [sent[k] >= radiated(k, w)[0] + radiated(k, w)[1] * (speeds[k] - w) for k, w in tangents]
        problem = cp.Problem(cp.Maximize(worth), limits + planes)
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
        if abs(last - problem.value) < 1e-9:
            break
        last = problem.value
        tangents += [(k, float(speeds.value[k])) for k in range(count)]
    return last


# --- one task at prices ---


def hard_problem(seed):
    """A random problem, or a small one with all physics whose budgets bind at most shares."""
    rng = np.random.default_rng(seed)
    if seed % 3 == 0:
        return random_problem(rng)[0]
    left_out = rng.choice(list(PHYSICS), 3, replace=False) if seed % 3 == 1 else ["memory_bandwidth_server"]
    changes = {name: value for name, value in PHYSICS.items() if name not in left_out}
    quality = rng.choice(["rate_distortion", "parallel_laplacian", "magnitude_pruning", "magnitude_threshold"])
    changes |= {"delay_budget": rng.uniform(0.1, 0.4), "energy_budget": rng.uniform(0.2, 0.6), "quality": str(quality)}
    changes |= {"power_min": float(rng.choice([0.0, 0.02])), "retained_server_min": float(rng.choice([0.05, 0.8]))}
    return small_problem(**changes, gain=10 ** rng.uniform(-11, -9))


def test_response_bounds_every_share_at_every_price():
    rng, tight = np.random.default_rng(0), 0
    for seed in range(60):
        problem = hard_problem(seed)
        whole = problem.tables
        part = Tables(whole.hardware.copy(), whole.quality, whole.cuts.copy(), whole.blocks)
        task = Task(problem.gain, problem.delay_budget, problem.energy_budget, problem.bandwidth, 1.0)
        pieces = np.zeros(500, PIECE)
        count = begin(whole, part, task, pieces)
        region = Region(np.ones(problem.workload.cuts + 1, np.bool_), 0.0, 1.0, 0.0, 1.0)
        for _ in range(10):
            prices = tuple(rng.uniform(0.0, 1.0, 2) * rng.choice([0.1, 1.0]))
            count, response = respond(whole, part, task, pieces, count, region, prices, 1e-3)
            bound, earns, quality, cut, *shares = response
            assert 0.0 <= earns <= bound
            tight += bound - earns <= 1e-3
            if cut < problem.workload.cuts - 1:
                assert quality <= earned(problem, problem.bandwidth * shares[0], shares[1], cut) + 1e-9
        known = pieces[:count]
        for band, server in rng.random((30, 2)) ** rng.uniform(0.5, 2.0):
            within = (known["band_low"] <= band) & (band <= known["band"])
            within &= (known["server_low"] <= server) & (server <= known["server"])
            plane = known["bound"] - known["band_slope"] * (known["band"] - band)
            plane -= known["server_slope"] * (known["server"] - server)
            bound = max(plane[within].max(initial=0.0), known["bound"][known["band"] == 0.0].max())
            assert earned(problem, problem.bandwidth * band, server) <= bound + 1e-9, seed
    assert tight > 8 * 60  # of ten prices each; elsewhere there is no room for more pieces


# --- bad input ---


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"problems": []}, "problems"),
        ({"problems": small_problem()}, "problems"),
        ({"problems": ["task"]}, "problem"),
        ({"band": 0.0}, "band"),
        ({"band": math.inf}, "band"),
        ({"server": 0.0}, "server"),
        ({"server": 1.5}, "server"),
        ({"cuts": [1]}, "cuts"),
        ({"cuts": 3}, "cuts"),
        ({"cuts": "12"}, "cuts"),
        ({"cuts": [1, 7]}, "cut"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"branchings": -1}, "branchings"),
        ({"branchings": 0.5}, "branchings"),
        ({"branchings": float("inf")}, "branchings"),
    ],
)
def test_bad_input(changes, field):
    given = {"problems": [small_problem()] * 2, "band": 1e7} | changes
    with pytest.raises(InvalidInputError, match=field):
        solve_cell(**given)


def test_a_measured_accuracy_is_refused():
    problem = load_scenario("minilm-squad").problem(1e-9)
    with pytest.raises(InvalidInputError, match="quality"):
        solve_cell([problem], 1e7)
