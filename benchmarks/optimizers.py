"""Time of the exact optimum per quality, single, batched, robust and joint, against the SCA, and their agreement."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median

import numpy as np
from numpy.typing import NDArray

from baselines import solve_conic, solve_sca
from benchmarks.measure import interleave
from coinfer_gym import GainBelief, Problem, load_scenario, solve_exact, solve_exact_batch, solve_robust
from coinfer_gym._compile import kernel
from coinfer_gym.cell.optimum import solve_cell
from coinfer_gym.laim.distortion import QUALITIES
from coinfer_gym.laim.outcome import Tables, model_quality
from coinfer_gym.physics import from_db

_MANY = 100_000
_FEW = 2_000


def problems(problem: Problem, count: int, seed: int = 0) -> tuple[NDArray[np.float64], ...]:
    """Gains and budgets over the whole range of the scenarios and beyond: tight, loose, tiny and huge gains."""
    generator = np.random.default_rng(seed)
    gain = problem.gain * 10.0 ** generator.uniform(-4.0, 4.0, count)
    delay = problem.delay_budget * 10.0 ** generator.uniform(-1.5, 1.0, count)
    energy = problem.energy_budget * 10.0 ** generator.uniform(-1.5, 1.5, count)
    return gain, delay, energy


def measure(repetitions: int = 5) -> dict[str, float]:
    """Microseconds per problem, ratios to the SCA, and the largest disagreement with the conic solver."""
    figures: dict[str, float] = {}
    scenario = load_scenario("bert-multimodal")
    base = scenario.problem(from_db(scenario.mean_gain_db))
    for quality in QUALITIES:
        problem = replace(base, quality=quality)
        gain, delay, energy = problems(problem, _FEW)
        timing = interleave({"batch": (_batch(problem, gain, delay, energy, False), _FEW)}, repetitions)
        figures[f"exact, 13 cuts, {quality}, us"] = median(timing["batch"]) * 1e6
    gain, delay, energy = problems(base, _MANY)
    timing = interleave(
        {
            "100,000": (_batch(base, gain, delay, energy, False), _MANY),
            "1,000": (_batch(base, gain[:1000], delay[:1000], energy[:1000], False), 1000),
            "all cores": (_batch(base, gain, delay, energy, True), _MANY),
        },
        repetitions,
    )
    for name, times in timing.items():
        figures[f"exact, batch of {name if name != 'all cores' else '100,000 on all cores'}, us"] = median(times) * 1e6
    figures |= _of_accuracy(repetitions)
    figures |= _of_robust(repetitions)
    figures |= _against_sca(base)
    figures |= _against_conic(base)
    figures |= _of_cells(repetitions)
    return figures


def _batch(
    problem: Problem, gain: NDArray[np.float64], delay: NDArray[np.float64], energy: NDArray[np.float64], parallel: bool
) -> Callable[[], object]:
    return lambda: solve_exact_batch(problem, gain, delay, energy, parallel=parallel)


def _of_accuracy(repetitions: int, calls: int = 100_000) -> dict[str, float]:
    """Microseconds of one predicted accuracy, and of the optimum of a problem that pays it."""
    scenario = load_scenario("minilm-squad")
    problem = scenario.problem(from_db(scenario.mean_gain_db))
    tables = problem.tables
    ratios = np.random.default_rng(0).random((calls, 2))
    timing = interleave(
        {
            "quality": (
                lambda: _qualities(tables, ratios),
                calls,
            ),
            "exact": (_batch(problem, *problems(problem, _FEW), False), _FEW),
        },
        repetitions,
    )
    return {
        "predicted accuracy of one decision, us": median(timing["quality"]) * 1e6,
        f"exact, {problem.workload.cuts} cuts, accuracy, us": median(timing["exact"]) * 1e6,
    }


def _of_robust(repetitions: int, calls: int = 200) -> dict[str, float]:
    """Microseconds of the optimum under uncertain gain, and of what a late and noisy gain tells."""
    scenario = load_scenario("bert-multimodal", csi_delay=0.5, csi_noise_db=1.0)
    base, belief = scenario.problem(from_db(scenario.mean_gain_db)), GainBelief(scenario)
    gain, delay, energy = problems(base, calls)
    gain = base.gain * (gain / base.gain) ** 0.25  # within 10 dB of the path's
    cases = [
        (replace(base, delay_budget=float(delay[i]), energy_budget=float(energy[i])), belief.given(float(gain[i])))
        for i in range(calls)
    ]
    timing = interleave(
        {
            "robust": (lambda: [solve_robust(*case) for case in cases], calls),
            "belief": (lambda: [belief.given(float(each)) for each in gain], calls),
        },
        repetitions,
    )
    return {
        "robust, 13 cuts, one call, us": median(timing["robust"]) * 1e6,
        "gain posterior of a late and noisy observation, us": median(timing["belief"]) * 1e6,
    }


@kernel
def _qualities(tables: Tables, ratios: NDArray[np.float64]) -> float:
    total = 0.0
    for i in range(ratios.shape[0]):
        total += model_quality(tables, i % tables.cuts.shape[0], ratios[i, 0], ratios[i, 1])
    return total


def _against_sca(base: Problem, count: int = 20) -> dict[str, float]:
    """Times of the same problems over all cuts, and what the SCA leaves on the table."""
    gain, delay, energy = problems(base, 400, seed=1)
    rows = solve_exact_batch(base, gain, delay, energy)
    chosen = np.flatnonzero((rows["reason"] == 0) & (rows["quality"] < 1.0))[:count]
    cases = [
        replace(base, gain=float(gain[i]), delay_budget=float(delay[i]), energy_budget=float(energy[i])) for i in chosen
    ]
    solve_sca(cases[0])  # compiles the cone program once
    solve_exact(cases[0])
    exact_times, sca_times, gaps = [], [], []
    for case in cases:
        start = time.perf_counter()
        for _ in range(20):
            exact = solve_exact(case)
        exact_times.append((time.perf_counter() - start) / 20)
        start = time.perf_counter()
        sca = solve_sca(case)
        sca_times.append(time.perf_counter() - start)
        gaps.append(exact.quality - sca.quality)
    return {
        "exact, 13 cuts, one call, us": float(np.median(exact_times)) * 1e6,
        "SCA, 13 cuts, compiled and warm, ms": float(np.median(sca_times)) * 1e3,
        "SCA to exact, ratio of times": float(np.median(np.array(sca_times) / np.array(exact_times))),
        "SCA, quality left to the optimum, median": float(np.median(gaps)),
        "SCA, quality left to the optimum, largest": float(np.max(gaps)),
    }


def _against_conic(base: Problem, count: int = _FEW) -> dict[str, float]:
    """Largest relative difference of the objective on random cuts, and how often the verdicts differ."""
    gain, delay, energy = problems(base, count, seed=2)
    generator = np.random.default_rng(3)
    worst, verdicts = 0.0, 0
    for i in range(count):
        case = replace(
            base,
            gain=float(gain[i]),
            delay_budget=float(delay[i]),
            energy_budget=float(energy[i]),
            quality=list(QUALITIES)[i % len(QUALITIES)],
        )
        cut = int(generator.integers(0, case.workload.cuts))
        exact, conic = solve_exact(case, cut=cut), solve_conic(case, cut=cut)
        verdicts += exact.feasible != conic.feasible
        if exact.feasible and conic.feasible:
            worst = max(worst, abs(exact.quality - conic.quality) / exact.quality)
    return {
        f"exact and conic, {count} problems, largest relative difference of the quality": worst,
        f"exact and conic, {count} problems, verdicts that differ": float(verdicts),
    }


def _of_cells(repetitions: int, worlds: int = 10) -> dict[str, float]:
    """Milliseconds of the joint optimum of tasks of the default scenario that share half of what each has alone."""
    scenario = load_scenario("bert-multimodal")
    figures: dict[str, float] = {}
    for devices in (4, 8, 16):
        generator, scale = np.random.default_rng(devices), 0.5 * devices
        cells: list[list[Problem]] = []
        for _ in range(worlds):
            spread = scenario.shadowing_db * generator.normal(size=devices)
            gains = from_db(scenario.reference_gain_db + spread) * generator.exponential(size=devices)
            gains *= generator.uniform(20.0, 120.0, devices) ** -scenario.path_loss_exponent
            tasks = [scenario.problem(float(gain)) for gain in gains]
            names = ("flops_per_cycle_server", "kappa_server", "static_power_server", "memory_bandwidth_server")
            cells.append([replace(task, **{name: scale * getattr(task, name) for name in names}) for task in tasks])

        calls = [partial(solve_cell, cell, scale * scenario.bandwidth) for cell in cells]
        solved = [call() for call in calls]  # builds the tables of each task
        timing = interleave({str(k): (call, 1) for k, call in enumerate(calls)}, repetitions, time.thread_time)
        each = [median(found) * 1e3 for found in timing.values()]
        figures[f"cell of {devices}, joint optimum, ms"] = sum(each) / worlds
        figures[f"cell of {devices}, slowest joint optimum, ms"] = max(each)
        figures[f"cell of {devices}, largest proven gap, %"] = 100.0 * max(s.bound / s.quality - 1.0 for s in solved)
    return figures
