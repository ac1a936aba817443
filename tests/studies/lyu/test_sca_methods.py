"""Both methods of successive convex approximation in one table: a small run, and verdicts that can fail."""

import numpy as np
import pytest

from studies.lyu.sca_methods import STUDIES, compute, verdict
from tests.studies.made import failures, make_and_read


def test_table_compares_both_methods(tmp_path):
    summary, rows = make_and_read(STUDIES[0], tmp_path, pictures=(), names=("rate_distortion",), count=2)
    assert failures(summary) == []
    paper, ours = rows
    assert (paper["method"], ours["method"]) == ("lyu", "products")
    assert paper["cuts"] == ours["cuts"]
    assert float(paper["iterations_max"]) > float(ours["iterations_max"])


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"gap_of_best": np.array([0.1])}, "over all cuts both find the exact optimum"),
        ({"gap": np.array([-1e-6])}, "no run beats the optimum of its cut"),
        ({"iterations": np.array([1.0])}, "products take fewer iterations"),
    ],
)
def test_verdict_reports_failures(change, part):
    runs = compute(("magnitude_pruning",), 1)
    runs["magnitude_pruning", "lyu"] = runs["magnitude_pruning", "lyu"]._replace(**change)
    assert failures(verdict(runs)) == [part]
