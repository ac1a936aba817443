"""The exact optimum against the conic certificate on random problems, wider than any scenario.

They stay within the range in which an interior-point solver is accurate; those of `studies.fuzz.optimum` are wider.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from baselines.conic import solve_conic
from baselines.fixed_cut import fix_cut
from coinfer_gym import Problem, solve_exact
from coinfer_gym.laim.distortion import BOUNDS, QUALITIES
from coinfer_gym.laim.workload import Block, Workload
from studies.fuzz.optimum import generating

SAME = 1e-6
"""Largest difference of two qualities that counts as none, relative to the larger one of it and `SMALL`."""

SMALL = 1e-3


def random_workload(rng: np.random.Generator) -> Workload:
    """One to six blocks; some have parameters and no FLOPs, or weights that are not prunable, or are read often."""
    blocks = []
    for j in range(rng.integers(1, 7)):
        parameters, share = int(10 ** rng.uniform(4, 8)), rng.choice([0.0, 1.0, 1.0, 1.0, rng.random()])
        prunable = parameters if j == 0 else int(share * parameters)
        flops = 0.0 if j > 0 and rng.random() < 0.1 else 10 ** rng.uniform(7, 10)
        sizes = (10 ** rng.uniform(3, 7), 10 ** rng.uniform(0, 2.5), prunable, float(rng.choice([1.0, 1.0, 50.0])))
        blocks.append(Block(f"block{j}", flops, parameters, *sizes))
    work = Workload("random", 10 ** rng.uniform(4, 8), tuple(blocks))
    return generating(rng, work) if rng.random() < 0.3 else work


def random_problem(rng: np.random.Generator, snr_db: tuple[float, float] = (-20.0, 80.0)) -> tuple[Problem, int]:
    """A problem and a cut, `snr_db` at full power; often with raised lower bounds, often infeasible."""
    workload, quality = random_workload(rng), str(rng.choice(list(QUALITIES)))
    bandwidth, power, clocks = 10 ** rng.uniform(5, 8), 10 ** rng.uniform(-2, 1), 10 ** rng.uniform(8, 9.5, 2)
    values: dict[str, Any] = {
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
        parameter_bits=float(rng.choice([8.0, 16.0, 32.0])),
        quality=quality,
        quality_scale="linear" if quality in BOUNDS and rng.random() < 0.3 else "",
        **values,
    )
    cut = int(rng.integers(0, workload.cuts))
    problem = replace(problem, **_physics(rng, problem, cut))
    full = fix_cut(problem, cut)
    delay, energy = full.spend(full.fastest((1.0, 1.0)))
    budgets = delay * 10 ** rng.uniform(-0.7, 1.5), energy * 10 ** rng.uniform(-2, 0.3)
    return replace(problem, delay_budget=budgets[0], energy_budget=budgets[1]), cut


def _physics(rng: np.random.Generator, problem: Problem, cut: int) -> dict[str, Any]:
    """Constants beyond the paper's model, relative to what they compete with; each is left out now and then."""
    row, byte = problem.tables.cuts[cut], problem.parameter_bits / 8.0
    full = fix_cut(problem, cut)
    delay, _ = full.spend(full.fastest((1.0, 1.0)))
    drawn: dict[str, float] = {
        "waiting_power_device": problem.power_max * 10 ** rng.uniform(-2, 1),
        "circuit_power": problem.power_max * 10 ** rng.uniform(-2, 1.5),
        "amplifier_efficiency": rng.uniform(0.05, 1.0),
        "rate_max": problem.bandwidth * 10 ** rng.uniform(-1.0, 1.2),
        "snr_gap": 10 ** rng.uniform(0, 1.5),
        "round_trip": delay * 10 ** rng.uniform(-3, 0),
        "sparsity_gain": float(rng.choice([0.0, rng.random(), rng.random(), rng.random()])),
    }
    for side, blocks in (("device", problem.workload.blocks[:cut]), ("server", problem.workload.blocks[cut:])):
        clock = getattr(problem, f"frequency_{side}_max")
        drawn[f"static_power_{side}"] = getattr(problem, f"kappa_{side}") * clock**3 * 10 ** rng.uniform(-3, 1)
        cycles = float(row[f"flops_{side}"]) / getattr(problem, f"flops_per_cycle_{side}")
        read = sum(block.reads * block.prunable for block in blocks if block.flops > 0.0)
        if cycles > 0.0 and read > 0.0:
            drawn[f"memory_bandwidth_{side}"] = byte * read / cycles * clock * 10 ** rng.uniform(-1.5, 1.0)
        if blocks:
            stored = byte * sum(block.parameters for block in blocks)
            drawn[f"memory_capacity_{side}"] = stored * 10 ** rng.uniform(-0.4, 0.4)
    used = rng.random(len(drawn)) < rng.choice([0.0, 0.3, 0.7])
    return {name: float(value) for (name, value), use in zip(drawn.items(), used, strict=True) if use}


def difference(problem: Problem, cut: int) -> list[str]:
    """How both optima of a cut differ; empty where they do not."""
    exact, conic = solve_exact(problem, cut), solve_conic(problem, cut)
    if exact.feasible != conic.feasible:
        return [f"exact {'feasible' if exact.feasible else exact.reason}, conic {conic.reason or 'feasible'}"]
    if exact.feasible and abs(exact.quality - conic.quality) > SAME * max(exact.quality, SMALL):
        return [f"quality: exact {exact.quality:.9g}, conic {conic.quality:.9g} with gap {conic.gap:.1g}"]
    return []
