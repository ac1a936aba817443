"""The exact optimum against brute force, scipy, closed forms and random competitors, over very wide ranges."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import lambertw

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.decision import Decision, Solution
from coinfer_gym.laim.distortion import BOUNDS, QUALITIES
from coinfer_gym.laim.optimum import SOLUTION, solve_exact, solve_exact_batch
from coinfer_gym.laim.outcome import model_quality
from coinfer_gym.laim.predictor import AccuracyPredictor
from coinfer_gym.laim.problem import Problem
from coinfer_gym.laim.workload import Block, Workload
from tests.interpreted import samples

CONTROLS = ("power", "frequency_device", "frequency_server")

# --- problems ---


def random_workload(rng, count=None, idle=0.0):
    """One to eight very different blocks; a share `idle` of them has no FLOPs or no parameters."""
    while True:
        blocks = []
        for j in range(count or int(rng.integers(1, 9))):
            flops, parameters = 10 ** rng.uniform(6, 10), int(10 ** rng.uniform(2, 8))
            flops = 0.0 if rng.random() < idle else flops
            parameters = 0 if rng.random() < idle else parameters
            blocks.append(Block(f"b{j}", flops, parameters, 10 ** rng.uniform(3, 8), 10 ** rng.uniform(0, 2)))
        if sum(block.flops for block in blocks) > 0 and sum(block.parameters for block in blocks) > 0:
            return Workload("random", 10 ** rng.uniform(3, 8), tuple(blocks))


def random_problem(rng, quality=None, idle=0.0, count=None, bind=True, fixed=0.0):
    """A problem over wide ranges; `bind` sets budgets near those of a random decision, `fixed` pins controls."""
    quality = quality or str(rng.choice(list(QUALITIES)))
    values = {
        "power_max": 10 ** rng.uniform(-2, 1),
        "frequency_device_max": 10 ** rng.uniform(8.5, 9.7),
        "frequency_server_max": 10 ** rng.uniform(9, 10),
    }
    for name in CONTROLS:
        share = 1.0 if rng.random() < fixed else float(rng.choice([0.0, 0.0, 1e-3, 0.1, 0.7]))
        values[f"{name}_min"] = share * values[f"{name}_max"]
    for name in ("retained_device_min", "retained_server_min"):
        values[name] = 1.0 if rng.random() < fixed else float(rng.choice([1e-4, 0.01, 0.05, 0.5]))
    problem = Problem(
        workload=random_workload(rng, count, idle),
        gain=10 ** rng.uniform(-16, -4),
        delay_budget=10 ** rng.uniform(-3, 3),
        energy_budget=10 ** rng.uniform(-3, 3),
        bandwidth=10 ** rng.uniform(5, 8),
        noise_density=10 ** rng.uniform(-21, -17),
        flops_per_cycle_device=10 ** rng.uniform(0, 2),
        flops_per_cycle_server=10 ** rng.uniform(1, 4),
        pue_device=1.0,
        pue_server=rng.uniform(1, 2),
        kappa_device=10 ** rng.uniform(-29, -26),
        kappa_server=10 ** rng.uniform(-29, -26),
        parameter_bits=float(rng.choice([4, 8, 32])),
        quality=quality,
        quality_scale="linear" if quality in BOUNDS and rng.random() < 0.3 else "",
        **values,
    )
    if bind:
        d = random_decision(rng, problem)
        delay, energy = spend(problem, d.cut, *(getattr(d, name) for name in list(Decision.__dataclass_fields__)[1:]))
        delay, energy = (float(spent or 1) * 10 ** rng.normal(0, 0.3) for spent in (delay, energy))
        problem = replace(problem, delay_budget=delay, energy_budget=energy)
    return problem


def random_decision(rng, problem):
    def within(name, low):
        top = getattr(problem, f"{name}_max", 1.0)
        low = max(low * top, getattr(problem, f"{name}_min"))
        return low + (top - low) * rng.random() ** 2

    return Decision(
        int(rng.integers(problem.workload.cuts)),
        within("retained_device", 0.0),
        within("retained_server", 0.0),
        within("power", 1e-4),
        within("frequency_device", 0.02),
        within("frequency_server", 0.02),
    )


def sides_of(problem, cut):
    """Of device and server: runs, seconds of other reads, energy and static power, and the clock's ends.

    A run, the first pass or all further ones, has its cycles and the clock that the memory feeds.
    """
    byte, work = problem.parameter_bits / 8.0, problem.workload
    for name, blocks in (("device", work.blocks[:cut]), ("server", work.blocks[cut:])):
        bandwidth, runs = getattr(problem, f"memory_bandwidth_{name}"), []
        for flops, reads in (
            (lambda b: b.flops - b.step_flops, lambda b: b.reads),
            (lambda b: b.step_flops, lambda b: work.steps),
        ):
            cycles = sum(flops(block) for block in blocks) / getattr(problem, f"flops_per_cycle_{name}")
            read = byte * sum(block.prunable * reads(block) for block in blocks if flops(block) > 0)
            if cycles:
                runs.append((cycles, cycles * bandwidth / read if read else math.inf))
        tied = byte * work.tied * (1 + work.steps) if blocks and blocks[-1] is work.blocks[-1] else 0.0
        pue = getattr(problem, f"pue_{name}")
        yield (
            runs,
            (sum(block.cache_read_bits for block in blocks) / 8.0 + tied) / bandwidth,
            pue * getattr(problem, f"kappa_{name}"),
            pue * getattr(problem, f"static_power_{name}"),
            getattr(problem, f"frequency_{name}_min"),
            getattr(problem, f"frequency_{name}_max"),
        )


def bits_of(problem, cut):
    work = problem.workload
    return [work.input_bits, *(block.activation_bits for block in work.blocks[:-1]), 0.0][cut]


def trips_of(problem, cut):
    """Seconds of round trips at a cut that uses the server: inner cuts send every further token back."""
    return problem.round_trip * (1 + problem.workload.steps if cut else 1)


def held(problem, cut):
    """Highest ratios that both memories hold; None where not even the least ones fit."""
    byte, most, inner = problem.parameter_bits / 8.0, [], 0 < cut < problem.workload.cuts - 1
    for name, blocks in (("device", problem.workload.blocks[:cut]), ("server", problem.workload.blocks[cut:])):
        free = getattr(problem, f"memory_capacity_{name}") - sum(b.cache_bits for b in blocks) / 8.0
        copied = problem.workload.tied if inner and name == "server" else 0
        free = free / byte - sum(b.parameters - b.prunable for b in blocks) - copied
        prunable = sum(block.prunable for block in blocks)
        if free < getattr(problem, f"retained_{name}_min") * prunable * (1 - 1e-12):
            return None
        most.append(min(1.0, free / prunable) if prunable else 1.0)
    return most


def spend(problem, cut, retained_device, retained_server, power, clock_device, clock_server):
    """Delay and energy from eqs. 2-11 and the further terms; arrays are welcome."""
    delay = energy = 0.0 * np.asarray(power + retained_device)
    device, server = sides_of(problem, cut)
    for (runs, reading, weight, static, _, _), retained, clock, waits in (
        (device, retained_device, clock_device, 0.0),
        (server, retained_server, clock_server, problem.waiting_power_device),
    ):
        delay, energy = delay + reading, energy + (static + waits) * reading
        for cycles, fed in runs:
            run, own = (1 - problem.sparsity_gain * (1 - retained)) * cycles, np.minimum(clock, fed)
            delay = delay + run / own
            energy = energy + weight * own**2 * run + (static + waits) * run / own
    if bits_of(problem, cut):
        snr = power * problem.gain / problem.snr_gap / (problem.noise_density * problem.bandwidth)
        tau = bits_of(problem, cut) / np.minimum(problem.rate_max, problem.bandwidth * np.log1p(snr) / math.log(2))
        drawn = power / problem.amplifier_efficiency + problem.circuit_power + problem.waiting_power_device
        delay, energy = delay + tau, energy + drawn * tau
    if cut < problem.workload.cuts - 1:
        trips = trips_of(problem, cut)
        delay = delay + trips
        energy = energy + problem.waiting_power_device * trips
    return delay, energy


def quality_at(problem, cut, retained_device, retained_server):
    """The quality itself is tested by test_distortion.py."""
    pairs = np.broadcast(retained_device, retained_server)
    return np.array([model_quality(problem.tables, cut, float(a), float(b)) for a, b in pairs])


# --- brute force: a grid over one ratio, and for each the largest other one that some speed allows ---


def spend_at_price(problem, cut, log_price):
    """Seconds and joules, per ratio and whatever the ratios, when a second may cost that many joules (arrays)."""
    price, waits = np.exp(log_price), problem.waiting_power_device
    gamma, out, fixed = problem.sparsity_gain, [], []
    for (runs, reading, weight, static, low, high), waiting in zip(sides_of(problem, cut), (0.0, waits), strict=True):
        # d/df ((price + drawn) / f + weight f^2) = 0
        drawn = static + waiting
        seconds, joules = 0 * price, 0 * price
        for cycles, fed in runs:
            clock = np.minimum(fed, np.clip(np.cbrt((price + drawn) / 2 / weight), low, high))
            seconds = seconds + cycles / clock
            joules = joules + weight * cycles * clock**2 + drawn * cycles / clock
        out += [seconds, joules]
        fixed.append((reading, drawn * reading))
    seconds, joules = 0 * price, 0 * price
    if bits_of(problem, cut):
        # d/dy ((price + noise (e^y - 1)) / y) = 0 is (y - 1) e^(y - 1) = (price / noise - 1) / e: Lambert's function
        noise = problem.noise_density * problem.bandwidth / problem.gain * problem.snr_gap
        drawn = problem.circuit_power + waits
        relative = np.clip((price + drawn) * problem.amplifier_efficiency / noise, 0, 1e250)
        small = np.sqrt(2 * relative) - relative / 3
        y = np.where(relative < 1e-5, small, 1 + lambertw((relative - 1) / math.e).real)
        useful = min(500, problem.rate_max / problem.bandwidth * math.log(2))
        power = np.clip(noise * np.expm1(np.minimum(y, 500)), problem.power_min, problem.power_max)
        power = np.clip(np.minimum(power, noise * math.expm1(useful)), problem.power_min, problem.power_max)
        rate = np.minimum(problem.rate_max, problem.bandwidth * np.log1p(power / noise) / math.log(2))
        seconds = bits_of(problem, cut) / rate
        joules = (power / problem.amplifier_efficiency + drawn) * seconds
    if cut < problem.workload.cuts - 1:
        seconds, joules = seconds + trips_of(problem, cut), joules + waits * trips_of(problem, cut)
    seconds, joules = seconds + fixed[0][0] + fixed[1][0], joules + fixed[0][1] + fixed[1][1]
    seconds = seconds + (1 - gamma) * (out[0] + out[2])
    joules = joules + (1 - gamma) * (out[1] + out[3])
    return *(gamma * each for each in out), seconds, joules


def largest_server_ratio(problem, cut, retained_device):
    """Largest server ratio beside each device ratio: the price at which both budgets allow the same."""

    def allowed(log_price):
        time_d, energy_d, time_s, energy_s, seconds, joules = spend_at_price(problem, cut, log_price)
        both = []
        for rest, unit in (
            (problem.delay_budget - seconds - retained_device * time_d, time_s),
            (problem.energy_budget - joules - retained_device * energy_d, energy_s),
        ):
            free = np.where(rest >= 0, np.inf, -np.inf)
            both.append(np.where(unit > 0, rest / np.where(unit > 0, unit, 1.0), free))
        return both

    low, high = np.full(retained_device.shape, -95.0), np.full(retained_device.shape, 95.0)
    for _ in range(58):
        middle = 0.5 * (low + high)
        by_time, by_energy = allowed(middle)
        faster = by_time < by_energy
        low, high = np.where(faster, middle, low), np.where(faster, high, middle)
    return np.maximum(np.minimum(*allowed(low)), np.minimum(*allowed(high)))


def brute_force(problem, cut):
    """Best quality of a cut, -1 where there is none: nested grids, as quality is concave along the device ratio."""
    last = cut == problem.workload.cuts - 1
    if held(problem, cut) is None:
        return -1.0
    most_device, most_server = held(problem, cut)
    low, high = (1.0, 1.0) if cut == 0 else (problem.retained_device_min, most_device)
    least = 0.0 if last else problem.retained_server_min
    best = -1.0
    for _ in range(8):
        device = np.linspace(low, high, 41) if high > low else np.array([low])
        server = largest_server_ratio(problem, cut, device)
        inside = server >= least
        if not inside.any():
            return best
        server = np.clip(server, least, most_server)
        values = np.where(inside, quality_at(problem, cut, device, server), -1.0)
        k = int(values.argmax())
        best = max(best, values[k])
        if high == low:
            break
        low, high = device[max(k - 1, 0)], device[min(k + 1, 40)]
    return best


def assert_optimal(problem, cut, tolerance=1e-7):
    found, expected = solve_exact(problem, cut), brute_force(problem, cut)
    assert (found.reason == "memory") == (held(problem, cut) is None)
    if expected < 0:
        assert not found.feasible
    elif not found.feasible:  # only a knife's edge may be lost to rounding
        assert max(found.delay_needed / problem.delay_budget, found.energy_needed / problem.energy_budget) < 1 + 1e-6
    else:
        assert_in_budget(problem, found)
        assert found.quality == pytest.approx(expected, abs=tolerance)
    return found


def assert_in_budget(problem, found, slack=1e-9):
    """The decision respects all bounds, its delay and energy are what it says, and both budgets hold."""
    work = problem.workload
    controls = (found.power, found.frequency_device, found.frequency_server)
    delay, energy = spend(problem, found.cut, found.retained_device, found.retained_server, *controls)
    assert found.delay == pytest.approx(float(delay), rel=1e-9)
    assert found.energy == pytest.approx(float(energy), rel=1e-9)
    assert delay <= problem.delay_budget * (1 + slack)
    assert energy <= problem.energy_budget * (1 + slack)
    for name, value, used in (
        ("power", found.power, work.upload_bits[found.cut] > 0),
        ("frequency_device", found.frequency_device, work.flops_device[found.cut] > 0),
        ("frequency_server", found.frequency_server, work.flops_server[found.cut] > 0),
    ):
        low, high = getattr(problem, f"{name}_min"), getattr(problem, f"{name}_max")
        assert low * (1 - 1e-12) <= value <= high * (1 + 1e-12) if used else value == 0, name
    for value, low in (
        (found.retained_device, problem.retained_device_min),
        (found.retained_server, problem.retained_server_min),
    ):
        assert low * (1 - 1e-12) <= value <= 1
    if held(problem, found.cut) is not None:
        for value, most in zip((found.retained_device, found.retained_server), held(problem, found.cut), strict=True):
            assert value <= max(most, 0.0) * (1 + 1e-12)
    assert found.quality == pytest.approx(
        quality_at(problem, found.cut, found.retained_device, found.retained_server)[0], abs=1e-13
    )


# --- against independent references ---


@pytest.mark.parametrize("quality", QUALITIES)
def test_optimum_of_every_cut_is_that_of_brute_force(quality):
    rng = np.random.default_rng(len(quality))
    inner = 0
    for _ in range(16):
        problem = random_problem(rng, quality, count=int(rng.integers(1, 5)))
        for cut in range(problem.workload.cuts):
            found = assert_optimal(problem, cut)
            inner += found.feasible and found.quality < 0.999
    assert inner >= 8


@pytest.mark.parametrize("quality", QUALITIES)
def test_optimum_with_pinned_controls_is_that_of_brute_force(quality):
    rng = np.random.default_rng(100 + len(quality))
    for _ in range(12):
        problem = random_problem(rng, quality, count=int(rng.integers(1, 4)), fixed=0.4)
        for cut in range(problem.workload.cuts):
            assert_optimal(problem, cut)


@pytest.mark.parametrize("quality", QUALITIES)
def test_optimum_of_networks_with_idle_blocks_is_that_of_brute_force(quality):
    rng = np.random.default_rng(200 + len(quality))
    for _ in range(12):
        problem = random_problem(rng, quality, idle=0.35, count=int(rng.integers(2, 5)))
        for cut in range(problem.workload.cuts):
            assert_optimal(problem, cut)


def random_physics(rng, problem):
    """Constants beyond the paper's model, each of the size at which it matters in this problem, or at its default."""
    cut = int(rng.integers(problem.workload.cuts))
    device, server = sides_of(problem, cut)
    weights = sum(block.parameters for block in problem.workload.blocks)
    noise = problem.noise_density * problem.bandwidth / problem.gain
    nats = math.log1p(problem.power_max / noise)
    cycles = [sum(each for each, _ in runs) or 1e9 for runs in (device[0], server[0])]
    drawn = {
        "static_power_device": device[2] * device[5] ** 3,
        "static_power_server": server[2] * server[5] ** 3,
        "waiting_power_device": min(device[2] * device[5] ** 3, server[2] * server[5] ** 3),
        "circuit_power": problem.power_max,
        "rate_max": problem.bandwidth * nats,
        "round_trip": problem.delay_budget / 10,
        "memory_bandwidth_device": problem.parameter_bits * weights * device[5] / cycles[0],
        "memory_bandwidth_server": problem.parameter_bits * weights * server[5] / cycles[1],
        "memory_capacity_device": problem.parameter_bits / 8 * weights,
        "memory_capacity_server": problem.parameter_bits / 8 * weights,
    }
    values = {name: value * 10 ** rng.normal(-0.5, 0.7) for name, value in drawn.items()}
    values |= {"snr_gap": 10 ** rng.uniform(0, 1.5), "amplifier_efficiency": 10 ** rng.uniform(-1.5, 0)}
    values |= {"sparsity_gain": float(rng.choice([0.0, 0.1, 0.5, 0.9]))}
    return {name: float(value) for name, value in values.items() if rng.random() < 0.4}


def with_physics_and_budgets(rng, problem):
    """The problem with random physics, and budgets about what a random decision spends."""
    problem = replace(problem, **random_physics(rng, problem))
    d = random_decision(rng, problem)
    spent = spend(problem, *(getattr(d, name) for name in Decision.__dataclass_fields__))
    delay, energy = (float(each or 1) * 10 ** rng.normal(0, 0.3) for each in spent)
    return replace(problem, delay_budget=delay, energy_budget=energy)


@pytest.mark.parametrize("quality", QUALITIES)
def test_optimum_with_all_physics_is_that_of_brute_force(quality):
    rng = np.random.default_rng(300 + len(quality))
    inner = 0
    for _ in range(24):
        problem = random_problem(rng, quality, idle=0.2, count=int(rng.integers(1, 5)), bind=False)
        shares = rng.choice([1.0, 0.3, 0.9], len(problem.workload.blocks))
        blocks = tuple(
            replace(block, prunable=math.ceil(share * block.parameters), reads=float(rng.choice([1, 20])))
            for block, share in zip(problem.workload.blocks, shares, strict=True)
        )
        problem = replace(problem, workload=replace(problem.workload, blocks=blocks))
        problem = with_physics_and_budgets(rng, problem)
        for cut in range(problem.workload.cuts):
            found = assert_optimal(problem, cut)
            inner += found.feasible and found.quality < 0.999
    assert inner >= 5


@pytest.mark.parametrize("quality", QUALITIES)
def test_optimum_of_generation_is_that_of_brute_force(quality):
    rng = np.random.default_rng(400 + len(quality))
    inner = slowed = 0
    for _ in range(24):
        problem = random_problem(rng, quality, idle=0.2, count=int(rng.integers(2, 5)), bind=False)
        steps = int(rng.choice([1, 30]))
        blocks = tuple(
            replace(
                block,
                prunable=math.ceil(0.8 * block.parameters),
                step_flops=block.flops * float(rng.choice([0.0, 0.1, 0.5, 1.0])),
                cache_bits=block.parameters * float(rng.choice([0.0, 0.5])),
                cache_read_bits=block.parameters * steps * float(rng.choice([0.0, 0.5])),
            )
            for block in problem.workload.blocks
        )
        tied = int(rng.choice([0, blocks[0].parameters // 5]))
        problem = replace(problem, workload=replace(problem.workload, blocks=blocks, steps=steps, tied=tied))
        problem = with_physics_and_budgets(rng, problem)
        for cut in range(problem.workload.cuts):
            found = assert_optimal(problem, cut)
            inner += found.feasible and found.quality < 0.999
            sides = zip(sides_of(problem, cut), (found.frequency_device, found.frequency_server), strict=True)
            slowed += any(len(runs) == 2 and min(fed for _, fed in runs) < clock for (runs, *_), clock in sides)
    assert inner >= 5
    assert slowed >= 3  # one pass runs at a clock, the other waits for the memory


@pytest.mark.parametrize("quality", QUALITIES)
def test_side_with_work_but_no_parameters_keeps_the_budgets_and_is_pruned_for_free(quality):
    blocks = (Block("pool", 4e9, 0, 1e6, 30.0), Block("dense", 2e9, 4_000_000, 1e6, 30.0))
    for workload in (Workload("front", 2e6, blocks), Workload("rear", 2e6, blocks[::-1])):
        problem = ordinary(workload=workload, quality=quality)
        full = spend(problem, 1, 1.0, 1.0, problem.power_max, 1e9, 2e9)
        for share in (0.3, 0.5, 0.8):
            tight = replace(problem, delay_budget=share * float(full[0]), energy_budget=share * float(full[1]))
            found = assert_optimal(tight, 1)
            assert found.feasible


@pytest.mark.parametrize("quality", QUALITIES)
def test_side_without_work_is_left_whole(quality):
    blocks = (
        Block("reshape", 0.0, 0, 1e6, 30.0),
        Block("embedding", 0.0, 3_000_000, 1e6, 5.0),
        Block("dense", 4e9, 4_000_000, 1e6, 30.0),
    )
    for workload, cut in ((Workload("front", 2e6, blocks), 2), (Workload("rear", 2e6, blocks[::-1]), 1)):
        budgets = {"delay_budget": 0.13, "energy_budget": 0.009}
        found = assert_optimal(ordinary(workload=workload, quality=quality, **budgets), cut)
        idle, busy = found.retained_device, found.retained_server
        idle, busy = (idle, busy) if cut == 2 else (busy, idle)
        assert idle == 1.0
        assert 0.05 < busy < 0.95


def ordinary(**changes):
    """A transformer's sizes on a phone and a server, budgets that bind at every cut."""
    blocks = tuple(
        Block(f"layer{j}", 1.9e9, 7_000_000 + 1_000_000 * j, 3.1e6, rate) for j, rate in enumerate((25, 40, 60, 90))
    )
    values = {
        "workload": Workload("ordinary", 4.8e6, blocks),
        "gain": 1e-10,
        "delay_budget": 0.25,
        "energy_budget": 0.05,
        "bandwidth": 1e7,
        "noise_density": 2e-20,
        "power_max": 0.2,
        "power_min": 1e-3,
        "flops_per_cycle_device": 16.0,
        "flops_per_cycle_server": 64.0,
        "frequency_device_max": 2e9,
        "frequency_server_max": 3e9,
        "frequency_device_min": 1e8,
        "frequency_server_min": 1e8,
        "pue_device": 1.0,
        "pue_server": 1.4,
        "kappa_device": 1e-28,
        "kappa_server": 5e-28,
    }
    return Problem(**(values | changes))


@pytest.mark.parametrize(
    ("quality", "scale"),
    [(quality, "") for quality in QUALITIES] + [("rate_distortion", "linear"), ("parallel_laplacian", "linear")],
)
def test_no_start_of_a_local_solver_on_the_original_controls_does_better(quality, scale):
    problem = ordinary(quality=quality, quality_scale=scale, parameter_bits=4.0)
    rng = np.random.default_rng(9)
    low = np.array([0.01, 0.01, 5e-3, 0.05, 1 / 30])

    for cut in (0, 2, 4):
        found = solve_exact(problem, cut)

        def budgets(x, cut=cut):
            spent = spend(problem, cut, x[0], x[1], x[2] * 0.2, x[3] * 2e9, x[4] * 3e9)
            return np.array([1 - spent[0] / problem.delay_budget, 1 - spent[1] / problem.energy_budget])

        best = 0.0
        for start in (low + (1 - low) * rng.random(5) for _ in range(5)):
            result = minimize(
                lambda x, cut=cut: -quality_at(problem, cut, x[0], x[1])[0],
                start,
                method="SLSQP",
                bounds=[(x, 1.0) for x in low],
                constraints={"type": "ineq", "fun": budgets},
                options={"ftol": 1e-11, "maxiter": 200},
            )
            if (budgets(result.x) >= -1e-9).all():
                best = max(best, -result.fun)
        assert best <= found.quality + 1e-7
        assert best == pytest.approx(found.quality, abs=2e-4)


def test_device_alone_by_closed_form():
    work = Workload("one", 1e6, (Block("a", 8e9, 1_000_000, 1e5, 30.0),))
    cycles, weight = 8e9 / 16, 1e-28
    # rho cycles / f = T and weight f^2 rho cycles = E give rho^3 = E T^2 / (weight cycles^3)
    for delay, energy in ((0.3, 0.02), (0.2, 0.01), (0.5, 0.03)):
        problem = ordinary(workload=work, delay_budget=delay, energy_budget=energy)
        found = solve_exact(problem, 1)
        ratio = (energy * delay**2 / (weight * cycles**3)) ** (1 / 3)
        assert found.retained_device == pytest.approx(ratio, rel=1e-11)
        assert found.frequency_device == pytest.approx(ratio * cycles / delay, rel=1e-9)
        assert (found.retained_server, found.power, found.frequency_server) == (1.0, 0.0, 0.0)
    # the clock at its end: the deadline alone counts
    fast = solve_exact(ordinary(workload=work, delay_budget=0.1, energy_budget=100.0), 1)
    assert fast.retained_device == pytest.approx(0.1 * 2e9 / cycles, rel=1e-11)
    # the clock at its lower end: energy alone counts
    slow = solve_exact(ordinary(workload=work, delay_budget=1e4, energy_budget=1e-4), 1)
    assert slow.retained_device == pytest.approx(1e-4 / (weight * 1e16 * cycles), rel=1e-11)


def test_server_alone_with_pinned_controls_by_closed_form():
    problem = ordinary(power_min=0.2, frequency_server_min=3e9, gain=1e-9, delay_budget=0.07, energy_budget=1.0)
    upload = 4.8e6 / (1e7 * math.log2(1 + 0.2 * 1e-9 / 2e-13))
    found = solve_exact(problem, 0)
    assert found.retained_server == pytest.approx((0.07 - upload) / (7.6e9 / 64 / 3e9), rel=1e-11)
    assert (found.power, found.frequency_server, found.frequency_device) == (0.2, 3e9, 0.0)
    assert found.retained_device == 1.0
    frugal = solve_exact(replace(problem, delay_budget=10.0, energy_budget=0.3), 0)
    joules = 1.4 * 5e-28 * 9e18 * 7.6e9 / 64
    assert frugal.retained_server == pytest.approx((0.3 - 0.2 * upload) / joules, rel=1e-11)


def test_budget_that_is_left_over_means_that_every_control_is_at_its_end():
    rng = np.random.default_rng(17)
    seen = set()
    for _ in range(400):
        problem = random_problem(rng)
        found = solve_exact(problem)
        if not found.feasible or found.quality > 1 - 1e-9:
            continue
        spare_time = found.delay < problem.delay_budget * (1 - 1e-6)
        spare_energy = found.energy < problem.energy_budget * (1 - 1e-6)
        assert not (spare_time and spare_energy)
        used = {
            "power": problem.workload.upload_bits[found.cut] > 0,
            "frequency_device": problem.workload.flops_device[found.cut] > 0,
            "frequency_server": problem.workload.flops_server[found.cut] > 0,
        }
        for name in (name for name in CONTROLS if used[name]):
            if spare_energy:
                assert getattr(found, name) == pytest.approx(getattr(problem, f"{name}_max"), rel=1e-6)
            if spare_time:
                assert getattr(found, name) == pytest.approx(getattr(problem, f"{name}_min"), rel=1e-3, abs=1e-9)
        seen.add((spare_time, spare_energy))
    assert seen == {(False, False), (True, False), (False, True)}


# --- properties over very wide ranges ---


@pytest.mark.parametrize("bind", [True, False])
def test_solution_keeps_its_budgets_and_no_random_decision_beats_it(bind):
    rng = np.random.default_rng(23 + bind)
    feasible = compared = 0
    for k in range(samples(250)):
        problem = random_problem(rng, bind=bind, fixed=0.3 * (k % 3 == 0))
        found = solve_exact(problem)
        if found.feasible:
            feasible += 1
            assert found.reason == ""
            assert_in_budget(problem, found)
            assert 0 <= found.gap < 1e-9
        for _ in range(4):
            cut = int(rng.integers(problem.workload.cuts))
            # random controls and direction of pruning, and as little pruning along it as the budgets allow
            controls = []
            for name in CONTROLS:
                low, high = getattr(problem, f"{name}_min"), getattr(problem, f"{name}_max")
                controls.append(np.exp(rng.uniform(math.log(max(low, high * 1e-4)), math.log(high), 50)))
            low_d, low_s = problem.retained_device_min, problem.retained_server_min
            goal_d, goal_s = low_d + (1 - low_d) * rng.random(50), low_s + (1 - low_s) * rng.random(50)
            least = spend(problem, cut, low_d + 0 * goal_d, low_s + 0 * goal_s, *controls)
            most = spend(problem, cut, goal_d, goal_s, *controls)
            step = np.ones(50)
            for a, b, budget in zip(least, most, (problem.delay_budget, problem.energy_budget), strict=True):
                step = np.minimum(step, np.where(b > budget, (budget - a) / np.where(b > a, b - a, 1.0), 1.0))
            inside = (least[0] <= problem.delay_budget) & (least[1] <= problem.energy_budget)
            if inside.any():
                assert found.feasible
                device, server = low_d + step * (goal_d - low_d), low_s + step * (goal_s - low_s)
                rivals = quality_at(problem, cut, np.clip(device, low_d, 1)[inside], np.clip(server, low_s, 1)[inside])
                assert rivals.max() <= found.quality + 1e-9
                compared += inside.sum()
    assert feasible > samples(60)
    assert compared > samples(5000)


def test_quality_never_falls_when_a_budget_or_the_gain_rises():
    rng = np.random.default_rng(31)
    for _ in range(samples(60)):
        problem = random_problem(rng)
        factors = 10.0 ** np.linspace(-1.5, 1.5, 61)
        for name in ("delay_budget", "energy_budget", "gain"):
            values = getattr(problem, name) * factors
            rows = solve_exact_batch(problem, parallel=False, **{name: values})
            feasible = rows["reason"] == 0
            assert (np.diff(feasible.astype(int)) >= 0).all()
            assert (np.diff(rows["quality"][feasible]) >= -1e-9).all()


def test_all_cuts_together_are_the_best_of_each():
    rng = np.random.default_rng(37)
    for _ in range(samples(150)):
        problem = random_problem(rng, bind=bool(rng.random() < 0.8))
        each = [solve_exact(problem, cut) for cut in range(problem.workload.cuts)]
        found = solve_exact(problem)
        assert found.feasible == any(one.feasible for one in each)
        if found.feasible:
            assert found.quality == pytest.approx(max(one.quality for one in each if one.feasible), abs=1e-10)
            assert found.cut == each[found.cut].cut
            assert found.quality == pytest.approx(each[found.cut].quality, abs=1e-10)


def test_restricted_problem_is_never_better_than_the_free_one():
    rng = np.random.default_rng(41)
    compared = 0
    for _ in range(samples(150)):
        problem = random_problem(rng)
        free = solve_exact(problem)
        for name in (*CONTROLS, "retained_device", "retained_server"):
            top = getattr(problem, f"{name}_max", 1.0)
            bound = solve_exact(replace(problem, **{f"{name}_min": top}))
            assert free.feasible or not bound.feasible
            if bound.feasible:
                assert bound.quality <= free.quality + 1e-9
                compared += 1
    assert compared > samples(100)


def test_pruning_the_device_only_leaves_the_server_whole():
    problem = ordinary(retained_server_min=1.0, quality="magnitude_pruning")
    for cut in range(1, 4):
        found = assert_optimal(problem, cut)
        if found.feasible:
            assert found.retained_server == 1.0


@pytest.mark.parametrize("gain", [1e-100, 1e-16, 1e-13, 1e-4, 1.0])
@pytest.mark.parametrize("quality", ["rate_distortion", "magnitude_threshold"])
def test_channel_of_any_strength_is_handled(gain, quality):
    problem = ordinary(gain=gain, quality=quality)
    for cut in range(5):
        found = solve_exact(problem, cut)
        if gain < 1e-14 and cut < 4:
            assert not found.feasible
        elif gain >= 1e-13:
            assert_optimal(problem, cut)


def test_workload_of_a_single_block_has_two_cuts():
    rng = np.random.default_rng(43)
    for _ in range(samples(30)):
        problem = random_problem(rng, count=1)
        for cut in (0, 1):
            assert_optimal(problem, cut)
        with pytest.raises(InvalidInputError):
            solve_exact(problem, 2)


@pytest.mark.parametrize("quality", QUALITIES)
def test_upload_of_no_bits_is_free(quality):
    work = ordinary().workload
    silent = Workload("silent", 0.0, tuple(replace(block, activation_bits=0.0) for block in work.blocks))
    problem = ordinary(workload=silent, gain=1e-300, quality=quality)
    for cut in range(5):
        found = assert_optimal(problem, cut)
        assert found.power == 0.0
    assert solve_exact(problem).feasible


# --- budgets at their ends ---


@pytest.mark.parametrize("quality", QUALITIES)
def test_very_loose_budgets_leave_the_model_whole(quality):
    for budget in (1e3, 1e9, 1e30, math.inf):
        problem = ordinary(quality=quality, delay_budget=budget, energy_budget=budget)
        for cut in (None, 0, 2, 4):
            found = solve_exact(problem, cut)
            assert found.feasible
            assert found.quality == 1.0
            assert (found.retained_device, found.retained_server) == (1.0, 1.0)


@pytest.mark.parametrize("quality", QUALITIES)
def test_one_unlimited_budget_leaves_the_other_to_decide(quality):
    for name, ends in (("energy_budget", "max"), ("delay_budget", "min")):
        near = ordinary(quality=quality, delay_budget=0.12, energy_budget=0.01)
        for cut in range(5):
            expected = solve_exact(replace(near, **{name: 1e5}), cut)
            for unlimited in (1e12, 1e25, math.inf):
                found = solve_exact(replace(near, **{name: unlimited}), cut)
                assert found.feasible == expected.feasible
                if found.feasible:
                    assert found.quality == pytest.approx(expected.quality, abs=1e-9)
                    if found.quality < 1 and cut:
                        assert found.frequency_device == pytest.approx(getattr(near, f"frequency_device_{ends}"))


@pytest.mark.parametrize("delay_budget", [0.0, -1.0, -math.inf, 0.25])
@pytest.mark.parametrize("energy_budget", [0.0, -1.0, -math.inf, 0.05])
def test_budget_of_nothing_or_less_cannot_be_met(delay_budget, energy_budget):
    found = solve_exact(ordinary(delay_budget=delay_budget, energy_budget=energy_budget))
    no_time, no_energy = delay_budget <= 0, energy_budget <= 0
    assert found.feasible == (not no_time and not no_energy)
    reasons = {(False, False): "", (True, False): "time", (False, True): "energy", (True, True): "time and energy"}
    assert found.reason == reasons[no_time, no_energy]
    assert math.isfinite(found.delay)
    assert math.isfinite(found.energy)
    if no_time != no_energy:
        kept = found.energy / energy_budget if no_time else found.delay / delay_budget
        assert kept <= 1 + 1e-9


# --- what is said of infeasible problems ---


def extremes(problem, cut):
    """Least delay and least energy of a cut, each without regard to the other."""
    low = (problem.retained_device_min, problem.retained_server_min)
    tiny = 1e-9  # a control that may go to zero
    slow = [max(getattr(problem, f"{name}_min"), tiny * getattr(problem, f"{name}_max")) for name in CONTROLS]
    fast = [getattr(problem, f"{name}_max") for name in CONTROLS]
    return float(spend(problem, cut, *low, *fast)[0]), float(spend(problem, cut, *low, *slow)[1])


def with_budgets_times(problem, delay, energy):
    return replace(problem, delay_budget=problem.delay_budget * delay, energy_budget=problem.energy_budget * energy)


def test_infeasible_problem_says_why_and_what_would_do():
    rng = np.random.default_rng(47)
    seen = dict.fromkeys(("time", "energy", "time and energy"), 0)
    for _ in range(250):
        problem = with_budgets_times(random_problem(rng), *10 ** rng.uniform((-2, -5), (1, 0)))
        found = solve_exact(problem)
        if found.feasible:
            assert math.isnan(found.delay_needed)
            assert math.isnan(found.energy_needed)
            continue
        seen[found.reason] += 1
        ends = [extremes(problem, cut) for cut in range(problem.workload.cuts)]
        no_time = min(end[0] for end in ends) > problem.delay_budget
        no_energy = min(end[1] for end in ends) > problem.energy_budget
        if no_time == no_energy:
            assert found.reason == "time and energy"
        else:
            assert found.reason == ("time" if no_time else "energy")
        assert (found.energy_needed == math.inf) == no_time
        assert (found.delay_needed == math.inf) == no_energy
        for name, needed in (("delay_budget", found.delay_needed), ("energy_budget", found.energy_needed)):
            if needed < math.inf:
                assert needed > getattr(problem, name)
                assert solve_exact(replace(problem, **{name: 1.0001 * needed})).feasible
                assert not solve_exact(replace(problem, **{name: 0.999 * needed})).feasible
        # what is returned keeps one budget and exceeds the other by as little as that takes
        late, costly = found.delay / problem.delay_budget, found.energy / problem.energy_budget
        if not (no_time and no_energy):
            assert min(late, costly) <= 1 + 1e-9
            least = min(found.delay_needed / problem.delay_budget, found.energy_needed / problem.energy_budget)
            assert max(late, costly) == pytest.approx(least, rel=1e-6)
        assert math.isnan(found.gap)
    assert min(seen.values()) >= 10, seen


def test_small_ratio_that_one_budget_allows_is_found():
    # the block of 4e3 wide weights takes up the first bits, so that a ratio near 1e-3 barely moves with its price
    blocks = (Block("b0", 2e9, 4_000, 1e5, 4.0), Block("b1", 3e9, 46_000_000, 1e5, 14.0))
    work = Workload("steep", 2e5, blocks)
    missed = []
    for delay in np.geomspace(2e-4, 2e-2, 60):
        problem = ordinary(
            workload=work,
            quality="parallel_laplacian",
            delay_budget=delay,
            energy_budget=10.0,
            retained_device_min=1e-4,
        )
        found = solve_exact(problem, 2)
        expected = delay * 16 * 2e9 / 5e9
        if not found.feasible:
            missed.append(delay)
        else:
            assert found.retained_device == pytest.approx(expected, rel=1e-9)
    assert missed == []


def test_infeasible_cut_is_explained_by_itself():
    problem = ordinary(gain=1e-15)
    assert solve_exact(problem).cut == 4
    for cut in range(4):
        found = solve_exact(problem, cut)
        assert not found.feasible
        assert found.cut == cut
        assert not brute_force(problem, cut) >= 0


def test_what_would_do_is_the_least_that_any_cut_needs():
    rng, infeasible = np.random.default_rng(59), 0
    for _ in range(samples(150)):
        problem = with_budgets_times(random_problem(rng, idle=0.1), *10 ** rng.uniform(-2, 0, 2))
        found = solve_exact(problem)
        if found.feasible:
            continue
        infeasible += 1
        alone = [solve_exact(problem, cut) for cut in range(problem.workload.cuts)]
        for name in ("delay_needed", "energy_needed"):
            assert getattr(found, name) == pytest.approx(min(getattr(each, name) for each in alone), rel=1e-12)
    assert infeasible > samples(20)


def test_infeasible_decision_of_a_network_with_idle_blocks_is_evaluated_as_it_stands():
    rng = np.random.default_rng(53)
    for _ in range(samples(150)):
        problem = random_problem(rng, idle=0.35)
        problem = replace(problem, delay_budget=0.1 * problem.delay_budget, energy_budget=0.1 * problem.energy_budget)
        found = solve_exact(problem)
        again = problem.evaluate(found)
        assert (again.delay, again.energy) == pytest.approx((found.delay, found.energy))
        if found.feasible:
            assert_in_budget(problem, found)
        elif found.reason != "time and energy" or min(found.delay_needed, found.energy_needed) < math.inf:
            late, costly = found.delay / problem.delay_budget, found.energy / problem.energy_budget
            assert min(late, costly) <= 1 + 1e-9


def test_price_of_one_cut_beyond_the_range_does_not_hide_another_cut():
    """The search of cut 2 ends at a price beyond `END`, where that of cut 1 then starts."""
    blocks = (Block("embedding", 0.0, 146786, 0.0, 25.0), Block("body", 1.4e10, 4, 1e4, 0.15))
    problem = Problem(
        workload=Workload("two", 5.5e5, blocks),
        gain=6.7e-9,
        delay_budget=0.0094,
        energy_budget=96000.0,
        bandwidth=3e4,
        noise_density=4.5e-21,
        power_max=9.5,
        power_min=2.5e-5,
        flops_per_cycle_device=21.6,
        flops_per_cycle_server=2.5,
        frequency_device_max=1e9,
        frequency_server_max=7.2e10,
        frequency_server_min=5.5e10,
        pue_device=1.0,
        pue_server=1.4,
        kappa_device=2e-28,
        kappa_server=9e-26,
        retained_device_min=0.004,
        retained_server_min=1e-4,
        parameter_bits=8.0,
    )
    found = solve_exact(problem)
    assert (found.cut, found.quality) == (1, solve_exact(problem, 1).quality)
    assert found.quality > 0.9999
    everywhere = np.tile(np.linspace(0.0, 1.0, 21), (3, 21, 1))  # an accuracy that follows the server's ratio
    everywhere[:, -1, -1] = 1.0
    rising = replace(problem, quality="accuracy", predictor=AccuracyPredictor("server", "f1", 1.0, everywhere))
    alone = max(solve_exact(rising, cut).quality for cut in range(3))
    assert solve_exact(rising).quality == pytest.approx(alone, abs=1e-5)


def test_budgets_that_are_just_what_the_least_decision_spends_are_met():
    rng = np.random.default_rng(71)
    for _ in range(samples(150)):
        problem = random_problem(rng, fixed=1.0, idle=0.2)
        cut = int(rng.integers(problem.workload.cuts))
        controls, _ = problem.bounds()
        spent = problem.evaluate(controls, cut)
        problem = replace(problem, delay_budget=float(spent.delay), energy_budget=float(spent.energy))
        assert solve_exact(problem, cut).feasible
        assert solve_exact(problem).feasible


# --- ties ---


def test_among_decisions_that_keep_the_whole_model_the_fastest_is_taken():
    rng = np.random.default_rng(59)
    tied = 0
    for _ in range(samples(200)):
        problem = random_problem(rng, count=int(rng.integers(1, 4)))
        energy_budget = problem.energy_budget * 10 ** rng.uniform(0, 2)
        problem = replace(problem, delay_budget=30 * problem.delay_budget, energy_budget=energy_budget)
        found = solve_exact(problem)
        if not found.feasible or found.quality < 1:
            continue
        tied += 1
        assert (found.retained_device, found.retained_server) == (1.0, 1.0)
        # the fastest whole model of each cut: the highest price of time that the energy budget allows
        least = math.inf
        for cut in range(problem.workload.cuts):
            low, high = np.array(-95.0), np.array(95.0)
            for _ in range(60):
                middle = 0.5 * (low + high)
                _, energy_d, _, energy_s, _, joules = spend_at_price(problem, cut, middle)
                affordable = energy_d + energy_s + joules <= problem.energy_budget
                low, high = (middle, high) if affordable else (low, middle)
            time_d, energy_d, time_s, energy_s, seconds, joules = spend_at_price(problem, cut, low)
            if energy_d + energy_s + joules <= problem.energy_budget:
                least = min(least, float(time_d + time_s + seconds))
        assert found.delay == pytest.approx(least, rel=1e-6)
        assert_in_budget(problem, found)
    assert tied > samples(40)


# --- batches ---


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("parallel", [True, False])
def test_batch_is_what_single_calls_are(quality, parallel):
    rng = np.random.default_rng(61)
    problem = ordinary(quality=quality)
    gains, delays, energies = (
        value * 10 ** rng.uniform(-3, 1, 60) for value in (problem.gain, problem.delay_budget, problem.energy_budget)
    )
    for cut in (None, 2):
        rows = solve_exact_batch(problem, gains, delays, energies, cut=cut, parallel=parallel)
        assert rows.dtype == SOLUTION
        assert set(rows["reason"]) > {0}
        for row, gain, delay, energy in zip(rows, gains, delays, energies, strict=True):
            one = solve_exact(replace(problem, gain=gain, delay_budget=delay, energy_budget=energy), cut)
            for name in set(SOLUTION.names) - {"reason"}:
                assert row[name] == getattr(one, name) or (math.isnan(row[name]) and math.isnan(getattr(one, name)))
            assert ("", "time", "energy", "time and energy")[row["reason"]] == one.reason


def test_serial_and_parallel_batches_agree_to_the_bit():
    rng = np.random.default_rng(67)
    for _ in range(samples(10)):
        problem = random_problem(rng)
        gains = problem.gain * 10 ** rng.uniform(-2, 2, 200)
        serial, parallel = (solve_exact_batch(problem, gains, parallel=flag) for flag in (False, True))
        assert serial.tobytes() == parallel.tobytes()


def test_batch_broadcasts_and_keeps_the_shape():
    problem = ordinary()
    gains, delays = np.array([[1e-11], [1e-10], [1e-9]]), np.array([0.1, 0.2, 0.3, 0.4])
    rows = solve_exact_batch(problem, gains, delays)
    assert rows.shape == (3, 4)
    for i in range(3):
        for j in range(4):
            one = solve_exact(replace(problem, gain=gains[i, 0], delay_budget=delays[j]))
            assert rows[i, j]["quality"] == one.quality
    assert solve_exact_batch(problem).shape == ()
    assert solve_exact_batch(problem)["quality"] == solve_exact(problem).quality
    assert solve_exact_batch(problem, gain=[]).shape == (0,)
    assert solve_exact_batch(problem, energy_budget=[1, 2]).shape == (2,)  # whole numbers, too
    for wrong in ((np.ones(3), np.ones(4)), ("a",), (1e-10, [[1.0], [1.0, 2.0]])):
        with pytest.raises(InvalidInputError, match=r"gain and budgets: .* broadcast"):
            solve_exact_batch(problem, *wrong)


@pytest.mark.parametrize("bad", [0.0, -1e-10, math.nan, math.inf])
def test_batch_refuses_a_gain_that_is_not_positive_and_finite(bad):
    with pytest.raises(InvalidInputError) as error:
        solve_exact_batch(ordinary(), gain=[1e-10, bad])
    assert error.value.field == "gain"


@pytest.mark.parametrize("name", ["delay_budget", "energy_budget"])
def test_batch_refuses_a_budget_that_is_not_a_number(name):
    with pytest.raises(InvalidInputError) as error:
        solve_exact_batch(ordinary(), **{name: [1.0, math.nan]})
    assert error.value.field == name
    rows = solve_exact_batch(ordinary(), **{name: [0.0, -1.0, math.inf]})
    assert (rows["reason"] > 0).tolist() == [True, True, False]


@pytest.mark.parametrize("cut", [-1, 5, 2.5])
def test_cut_that_the_network_lacks_is_refused(cut):
    with pytest.raises(InvalidInputError, match="cuts 0 to 4"):
        solve_exact(ordinary(), cut)
    with pytest.raises(InvalidInputError, match="cuts 0 to 4"):
        solve_exact_batch(ordinary(), gain=[1e-10], cut=cut)


def test_solution_says_all_there_is_to_know():
    problem = ordinary()
    found = solve_exact(problem)
    assert isinstance(found, Solution)
    assert isinstance(found.cut, int)
    assert (found.feasible, found.reason, found.history) == (True, "", ())
    again = problem.evaluate(found)
    for name in ("delay", "energy", "quality", "distortion"):
        assert getattr(again, name) == pytest.approx(getattr(found, name), rel=1e-13)
    assert again.feasible
