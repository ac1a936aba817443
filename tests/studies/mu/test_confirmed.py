"""Chosen designs beside their measurements: what is chosen, what is read, and what a verdict says."""

import csv
import hashlib
import json

import numpy as np
import pytest

from baselines.layerwise import rivals
from coinfer_gym import InvalidInputError
from coinfer_gym.layerwise.network import load_network
from studies.mu import confirmed as figure
from tests.studies.made import make_and_read


def write(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def measured(folder, network="alexnet", losses=(0.0, 0.0)):
    """Two designs, predicted 0.82 and 0.83, and their measurements, lower by losses after the short tuning."""
    designs = folder / f"{network}-chosen-designs.csv"
    write(designs, [["curve", "predicted"], ["a", 0.82], ["b", 0.83]])
    digest = hashlib.sha256(designs.read_bytes()).hexdigest()
    (folder / f"{network}-chosen.json").write_text(json.dumps({"designs": f"chosen, sha256 {digest}"}))
    rows = [["a", 0.82 - losses[0]], ["b", 0.83 - losses[1]], ["a_long", 0.82], ["b_long", 0.83]]
    write(folder / f"{network}-chosen.csv", [["curve", "accuracy"], *rows])


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
    measured(tmp_path, losses=(0.01, 0.03))
    options = {"measurements": tmp_path, "networks": ("alexnet",)}
    summary, _ = make_and_read(figure.STUDIES[0], tmp_path / "out", **options)
    short = summary["measured"]["alexnet, short tuning"]
    assert short["mean"] == pytest.approx(-0.02)
    assert short["rms"] == pytest.approx(np.sqrt((0.01**2 + 0.03**2) / 2.0))
    least = figure.read(tmp_path, "alexnet").least
    assert short["reached"] == sum(value >= least - figure.MARGIN for value in (0.81, 0.80))
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
    write(tmp_path / "alexnet-chosen-designs.csv", [["curve", "predicted"], ["a", 0.81], ["b", 0.83]])
    with pytest.raises(InvalidInputError, match=r"does not fit alexnet-chosen-designs\.csv"):
        figure.read(tmp_path, "alexnet")
