"""Random inputs: a sample of what ``python -m studies.fuzz`` tries, and that it sees each kind of fault."""

from dataclasses import replace

import numpy as np
import pytest

from coinfer_gym import InvalidInputError, solve_exact
from coinfer_gym.layerwise.optimum import solve_exact as layerwise_exact
from studies.fuzz import __main__ as command
from studies.fuzz import attempt, certificate, inputs, layerwise, optimum


def outcomes(kind, folder, seeds):
    return [attempt.judge(inputs.KINDS[kind](np.random.default_rng(seed), folder)) for seed in seeds]


def test_optimum_over_all_cuts_is_the_best_of_each_and_no_design_beats_it(tmp_path):
    assert {outcome for outcome, _ in outcomes("optimum", tmp_path, range(300))} == {"accepted"}


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.thorough)])
def test_exact_optimum_is_that_of_the_conic_program(tmp_path, count):
    assert {outcome for outcome, _ in outcomes("certificate", tmp_path, range(count))} == {"accepted"}


@pytest.mark.parametrize(("change", "said"), [({"quality": 0.1}, "quality: exact"), ({"feasible": False}, "exact ")])
def test_difference_to_the_certificate_is_reported(monkeypatch, tmp_path, change, said):
    monkeypatch.setattr(certificate, "solve_exact", lambda *case: replace(solve_exact(*case), **change))
    found = outcomes("certificate", tmp_path, range(10))
    assert any(outcome == "silent" and text.startswith(said) for outcome, text in found)


def test_optimum_that_is_missed_is_reported(monkeypatch, tmp_path):
    def shifted(problem, cut=None):
        found = solve_exact(problem, cut)
        return found if cut is not None else type(found)(**vars(found) | {"quality": 0.9 * found.quality})

    monkeypatch.setattr(optimum, "solve_exact", shifted)
    found = outcomes("optimum", tmp_path, range(20))
    assert any(outcome == "silent" and "a cut alone is better" in text for outcome, text in found)


def test_a_bound_of_layerwise_that_does_not_hold_is_reported(monkeypatch, tmp_path):
    def raised(problem, *cut, **options):
        found = layerwise_exact(problem, *cut, **options)
        return found if cut else replace(found, delay_bound=1.1 * found.delay)

    monkeypatch.setattr(layerwise, "solve_exact", raised)
    found = outcomes("layerwise", tmp_path, range(4))
    assert any(outcome == "silent" and "faster than the bound" in text for outcome, text in found)


@pytest.mark.parametrize("kind", [kind for kind in inputs.KINDS if kind != "optimum"])
def test_inputs_end_in_a_clear_error_or_finite_numbers(kind, tmp_path):
    if kind == "configuration":
        pytest.importorskip("torch")
    found = outcomes(kind, tmp_path, range(8))
    assert {outcome for outcome, _ in found} <= set(attempt.GOOD), found


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("run", "refuse", "outcome"),
    [
        (lambda: None, False, "accepted"),
        (lambda: None, True, "silent"),
        (lambda: inputs.check({"delay_s": np.inf}), False, "silent"),
        (lambda: fail(InvalidInputError("a", 1, "Give 2.")), True, "clear error"),
        (lambda: fail(SystemExit(1)), True, "traceback"),
    ],
)
def test_outcomes_are_told_apart(run, refuse, outcome):
    assert attempt.judge(inputs.Try("", run, refuse))[0] == outcome


def test_an_error_that_is_too_long_is_a_fault(monkeypatch):
    monkeypatch.setattr(attempt, "LONGEST", 5)
    assert attempt.judge(inputs.Try("", lambda: fail(InvalidInputError("a", 1, "Give 2."))))[0] == "traceback"


def test_a_hang_is_one_fault_and_the_table_counts_it(monkeypatch, capsys):
    monkeypatch.setattr(attempt, "_START", 0.0)  # no child answers at once
    assert command.main(["--kinds", "trace", "--tries", "2"]) == 1
    printed = capsys.readouterr().out
    assert "trace 1:  -> hang: over 0 s" in printed
    assert printed.splitlines()[-2].split()[1::2] == ["trace", "0", "0", "0", "2", "0"]


@pytest.mark.parametrize("seed", [402354])  # a bound that was read outside the predictor's table
def test_a_problem_whose_optimum_was_wrong_stays_right(seed):
    rng = np.random.default_rng(seed)
    assert optimum.faults(rng, optimum.random_problem(rng)) == []
