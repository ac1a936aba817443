"""Stored results are of the scenarios of today: each tells the digests of those that it was made in."""

import json
from pathlib import Path

import gymnasium as gym
import pytest

import coinfer_gym  # noqa: F401  registers the ids
from baselines.compare import expand_data
from baselines.family import digest_scenario, digest_shipped, scenario_of
from coinfer_gym import InvalidInputError
from coinfer_gym.files import read_csv
from studies.catalogue import CATALOGUE
from studies.lyu import designs

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
CONFIGURED = sorted(
    [
        *(path for path in RESULTS.rglob("summary.json") if "agents" not in path.parts),
        *(ROOT / "configs" / "tuned").glob("*.json"),
    ]
)
CARDS = sorted((ROOT / "agents" / "trained").glob("*/card.json"))
FIGURES = [name for name, entry in CATALOGUE.items() if entry.scenarios]


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def digest_of(config):
    """Digest of the scenario that a configuration names, now."""
    try:
        keywords = expand_data(config["env"])
    except InvalidInputError as error:
        pytest.skip(f"needs recorded data: {error}")
    return digest_scenario(scenario_of(gym.make(config["environment"], **keywords)))


@pytest.mark.parametrize("path", CONFIGURED, ids=lambda path: "/".join(path.parts[-2:]))
def test_tables_and_tuned_rules(path):
    stored = read(path)
    assert stored["scenario_digest"] == digest_of(stored["config"]), f"run {stored['command']}"


@pytest.mark.parametrize("name", ["queueing", "queueing-td3", "late-csi", "six-components"])
def test_learners(name):
    stored = read(RESULTS / "agents" / name / "summary.json")
    scenario = scenario_of(gym.make(stored["sweep"]["env"], **stored["sweep"]["env_kwargs"]))
    assert stored["scenario_digest"] == digest_scenario(scenario, learned=True), f"run {stored['command']}"


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.parent.name)
def test_shipped_agents(path):
    card = read(path)
    played = card["evaluation"]
    assert card["scenario_digest"] == digest_of({"environment": played["env"], "env": played["env_kwargs"]}), (
        "train again"
    )


@pytest.mark.parametrize("name", FIGURES)
def test_figures(name):
    stored = read(ROOT / "docs" / "figures" / f"{name}.json")["scenario_digests"]
    assert stored == digest_shipped(CATALOGUE[name].scenarios), f"run python -m studies {name} --publish"


def test_plain_use():
    rows = read_csv(RESULTS / "plain_use" / "runs.csv")
    assert rows
    for row in rows:
        assert row["scenario"] == digest_scenario(
            scenario_of(gym.make(f"coinfer_gym/{row['environment']}-v0")), learned=True
        )


def test_measured_designs():
    """All that the figures show, and nothing that no figure asks for."""
    stored, needed = designs.read_measurements(designs.MEASUREMENTS), designs.settings(designs.designs())
    assert all(stored.find(setting) is not None for setting in needed), designs.REMEDY
    assert len(stored.f1) == len(needed) >= 60
