"""Small instances of P1 for the tests of the convex solvers: one by hand, and random ones over wide ranges."""

from dataclasses import replace

import numpy as np

from baselines.fixed_cut import fix_cut
from coinfer_gym.laim.distortion import BOUNDS, QUALITIES
from coinfer_gym.laim.problem import Problem
from coinfer_gym.laim.workload import Block, Workload

RATES = (25.0, 40.0, 60.0, 90.0)


def small_problem(**changes):
    """Four blocks of a transformer's size whose budgets bind at every cut."""
    blocks = tuple(Block(f"layer{j}", 1.9e9, 7_000_000 + 1_000_000 * j, 3.1e6, rate) for j, rate in enumerate(RATES, 1))
    values = {
        "workload": Workload("small", 4.8e6, blocks),
        "gain": 1e-10,
        "delay_budget": 0.065,
        "energy_budget": 0.16,
        "bandwidth": 10e6,
        "noise_density": 3.2e-20,
        "power_max": 0.3,
        "flops_per_cycle_device": 32.0,
        "flops_per_cycle_server": 128.0,
        "frequency_device_max": 2e9,
        "frequency_server_max": 3e9,
        "pue_device": 1.0,
        "pue_server": 1.4,
        "kappa_device": 1e-27,
        "kappa_server": 3e-27,
    }
    return Problem(**(values | changes))


def random_workload(rng):
    """One to six blocks; some have parameters and no FLOPs."""
    blocks = [
        Block(
            f"block{j}",
            0.0 if j > 0 and rng.random() < 0.1 else 10 ** rng.uniform(7, 10),
            int(10 ** rng.uniform(4, 8)),
            10 ** rng.uniform(3, 7),
            10 ** rng.uniform(0, 2.5),
        )
        for j in range(rng.integers(1, 7))
    ]
    return Workload("random", 10 ** rng.uniform(4, 8), tuple(blocks))


def random_problem(seed, snr_db=(-20.0, 80.0)):
    """A problem and a cut, `snr_db` at full power; often with raised lower bounds, often infeasible."""
    rng = np.random.default_rng(seed)
    workload, quality = random_workload(rng), str(rng.choice(list(QUALITIES)))
    bandwidth, power, clocks = 10 ** rng.uniform(5, 8), 10 ** rng.uniform(-2, 1), 10 ** rng.uniform(8, 9.5, 2)
    values = {
        "power_max": power,
        "frequency_device_max": float(clocks[0]),
        "frequency_server_max": float(clocks[1]),
        "retained_device_min": 10 ** rng.uniform(-2.5, -0.5),
        "retained_server_min": 10 ** rng.uniform(-2.5, -0.5),
    }
    for name in ("power", "frequency_device", "frequency_server"):
        kind, share = rng.random(), 10 ** rng.uniform(-3, 0)
        values[f"{name}_min"] = values[f"{name}_max"] * (1.0 if kind < 0.15 else share if kind < 0.5 else 0.0)
    for name in ("retained_device_min", "retained_server_min"):
        values[name] = 1.0 if rng.random() < 0.15 else values[name]
    problem = Problem(
        workload=workload,
        gain=10 ** (rng.uniform(*snr_db) / 10) * 4e-21 * bandwidth / power,
        delay_budget=np.inf,
        energy_budget=np.inf,
        bandwidth=bandwidth,
        noise_density=4e-21,
        flops_per_cycle_device=10 ** rng.uniform(0, 2),
        flops_per_cycle_server=10 ** rng.uniform(1, 3),
        pue_device=rng.uniform(1, 1.5),
        pue_server=rng.uniform(1, 1.5),
        kappa_device=10 ** rng.uniform(-1, 1) / float(clocks[0]) ** 3,
        kappa_server=10 ** rng.uniform(-1, 2) / float(clocks[1]) ** 3,
        quality=quality,
        quality_scale="linear" if quality in BOUNDS and rng.random() < 0.3 else "",
        **values,
    )
    cut = int(rng.integers(0, workload.cuts))
    full = fix_cut(problem, cut)
    parts = full.spend(full.fastest((1.0, 1.0)))
    delay, energy = sum(parts[:3]) * 10 ** rng.uniform(-1, 1.5), sum(parts[3:]) * 10 ** rng.uniform(-3, 0.3)
    return replace(problem, delay_budget=delay, energy_budget=energy), cut
