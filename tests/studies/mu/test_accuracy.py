"""Table IV and the single-layer curves of Mu et al.: small made-up measurements, verdicts, and what is missing."""

import csv
import json

import numpy as np
import pytest

from coinfer_gym import InvalidInputError
from studies.mu import accuracy as figure
from tests.studies.made import failures, make_and_read

GROUPS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc1", "fc2")
UNPRUNED = 0.85


def write_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def design(**changes):
    row = {"design": 0, "cut": 11} | {f"retained_{name}": 1.0 for name in GROUPS}
    return row | {"compression": 1.0, "sent_channels": 0, "sent_values": 0, "snr_db": "", "seconds": 1.0} | changes


@pytest.fixture
def measurements(tmp_path):
    folder = tmp_path / "measurements"
    folder.mkdir()
    generator = np.random.default_rng(0)
    rows = []
    for number in range(40):
        ratio = round(float(generator.uniform(0.1, 1.0)), 4)
        rows.append(design(design=number, retained_conv2=ratio, accuracy=round(UNPRUNED - 0.05 * (1 - ratio) ** 2, 6)))
    write_csv(folder / "alexnet-l1.csv", rows)
    about = json.dumps({"network": "alexnet", "accuracy": UNPRUNED})
    (folder / "alexnet-l1.json").write_text(about)
    scores = [
        {"scored": scored, "regressor": name, "mse": 1e-4, "adjusted_r2": r2, "aic": -100 * r2, "bic": -90 * r2}
        for scored in figure.SCORED
        for name, (_, r2, *_) in figure.TABLE_IV.items()
    ]
    write_csv(folder / "alexnet-l1-regressors.csv", scores)
    layers = []
    for tuning, extra in (("", 0.02), ("_long", 0.0)):
        for share, loss in figure.POINTS["conv2"]:
            layers.append(
                design(curve=f"conv2{tuning}", retained_conv2=share, accuracy=round(UNPRUNED - loss - extra, 6))
            )
        for share, loss in figure.POINTS["fc1"]:
            layers.append(design(curve=f"fc1{tuning}", compression=share, accuracy=round(UNPRUNED - loss - extra, 6)))
    write_csv(folder / "alexnet-layers.csv", layers)
    (folder / "alexnet-layers.json").write_text(about)
    return folder


def test_what_is_measured_is_judged(measurements, tmp_path):
    options = {"measurements": measurements, "networks": ("alexnet",)}
    summary, _ = make_and_read(figure.STUDIES[0], tmp_path / "out", **options)
    assert failures(summary) == []
    losses = summary["measured"]["losses"]["conv2 74% pruned"]
    assert losses == pytest.approx({"short tuning": 0.04, "longer tuning": 0.02, "paper": 0.02})
    data = figure.compute(**options)
    data.curves["fc1_long"] = data.curves["fc1_long"]._replace(loss=data.curves["fc1_long"].loss + 0.02)
    assert failures(figure.verdict(data)) == [
        "M1: fc1's feature to 6.5% costs no more than 2 points",
        "M1: fc1's feature to 0.2% costs no more than 7 points",
    ]


@pytest.mark.parametrize(
    ("name", "command"), [("alexnet-l1-regressors.csv", r"cifar\.fit"), ("alexnet-layers.csv", r"sweep .*--layers")]
)
def test_missing_measurements_name_their_command(measurements, name, command):
    (measurements / name).unlink()
    with pytest.raises(InvalidInputError, match=command):
        figure.compute(measurements, ("alexnet",))


@pytest.mark.parametrize("name", ["alexnet-l1-regressors.csv", "alexnet-layers.csv"])
def test_damaged_measurements(measurements, name):
    text = (measurements / name).read_text(encoding="utf-8")
    (measurements / name).write_text(text.replace("fc1", "fc9").replace("Linear", "Lin"), encoding="utf-8")
    with pytest.raises(InvalidInputError):
        figure.compute(measurements, ("alexnet",))
