"""Tuning: what the file of a study may say, and studies that are killed, repeated, prolonged, pruned and damaged."""

import csv
import json
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from agents import tune as tuning
from agents.held_out import SELECTION_SEED, TEST_SEED
from agents.hyperparameters import load_hyperparameters
from agents.tune import FIRST_SEED, load_study, main, tune
from baselines.tune import FIRST_SEED as FIRST_SEED_OF_RULES
from coinfer_gym import InvalidInputError
from coinfer_gym.files import lock_folder

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted((ROOT / "configs" / "agents" / "tune").glob("*.yaml"))
LAIM = "coinfer_gym/LAIM-v0"
SMALL = {
    "title": "small",
    "run": {
        "algo": "ppo",
        "env_kwargs": {"tasks": 20},
        "wrapper": ["BudgetShareAction"],
        "n_timesteps": 2000,
        "eval_freq": 500,
        "eval_lanes": 3,
        "hyperparams": {"n_envs": 16, "n_steps": 16, "batch_size": 64},
    },
    "trials": 2,
    "search": {
        "learning_rate": {"low": 1e-4, "high": 1e-3, "log": True, "schedule": "lin"},
        "n_epochs": {"low": 1, "high": 2},
        "policy_kwargs": {"net_arch": {"choices": [[16], [8, 8]]}, "activation_fn": {"choices": ["tanh", "relu"]}},
    },
}


def write(folder, changes=(), search=None, run=()):
    content = SMALL | dict(changes) | {"run": SMALL["run"] | dict(run)}
    content["search"] = SMALL["search"] if search is None else search
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def rows(folder):
    with (folder / "trials.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def pretend(monkeypatch, values):
    """Have evaluations find these values instead of what was learned."""
    found = iter(values)

    def evaluate(self):
        value = next(found)
        if isinstance(value, BaseException):
            raise value
        self._report(self.model.num_timesteps, {"delivered": value})

    monkeypatch.setattr(tuning.EvaluationCallback, "evaluate", evaluate)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study of two trials from the command line's entry."""
    folder = tmp_path_factory.mktemp("whole")
    assert main([str(write(folder)), "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_a_study_leaves_its_trials_and_the_best_hyperparameters(whole):
    found = rows(whole)
    assert [row["number"] for row in found] == ["0", "1"]
    assert {row["state"] for row in found} == {"complete"}
    assert all(0.0 < float(row["value"]) < 1.0 and float(row["seconds"]) > 0.0 for row in found)
    best = max(found, key=lambda row: float(row["value"]))
    chosen = json.loads(best["params"])
    read = load_hyperparameters(whole / "best.yml", "ppo", LAIM)
    assert (read.n_timesteps, read.n_envs) == (2000, 16)
    assert read.arguments["learning_rate"] == chosen["learning_rate"]
    assert read.arguments["n_epochs"] == chosen["n_epochs"]
    assert read.policy_kwargs.items() >= chosen["policy_kwargs"].items()  # the rest is that of ppo.yml
    assert read.env_wrapper == [{"coinfer_gym.laim.wrappers.BudgetShareAction": {}}]


def test_the_same_command_does_nothing_more(whole, capsys, monkeypatch):
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    pretend(monkeypatch, [AssertionError("no trial is left")])
    assert main([str(whole.parent / "study.yaml"), "--out", str(whole)]) == 0
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before
    out = capsys.readouterr().out
    assert "2 complete, 0 pruned, 0 failed" in out
    assert "policy_kwargs.net_arch=[" in out


def test_a_killed_study_goes_on_as_if_it_had_never_stopped(whole, tmp_path, monkeypatch, capsys):
    arguments = [str(write(tmp_path)), "--out", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        pretend(patch, [*repeat(0.1, 5), KeyboardInterrupt()])
        assert main(arguments) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert len(rows(tmp_path / "out")) == 1
    with lock_folder(tmp_path / "out"):
        assert main(arguments) == 2
    assert "Another command works there" in capsys.readouterr().err
    assert main(arguments) == 0
    first, second = rows(tmp_path / "out")
    assert [first["number"], second["number"]] == ["0", "2"]  # trial 1 was killed
    assert second["params"] == rows(whole)[1]["params"]


def test_a_study_can_be_prolonged(tmp_path, monkeypatch):
    config = load_study(write(tmp_path))
    pretend(monkeypatch, repeat(0.3))
    assert len(tune(config, tmp_path / "out")) == 2
    assert main([str(tmp_path / "study.yaml"), "--out", str(tmp_path / "out"), "--trials", "3"]) == 0
    assert len(rows(tmp_path / "out")) == 3


@pytest.mark.slow
def test_trials_side_by_side(tmp_path):
    path = write(tmp_path, run={"n_timesteps": 512, "env_kwargs": {"tasks": 5}})
    assert main([str(path), "--out", str(tmp_path / "out"), "--jobs", "2"]) == 0
    assert {row["number"] for row in rows(tmp_path / "out")} == {"0", "1"}


def test_a_trial_that_falls_behind_is_pruned(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "_STARTUP_TRIALS", 1)
    pretend(monkeypatch, [0.5, 0.5, 0.5, 0.6, 0.4, 0.4])
    tune(load_study(write(tmp_path)), tmp_path / "out")
    first, second = rows(tmp_path / "out")
    assert (first["state"], float(first["value"])) == ("complete", 0.6)
    assert (second["state"], float(second["value"])) == ("pruned", 0.4)


def test_the_mean_over_seeds_counts(tmp_path, monkeypatch):
    seeds = []
    build = tuning.build_model

    def note(run, hyperparameters):
        seeds.append(run.seed)
        return build(run, hyperparameters)

    monkeypatch.setattr(tuning, "build_model", note)
    pretend(monkeypatch, [0.1, 0.2, 0.3, 0.4, 0.1, 0.2, 0.2, 0.2])
    (trial,) = tune(load_study(write(tmp_path, {"trials": 1, "seeds": 2})), tmp_path / "out")
    assert trial.value == pytest.approx(0.3)
    assert seeds == [FIRST_SEED, FIRST_SEED + 10_000]
    assert list(trial.intermediate_values) == [1, 2, 3, 5, 6, 7]


def test_networks_that_diverge_fail_and_the_study_goes_on(tmp_path, monkeypatch, capsys):
    path = write(tmp_path, {"trials": 1})
    pretend(monkeypatch, [ValueError("Expected parameter loc to satisfy the constraint Real()")])
    assert main([str(path), "--out", str(tmp_path / "out")]) == 0
    (row,) = rows(tmp_path / "out")
    assert (row["state"], row["value"]) == ("failed", "")
    assert "0 complete, 0 pruned, 1 failed" in capsys.readouterr().out
    assert not (tmp_path / "out" / "best.yml").exists()


def test_a_torn_line_is_cut_off(whole, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    content = (whole / "study.jsonl").read_bytes()
    (folder / "study.jsonl").write_bytes(content + b'{"op_code": 4, "wor')
    assert len(tune(load_study(write(tmp_path)), folder)) == 2
    assert (folder / "study.jsonl").read_bytes() == content


@pytest.mark.parametrize(
    "content", [b"hello\n", b"[]\n", b"{}\n", b"\xff\xfe\n", b'{"op_code": 99, "worker_id": ""}\n']
)
def test_a_damaged_journal_ends_with_one_line(tmp_path, capsys, content):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "study.jsonl").write_bytes(content)
    assert main([str(write(tmp_path)), "--out", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "study.jsonl" in error
    assert "delete the folder" in error
    assert len(error.strip().splitlines()) == 1
    assert (folder / "study.jsonl").read_bytes() == content


def test_another_study_in_the_folder_is_left_alone(whole, tmp_path):
    other = tmp_path / "ppo.yml"
    other.write_text(f"{LAIM}: {{n_timesteps: 2000, gamma: 0.5}}", encoding="utf-8")
    for path in (write(tmp_path, {"seeds": 2}), write(tmp_path, run={"conf_file": str(other)})):
        with pytest.raises(InvalidInputError, match="another --out"):
            tune(load_study(path), whole)
    assert len(rows(whole)) == 2


def test_the_file_of_hyperparameters_is_read_once(tmp_path):
    """It may change while a study goes on."""
    file = tmp_path / "ppo.yml"
    file.write_text(f"{LAIM}: {{n_timesteps: 2000, gamma: 0.5}}", encoding="utf-8")
    study = load_study(write(tmp_path, run={"conf_file": str(file)}))
    file.write_text(f"{LAIM}: {{n_timesteps: 2000, gamma: 0.9}}", encoding="utf-8")
    assert study.trial_run({}).load_hyperparameters().arguments["gamma"] == 0.5


@pytest.mark.parametrize(
    ("search", "hint"),
    [
        ({"gama": {"choices": [0.9]}}, "gamma"),
        ({"gamma": {"high": 1.0}}, "low"),
        ({"gamma": {"low": 0.99, "high": 0.9}}, "0.99"),
        ({"learning_rate": {"low": 0.0, "high": 1.0, "log": True}}, "log"),
        ({"learning_rate": {"low": 0.1, "high": 1.0, "schedule": "cosine"}}, "lin"),
        ({"gamma": {"choices": []}}, "choices"),
        ({"gamma": {"low": 0, "high": 10**400}}, "high"),
        ({"gamma": {"low": True, "high": 1}}, "low"),
        ({"gamma": {"choices": [0.9], "log": True}}, "log"),
        ({"gamma": 0.9}, "{choices: [...]}"),
        ({"policy_kwargs": {"net_arc": {"choices": [[8]]}}}, "net_arch"),
        ({"policy_kwargs": {"activation_fn": {"choices": ["relu", "gelu"]}}}, "gelu"),
        ({"warmup": {"low": -1, "high": 1}}, "warmup"),
        ({}, "search"),
    ],
)
def test_mistakes_in_a_space_end_with_one_line(tmp_path, capsys, search, hint):
    assert main([str(write(tmp_path, search=search)), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "study.yaml" in error
    assert hint in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "run", "hint"),
    [
        ({"trails": 3}, {}, "trials"),
        ({"trials": 0}, {}, "trials"),
        ({"trials": 1e30}, {}, "trials"),
        ({"seeds": "2"}, {}, "seeds"),
        ({}, {"n_timesteps": 1e30}, "n_timesteps"),
        ({}, {"algo": 3}, "algo"),
        ({}, {"seed": 3}, "seed"),
        ({}, {"env_kwargs": {"arival_rate": 1.0}}, "arrival_rate"),
    ],
)
def test_mistakes_elsewhere_end_with_one_line(tmp_path, capsys, changes, run, hint):
    assert main([str(write(tmp_path, changes, run=run)), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert hint in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["--trials", "0"], ["--jobs", "0"], ["--jobs", "-2"]])
def test_mistakes_of_the_command_line(tmp_path, capsys, arguments):
    assert main([str(write(tmp_path)), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert arguments[0].removeprefix("--") in capsys.readouterr().err


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_shipped_studies_can_be_run(path):
    config = load_study(path)
    assert config.run["algo"] == path.stem
    for end in (0, -1):
        run = config.trial_run({space.name: space.ends[end] for space in config.spaces})
        assert run.load_hyperparameters().env_wrapper == [{"coinfer_gym.laim.wrappers.BudgetShareAction": {}}]


def test_seeds_are_apart_from_all_others():
    config = load_study(STUDIES[0])
    last = FIRST_SEED + 10_000 * 101
    assert FIRST_SEED > FIRST_SEED_OF_RULES
    assert last < SELECTION_SEED < TEST_SEED
    lanes = config.trial_run({}).load_hyperparameters().n_envs
    assert lanes < 10_000


def test_numbers_are_read_as_the_file_means_them(tmp_path):
    config = load_study(
        write(
            tmp_path,
            search={
                "gamma": {"low": 0.9, "high": 0.99},
                "learning_rate": {"choices": [0.001], "schedule": "lin"},
                "n_steps": {"low": 8, "high": 64, "log": True},
            },
        )
    )
    drawn = {"gamma": 0.912345, "learning_rate": "0.001", "n_steps": 13}
    assert config.hyperparams(drawn) == {"gamma": 0.912, "learning_rate": "lin_0.001", "n_steps": 13}


def test_the_same_study_draws_the_same_values(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "_train", lambda run, trial, first: 0.5)
    found = []
    for name in "ab":
        np.random.seed(len(found))  # noqa: NPY002
        torch.manual_seed(len(found))
        found.append([trial.params for trial in tune(load_study(write(tmp_path)), tmp_path / name)])
    assert found[0] == found[1]
