"""Which decisions matter: the conditions that the worlds were calibrated to."""

import json
from pathlib import Path

import pytest

from coinfer_gym import load_scenario
from studies.lyu.decisions import survey

ROOT = Path(__file__).resolve().parents[3]
FORESIGHT = "stochastic DP"
RECALIBRATED = ["bert-text", "vit-image", "bart-multimodal", "minilm-squad", "mpnet-squad"]


def check_cuts_and_controls(found):
    """Five cuts or more matter, none is best in half of the tasks, and every control is inside its range in a fifth."""
    assert (found.cuts >= 0.05).sum() >= 5
    assert found.cuts.max() <= 0.5
    assert min(found.inside.values()) >= 0.2


def test_cuts_and_controls_are_chosen_in_the_default():
    found = survey(load_scenario("bert-multimodal", tasks=60), worlds=200)
    check_cuts_and_controls(found)
    assert found.fixed.max() <= 0.9


@pytest.mark.parametrize("name", RECALIBRATED)
def test_cuts_and_controls_are_chosen_in_other_worlds(name):
    check_cuts_and_controls(survey(load_scenario(name, tasks=60), worlds=200))


@pytest.mark.parametrize("name", RECALIBRATED)
def test_foresight_pays_in_other_worlds(name):
    """On the cards of the agents, which `test_stored` holds to the shipped scenarios."""
    card = json.loads((ROOT / "agents" / "trained" / name / "card.json").read_text(encoding="utf-8"))
    played = card["evaluation"]
    assert played["env_kwargs"] == {"scenario": name}
    assert played["worlds"] >= 100
    delivered = {label: metrics["delivered"]["mean"] for label, metrics in played["policies"].items()}
    assert delivered[FORESIGHT] >= 1.05 * delivered["myopic exact"]


@pytest.mark.parametrize("name", ["phone-llama-2026", "jetson-llama-2026", "glasses-vit-2026"])
def test_inner_cuts_and_most_controls_are_chosen_in_worlds_of_today(name):
    found = survey(load_scenario(name, tasks=40), worlds=30)
    assert found.cuts.max() <= 0.5
    assert (found.cuts[1:-1] >= 0.01).sum() >= 10
    assert found.cuts[1:-1].sum() >= 0.5
    assert found.fixed.max() <= 0.9
    inside = [share for name, share in found.inside.items() if name != "frequency_device"]
    assert min(inside) >= 0.2  # the phone's clock is nearly always the highest


def test_a_server_behind_a_mobile_network_is_used_whole_or_not_at_all():
    found = survey(load_scenario("phone-5g-2026", tasks=40), worlds=30)
    assert found.cuts[1:-1].sum() <= 0.1
    assert min(found.cuts[0], found.cuts[-1]) >= 0.2
    assert found.fixed.max() <= 0.95


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
