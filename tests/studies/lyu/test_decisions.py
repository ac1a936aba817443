"""Which decisions matter: the conditions that the world of a phone was calibrated to."""

import json
from pathlib import Path

from coinfer_gym import load_scenario
from studies.lyu.decisions import survey

ROOT = Path(__file__).resolve().parents[3]
FORESIGHT = "stochastic DP"


def test_cuts_and_controls_are_chosen_on_a_phone():
    """Over 200 worlds: five cuts or more, none in half of the tasks; every control inside its range in a fifth."""
    found = survey(load_scenario("bert-phone", tasks=60), worlds=200)
    assert (found.cuts >= 0.05).sum() >= 5
    assert found.cuts.max() <= 0.5
    assert min(found.inside.values()) >= 0.2
    assert found.fixed.max() <= 0.9


def test_no_simple_policy_is_near_the_optimum_on_a_phone_and_foresight_pays():
    """In the published comparison, whose scenario `test_compare` holds to the shipped one."""
    table = json.loads((ROOT / "docs" / "results" / "phone" / "summary.json").read_text(encoding="utf-8"))
    assert table["config"]["worlds"] >= 200
    delivered = {label: policy["metrics"]["delivered"]["mean"] for label, policy in table["policies"].items()}
    optimum, foresight = delivered.pop(table["config"]["reference"]), delivered.pop(FORESIGHT)
    assert foresight >= 1.05 * optimum
    assert max(delivered.values()) <= 0.9 * optimum, delivered
    cuts = {policy.get("cut") for policy in table["config"]["policies"].values()}
    assert cuts >= set(range(load_scenario("bert-phone").cuts))  # 0 is all on the server, the last all on the device
    assert "best constant" in delivered
