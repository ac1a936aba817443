"""The sweep: what it draws, what it writes, and that it goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coinfer_gym.errors import InvalidInputError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import save_file  # noqa: E402

from coinfer_gym.files import read_csv  # noqa: E402
from coinfer_gym.layerwise.network import load_network  # noqa: E402
from studies.mu.cifar.networks import GROUPS, make_network  # noqa: E402
from studies.mu.cifar.sweep import LONGER, draw_design, layer_designs, main, uniform_designs  # noqa: E402
from tests.studies.made import write_cifar  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network, and a few images of noise."""
    path = tmp_path_factory.mktemp("sweep")
    weights = {name: value.contiguous() for name, value in make_network("alexnet").state_dict().items()}
    save_file(weights, path / "model.safetensors")
    (path / "training.json").write_text(json.dumps({"network": "alexnet"}))
    generator = np.random.default_rng(1)
    for name, count in (("cifar10_train.npz", 12), ("cifar10_eval.npz", 8)):
        write_cifar(path / name, generator.integers(256, size=(count, 32, 32, 3), dtype=np.uint8))
    return path


def run(folder: Path, output: Path, *more: str) -> int:
    quick = ["--prune-updates", "1", "--codec-updates", "1", "--batch", "4"]
    return main(["--weights", str(folder), "--data", str(folder), "--output", str(output), *quick, *more])


def without_seconds(path: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_csv(path)]


def test_resumed_sweep_is_that_of_one_go(folder: Path, tmp_path: Path) -> None:
    assert run(folder, tmp_path / "whole.csv", "--count", "4") == 0
    assert run(folder, tmp_path / "parts.csv", "--count", "2") == 0
    first = read_csv(tmp_path / "parts.csv")
    assert run(folder, tmp_path / "parts.csv", "--count", "4") == 0
    assert read_csv(tmp_path / "parts.csv")[:2] == first  # with its seconds: nothing was measured again
    rows = without_seconds(tmp_path / "parts.csv")
    assert rows == without_seconds(tmp_path / "whole.csv")
    assert [row["design"] for row in rows] == list("0123")
    groups = [f"retained_{group.name}" for group in GROUPS["alexnet"]]
    last = ["compression", "sent_channels", "sent_values", "snr_db", "accuracy"]
    assert list(rows[0]) == ["design", "cut", *groups, *last]
    about = json.loads((tmp_path / "parts.json").read_text())
    assert about["rows"] == 4
    assert len(about["commands"]) == 2


def test_other_settings_and_damage_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "some.csv"
    assert run(folder, output, "--count", "1", "--noise") == 0
    assert 0.0 <= float(read_csv(output)[0]["snr_db"]) <= 50.0
    for options, word in (
        (["--noise", "--seed", "1"], "seed"),
        ([], "designs"),
        (["--noise", "--prune-rate", "0.5"], "tuning"),
    ):
        assert run(folder, output, "--count", "1", *options) == 2
        assert word in capsys.readouterr().err
    content = output.read_text()
    header, row = content.splitlines()
    cut = row.split(",")[1]
    for damaged in (
        f"{header}\n{row[: len(row) // 2]}\n",
        f"{header}\n{row.replace(f'0,{cut},', '0,99,', 1)}\n",
        f"{content}{row}\n",
        "accuracy\n0.5\n",
    ):
        output.write_text(damaged)
        assert run(folder, output, "--count", "1", "--noise") == 2
        assert "damaged" in capsys.readouterr().err
    output.write_text(content)
    (tmp_path / "some.json").write_text("{")
    assert run(folder, output, "--count", "1", "--noise") == 2
    assert "damaged" in capsys.readouterr().err
    (tmp_path / "some.json").unlink()
    assert run(folder, output, "--count", "1", "--noise") == 2
    assert "some.json" in capsys.readouterr().err


def test_chosen_designs_are_measured_with_two_tunings(folder: Path, tmp_path: Path, capsys) -> None:
    groups = [f"retained_{group.name}" for group in GROUPS["alexnet"]]
    chosen = tmp_path / "chosen.csv"
    values = ["Proposed", "2", *["0.5"] * len(groups), "0.25", "geometric_median", "7.5"]
    chosen.write_text(
        ",".join(["curve", "cut", *groups, "compression", "criterion", "delay"]) + "\n" + ",".join(values)
    )
    assert run(folder, tmp_path / "confirmed.csv", "--designs", str(chosen)) == 0
    rows = read_csv(tmp_path / "confirmed.csv")
    assert [row["curve"] for row in rows] == ["Proposed", "Proposed_long"]
    assert {(row["cut"], row["retained_fc1"], row["sent_channels"]) for row in rows} == {("2", "0.5", "8")}
    assert "sha256" in json.loads((tmp_path / "confirmed.json").read_text())["designs"]
    chosen.write_text("curve,cut\nProposed,2\n")
    for path, word in ((chosen, "no designs of alexnet"), (tmp_path / "none.csv", "no such file")):
        assert run(folder, tmp_path / "other.csv", "--designs", str(path)) == 2
        assert word in capsys.readouterr().err


def test_draws_have_the_shares_that_they_promise() -> None:
    network = load_network("regnet")
    designs = [draw_design(network, number, seed=3) for number in range(1500)]
    ratios = np.array([design.retained for design in designs])
    assert ratios.shape == (1500, 4)
    assert ratios.min() >= 0.1
    assert (ratios == 1.0).mean() == pytest.approx(0.3, abs=0.02)
    cuts = np.bincount([design.cut for design in designs], minlength=26)
    assert len(cuts) == 26
    assert cuts.min() > 25
    assert all(design.compression == 1.0 for design in designs if design.cut in (0, 25))
    inner = [design.compression for design in designs if 0 < design.cut < 25]
    assert np.mean(np.array(inner) == 1.0) == pytest.approx(0.3, abs=0.04)
    assert min(inner) >= 1 / 400
    noisy = [draw_design(network, number, noise=True) for number in range(200)]
    assert {design.cut for design in noisy} == set(range(1, 25))


def test_curves_prune_one_layer_and_compress_one_feature() -> None:
    points = layer_designs(make_network("alexnet"))
    assert [point.number for point in points] == list(range(40))
    for point in points:
        kind = point.curve.removesuffix("_long")
        assert point.longer == (LONGER if point.curve.endswith("_long") else 1)
        if kind == "conv2":
            assert point.design.compression == 1.0
            assert (*point.design.retained[:1], *point.design.retained[2:]) == (1.0,) * 6
        else:
            assert kind == "fc1"
            assert (point.design.cut, point.design.retained) == (9, (1.0,) * 7)
    with pytest.raises(InvalidInputError, match="alexnet"):
        layer_designs(make_network("regnet"))


def test_uniform_designs_keep_the_same_of_every_group() -> None:
    work = uniform_designs(make_network("regnet"), 10, "geometric_median")
    assert [each.number for each in work] == list(range(10))
    np.testing.assert_allclose([each.design.retained for each in work], np.tile(np.linspace(0.1, 1.0, 10), (4, 1)).T)
    assert {(each.design.cut, each.design.compression, each.design.criterion) for each in work} == {
        (25, 1.0, "geometric_median")
    }


def test_uniform_designs_are_measured_and_belong_to_one_count(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "uniform.csv"
    assert run(folder, output, "--uniform", "--count", "2") == 0
    rows = read_csv(output)
    assert [[row["retained_conv1"], row["retained_fc2"]] for row in rows] == [
        ["0.1", "0.1"],
        ["1.0", "1.0"],
    ]
    assert run(folder, output, "--uniform", "--count", "3") == 2
