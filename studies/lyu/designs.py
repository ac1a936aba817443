"""Designs of P1 for a measured network, and their measured F1; ``python -m studies.lyu.designs`` measures them.

Every design is a decision of P1, the optimisation problem of Lyu et al. (eq. 44), in the world of their figures: a
cut and two retained ratios among its controls. The command cuts and prunes the network so, by magnitude and at random,
and lets it answer the same questions each time. It needs the extra ``models`` and can be interrupted and repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from baselines.schemes import SCHEMES
from coinfer_gym import InvalidInputError, Problem, Solution, load_scenario, load_workload, solve_exact
from coinfer_gym.command import command, command_line
from coinfer_gym.files import machine, read_csv, versions, write_text
from coinfer_gym.laim.predictor import load_predictor
from coinfer_gym.physics import from_db
from studies.lyu.problems import FIXED_CUTS, PROMPTS, SCENARIO
from studies.lyu.schemes import RIVALS

NETWORK = "mpnet-squad"
CHANGES: dict[str, Any] = {
    "workload": NETWORK,
    "input_bits": 7.3728e6,  # as in the scenario: a frame beside the text
    "quality": "accuracy",
    "predictor": f"{NETWORK}-magnitude",
    # A question with its paragraph has 1.3 times the tokens of the scenario.
    "delay_budget": 1.04,  # s
    "energy_budget": 0.078,  # J
}
"""What the measured network changes in the scenario."""

MEASUREMENTS = Path(__file__).parent / "measurements" / f"{NETWORK}-designs.csv"
OUT = Path("runs/measurements") / MEASUREMENTS.name
METHODS = ("magnitude", "random")
FIXED_CUT = FIXED_CUTS["MPNet"]

POINTS = 5
SPANS = {"delay": (0.2, 1.6), "energy": (0.1, 4.0)}
"""Ends of the budgets, relative to the scenario's: from next to nothing kept to nearly all of it."""

BOUND, SIDES, ACCURACY, CLOSED_FORM = "rate_distortion", "parallel_laplacian", "accuracy", "pruning"
"""What a design maximises; the closed form is that of its own kind of pruning."""

LINES = {
    **{scheme: (scheme, BOUND) for scheme in ("joint", *RIVALS)},
    "joint_sides": ("joint", SIDES),
    "joint_accuracy": ("joint", ACCURACY),
    "joint_closed_form": ("joint", CLOSED_FORM),
}
"""Scheme and quality of each line."""
JOINT = ("joint", "joint_sides", "joint_accuracy", "joint_closed_form")

CUT_BUDGETS = ((1.0, 1.0), (0.4, 0.4))
"""Delay and energy budgets relative to the scenario's at which every cut is solved; the first pair is its own."""

_SAME = 1.5e-4  # ratios rounded to four decimals may fall either way on another processor


Panel = tuple[str, str]
"""``("delay", "fixed")`` and the like: along that budget, with that cut. ``("text", "1 T0, 1 E0")`` and the like: every
cut with that raw sample under those budgets."""


class Setting(NamedTuple):
    """The part of a design that is measured: cut, retained ratios rounded to four decimals, kind of pruning."""

    cut: int
    retained_device: float
    retained_server: float
    method: str


class Design(NamedTuple):
    """One decision."""

    panel: Panel  # its panel in the figures
    method: str  # of pruning, one of `METHODS`
    line: str  # key of `LINES`
    value: float  # budget in s or J, or the cut
    problem: Problem  # with the predictor of the method
    solution: Solution  # the exact optimum

    @property
    def setting(self) -> Setting:
        """Setting to measure; the unpruned network is the same for both kinds of pruning."""
        ratios = (round(self.solution.retained_device, 4), round(self.solution.retained_server, 4))
        return Setting(self.solution.cut, *ratios, METHODS[0] if ratios == (1.0, 1.0) else self.method)


REMEDY = (
    "Measure the designs: python -m studies.lyu.designs --model FOLDER --data squad_eval.json.gz, with a network that "
    "python -m coinfer_gym.models.finetune has made."
)
UNPRUNED = Setting(0, 1.0, 1.0, METHODS[0])
"""F1 is relative to that of this setting."""


class Measurements(NamedTuple):
    """Measured F1."""

    # F1 relative to the unpruned network's, and the standard error of its loss on the same questions, likewise
    f1: dict[Setting, tuple[float, float]]
    # F1 of the unpruned network and its standard error, as they are
    unpruned: float
    unpruned_error: float
    samples: int  # questions

    def find(self, setting: Setting) -> tuple[float, float] | None:
        """F1 and error of a setting, up to the rounding of its ratios; None if it was not measured."""
        if setting in self.f1:
            return self.f1[setting]
        for other, value in self.f1.items():
            apart = np.abs(np.subtract(other[1:3], setting[1:3])).max()
            if (other.cut, other.method) == (setting.cut, setting.method) and apart <= _SAME:
                return value
        return None


def base_problem(method: str) -> Problem:
    """P1 of the scenario at its mean gain, without fading, with the predictor of one kind of pruning."""
    scenario = load_scenario(SCENARIO, **CHANGES)
    return replace(scenario.problem(from_db(scenario.mean_gain_db)), predictor=load_predictor(f"{NETWORK}-{method}"))


def cut_panel(prompt: str, pair: tuple[float, float]) -> Panel:
    """Panel of a comparison of cuts."""
    return prompt, f"{pair[0]:g} T0, {pair[1]:g} E0"


def designs() -> list[Design]:
    """Decisions along both budgets, and those of every cut."""
    found = []
    for method in METHODS:
        problem = base_problem(method)
        for budget, span in SPANS.items():
            field = f"{budget}_budget"
            for value in getattr(problem, field) * np.geomspace(*span, POINTS):
                change: dict[str, Any] = {field: float(value)}
                varied = replace(problem, **change)
                found += [_solve((budget, "fixed"), method, line, value, varied, FIXED_CUT) for line in LINES]
                found += [_solve((budget, "free"), method, line, value, varied, None) for line in JOINT]
        for pair in CUT_BUDGETS:
            delay, energy = problem.delay_budget * pair[0], problem.energy_budget * pair[1]
            tight = replace(problem, delay_budget=delay, energy_budget=energy)
            text = tight.workload.with_input_bits(load_workload(NETWORK).input_bits)
            for prompt, posed in zip(PROMPTS, (tight, replace(tight, workload=text)), strict=True):
                found += [
                    _solve(cut_panel(prompt, pair), method, line, cut, posed, cut)
                    for line in ("joint", "joint_accuracy")
                    for cut in range(posed.workload.cuts)
                ]
    return found


def _solve(panel: Panel, method: str, line: str, value: float, problem: Problem, cut: int | None) -> Design:
    """The exact optimum of a line."""
    scheme, quality = LINES[line]
    if quality == CLOSED_FORM:
        quality = f"{method}_pruning"
    restricted = SCHEMES[scheme].restrict(replace(problem, quality=quality))
    return Design(panel, method, line, float(value), restricted, solve_exact(restricted, cut))


def settings(found: Iterable[Design]) -> list[Setting]:
    """Settings of the feasible designs, each once, the unpruned network first."""
    return list(dict.fromkeys([UNPRUNED, *(each.setting for each in found if each.solution.feasible)]))


def read_measurements(source: Path) -> Measurements:
    """Measured F1, of the rows with most questions."""
    if not source.is_file():
        raise InvalidInputError("measurements", str(source), f"There is no such file. {REMEDY}")
    try:
        rows = read_csv(source)
        samples = max((int(row["samples"]) for row in rows), default=0)
        found = {
            Setting(int(row["cut"]), float(row["retained_device"]), float(row["retained_server"]), row["method"]): (
                float(row["f1"]),
                float(row["f1_loss_error"]),
                float(row["f1_error"]),
            )
            for row in rows
            if (int(row["samples"]), row["precision"], int(row["seed"])) == (samples, "fp16", 0)
        }
        whole, _, error_of_whole = found[UNPRUNED]
        shares = {setting: (f1 / whole, error / whole) for setting, (f1, error, _) in found.items()}
    except (KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        raise InvalidInputError("measurements", str(source), f"No measurements: {error!r}. {REMEDY}") from error
    return Measurements(shares, whole, error_of_whole, samples)


@command("studies.lyu.designs", "interrupted; the same command goes on where it stopped", errors=(ImportError,))
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the designs; returns the exit status."""
    parser = argparse.ArgumentParser("python -m studies.lyu.designs", description="Measure the designs' F1.")
    parser.add_argument("--model", required=True, help="folder of a network fine-tuned on SQuAD")
    parser.add_argument("--data", type=Path, required=True, help="questions of SQuAD v1.1, as JSON or gzipped JSON")
    parser.add_argument("--samples", type=int, default=200, help="size of the fixed subset, 0 for all (default: 200)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument(
        "--arithmetic", default="bfloat16", help="type in which the network computes (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=OUT, help="CSV file (default: %(default)s)")
    parser.add_argument("--publish", action="store_true", help="write to the stored file, which the figures read")
    options = parser.parse_args(arguments)
    options.output = MEASUREMENTS if options.publish else options.output
    from coinfer_gym.models.measure import Configuration, measure

    needed = settings(designs())
    print(f"{len(needed)} configurations", flush=True)
    configurations = [Configuration(*each, "fp16") for each in needed]
    given = {"samples": options.samples, "jobs": options.jobs, "arithmetic": options.arithmetic}
    rows = measure("squad", options.model, options.data, configurations, options.output, **given)
    words = ["--model", Path(options.model).name, "--data", options.data.name, "--samples", str(options.samples)]
    made_by = {
        "command": command_line("studies.lyu.designs", words),
        "samples": int(rows[0]["samples"]),
        "rows": len(rows),
        "seconds": round(sum(float(row["seconds"]) for row in rows)),
        "versions": versions(),
        "machine": machine(),
    }
    write_text(options.output.with_suffix(".json"), json.dumps(made_by, indent=1) + "\n")
    print(f"{len(rows)} configurations are measured: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
