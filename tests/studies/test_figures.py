"""The figures: files and quantiles of a small run, and that its verdict can fail."""

import csv
import importlib
import json
import math

import numpy as np
import pytest

from baselines import solve_sca
from baselines.objective import own_scale_quality
from coinfer_gym import solve_exact
from studies import __main__ as command
from studies.lyu.sca_convergence import (
    COUNT,
    FINEST,
    THRESHOLDS,
    draw_problems,
    make,
    sca_gaps,
    stopping_iteration,
    verdict,
)

NAMES = ("rate_distortion", "magnitude_pruning")
FEW = 7


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures") / "made"
    return folder, make(folder, names=NAMES, count=FEW)


@pytest.fixture(scope="module")
def small_gaps():
    return sca_gaps(NAMES[0], FEW)


def quantile(values, q):
    """By sorting, linear between neighbours."""
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def test_small_run_makes_the_files_and_holds(small_run):
    folder, holds = small_run
    assert {path.name for path in folder.iterdir()} == {f"sca_convergence.{kind}" for kind in ("csv", "json", "png")}
    assert (folder / "sca_convergence.png").read_bytes().startswith(b"\x89PNG")
    summary = json.loads((folder / "sca_convergence.json").read_text(encoding="utf-8"))
    assert summary["holds"] == holds
    assert len(holds) == 5
    assert all(holds.values())
    assert all(sum(measured["ends"].values()) == FEW for measured in summary["measured"].values())


@pytest.mark.parametrize("name", NAMES)
def test_quantiles_are_those_of_runs_with_each_threshold(small_run, name):
    with (small_run[0] / "sca_convergence.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["quality"] == name]
    cases = draw_problems(name, FEW)
    parts = {"median": 0.5, "90": 0.9, "max": 1.0}
    for threshold in (1e-2, 1e-5, 1e-8):
        gaps, lengths = [], []
        for problem, optimum in cases:
            assert optimum.feasible
            assert optimum.quality < 1.0
            solution = solve_sca(problem, optimum.cut, threshold=threshold, max_iterations=500)
            best = solve_exact(problem, cut=optimum.cut)
            gaps.append(own_scale_quality(problem, best) - own_scale_quality(problem, solution))
            lengths.append(len(solution.history) - 1)
        (row,) = (row for row in rows if row["by"] == "threshold" and float(row["value"]) == threshold)
        for part, q in parts.items():
            assert float(row[f"gap_{part}"]) == pytest.approx(quantile(gaps, q), rel=1e-5, abs=1e-12)
            assert float(row[f"iterations_{part}"]) == pytest.approx(quantile(lengths, q), rel=1e-5)
    histories = [
        [own_scale_quality(problem, iterate) for iterate in solve_sca(problem, best.cut, threshold=FINEST).history]
        for problem, best in cases
    ]
    by_iteration = [row for row in rows if row["by"] == "iteration"]
    assert len(by_iteration) == max(map(len, histories))
    for k, row in enumerate(by_iteration):
        gaps = [
            own_scale_quality(problem, best) - levels[min(k, len(levels) - 1)]
            for (problem, best), levels in zip(cases, histories, strict=True)
        ]
        for part, q in parts.items():
            assert float(row[f"gap_{part}"]) == pytest.approx(quantile(gaps, q), rel=1e-5, abs=1e-12)


def test_same_seed_same_arrays_other_seed_others(small_gaps):
    again, other = sca_gaps(NAMES[0], FEW), sca_gaps(NAMES[0], FEW, seed=1)
    for before, after in zip(small_gaps, again, strict=True):
        np.testing.assert_array_equal(before, after)
    assert not np.array_equal(small_gaps.stop_gap, other.stop_gap)
    assert small_gaps.stop.shape == (FEW, len(THRESHOLDS))
    assert len(draw_problems(NAMES[0])) == COUNT


def test_stopping_iteration_is_the_first_small_rise():
    levels = np.array([0.0, 0.5, 0.505, 0.6, 0.6 + 1e-6])
    assert stopping_iteration(levels, 1e-2) == 2
    assert stopping_iteration(levels, 1e-3) == 4
    assert stopping_iteration(levels, 1e-9) == 4  # ended otherwise
    assert stopping_iteration(levels[:1], 1e-2) == 0


@pytest.mark.parametrize(
    ("field", "value", "part"),
    [
        ("excess", 1e-3, "every iterate is feasible"),
        ("rise", -1e-12, "the objective never rises"),
        ("refused", 1e-6, "the objective never rises"),
        ("end", 2, "it stops at the threshold"),
        ("end", 3, "it stops at the threshold"),
        ("gap", 1e-3, "the gap tends to 0"),
        ("gap", -1e-7, "no iterate beats the optimum"),
    ],
)
def test_verdict_reports_failures(small_gaps, field, value, part):
    broken = getattr(small_gaps, field).copy()
    broken[(3, -1) if broken.ndim == 2 else 3] = value
    holds = verdict({"sound": small_gaps, "broken": small_gaps._replace(**{field: broken})})["holds"]
    assert [name for name, value in holds.items() if not value] == [part]


def test_command_draws_what_is_asked_for_and_fails_with_a_claim(tmp_path, monkeypatch, capsys):
    made = []
    for name in command.FIGURES:
        module = importlib.import_module(command.FIGURES[name])
        monkeypatch.setattr(module, "make", lambda out, name=name: made.append((name, out)) or {"a": name != "load"})
    assert command.main(["--out", str(tmp_path)]) == 0
    assert made == [(name, tmp_path) for name in command.FIGURES]
    assert "load: a: does not hold\n" in capsys.readouterr().out
    assert command.main(["regimes", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "regimes: a: holds\n"
    assert command.main(["regimen"]) == 2
    assert "Did you mean 'regimes'" in capsys.readouterr().err
