"""Chosen designs beside their measurements: what is chosen, what is read, and what a verdict says."""

import csv
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from baselines.layerwise import rivals
from coinfer_gym import InvalidInputError
from coinfer_gym.layerwise.network import load_network
from coinfer_gym.layerwise.predictor import load_regression_predictor
from coinfer_gym.layerwise.problem import LayerwiseDecision
from studies.mu import confirmed as figure
from tests.studies.made import make_and_read


def write(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def measured(folder, network="alexnet", losses=(0.0, 0.0), retained=0.98):
    """Two designs and their measurements, lower than predicted by losses after the short tuning."""
    designs, groups = folder / f"{network}-chosen-designs.csv", load_network(network).groups
    header = ["curve", "cut", *(f"retained_{group.name}" for group in groups), "compression", "criterion"]
    chosen = [["a", 0, *[1.0] * len(groups), 1.0, "l1"], ["b", 2, *[retained] * len(groups), 1.0, "geometric_median"]]
    write(designs, [header, *chosen])
    digest = hashlib.sha256(designs.read_bytes()).hexdigest()
    (folder / f"{network}-chosen.json").write_text(json.dumps({"designs": f"chosen, sha256 {digest}"}))
    predicted = []
    for row, name in zip(chosen, ("l1", "fpgm"), strict=True):
        problem = figure.problem_at(network, "rpi3b", 1e6)
        problem = replace(problem, predictor=load_regression_predictor(f"{network}-{name}"))
        predicted.append(problem.evaluate(LayerwiseDecision(row[1], tuple(row[2:-2]), 1.0, 0.2, 1e9)).accuracy)
    rows = [
        ["a", predicted[0] - losses[0]],
        ["b", predicted[1] - losses[1]],
        *zip(("a_long", "b_long"), predicted, strict=True),
    ]
    write(folder / f"{network}-chosen.csv", [["curve", "accuracy"], *rows])
    return predicted


def test_designs_are_predicted_accurate_and_stand_once(monkeypatch):
    monkeypatch.setattr(rivals, "EVALUATIONS", 15_000)
    monkeypatch.setattr(figure, "METHODS", ("Prune_Partition", "FPGM"))
    header, *rows = figure.choose_designs("regnet", devices=("tk1",))
    groups = [f"retained_{group.name}" for group in load_network("regnet").groups]
    assert header == ["curve", "chosen_by", "cut", *groups, "compression", "criterion", "predicted", "delay"]
    designs = [dict(zip(header, row, strict=True)) for row in rows]
    least = figure.problem_at("regnet", "tk1", figure.LINKS["4g"]).accuracy_min
    assert all(design["predicted"] >= least - 1e-12 for design in designs)
    assert len({tuple(row[2:-2]) for row in rows}) == len(rows)
    assert {design["criterion"] for design in designs if "FPGM" in design["chosen_by"]} <= {"geometric_median"}
    named = [name for design in designs for name in design["chosen_by"].split("; ")]
    assert "optimum, tk1" in named
    assert len(set(named)) == len(named)
    # The optimum is the fastest but for FPGM, which has a predictor of its own.
    for device in ("tk1",):
        delays = {name: design["delay"] for design in designs for name in design["chosen_by"].split("; ")}
        own = {name: delay for name, delay in delays.items() if device in name and "FPGM" not in name}
        assert min(own.values()) >= own[f"optimum, {device}"] * (1.0 - 2e-3)


def test_what_was_measured_is_read_and_judged(tmp_path):
    predicted = measured(tmp_path, losses=(0.01, 0.03))
    options = {"measurements": tmp_path, "networks": ("alexnet",)}
    summary, _ = make_and_read(figure.STUDIES[0], tmp_path / "out", **options)
    short = summary["measured"]["alexnet, short tuning"]
    assert short["mean"] == pytest.approx(-0.02)
    assert short["rms"] == pytest.approx(np.sqrt((0.01**2 + 0.03**2) / 2.0))
    least = figure.read(tmp_path, "alexnet").least
    reached = [predicted[0] - 0.01 >= least - figure.MARGIN, predicted[1] - 0.03 >= least - figure.MARGIN]
    assert short["reached"] == sum(reached)
    assert [held for name, held in summary["holds"].items() if "longer" in name] == [True]


def test_missing_and_other_measurements_give_one_clear_error(tmp_path):
    with pytest.raises(InvalidInputError, match=r"cifar\.sweep .*--designs"):
        figure.read(tmp_path, "alexnet")
    measured(tmp_path)
    results = (tmp_path / "alexnet-chosen.csv").read_bytes()
    write(tmp_path / "alexnet-chosen.csv", [["curve", "accuracy"], ["other", 0.8]])
    with pytest.raises(InvalidInputError, match=r"does not fit alexnet-chosen-designs\.csv"):
        figure.read(tmp_path, "alexnet")
    (tmp_path / "alexnet-chosen.csv").write_bytes(results)
    other = tmp_path / "other"
    other.mkdir()
    measured(other, retained=0.97)
    (tmp_path / "alexnet-chosen-designs.csv").write_bytes((other / "alexnet-chosen-designs.csv").read_bytes())
    with pytest.raises(InvalidInputError, match=r"does not fit alexnet-chosen-designs\.csv"):
        figure.read(tmp_path, "alexnet")
