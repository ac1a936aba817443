"""What is left to win over the best rule of a cell: a small run against an own loop, and a verdict that can fail."""

import gymnasium as gym
import numpy as np
import pytest

from baselines.cell.one_device import OneDeviceDP
from baselines.rollout import measure
from studies.agents import cell_headroom
from tests.studies.made import failures, make_and_read

SMALL = {"cells": ("cell-4",), "worlds": 2, "alone": 3, "tasks": 3, "seed": 5, "jobs": 1}
TUNED = {"band": 0.3, "server": 0.8}


def played(policy, tasks=3, **env):
    env = gym.make("coinfer_gym/Cell-v0", scenario="cell-4", tasks=tasks, **env)
    return [measure(env, policy.bind(env), seed)["delivered"] for seed in range(5, 8)]


def test_it_holds_what_the_policies_earn(tmp_path):
    summary, rows = make_and_read(cell_headroom.STUDIES[0], tmp_path / "out", work=tmp_path / "work", **SMALL)
    assert len(rows) == 2 + len(cell_headroom.NEARBY)
    earned = {row["policy"]: float(row["delivered"]) for row in rows}
    assert earned[cell_headroom.BEST] == pytest.approx(np.mean(played(OneDeviceDP(**TUNED))[:2]), abs=1e-8)
    alone = played(OneDeviceDP(band=0.0, server=0.0), devices=1)
    assert summary["cells"]["cell-4"]["alone"]["mean"] == pytest.approx(np.mean(alone), abs=1e-8)


def test_a_nearby_rule_without_a_change_is_the_rule():
    assert played(cell_headroom.NearbyDP(**TUNED)) == played(OneDeviceDP(**TUNED))


@pytest.mark.parametrize("change", [{"prices": 20.0}, {"waiting": 9.0}, {"taken": 9.0}, {"haste": 3.0}, {"most": 0.3}])
def test_every_change_changes_what_is_delivered(change):
    assert played(cell_headroom.NearbyDP(**TUNED, **change), tasks=9) != played(OneDeviceDP(**TUNED), tasks=9)


def test_a_rule_that_is_far_ahead_is_told():
    values = 0.4 + 0.01 * np.random.default_rng(0).normal(size=(3, 12))
    values[2] = values[0] + 0.02
    labels = cell_headroom.BEST, cell_headroom.AGENT, "10 % less time"
    judged = cell_headroom.verdict(cell_headroom.Headroom(labels, {"cell-4": values}, {"cell-4": values[0]}))
    assert failures(judged) == ["cell-4: no nearby rule is a percent ahead"]
    assert judged["cells"]["cell-4"]["surely ahead"] == ["10 % less time"]
