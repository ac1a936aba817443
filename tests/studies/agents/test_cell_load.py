"""The figure of a cell's load: a small run recomputed by an own loop, and a verdict that can fail."""

import json

import gymnasium as gym
import numpy as np
import pytest

from baselines.rollout import measure
from baselines.rules import MyopicExact
from coinfer_gym.cell.scenario import load_cell_scenario
from studies.agents import cell_load
from tests.studies.made import make_and_read

SMALL = {"devices": (2, 5), "factors": (1.0, 2.0), "worlds": 2, "tasks": 4, "seed": 3, "jobs": 1}


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """Verdict and rows of a small sweep."""
    folder = tmp_path_factory.mktemp("cell_load")
    return make_and_read(cell_load.STUDIES[0], folder / "out", work=folder / "work", **SMALL)


def test_it_holds_what_the_rules_earn(small_run):
    summary, rows = small_run
    assert len(rows) == 2 * 2 * len(cell_load.RULES)
    [row] = [
        row
        for row in rows
        if (float(row["rate_factor"]), int(row["devices"]), row["rule"]) == (2.0, 5, "all that is free")
    ]
    scenario = load_cell_scenario("cell-16")
    rates = {"arrival_rate": 2.0 * scenario.arrival_rate, "burst_rate": 2.0 * scenario.burst_rate}
    env = gym.make("coinfer_gym/Cell-v0", scenario="cell-16", devices=5, tasks=4, **rates)
    found = [measure(env, MyopicExact().bind(env), seed) for seed in (3, 4)]
    for name in ("delivered", "dropped"):
        assert float(row[f"{name}_mean"]) == pytest.approx(np.mean([each[name] for each in found]), abs=1e-8)
    tuned = json.loads(cell_load.TUNED.read_text(encoding="utf-8"))["rules"]["shares by queue"]
    assert summary["policies"]["shares by queue"] == {"policy": tuned["policy"], **tuned["options"]}


def test_a_rule_that_is_surely_better_is_an_exception():
    values = np.zeros((2, len(cell_load.RULES), 6, 1, 2))
    values[0, 1, :, 0, 1] = 0.1 + 0.01 * np.arange(6)  # equal shares, with the most devices
    judged = cell_load.verdict(cell_load.Load((4, 8), (1.0,), values))
    assert judged["exceptions"]["equal shares"] == [{"factor": 1.0, "devices": 8}]
    assert [statement for statement, holds in judged["holds"].items() if not holds] == [
        f"equal shares is nowhere surely better than {cell_load.BEST}"
    ]
