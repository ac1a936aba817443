"""Which decisions matter: the conditions that the worlds were calibrated to."""

import json
from pathlib import Path

import pytest

from coinfer_gym import load_scenario
from studies.lyu.decisions import survey

ROOT = Path(__file__).resolve().parents[3]
FORESIGHT = "stochastic DP"


def check_cuts_and_controls(found):
    """Five cuts or more matter, none is best in half of the tasks, and every control is inside its range in a fifth."""
    assert (found.cuts >= 0.05).sum() >= 5
    assert found.cuts.max() <= 0.5
    assert min(found.inside.values()) >= 0.2


def test_cuts_and_controls_are_chosen_in_the_default():
    found = survey(load_scenario("bert-multimodal", tasks=60), worlds=200)
    check_cuts_and_controls(found)
    assert found.fixed.max() <= 0.9


@pytest.mark.parametrize("name", ["bert-text", "vit-image", "bart-multimodal", "minilm-squad"])
def test_cuts_and_controls_are_chosen_in_other_worlds(name):
    check_cuts_and_controls(survey(load_scenario(name, tasks=60), worlds=200))


def test_no_simple_policy_is_near_the_optimum_and_foresight_pays():
    """In the published comparison, whose scenario `test_compare` holds to the shipped one."""
    table = json.loads((ROOT / "docs" / "results" / "full" / "summary.json").read_text(encoding="utf-8"))
    assert table["config"]["worlds"] >= 200
    delivered = {label: policy["metrics"]["delivered"]["mean"] for label, policy in table["policies"].items()}
    optimum = delivered[table["config"]["reference"]]
    assert delivered[FORESIGHT] >= 1.05 * optimum
    inner = [f"cut {cut}" for cut in range(1, load_scenario("bert-multimodal").cuts - 1)]
    simple = {label: delivered[label] for label in ("best constant", "on server", "on device", *inner)}
    assert max(simple.values()) <= 0.9 * optimum, simple
    for label in inner:
        assert table["config"]["policies"][label] == {"policy": "myopic_exact", "cut": int(label.removeprefix("cut "))}
