"""What the figures about designs, cuts and regimes share: their problems, their qualities, and runs of the SCA."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from baselines.sca import solve_sca
from coinfer_gym import Problem, Solution, load_scenario, load_workload
from coinfer_gym.parallel import run_parallel
from coinfer_gym.physics import from_db
from studies.figure import Floats, Ints

SCENARIO = "paper-lyu"
NETWORKS: dict[str, dict[str, Any]] = {
    "MPNet": {},
    # A quarter more time for a sixth more operations; the decoder runs on the server at every cut but the last.
    "BART": {"workload": "bart-base", "input_bits": 7.3728e6, "delay_budget": 1.0, "energy_budget": 0.08},
}
"""What each network changes in the scenario. MPNet stands in for BERT: of its shape, with rates of real weights."""

FIXED_CUTS = {"MPNet": 4, "BART": 2}
"""The paper cuts after the 4-th of 12 layers, and says no other cut for BART: here after the 2-nd of its 6."""

PROMPTS = ("multimodal", "text")
"""What the raw sample is: an image with the prompt, or token ids alone."""

QUALITY_TITLES = {
    "rate_distortion": "rate-distortion bound",
    "parallel_laplacian_joint": "parallel bound, joint",
    "parallel_laplacian": "parallel bound, per side",
    "magnitude_pruning": "magnitude pruning",
    "random_pruning": "random pruning",
}
"""The qualities that the figures compute, and their names there."""

GAIN = "the path loss alone; nothing is random"
TOLERANCE = 1e-9
"""Difference of quality that counts as rounding: the exact optimum agrees with the conic one to about that."""

ALIKE = 1e-3
"""Difference of quality that cannot be seen in a picture."""

KINDS = ("infeasible", "on_server", "inner", "on_device", "unpruned")
"""What a point of a map may be."""


def base_problem(network: str, quality: str, prompt: str = "multimodal") -> Problem:
    """P1 of a network's scenario; the paper's channel does not fade."""
    scenario = load_scenario(SCENARIO, **NETWORKS[network])
    problem = replace(scenario.problem(from_db(scenario.mean_gain_db)), quality=quality)
    if prompt == "multimodal":
        return problem
    bits = load_workload(scenario.workload.name).input_bits
    return replace(problem, workload=problem.workload.with_input_bits(bits))


def prompt_bits(network: str) -> dict[str, float]:
    """Bits of the raw sample by prompt."""
    return {prompt: base_problem(network, "rate_distortion", prompt).workload.input_bits for prompt in PROMPTS}


def zero_distortion(problem: Problem) -> float:
    """Distortion of keeping nothing."""
    return math.exp(float(problem.tables.quality["log_distortion_zero"][0]))


def feasible_values(problem: Problem, rows: NDArray[np.void]) -> tuple[Floats, Floats]:
    """Quality of exact solutions and distortion relative to keeping nothing, NaN where infeasible."""
    missing = np.where(rows["reason"] == 0, 0.0, np.nan)
    return rows["quality"] + missing, rows["distortion"] / zero_distortion(problem) + missing


def judge_map(best: Floats, server: Floats, device: Floats, apart: float, whole: Floats) -> Ints:
    """Which of `KINDS` each point of a map is, from the qualities of the best cut and of both ends; -1 is infeasible.

    An inner cut must be better than both ends by more than `apart`. Nothing is pruned where the quality `whole` is 1.
    """
    ends = np.maximum(server, device)
    kind = np.where(server >= device, KINDS.index("on_server"), KINDS.index("on_device"))
    kind = np.where((best > ends) & ((best - ends > apart) | (ends < 0.0)), KINDS.index("inner"), kind)
    kind = np.where(whole >= 1.0 - TOLERANCE, KINDS.index("unpruned"), kind)
    return np.where(best < 0.0, KINDS.index("infeasible"), kind)


def run_sca(tasks: Sequence[tuple[Problem, int]], jobs: int, title: str) -> tuple[Floats, Floats]:
    """Quality and relative distortion that successive convex approximation (SCA) finds, each problem at its cut."""
    run = run_parallel(_solve_numbered, [(number, *task) for number, task in enumerate(tasks)], jobs)
    found = sorted(tqdm(run, desc=title, total=len(tasks), unit="cut", disable=None), key=itemgetter(0))
    values = [(s.quality, s.distortion) if s.feasible else (np.nan, np.nan) for _, s in found]
    quality, distortion = np.array(values).reshape(-1, 2).T
    return quality, distortion / np.array([zero_distortion(problem) for problem, _ in tasks])


def _solve_numbered(number: int, problem: Problem, cut: int) -> tuple[int, Solution]:
    return number, solve_sca(problem, cut)


def sca_difference(exact: Floats, sca: Floats) -> dict[str, Any]:
    """Difference of the SCA to the exact optimum; above it, the excess by rounding."""
    both = ~np.isnan(exact) & ~np.isnan(sca)
    left, above = (exact - sca)[both], (sca - exact)[both]
    return {
        "points": int(both.sum()),
        "largest_left": float(left.max(initial=0.0)),
        "largest_above": float(above.max(initial=0.0)),
        "disagree_on_feasibility": int((np.isnan(exact) != np.isnan(sca)).sum()),
    }


def group_coinciding(parts: Mapping[Any, Any], names: Sequence[str], place: int, field: str) -> dict[str, str]:
    """Titles of qualities, those whose values look the same (up to `ALIKE`) together: each group is drawn once.

    The quality of a part is its key's member `place`, its values are its `field`.
    """
    values = {
        name: np.concatenate([getattr(part, field) for key, part in parts.items() if key[place] == name])
        for name in names
    }
    groups: dict[str, str] = {}
    for name, value in values.items():
        alike = (first for first in groups if np.allclose(values[first], value, 0.0, ALIKE, equal_nan=True))
        first, title = next(alike, name), QUALITY_TITLES[name]
        groups[first] = f"{groups[first]}\n= {title}" if first in groups else title
    return groups
