"""The tuning of rules: the best of a grid, what is written, and wrong configurations."""

import json

import pytest

from baselines import tune as tuning
from coinfer_gym import InvalidInputError

TUNE = {
    "title": "a trial",
    "env": {"scenario": "bert-multimodal", "tasks": 10},
    "worlds": 3,
    "rules": {"cap": {"policy": "baselines.farsighted:Slowdown", "search": {"fraction": [0.5, 1.0]}}},
}


@pytest.mark.parametrize(
    ("values", "widen"), [([0.01, 0.02, 0.5], True), ([0.01, 0.5, 0.01], False), ([0.01, 0.5], False)]
)
def test_a_value_at_the_end_of_its_list_is_reported(values, widen, capsys):
    config = {**TUNE, "rules": {"cap": {"policy": "slowdown", "search": {"fraction": values}}}}
    tuned = tuning.tune(tuning.load_config(config))
    assert tuned["cap"]["options"]["fraction"] == 0.5
    assert ("cap: fraction 0.5 is at the end of its list: widen it" in capsys.readouterr().out) == widen


def test_improve_finds_the_best_of_a_grid():
    calls = []

    def score(parameters):
        calls.append(parameters)
        return -((parameters["a"] - 3) ** 2) - (parameters["b"] - 1) ** 2

    best, trials = tuning.improve({"a": [1, 2, 3, 4], "b": [0, 1, 2, 5]}, score)
    assert best == {"a": 3, "b": 1}
    assert [parameters for parameters, _ in trials] == calls
    assert len(calls) == len({json.dumps(parameters) for parameters in calls})


def test_tuning_writes_its_result_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tuning, "PUBLISHED", tmp_path / "tuned")
    path = tmp_path / "trial.yaml"
    path.write_text(json.dumps(TUNE), encoding="utf-8")  # JSON is YAML
    assert tuning.main([str(path), "--jobs", "1"]) == 0
    result = json.loads((tmp_path / "runs/tune/trial/tuned.json").read_text(encoding="utf-8"))
    assert result["command"].startswith("python -m baselines.tune")
    rule = result["rules"]["cap"]
    assert rule["score"] == max(trial["score"] for trial in rule["trials"])
    assert rule["options"]["fraction"] in (0.5, 1.0)
    journal = tmp_path / "runs/tune/trial/worlds.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    journal.write_text("".join(lines[:4])[:-9], encoding="utf-8")  # killed in its second trial
    assert tuning.main([str(path), "--jobs", "1", "--publish"]) == 0
    assert journal.read_text(encoding="utf-8").splitlines(keepends=True)[:3] == lines[:3]  # not played again
    assert json.loads((tmp_path / "tuned/trial.json").read_text(encoding="utf-8"))["rules"] == result["rules"]
    assert tuning.main([str(tmp_path / "nowhere.yaml")]) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 3}, "seed"),
        ({"environment": "no_module_of_mine:X-v0"}, "--trust no_module_of_mine"),
        ({"wrlds": 3}, "worlds"),
        ({"metric": "delivred"}, "delivered"),
        ({"rules": {"cap": {"policy": "baselines.farsighted:Slowdown", "search": {"fractoin": [1.0]}}}}, "fraction"),
        ({"rules": {"cap": {"policy": "baselines.farsighted:Slowdown", "search": {"fraction": []}}}}, "fraction"),
    ],
)
def test_wrong_configurations(change, message):
    with pytest.raises(InvalidInputError, match=message):
        tuning.load_config({**TUNE, **change})
