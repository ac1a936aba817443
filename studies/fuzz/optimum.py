"""Random problems far wider than any scenario, and what may be wrong with their exact optimum."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from coinfer_gym import solve_exact, solve_exact_batch
from coinfer_gym.laim.decision import Solution
from coinfer_gym.laim.frontier import TOLERANCE
from coinfer_gym.laim.outcome import QUALITIES
from coinfer_gym.laim.predictor import LEVELS, AccuracyPredictor
from coinfer_gym.laim.problem import Problem
from coinfer_gym.laim.workload import Block, Workload

DESIGNS = 300
"""Random designs that are compared with each optimum."""

ROUNDING = 1e-9
"""Difference of two qualities that may be rounding."""

ROUNDING_BUDGET = 1e-12
"""Share of a budget that may be rounding: where it buys more quality than `ROUNDING`, so much more may be missed."""


def random_workload(rng: np.random.Generator) -> Workload:
    """1 to 200 blocks, of which some have no FLOPs, no parameters, none that pruning may touch, or no activation."""
    few = rng.random() < 0.97
    count = int(rng.integers(1, 9)) if few else int(rng.integers(9, 201))
    idle = rng.choice([0.0, 0.3])
    while True:
        kept = rng.random((count, 3)) >= idle
        size = 10.0 ** rng.uniform((4.0, 0.0, 2.0), (12.0, 10.0, 9.0), (count, 3)) * kept
        rates = 10.0 ** rng.uniform(-2.0, 3.0, count)
        if size[:, 0].any() and size[:, 1].astype(int).any():
            break
    share = np.where(rng.random(count) < 0.5, 1.0, rng.random(count))
    reads = rng.choice([1.0, 128.0], count)
    blocks = []
    for j, (flops, parameters, bits) in enumerate(size):
        prunable = math.ceil(share[j] * int(parameters))
        own = (float(flops), int(parameters), float(bits), float(rates[j]), prunable, float(reads[j]))
        blocks.append(Block(f"block {j}", *own))
    work = Workload("random", float(10.0 ** rng.uniform(2.0, 9.0) * (rng.random() >= idle)), tuple(blocks))
    return generating(rng, work) if rng.random() < 0.3 else work


def generating(rng: np.random.Generator, work: Workload) -> Workload:
    """The same network with further passes, in which some blocks have no FLOPs, and with kept keys and values."""
    steps, kept = int(rng.choice([1, 100])), 10.0 ** rng.uniform(-3.0, 1.0)
    blocks = tuple(
        replace(
            block,
            step_flops=block.flops * float(rng.choice([0.0, 1.0, rng.random()])),
            cache_bits=kept * block.parameters,
            cache_read_bits=kept * block.parameters * steps,
        )
        for block in work.blocks
    )
    tied = int(blocks[0].parameters * float(rng.choice([0.0, rng.random()])))
    return replace(work, blocks=blocks, steps=steps, tied=tied)


def random_predictor(rng: np.random.Generator, cuts: int) -> AccuracyPredictor:
    """A table that rises in both ratios, smooth or with steps."""
    rises = rng.random((cuts, LEVELS, LEVELS)) ** rng.choice([1.0, 30.0])
    table = rises.cumsum(axis=1).cumsum(axis=2)
    return AccuracyPredictor("random", "f1", 1.0, table / table[:, -1:, -1:])


def random_physics(rng: np.random.Generator, workload: Workload) -> dict[str, float]:
    """Constants beyond the paper's model, each at its default now and then, over many orders of magnitude."""
    pairs = ("device", "server")
    drawn = {
        **{name: 10.0 ** rng.uniform(-6, 4) for name in ("static_power_device", "static_power_server")},
        **{name: 10.0 ** rng.uniform(-6, 3) for name in ("waiting_power_device", "circuit_power")},
        "amplifier_efficiency": 10.0 ** rng.uniform(-3, 0),
        "rate_max": 10.0 ** rng.uniform(2, 12),
        "snr_gap": 10.0 ** rng.uniform(0, 3),
        "round_trip": 10.0 ** rng.uniform(-6, 3),
        **{f"memory_bandwidth_{side}": 10.0 ** rng.uniform(3, 15) for side in pairs},
        **{f"memory_capacity_{side}": workload.parameters * 4.0 * 10.0 ** rng.uniform(-2.0, 1.0) for side in pairs},
        "sparsity_gain": float(rng.choice([0.0, 1e-3, rng.random()])),
    }
    used = rng.random(len(drawn)) < rng.choice([0.0, 0.2, 0.6])
    return {name: float(value) for (name, value), use in zip(drawn.items(), used, strict=True) if use}


def random_problem(rng: np.random.Generator) -> Problem:
    """A problem of any quality whose budgets are random, or near or just what a random design spends."""
    workload = random_workload(rng)

    def draw(low: float, high: float) -> float:
        return float(10.0 ** rng.uniform(low, high))

    tops = [draw(-3, 2), draw(7, 11), draw(7, 11)]
    lows = [top * float(rng.choice([0.0, 0.0, 1e-6, 1e-2, 0.8, 1.0])) for top in tops]
    quality = str(rng.choice(list(QUALITIES)))
    problem = Problem(
        workload=workload,
        gain=draw(-18, 8),
        delay_budget=draw(-6, 6),
        energy_budget=draw(-6, 6),
        bandwidth=draw(3, 10),
        noise_density=draw(-22, -15),
        power_max=tops[0],
        power_min=lows[0],
        frequency_device_max=tops[1],
        frequency_device_min=lows[1],
        frequency_server_max=tops[2],
        frequency_server_min=lows[2],
        flops_per_cycle_device=draw(0, 4),
        flops_per_cycle_server=draw(0, 4),
        pue_device=1.0,
        pue_server=float(rng.uniform(1.0, 3.0)),
        kappa_device=draw(-31, -24),
        kappa_server=draw(-31, -24),
        retained_device_min=float(rng.choice([1e-4, 1e-2, 0.5, 1.0])),
        retained_server_min=float(rng.choice([1e-4, 1e-2, 0.5, 1.0])),
        parameter_bits=float(rng.choice([1.0, 8.0, 32.0])),
        quality=quality,
        predictor=random_predictor(rng, workload.cuts) if quality == "accuracy" else None,
    )
    problem = replace(problem, **random_physics(rng, workload))  # type: ignore[arg-type]  # all of them are floats
    if rng.random() < 0.3:
        return problem
    controls, cuts = random_designs(rng, problem, 1)
    spent = problem.evaluate(controls, cuts)
    delay, energy = float(spent.delay[0]), float(spent.energy[0])
    if not (1e-18 < delay < 1e18 and 1e-18 < energy < 1e18):
        return problem
    spread = float(rng.choice([0.0, 1e-12, 0.5]))  # 0 puts both budgets at the edge of what is feasible
    factors = np.exp(spread * rng.normal(size=2))
    return replace(problem, delay_budget=delay * float(factors[0]), energy_budget=energy * float(factors[1]))


def random_designs(
    rng: np.random.Generator, problem: Problem, count: int, near: Solution | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Controls of shape (count, 5) and cuts of shape (count,); half of them near a solution where one is given."""
    lower, upper = problem.bounds()
    least = np.maximum(lower, 1e-6 * upper)
    controls = least * (upper / least) ** rng.random((count, 5))
    ends = rng.random((count, 5))
    controls = np.where(ends < 0.1, least, np.where(ends > 0.9, upper, controls))
    cuts = rng.integers(0, problem.workload.cuts, count)
    if near is not None:
        half = count // 2
        own = [near.retained_device, near.retained_server, near.power, near.frequency_device, near.frequency_server]
        cuts[:half] = near.cut
        moved = np.array(own) * np.exp(rng.normal(size=(half, 5)) * 10.0 ** rng.uniform(-6.0, 0.0, (half, 1)))
        controls[:half] = np.clip(moved, least, upper)
    for side, name in enumerate(("device", "server")):  # no more than a memory holds, if it holds anything
        held = problem.tables.cuts[f"retained_{name}_max"][cuts]
        controls[:, side] = np.where(held > 0.0, np.minimum(controls[:, side], held), controls[:, side])
    return controls, cuts


def is_rounding(problem: Problem, lower: float, higher: float) -> bool:
    """Whether two qualities differ by what the rounding of both budgets buys."""
    reached = []
    for factor in (1.0 - ROUNDING_BUDGET, 1.0 + ROUNDING_BUDGET):
        delay, energy = factor * problem.delay_budget, factor * problem.energy_budget
        found = solve_exact(replace(problem, delay_budget=delay, energy_budget=energy))
        reached.append(found.quality if found.feasible else 0.0)
    return reached[0] <= lower + ROUNDING and higher <= reached[1] + ROUNDING


def faults(rng: np.random.Generator, problem: Problem) -> list[str]:
    """What is wrong with the exact optimum of a problem; empty where nothing is."""
    found = solve_exact(problem)
    alone = [solve_exact(problem, cut) for cut in range(problem.workload.cuts)]
    batch = solve_exact_batch(problem, gain=[problem.gain])[0]
    tolerance = ROUNDING + (TOLERANCE if problem.quality == "accuracy" else 0.0)
    best = max((each for each in alone if each.feasible), key=lambda each: each.quality, default=None)
    wrong = []
    if batch["cut"] != found.cut or batch["quality"] != found.quality:
        wrong.append("the batch differs")
    if found.feasible != (best is not None):
        wrong.append("feasible for one cut alone, not for all" if best is not None else "feasible for all, not for one")
    elif best is not None:
        enough = found.quality + tolerance
        if best.quality > enough and not is_rounding(problem, enough, best.quality):
            wrong.append("a cut alone is better")
    if found.feasible:
        spent = problem.evaluate(found)
        if not spent.feasible or abs(spent.quality - found.quality) > ROUNDING:
            wrong.append("the solution misses a budget")
        if not 0.0 <= found.gap <= tolerance:
            wrong.append("the gap is large")
    for near in (None, *(each for each in [found, best] if each is not None and each.feasible)):
        outcomes = problem.evaluate(*random_designs(rng, problem, DESIGNS, near))
        within = (outcomes.margins >= 0.0).all(axis=-1) & outcomes.feasible
        if within.any():
            if not found.feasible:
                wrong.append("a random design is feasible, the optimum is not")
                continue
            value, bound = float(outcomes.quality[within].max()), found.quality + found.gap
            if value > bound + ROUNDING and not is_rounding(problem, bound, value):
                wrong.append("a random design is better")
    return sorted(set(wrong))
