"""What a sweep has shown, from synthetic folders whose numbers are known."""

import json

import numpy as np
import pytest
import scipy.stats
import yaml
from rliable.metrics import aggregate_iqm, probability_of_improvement

from agents.held_out import SELECTION_SEED
from baselines.journal import digest_files
from coinfer_gym import InvalidInputError
from coinfer_gym.files import csv_text, read_csv
from studies.agents.evidence import _efficiency_rows, bootstrap, improvement, main, read_sweep
from studies.agents.evidence_data import front
from studies.agents.sweep_config import BOUNDS, METRICS, list_runs, load_sweep

WORLDS = 8
LANES = 2
CONTENT = {
    "title": "synthetic",
    "env_kwargs": {"scenario": "bert-multimodal"},
    "seeds": 4,
    "evaluation": {"worlds": WORLDS, "seed": 3},
    "target": "planned",
    "references": {"myopic": {"policy": "myopic_exact"}, "planned": {"policy": "stochastic_dp"}},
    "common": {"eval_lanes": LANES, "n_timesteps": 1000},
    "entries": {"PPO": {"algo": "ppo"}, "SAC": {"algo": "sac"}},
}
LEVELS = {"myopic": 0.3, "planned": 0.4, BOUNDS[0]: 0.48, BOUNDS[1]: 0.5}
"""Of the references in the first world; each further world gives 0.01 more."""


def write(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(csv_text([header, *rows]), encoding="utf-8")
    note(path)


def note(path):
    """Write what a sweep notes beside its tables."""
    path.with_suffix(".json").write_text(json.dumps({"key": "", "table": digest_files([str(path)])}), encoding="utf-8")


def make_sweep(folder, scores=None, content=CONTENT, violated=None):
    """A folder as a sweep leaves it; `scores` by label, of shape (runs, worlds), and `violated` a number each."""
    folder.mkdir()
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    config = load_sweep(folder / "sweep.yaml")
    scores = default_scores() if scores is None else scores
    rows = []
    for label, level in LEVELS.items():
        missed = ("", "") if label in BOUNDS else (0.0, 0.0)
        rows += [(label, world, level + 0.01 * k, *missed) for k, world in enumerate(config.frozen)]
        rows += [(label, SELECTION_SEED + k, level, *missed) for k in range(LANES)]
    write(folder / "reference.csv", ("policy", "world", *METRICS), rows)
    place = dict.fromkeys(scores, 0)
    for run in list_runs(config, folder):
        k = place[run.label]
        place[run.label] += 1
        if k >= len(scores[run.label]):
            continue
        own = run.config.folder
        earned = scores[run.label][k]
        share = (violated or {}).get(run.label, 0.02)
        rows = [(world, value, share, 0.01) for world, value in zip(config.frozen, earned, strict=True)]
        write(own / "evaluation.csv", ("world", *METRICS), rows)
        rows = [(0, 0.1), (400, 0.37), (600, 0.385), (1000, 0.4 if k else 0.39)]
        write(own / "evaluations.csv", ("timesteps", "delivered"), rows)
        (own / "results.json").write_text(json.dumps({"seconds": 50.0}), encoding="utf-8")
    return folder


def default_scores():
    """PPO earns 0.02 more than the planned policy, its worst run 0.02 less; SAC draws."""
    planned = LEVELS["planned"] + 0.01 * np.arange(WORLDS)
    return {
        "PPO": planned + np.array([0.02, 0.02, 0.02, -0.02])[:, None],
        "SAC": np.random.default_rng(0).uniform(0.3, 0.45, (4, WORLDS)),
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    base = tmp_path_factory.mktemp("evidence")
    folder = make_sweep(base / "sweep")
    assert main([str(folder), "--out", str(base / "out")]) == 0
    return base / "out"


def test_writes_all(results):
    tables = {f"{name}.csv" for name in ("scores", "summary", "differences", "improvement", "efficiency", "curves")}
    names = ("learning_curves", "iqm", "profiles", "front")
    pictures = {f"{name}.png" for name in names}
    assert {path.name for path in results.iterdir()} == tables | pictures | {"summary.json", ".lock"}
    assert all((results / name).stat().st_size > 3000 for name in pictures)
    content = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    assert content["missing"] == []
    assert content["clairvoyant"] == pytest.approx({"lower": 0.515, "upper": 0.535})
    assert len(read_csv(results / "improvement.csv")) == 2 * 3


def test_scores_of_runs(results):
    rows = [row for row in read_csv(results / "scores.csv") if row["algorithm"] == "PPO"]
    assert [int(row["seed"]) for row in rows] == [10_000, 20_000, 30_000, 40_000]
    assert float(rows[0]["delivered"]) == pytest.approx(0.455)
    assert float(rows[3]["delivered"]) == pytest.approx(0.415)
    assert float(rows[0]["share_of_target"]) == pytest.approx(0.455 / 0.435, rel=1e-5)
    assert float(rows[0]["share_of_clairvoyant"]) == pytest.approx(0.455 / 0.535, rel=1e-5)
    assert {float(row["violated"]) for row in rows} == {0.02}


def test_interquartile_mean_of_a_known_matrix(results):
    scores = default_scores()
    rows = {row["algorithm"]: row for row in read_csv(results / "summary.csv")}
    for label in scores:
        ordered = np.sort(scores[label], axis=None)
        quarter = ordered.size // 4
        assert float(rows[label]["iqm"]) == pytest.approx(ordered[quarter:-quarter].mean(), rel=1e-5)
        assert float(rows[label]["iqm_low"]) <= float(rows[label]["iqm"]) <= float(rows[label]["iqm_high"])
        assert float(rows[label]["mean_low"]) < float(rows[label]["mean"]) < float(rows[label]["mean_high"])
    assert float(rows["planned"]["iqm"]) == pytest.approx(0.435)
    assert [rows[label]["runs"] for label in ("PPO", "SAC", "planned", "myopic")] == ["4", "4", "0", "0"]


def test_differences_are_paired(results):
    rows = {(row["algorithm"], row["reference"]): row for row in read_csv(results / "differences.csv")}
    row = {name: float(value) for name, value in list(rows["PPO", "planned"].items())[2:]}
    assert row["difference"] == pytest.approx(0.01)
    assert row["low_worlds"] == row["high_worlds"] == pytest.approx(0.01)  # all worlds alike
    assert row["low"] == pytest.approx(-0.01)  # two of four runs drawn are the bad one
    assert row["high"] == pytest.approx(0.02)
    assert float(rows["PPO", "myopic"]["difference"]) == pytest.approx(0.11)


def test_probability_of_improvement(results):
    rows = {
        (row["algorithm"], row["other"]): float(row["probability"]) for row in read_csv(results / "improvement.csv")
    }
    assert rows["PPO", "planned"] == 0.75
    assert rows["PPO", "SAC"] + rows["SAC", "PPO"] == pytest.approx(1.0)


def test_efficiency_counts_runs_that_never_get_there(results):
    rows = {(row["algorithm"], float(row["share_of_target"])): row for row in read_csv(results / "efficiency.csv")}
    first, second, third = (rows["PPO", share] for share in (0.9, 0.95, 0.99))
    assert (float(first["decisions"]), float(first["seconds"])) == (400.0, 20.0)
    assert (float(second["decisions"]), float(second["seconds"])) == (600.0, 30.0)
    assert (int(third["reached"]), int(third["runs"])) == (3, 4)
    assert float(third["decisions"]) == 1000.0


def test_curves_are_those_of_the_evaluations(results):
    """Of four runs one ends at 0.39, and three at 0.4; the target has 0.4 in these worlds, the clairvoyant 0.5."""
    rows = {(row["algorithm"], int(row["timesteps"])): row for row in read_csv(results / "curves.csv")}
    assert len(rows) == 2 * 4
    assert [steps for label, steps in rows if label == "PPO"] == [0, 400, 600, 1000]
    end = {name: float(value) for name, value in list(rows["PPO", 1000].items())[2:]}
    shares = {"regret": 0.0, "share_of_clairvoyant": 0.8}
    assert end == pytest.approx({"q25": 0.3975, "median": 0.4, "q75": 0.4} | shares)
    middle = rows["SAC", 600]
    assert {float(middle[name]) for name in ("q25", "median", "q75")} == {0.385}
    assert float(middle["regret"]) == pytest.approx(0.4 - 0.385)
    assert float(middle["share_of_clairvoyant"]) == pytest.approx(0.385 / 0.5)


def test_front_of_known_points():
    quality = np.array([0.8, 0.7, 0.7, 0.8, 0.5, 0.9])
    violated = np.array([0.02, 0.01, 0.02, 0.02, 0.0, 0.3])
    assert front(quality, violated).tolist() == [True, True, False, True, True, True]  # the third one loses to two
    assert front(-quality, violated).tolist() == [False, False, False, False, True, False]
    assert front(quality, np.zeros(6)).tolist() == [False] * 5 + [True]


def test_intervals_of_the_front_are_over_runs(results):
    """At the lower end three of four runs drawn are the bad one; worlds, which differ, are the same for all."""
    row = next(row for row in read_csv(results / "summary.csv") if row["algorithm"] == "PPO")
    assert float(row["mean_low_runs"]) == pytest.approx(0.425)
    assert float(row["mean_high_runs"]) == pytest.approx(0.455)
    assert float(row["mean_low"]) < float(row["mean_low_runs"])
    assert row["violated"] == row["violated_low"] == row["violated_high"]


def test_measures_are_those_of_rliable():
    generator = np.random.default_rng(1)
    scores, other = generator.uniform(size=(5, 7)), generator.uniform(size=(3, 7)).round(1)
    other[:, 2] = scores[:3, 2]
    assert bootstrap(scores, aggregate_iqm, "runs")[0] == scipy.stats.trim_mean(scores, 0.25, axis=None)
    expected = probability_of_improvement(scores, other)
    value, low, high = improvement(scores, other)
    assert value == pytest.approx(expected)
    assert low < value < high


def test_runs_are_drawn_whole():
    """One bad run of two: a quarter of the resamples hold it twice; stratified draws average that away."""
    scores = np.repeat([[0.0], [1.0]], 400, axis=1)
    assert bootstrap(scores, np.mean, "runs")[1:] == (0.0, 1.0)
    _, low, high = bootstrap(scores, np.mean, "stratified")
    assert 0.45 < low < 0.5 < high < 0.55
    assert bootstrap(scores, np.mean, "stratified")[1:] == (low, high)


def test_worlds_are_drawn_where_asked():
    scores = np.arange(8.0)[None]
    assert bootstrap(scores, np.mean, "runs") == (3.5, 3.5, 3.5)
    _, low, high = bootstrap(scores, np.mean, "runs and worlds")
    assert 1.0 < low < 2.5 < 4.5 < high < 6.0


def test_the_front_has_no_references(tmp_path):
    """PPO earns more than SAC; references, which miss nothing, are not part of it."""
    folder = make_sweep(tmp_path / "sweep", violated={"PPO": 0.9, "SAC": 0.001})
    assert read_sweep(folder).front == ["PPO", "SAC"]
    assert read_sweep(make_sweep(tmp_path / "other", violated={"PPO": 0.0, "SAC": 0.0})).front == ["PPO"]


def test_runs_that_are_not_finished_or_never_reach_a_share(tmp_path):
    scores = default_scores()
    folder = make_sweep(tmp_path / "sweep", scores | {"PPO": scores["PPO"][:0], "SAC": scores["SAC"][:3]})
    for path in folder.glob("SAC/*/evaluations.csv"):
        write(path, ("timesteps", "delivered"), [(0, 0.1), (1000, 0.37)])
    evidence = read_sweep(folder)
    assert len(evidence.missing) == 5
    assert list(evidence.agents) == ["SAC"]
    rows = {row[1]: row[2:5] for row in _efficiency_rows(evidence)[1:]}
    assert rows[0.95] == (3, 0, "")
    assert rows[0.9][1] == 3


def spoil_reference(folder):
    path = folder / "reference.csv"
    path.write_text(path.read_text(encoding="utf-8")[:200].rsplit("\n", 1)[0], encoding="utf-8")
    note(path)


def spoil_digit(folder):
    path = next(folder.glob("PPO/*/evaluation.csv"))
    path.write_text(path.read_text(encoding="utf-8").replace("0.02", "0.03"), encoding="utf-8")


def spoil_number(folder):
    path = folder / "reference.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("0.0,0.0", "-5,NaN"), encoding="utf-8")
    note(path)


def spoil_digit_of_reference(folder):
    path = folder / "reference.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("0.41", "0.42", 1), encoding="utf-8")


def spoil_column(folder):
    path = next(folder.glob("PPO/*/evaluations.csv"))
    path.write_text(path.read_text(encoding="utf-8").replace("delivered", "deliver"), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "hint"),
    [
        (spoil_reference, r"reference\.csv.*has not played all worlds"),
        (spoil_number, r"reference\.csv: violated: got '-5'.*must be a number"),
        (spoil_digit, r"evaluation\.csv.*was changed"),
        (spoil_digit_of_reference, r"reference\.csv.*was changed"),
        (spoil_column, r"evaluations\.csv.*no column 'delivered'"),
    ],
)
def test_bad_folders_give_one_error(tmp_path, spoil, hint, capsys):
    folder = make_sweep(tmp_path / "sweep")
    spoil(folder)
    with pytest.raises(InvalidInputError, match=hint):
        read_sweep(folder)
    assert main([str(folder), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
