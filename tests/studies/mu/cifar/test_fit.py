"""Fitted accuracy predictors: what is exported predicts what scikit-learn does, and the files hold what was fitted."""

import csv
import json
import math

import numpy as np
import pytest

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.layerwise.network import load_network
from coinfer_gym.layerwise.predictor import RegressionPredictor, load_regression_predictor

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("sklearn")

from sklearn.ensemble import AdaBoostRegressor, BaggingRegressor, GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

from coinfer_gym.models import regress
from studies.mu.cifar import teacher
from studies.mu.cifar.fit import MAX_BYTES, additive, main, make_predictor, read_measurements
from studies.mu.cifar.teacher import DistilledTrees

NETWORK = load_network("alexnet")
GROUPS, CUTS = tuple(group.name for group in NETWORK.groups), NETWORK.cuts
REGRESSORS = (*regress.DEFAULTS, "DistilledTrees")


def measured(count=60, noisy=False):
    """Rows as `cifar.sweep` writes them, of an accuracy that is a product of what each layer leaves."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        cut = 1 + int(rng.integers(CUTS - 2)) if noisy else int(rng.integers(CUTS))
        retained = np.round(rng.uniform(0.1, 1.0, len(GROUPS)), 4)
        compression = round(float(rng.uniform(0.05, 1.0)), 4)
        area = int(NETWORK.tables.cuts["area"][cut])
        kept = NETWORK.upload_values(retained)[cut] / max(area, 1)
        inner = 0 < cut < CUTS - 1
        values = area * max(1, math.floor(compression * kept + 0.5)) if inner else area
        snr_db = round(float(rng.uniform(0, 50)), 2)
        accuracy = 0.86 * np.prod(1 - 0.2 * (1 - retained) ** 3) * (1 - 0.2 * math.exp(-values / 8) * (values > 0))
        row = {"design": number, "cut": cut, **{f"retained_{g}": r for g, r in zip(GROUPS, retained, strict=True)}}
        row |= {"compression": compression, "sent_channels": values, "sent_values": values}
        row |= {"snr_db": snr_db if noisy else "", "accuracy": round(float(accuracy), 6), "seconds": 1.0}
        rows.append(row)
    return rows


def write(path, rows, description=None):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    path.with_suffix(".json").write_text(json.dumps(description or {"network": "alexnet", "accuracy": 0.87}))
    return path


@pytest.fixture(scope="module", autouse=True)
def one_shuffle():
    """Cross-validation is done once, with few lessons: its means are tested with `regress`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regress, "REPEATS", 1)
        patch.setattr(teacher, "LESSONS", 300)
        yield


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(4)
    X = np.column_stack([rng.random((200, 5)), rng.integers(12, size=200), np.log2(rng.integers(1, 4096, 200))])
    return X, 0.8 * np.prod(1 - 0.3 * (1 - X[:, :5]) ** 2, axis=1) + 0.01 * rng.normal(size=200)


@pytest.mark.parametrize(
    "regressor",
    [
        GradientBoostingRegressor(n_estimators=40, learning_rate=0.3, max_depth=4, subsample=0.5, random_state=0),
        BaggingRegressor(max_features=0.5, random_state=0),
        RandomForestRegressor(n_estimators=10, random_state=0),
        DecisionTreeRegressor(random_state=0),
        LinearRegression(),
    ],
    ids=str,
)
def test_export_predicts_what_scikit_learn_predicts(regressor, data):
    X, y = data
    regressor.fit(X, y)
    names = tuple(map(str, range(X.shape[1])))
    made = RegressionPredictor("a", "alexnet", 0.9, names, "any", {}, *additive(regressor))
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.random((4000, 5)), rng.integers(12, size=4000), rng.uniform(0, 12, 4000)])
    # At the tests' own numbers, next to them, and at what float32 rounds to them.
    numbers = made.numbers[made.tests >= 0]
    if len(numbers):
        at = rng.choice(numbers, (3000, X.shape[1]))
        float32 = at[:1000].astype(np.float32).astype(float)
        rows = np.concatenate([rows, at, np.nextafter(at, np.inf), np.nextafter(at, -np.inf), float32])
    want = np.clip(regressor.predict(rows), 0.0, 1.0)
    np.testing.assert_allclose(made.predict(rows), want, rtol=0, atol=1e-12)


def test_adaboost_cannot_be_shipped(data):
    regressor = AdaBoostRegressor(n_estimators=3, random_state=0).fit(*data)
    with pytest.raises(InvalidInputError, match="not a sum of trees and cannot be shipped"):
        additive(regressor)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    path = write(folder / "alexnet-designs.csv", measured())
    assert main([str(path), "--output", str(folder / "alexnet.json"), "--seed", "3"]) == 0
    return path, folder / "alexnet.json"


def test_the_best_that_can_be_shipped_is_written(fitted):
    path, output = fitted
    made = load_regression_predictor(output, GROUPS)
    with path.with_name("alexnet-designs-regressors.csv").open(newline="") as file:
        scores = list(csv.DictReader(file))
    assert [(row["scored"], row["regressor"]) for row in scores] == [
        (how, name) for how in ("cross_validation", "in_sample") for name in REGRESSORS
    ]
    ranked = sorted(scores[: len(REGRESSORS)], key=lambda row: -float(row["adjusted_r2"]))
    best = next(row for row in ranked if row["regressor"] == made.regressor)
    before = [row["regressor"] for row in ranked[: ranked.index(best)]]
    assert set(before) <= {"AdaBoost", "RandomForest"}
    assert all(name in made.description for name in before)
    assert made.scores["adjusted_r2"] == float(best["adjusted_r2"])
    assert (made.name, made.network, made.unpruned, made.noisy) == ("alexnet", "alexnet", 0.87, False)
    assert output.stat().st_size <= MAX_BYTES
    assert "--seed 3" in made.made_by
    in_sample = {row["regressor"]: float(row["mse"]) for row in scores[len(REGRESSORS) :]}
    assert in_sample["DecisionTree"] < 1e-20


def test_trees_learn_from_a_smooth_teacher_what_few_designs_show(tmp_path, monkeypatch):
    monkeypatch.setattr(teacher, "LESSONS", 3000)
    given = read_measurements(write(tmp_path / "few.csv", measured(80)))
    other = read_measurements(write(tmp_path / "other.csv", measured(400)))
    X, y = other.features[80:], other.accuracy[80:]
    errors = {}
    for name, regressor in (("alone", regress.DEFAULTS["GradientBoosting"](0)), ("taught", DistilledTrees("alexnet"))):
        errors[name] = np.mean((regressor.fit(given.features, given.accuracy).predict(X) - y) ** 2)
    assert errors["taught"] < 0.7 * errors["alone"]
    for group in range(len(GROUPS)):  # more kept, all else the same, is never predicted worse
        more = X.copy()
        more[:, group] = np.minimum(1.0, more[:, group] + 0.2)
        assert (regressor.predict(more) >= regressor.predict(X) - 1e-12).all()


def test_noise_is_a_feature_where_it_was_measured(tmp_path):
    rows = measured(5, noisy=True)
    given = read_measurements(write(tmp_path / "noise.csv", rows))
    assert given.names[-1] == "snr_db"
    assert given.features[:, -1].tolist() == [row["snr_db"] for row in rows]
    assert given.features[:, len(GROUPS)].tolist() == [row["cut"] for row in rows]


def test_features_are_those_of_the_network_that_was_built(tmp_path):
    rows = measured(6)
    given = read_measurements(write(tmp_path / "a.csv", rows))
    for row in rows:  # other ratios of the same channels
        for group in NETWORK.groups:
            ratio = row[f"retained_{group.name}"]
            row[f"retained_{group.name}"] = math.floor(ratio * group.channels + 0.5) / group.channels
    again = read_measurements(write(tmp_path / "b.csv", rows))
    assert (given.features == again.features).all()


def test_a_network_does_not_give_itself_away(tmp_path):
    """Accuracies at random, each network measured four times: only one that has seen it can tell its accuracy."""
    rows, accuracies = [], np.random.default_rng(1).uniform(0.5, 0.8, 15)
    for row, accuracy in zip(measured(15), accuracies, strict=True):
        row |= {"compression": 1.0, "cut": CUTS - 1, "sent_values": 0, "accuracy": accuracy}
        rows += [row] * 4
    given = read_measurements(write(tmp_path / "again.csv", rows))
    assert len(set(given.designs)) == 15
    scores = {row["regressor"]: row["mse"] for row in make_predictor(given, "again")[1] if row["scored"] != "in_sample"}
    assert min(scores.values()) > 0.5 * np.var(accuracies)


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (lambda row: row.update(accuracy="much"), r"rows\[1\]: accuracy: got 'much'"),
        (lambda row: row.update(accuracy="86"), "shares, not per cent"),
        (lambda row: row.update(retained_fc1="0"), r"rows\[1\]: retained_fc1: got '0'"),
        (lambda row: row.update(sent_values="-3"), r"rows\[1\]: sent_values"),
        (lambda row: row.update(sent_values="1e6"), r"rows\[1\]: sent_values.*same network"),
        (lambda row: row.update(snr_db="20"), r"rows\[0\]: snr_db"),
    ],
)
def test_rows_that_cannot_be_used(tmp_path, change, remedy):
    rows = measured(4)
    change(rows[1])
    with pytest.raises(InvalidInputError, match=remedy):
        read_measurements(write(tmp_path / "m.csv", rows))


def test_files_that_cannot_be_used(tmp_path, capsys):
    path = write(tmp_path / "m.csv", measured(4))
    with pytest.raises(InvalidInputError, match="10 folds"):
        make_predictor(read_measurements(path), "m")
    assert main([str(path), "--output", str(tmp_path / "m.yaml")]) == 2
    assert "ends in .json" in capsys.readouterr().err
    for description in ({"network": "alexnet"}, {"network": "alexnet", "accuracy": 87}):
        with pytest.raises(InvalidInputError, match="accuracy"):
            read_measurements(write(path, measured(4), description))
    path.with_suffix(".json").write_text("{")
    with pytest.raises(InvalidInputError, match="damaged"):
        read_measurements(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(InvalidInputError, match=r"m\.json.*no such file"):
        read_measurements(path)
    plain = [{key: value for key, value in row.items() if not key.startswith("retained_")} for row in measured(4)]
    with pytest.raises(InvalidInputError, match="Add the column 'retained_conv1'"):
        read_measurements(write(path, plain))
