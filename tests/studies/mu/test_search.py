"""The figure of the optimizers: standard functions, growth of the cost, and its verdict."""

import numpy as np
import pytest

from baselines.optimizers import OPTIMIZERS
from baselines.search import P1Search
from studies.lyu.sca_convergence import draw_problems
from studies.mu import search as figure
from tests.studies.made import failures, make_and_read


@pytest.mark.parametrize("name", figure.FUNCTIONS)
def test_standard_functions_have_their_minimum_where_they_say(name):
    function, half = figure.FUNCTIONS[name]
    around = np.random.default_rng(0).uniform(-half, half, (5, 2000))
    assert function(np.zeros((5, 1)))[0] == pytest.approx(0.0, abs=1e-12)
    assert (function(around) > 0.0).all()
    task = figure.shifted(name, 5, 3)
    assert (task.objective(task.box.points(np.random.default_rng(1).random((100, 5)))) > 0.0).all()


def test_cost_grows_at_most_linearly_and_the_result_gets_worse():
    sizes = (2, 8, 32)
    for form, name in (("printed", "sphere"), ("mqhoa", "sphere"), ("mqhoa", "Rastrigin")):
        grown = figure.growth(form, name, sizes, 5, 0)
        assert figure.exponent(sizes, grown.evaluations) <= 1.0 + figure.SLACK
        assert (np.diff(np.median(grown.left, axis=1)) > 0.0).all()
    squares = np.array(sizes)[:, None] ** 2.0 * np.ones(3)
    assert figure.exponent(sizes, squares) == pytest.approx(2.0)


def test_verdict_can_fail():
    grown = figure.Growth(*(np.ones((2, 3)) for _ in range(3)))
    steep = grown._replace(evaluations=np.array([[1] * 3, [4] * 3]))
    costly = grown._replace(time=np.array([[1.0] * 3, [4.0] * 3]))
    worse = grown._replace(left=np.array([[0.1] * 3, [0.2] * 3]))
    sound, beaten = {"q": {"o": np.zeros((2, 2))}}, {"q": {"o": np.full((2, 2), -1e-6)}}
    printed, mqhoa = ("printed", "f"), ("mqhoa", "f")
    cases = [
        (sound, {printed: grown, mqhoa: grown}, []),
        (sound, {printed: grown, mqhoa: steep}, ["M8, mqhoa: evaluations to finish grow at most linearly"]),
        (sound, {printed: costly, mqhoa: grown}, ["M8, printed: seconds to finish grow at most linearly"]),
        (sound, {printed: worse, mqhoa: grown}, ["M8, printed: the result is as good in 4 variables as in 2"]),
        (beaten, {printed: grown, mqhoa: grown}, ["no search beats the exact optimum"]),
    ]
    for p1, costs, expected in cases:
        assert failures(figure.verdict(figure.Data(np.arange(2), p1, {}, (2, 4), costs))) == expected


def test_figure_writes_what_the_searches_found(tmp_path):
    options = {"names": ("rate_distortion",), "count": 2, "evaluations": 100, "repeats": 2, "dimensions": (3,)}
    summary, rows = make_and_read(figure.STUDIES[0], tmp_path, **options, sizes=(2, 4))
    assert {"scipy", "cma", "pymoo"} <= set(summary["settings"]["optimizers made with"])
    for name, optimizer in OPTIMIZERS.items():
        gaps = []
        for i, (problem, optimum) in enumerate(draw_problems("rate_distortion", 2)):
            result = optimizer(P1Search(problem), 100, i)
            gaps.append(optimum.quality + (result.fun if result.success else 0.0))
        (row,) = (
            row for row in rows if (row["of"], row["name"], row["evaluations"]) == (name, "rate_distortion", "100")
        )
        assert float(row["median"]) == pytest.approx(np.mean(gaps), rel=1e-5)
        assert float(row["quartile_1"]) == pytest.approx(0.75 * min(gaps) + 0.25 * max(gaps), rel=1e-5)


def test_best_so_far_holds_until_the_next_improvement():
    from scipy.optimize import OptimizeResult

    result = OptimizeResult(history=(np.array([3, 10]), np.array([-0.2, -0.5])))
    curve = figure.best_so_far(result, np.array([1, 2, 3, 9, 10, 50]), 0.0)
    np.testing.assert_array_equal(curve, [0.0, 0.0, -0.2, -0.2, -0.5, -0.5])
