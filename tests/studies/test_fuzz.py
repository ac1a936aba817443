"""The exact optimum on random problems: a sample of what ``python -m studies.fuzz`` tries."""

from coinfer_gym import solve_exact
from studies import fuzz


def test_optimum_over_all_cuts_is_the_best_of_each_and_no_design_beats_it(capsys):
    assert fuzz.main(["--problems", "300"]) == 0
    counts = capsys.readouterr().out
    assert counts.startswith("300 problems: ")
    assert int(counts.split()[2]) > 200  # feasible ones


def test_optimum_that_is_missed_is_reported(monkeypatch, capsys):
    def shifted(problem, cut=None):
        found = solve_exact(problem, cut)
        return found if cut is not None else type(found)(**vars(found) | {"quality": 0.9 * found.quality})

    monkeypatch.setattr(fuzz, "solve_exact", shifted)
    assert fuzz.main(["--problems", "20"]) == 1
    assert "a cut alone is better" in capsys.readouterr().out
