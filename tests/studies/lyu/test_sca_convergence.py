"""What successive convex approximation leaves to the optimum: quantiles of a small run, and verdicts that can fail."""

import numpy as np
import pytest

from baselines import solve_sca
from baselines.objective import own_scale_quality
from coinfer_gym import solve_exact
from studies.lyu.sca_convergence import (
    FINEST,
    STUDIES,
    THRESHOLDS,
    draw_problems,
    sca_gaps,
    stopping_iteration,
    verdict,
)
from tests.studies.made import failures, make_and_read

NAME = "magnitude_pruning"
FEW = 5


@pytest.fixture(scope="module")
def gaps():
    return sca_gaps(NAME, FEW)


def test_quantiles_are_those_of_runs_with_each_threshold(tmp_path):
    summary, rows = make_and_read(STUDIES[0], tmp_path, names=(NAME,), count=FEW)
    assert failures(summary) == []
    assert sum(summary["measured"][NAME]["ends"].values()) == FEW
    cases = draw_problems(NAME, FEW)
    assert all(optimum.feasible and optimum.quality < 1.0 for _, optimum in cases)
    best = [own_scale_quality(problem, solve_exact(problem, cut=optimum.cut)) for problem, optimum in cases]
    for threshold in (1e-2, 1e-8):
        runs = [solve_sca(problem, optimum.cut, threshold=threshold, max_iterations=500) for problem, optimum in cases]
        left = [top - own_scale_quality(case[0], run) for top, case, run in zip(best, cases, runs, strict=True)]
        lengths = [len(run.history) - 1 for run in runs]
        (row,) = (row for row in rows if row["by"] == "threshold" and float(row["value"]) == threshold)
        for part, q in {"median": 0.5, "90": 0.9, "max": 1.0}.items():
            assert float(row[f"gap_{part}"]) == pytest.approx(np.quantile(left, q), rel=1e-5, abs=1e-12)
            assert float(row[f"iterations_{part}"]) == pytest.approx(np.quantile(lengths, q), rel=1e-5)
    by_iteration = [row for row in rows if row["by"] == "iteration"]
    histories = [solve_sca(problem, optimum.cut, threshold=FINEST).history for problem, optimum in cases]
    assert len(by_iteration) == max(map(len, histories))
    second = [
        top - own_scale_quality(case[0], history[min(1, len(history) - 1)])
        for top, case, history in zip(best, cases, histories, strict=True)
    ]
    assert float(by_iteration[1]["gap_median"]) == pytest.approx(np.median(second), rel=1e-5, abs=1e-12)


def test_same_seed_same_arrays_other_seed_others(gaps):
    again, other = sca_gaps(NAME, FEW), sca_gaps(NAME, FEW, seed=1)
    for before, after in zip(gaps, again, strict=True):
        np.testing.assert_array_equal(before, after)
    assert not np.array_equal(gaps.stop_gap, other.stop_gap)
    assert gaps.stop.shape == (FEW, len(THRESHOLDS))


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
        ("gap", 1e-3, "the gap tends to 0"),
        ("gap", -1e-7, "no iterate beats the optimum"),
    ],
)
def test_verdict_reports_failures(gaps, field, value, part):
    broken = getattr(gaps, field).copy()
    broken[(3, -1) if broken.ndim == 2 else 3] = value
    assert failures(verdict({"sound": gaps, "broken": gaps._replace(**{field: broken})})) == [part]
