"""From rows to a world: the table is close to what was measured and is what the environment pays."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import read_csv
from coinfer_gym.laim.predictor import LEVELS, load_predictor
from coinfer_gym.laim.workload import Block, Workload, load_workload
from coinfer_gym.models.fit import Measurements, make_predictor, write_scenario
from tests.coinfer_gym.models.tiny import fit_few

BLOCKS, UNPRUNED = 3, 0.8
FEW = ("GradientBoosting", "Linear")
GRID = np.linspace(0.0, 1.0, LEVELS)
WORKLOAD = Workload("tiny", 1e4, tuple(Block(f"block{number}", 1e6, 1000, 2e4, 30.0) for number in range(BLOCKS)))


def surface(cut: Any, device: Any, server: Any) -> Any:
    """F1: logistic in both ratios, each side by its share of the blocks."""

    def kept(ratio: Any) -> Any:
        return (1 + math.exp(-6.0)) / (1 + np.exp((0.5 - ratio) * 12))

    share = cut / BLOCKS
    return UNPRUNED * (1 - share * (1 - kept(device))) * (1 - (1 - share) * (1 - kept(server)))


def row(cut: int, device: float, server: float, method: str = "magnitude", samples: int = 200) -> dict[str, str]:
    """As a file holds it: every value is text."""
    device, server = (1.0 if cut == 0 else device), (1.0 if cut == BLOCKS else server)
    configuration = {"cut": cut, "retained_device": device, "retained_server": server, "method": method}
    rest = {"precision": "fp16", "seed": 0, "samples": samples, "f1": round(float(surface(cut, device, server)), 6)}
    return {name: str(value) for name, value in (configuration | rest).items()}


def measured(count: int = 120) -> Measurements:
    rng = np.random.default_rng(0)
    drawn = [row(int(rng.integers(BLOCKS + 1)), *np.round(rng.uniform(0.05, 1.0, 2), 4)) for _ in range(count)]
    return Measurements(WORKLOAD, "f1", [row(0, 1.0, 1.0), *drawn], ["magnitude"], "fp16")


@pytest.fixture(scope="module", autouse=True)
def few_fits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        fit_few(patch, *FEW)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world") / "tiny"
    text = write_scenario(measured(), path, seed=3)
    assert text.endswith(f"wrote {path / 'scenario.yaml'}")
    assert all(name in text for name in FEW)
    return path


def test_a_table_is_close_to_what_was_measured(folder: Path) -> None:
    predictor = load_predictor(folder / "predictor-magnitude.json")
    table = predictor.quality
    assert (predictor.name, predictor.metric, predictor.unpruned) == ("tiny-magnitude", "f1", UNPRUNED)
    assert table.shape == (BLOCKS + 1, LEVELS, LEVELS)
    assert (table[:, -1, -1] == 1.0).all()
    assert table.min() >= 0.0
    assert all((np.diff(table, axis=axis) >= 0.0).all() for axis in (1, 2))
    # A side without blocks has nothing to lose.
    assert (table[0] == table[0][-1])[:, :-1].all()
    assert (table[BLOCKS] == table[BLOCKS][:, -1:])[:-1].all()
    cut, device, server = np.meshgrid(np.arange(BLOCKS + 1), GRID[1:], GRID[1:], indexing="ij")
    device, server = np.where(cut == 0, 1.0, device), np.where(cut == BLOCKS, 1.0, server)
    error = table[:, 1:, 1:] - surface(cut, device, server) / UNPRUNED
    assert np.sqrt(np.mean(error**2)) < 0.08
    assert set(predictor.errors) == {
        "cross_validation",
        "cross_validation_95",
        "monotone",
        "table_mean",
        "table_largest",
    }
    assert 0.0 < predictor.errors["cross_validation"] < predictor.errors["cross_validation_95"] < 0.3
    assert 0.0 < predictor.errors["table_mean"] < 0.05 < predictor.errors["table_largest"] < 0.6


def test_the_best_regressor_is_taken_and_all_are_listed(folder: Path) -> None:
    rows = read_csv(folder / "regressors.csv")
    assert [(each["method"], each["regressor"]) for each in rows] == [("magnitude", name) for name in FEW]
    best = min(rows, key=lambda each: float(each["mse"]))
    predictor = load_predictor(folder / "predictor-magnitude.json")
    assert predictor.description.startswith(f"{best['regressor']} regressor on 121 configurations of tiny, magnitude")
    assert predictor.errors["cross_validation"] == pytest.approx(float(best["rmse"]), abs=1e-6)


def test_the_files_are_the_predictor(folder: Path) -> None:
    stored = load_predictor(folder / "predictor-magnitude.json")
    # Rows of the other method do not count.
    given = measured()
    others = [{**row(1, ratio, 0.5, "random"), "f1": "0.01"} for ratio in (0.3, 0.6, 0.9)]
    made, scores = make_predictor(dataclasses.replace(given, rows=[*others, *given.rows]), "magnitude", seed=3)
    np.testing.assert_array_equal(made.quality, stored.quality)
    assert made.to_dict() == stored.to_dict()
    assert tuple(score.regressor for score in scores) == FEW
    assert load_workload(folder / "workload.yaml") == WORKLOAD


def test_rows_on_other_samples_are_refused() -> None:
    given = measured()
    with pytest.raises(InvalidInputError, match="the same samples"):
        make_predictor(dataclasses.replace(given, rows=[*given.rows, row(1, 0.3, 0.3, samples=1820)]), "magnitude")


def test_the_environment_pays_what_the_table_says(folder: Path) -> None:
    env = gym.make("coinfer_gym/LAIM-v0", scenario=str(folder / "scenario.yaml"), value_bits=None)
    scenario = env.unwrapped.scenario
    assert (scenario.name, scenario.quality, scenario.workload) == ("tiny", "accuracy", WORKLOAD)
    table = load_predictor(folder / "predictor-magnitude.json").quality
    env.reset(seed=0)
    env.action_space.seed(1)
    served, cuts = 0, set()
    for _ in range(60):
        _, _, _, truncated, info = env.step(env.action_space.sample())
        if not info["abandoned"]:
            served += 1
            cut = int(info["cut"])
            cuts.add(cut)
            expected = RegularGridInterpolator((GRID, GRID), table[cut])(
                [info["retained_device"], info["retained_server"]]
            )
            assert info["quality"] == pytest.approx(float(expected[0]), rel=1e-9)
        if truncated:
            env.reset()
    env.close()
    assert served > 40
    assert cuts == set(range(BLOCKS + 1))


def test_rows_that_make_no_predictor() -> None:
    given = measured(30)
    with pytest.raises(InvalidInputError, match=r"rows: got \[\]\. Measure the unpruned network: its f1 is the unit"):
        make_predictor(dataclasses.replace(given, rows=given.rows[1:]), "magnitude")
    useless = {**given.rows[0], "f1": "0.0"}
    with pytest.raises(InvalidInputError, match=r"rows: got \[0\.0\]\. Measure the unpruned network"):
        make_predictor(dataclasses.replace(given, rows=[useless, *given.rows[1:]]), "magnitude")
    with pytest.raises(InvalidInputError, match=r"rows: got 9\. 10 folds"):
        make_predictor(dataclasses.replace(given, rows=given.rows[:9]), "magnitude")
    with pytest.raises(InvalidInputError, match=r"rows: got \[\]\. "):
        make_predictor(dataclasses.replace(given, rows=[]), "magnitude")
    with pytest.raises(InvalidInputError, match=r"method: got 'magnitud'\. Did you mean 'magnitude'"):
        make_predictor(given, "magnitud")
    broken = [{**each, "f1": ""} if number == 5 else each for number, each in enumerate(given.rows)]
    with pytest.raises(InvalidInputError, match=r"rows\[5\]: f1: got ''\. Give a finite number"):
        make_predictor(dataclasses.replace(given, rows=broken), "magnitude")
