"""Claims L5 to L10 of the papers on small runs; `make figures` judges them on the full ones (docs/claims.md)."""

import json
import re
from pathlib import Path

import pytest

from baselines.figures import cuts, regimes, sca_convergence, schemes

ROOT = Path(__file__).resolve().parent.parent
QUALITY = "parallel_laplacian"


def check(judged, *claims):
    """That the verdict is about these claims, and that they hold."""
    assert {claim.split(":")[0].split(" ")[0] for claim in judged["holds"]} == set(claims)
    assert all(judged["holds"].values()), judged["found"]


def test_l5_every_iterate_is_feasible_and_none_is_worse():
    judged = sca_convergence.verdict({QUALITY: sca_convergence.sca_gaps(QUALITY, 4)})
    assert all(judged["holds"].values()), judged["measured"]


@pytest.mark.parametrize(
    ("budget", "claims"),
    [(schemes.DELAY, ("L6", "L7")), (schemes.ENERGY, ("L8", "L9"))],
    ids=("L6_L7_delay", "L8_L9_energy"),
)
def test_designs_along_a_budget(budget, claims):
    curves = schemes.compute(budget, (QUALITY,), points=3)
    judged = schemes.verdict(budget, curves, schemes.find_onsets(budget))
    check(judged, *claims)
    compared = [panel["sca"] for panel in judged["measured"]["panels"].values()]
    assert max(part["largest_left"] for part in compared) < 5e-3
    assert max(part["largest_above"] for part in compared) < 1e-6
    assert not any(part["disagree_on_feasibility"] for part in compared)


def test_l10_an_inner_cut_beats_both_ends():
    check(cuts.verdict(cuts.compute((QUALITY,), ((1.0, 1.0),))), "L10")


def test_l10_inner_cuts_have_a_region():
    check(regimes.verdict(regimes.compute((QUALITY,), (9, 7))), "L10")


def test_table_of_claims_has_a_row_for_each():
    text = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([LM]\d+) \|", text, flags=re.MULTILINE)
    assert rows == [*(f"L{k}" for k in range(1, 12)), *(f"M{k}" for k in range(1, 9))]


@pytest.mark.parametrize("name", ["sca_convergence", "schemes_delay", "schemes_energy", "cuts", "regimes"])
def test_stored_verdicts_hold(name):
    summary = json.loads((ROOT / "docs" / "figures" / f"{name}.json").read_text(encoding="utf-8"))
    assert summary["holds"]
    assert all(summary["holds"].values())
