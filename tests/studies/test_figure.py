"""The frame of the figures, their catalogue and command, and labels that cover nothing."""

import importlib
import math
import re
from pathlib import Path

import numpy as np
import pytest

from coinfer_gym import InvalidInputError
from studies import __main__ as command
from studies import figure
from studies.catalogue import CATALOGUE
from studies.drawing import panels, place_labels
from studies.figure import Study
from tests.studies.made import make_and_read

ROOT = Path(__file__).resolve().parents[2]


def doubled(values=(1.0, 2.0), factor=2.0):
    return [factor * value for value in values]


def draw(data):
    picture, axes = panels("Some", (2.0, 2.0))
    axes[0, 0].plot(data)
    return {"": picture, "_again": picture}


SOME = Study(
    "cuts",
    doubled,
    lambda data: [["value"], *([value] for value in data)],
    lambda data: {"holds": {"a": True, "b": len(data) > 2}, "worst": math.inf, "settings": {"count": len(data)}},
    draw,
)


def test_frame_writes_table_verdict_and_pictures(tmp_path):
    summary, rows = make_and_read(SOME, tmp_path / "new", ("", "_again"), factor=3.0)
    assert [row["value"] for row in rows] == ["3", "6"]
    assert summary["holds"] == {"a": True, "b": False}
    assert summary["worst"] is None  # strict JSON has no infinity
    assert (summary["claims"], summary["settings"]) == (["L10"], {"count": 2})
    assert summary["options"] == {"values": [1.0, 2.0], "factor": 3.0}
    assert "python" in summary["versions"]


def test_catalogue_lists_every_figure_and_every_claim(capsys):
    pytest.importorskip("torch")
    for name in CATALOGUE:
        assert command.find(name).name == name
    assert command.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(CATALOGUE)
    table = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    claims = re.findall(r"^\| ([LM]\d+) \|", table, flags=re.MULTILINE)
    assert {claim for entry in CATALOGUE.values() for claim in entry.claims} == set(claims)
    assert {name for name in CATALOGUE if not (figure.PUBLISHED / f"{name}.json").is_file()} == set()


def test_command_makes_figures_and_skips_those_without_data(tmp_path, monkeypatch, capsys):
    def find(name):
        if CATALOGUE[name].needs_data:
            raise InvalidInputError("model", "some", "pip install some")
        return SOME._replace(name=name, draw=lambda data: {})

    monkeypatch.setattr(command, "find", find)
    assert command.main(["--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "load: a: holds\nload: b: does not hold\n" in printed
    assert "weights: skipped: model: got 'some'. pip install some\n" in printed
    assert (tmp_path / "load.json").is_file()
    assert not (tmp_path / "weights.json").exists()
    assert command.main(["weights", "--out", str(tmp_path)]) == 2
    assert "studies: model: got 'some'" in capsys.readouterr().err


def test_command_refuses_unknown_figures_and_missing_packages(tmp_path, monkeypatch, capsys):
    assert command.main(["regimen"]) == 2
    assert "Did you mean 'regimes'" in capsys.readouterr().err

    def no_torch(name):
        raise ImportError("needs torch")

    monkeypatch.setattr(importlib, "import_module", no_torch)
    assert command.main(["weights", "--out", str(tmp_path)]) == 2
    assert "needs torch" in capsys.readouterr().err


def test_labels_cover_nothing():
    generator = np.random.default_rng(3)
    dots = np.array([300.0, 200.0]) + generator.uniform(-60.0, 60.0, (20, 2))
    sizes = np.stack([generator.uniform(30.0, 110.0, 20), np.full(20, 10.0)], axis=1)
    frame = np.array([0.0, 0.0, 600.0, 400.0])
    obstacles = np.hstack([dots - 2.0, dots + 2.0])
    middles = dots + place_labels(dots, sizes, obstacles, frame)
    boxes = np.hstack([middles - 0.5 * sizes, middles + 0.5 * sizes])
    assert (boxes[:, :2] >= 0.0).all()
    assert (boxes[:, 2:] <= frame[2:]).all()
    everything = np.vstack([boxes, obstacles])
    for i, box in enumerate(boxes):
        others = np.delete(everything, i, axis=0)
        apart = (others[:, :2] >= box[2:]) | (others[:, 2:] <= box[:2])
        assert apart.any(axis=1).all()
