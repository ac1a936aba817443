"""Designs in F1: decisions checked one by one, verdicts that can say yes and no, and what is said where data lack."""

import csv
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from coinfer_gym import Decision, InvalidInputError, load_scenario, load_workload
from studies.lyu import accuracy, designs
from tests.studies.made import failures, make_and_read

COLUMNS = (
    "cut",
    "retained_device",
    "retained_server",
    "method",
    "precision",
    "seed",
    "samples",
    "f1",
    "f1_error",
    "f1_loss_error",
)
ERROR = 0.03


@pytest.fixture(scope="module")
def found():
    return designs.designs()


def write(path, settings, f1, samples=200):
    rows = [[*setting, "fp16", 0, samples, f1(setting), 0.09, ERROR] for setting in settings]
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        if not file.tell():
            writer.writerow(COLUMNS)
        writer.writerows(rows)
    return path


def fake_f1(setting):
    """Falls with either ratio, and an unpruned network answers as it is."""
    return 0.7 * math.sqrt(setting.retained_device * setting.retained_server)


@pytest.fixture(scope="module")
def source(found, tmp_path_factory):
    return write(tmp_path_factory.mktemp("measured") / "designs.csv", designs.settings(found), fake_f1)


@pytest.fixture(scope="module")
def curves(found, source):
    return accuracy.join(found, designs.read_measurements(source))


def test_designs_meet_their_budgets_and_restrictions(found):
    scenario = load_scenario(designs.SCENARIO, **designs.CHANGES)
    gain = 10.0 ** ((scenario.reference_gain_db - 30.0 * math.log10(scenario.distance)) / 10.0)
    base = scenario.problem(gain)
    feasible = [each for each in found if each.solution.feasible]
    assert len(found) > len(feasible) > len(found) / 2
    for each in feasible:
        solution, (along, rest) = each.solution, each.panel
        changes = {f"{along}_budget": each.value} if along in ("delay", "energy") else {}
        if not changes:
            pair = [float(part.split()[0]) for part in rest.split(", ")]
            changes = {"delay_budget": pair[0] * base.delay_budget, "energy_budget": pair[1] * base.energy_budget}
            if along == "text":
                changes["workload"] = base.workload.with_input_bits(load_workload(designs.NETWORK).input_bits)
        problem = replace(base, **changes)
        decision = Decision(**{name: getattr(solution, name) for name in Decision.__dataclass_fields__})
        assert problem.evaluate(decision).feasible, each
        expected = {"fixed": designs.FIXED_CUT, "free": solution.cut}.get(rest, each.value)
        assert solution.cut == expected
        if each.line == "fixed_power":
            assert solution.power == problem.power_max
        if each.line == "fixed_frequency":
            assert solution.frequency_device == problem.frequency_device_max
        if each.line == "device_pruning":
            assert solution.retained_server == 1.0
        if each.line == "server_pruning":
            assert solution.retained_device == 1.0
    by_place = {(each.panel, each.method, each.value, each.line): each.solution for each in feasible}
    for (panel, method, value, line), bound in by_place.items():
        other = by_place.get((panel, method, value, "joint_accuracy"))
        if line == "joint" and other is not None:
            predict = designs.base_problem(method).evaluate
            assert predict(other).quality >= predict(bound).quality - 2e-5


def test_each_setting_is_measured_once(found):
    settings = designs.settings(found)
    assert len(set(settings)) == len(settings) <= 280
    assert settings[0] == (0, 1.0, 1.0, "magnitude")
    assert {setting.method for setting in settings} == {"magnitude", "random"}
    for cut, device, server, method in settings:
        assert cut > 0 or device == 1.0
        assert cut < 12 or server == 1.0
        assert (device, server) != (1.0, 1.0) or method == "magnitude"
        assert (device, server) == (round(device, 4), round(server, 4))


def test_files_hold_what_was_measured(found, source, tmp_path, monkeypatch):
    monkeypatch.setattr(designs, "designs", lambda: found)
    rows = []
    for study in accuracy.STUDIES:
        summary, part = make_and_read(study, tmp_path / study.name, source=source)
        assert summary["settings"]["questions"] == 200
        assert summary["settings"]["f1_of_the_unpruned_network"] == 0.7
        rows += part
    assert len(rows) == len(found)
    for row in rows:
        if row["f1"]:
            share = math.sqrt(float(row["retained_device"]) * float(row["retained_server"]))
            assert float(row["f1"]) == pytest.approx(share, abs=2e-3)
            assert float(row["error"]) == pytest.approx(ERROR / 0.7)
        else:
            assert row["cut"] == row["predicted"] == ""


def test_missing_measurements_are_named_with_the_remedy(found, tmp_path):
    lacking = write(tmp_path / "lacking.csv", designs.settings(found)[:-1], fake_f1)
    with pytest.raises(InvalidInputError, match=r"They lack this design.*python -m studies\.lyu\.designs"):
        accuracy.join(found, designs.read_measurements(lacking))
    for path, text in (("none.csv", None), ("empty.csv", ""), ("other.csv", "a,b\n1,2\n")):
        if text is not None:
            (tmp_path / path).write_text(text, encoding="utf-8")
        with pytest.raises(InvalidInputError, match=r"python -m studies\.lyu\.designs"):
            designs.read_measurements(tmp_path / path)


def test_measurements_are_those_on_most_questions_up_to_rounding(tmp_path):
    settings = [designs.UNPRUNED, designs.Setting(3, 0.5, 0.6, "random")]
    source = write(tmp_path / "two.csv", settings, lambda setting: 0.1, samples=10)
    measured = designs.read_measurements(write(source, settings, fake_f1))
    assert (measured.samples, measured.unpruned) == (200, 0.7)
    share = pytest.approx((math.sqrt(0.3), ERROR / 0.7))
    assert measured.find(settings[1]) == share
    assert measured.find(designs.Setting(3, 0.5001, 0.5999, "random")) == share
    for other in ((3, 0.501, 0.6, "random"), (2, 0.5, 0.6, "random"), (3, 0.5, 0.6, "magnitude")):
        assert measured.find(designs.Setting(*other)) is None


def curve(f1, error=0.01):
    values = np.array(f1, dtype=float)
    value = np.arange(len(values), dtype=float)
    feasible = ~np.isnan(values)
    return accuracy.Curve(
        *(value, np.where(feasible, 3, -1), values, values),
        *(values, np.where(feasible, error, math.nan), values),
    )


def test_comparison_counts_what_exceeds_the_errors():
    first, second = curve([0.5, 0.5, 0.5, 0.5, math.nan]), curve([0.4, 0.52, 0.6, math.nan, 0.1])
    found = accuracy.compare(first, second)
    assert (found["better"], found["equal"], found["worse"], found["alone"]) == (2, 1, 2, 1)
    assert (found["worse_at"], found["at"]) == ([2.0, 4.0], 2.0)
    assert found["loss"] == pytest.approx(0.1)
    assert found["loss_margin"] == pytest.approx(2.0 * math.hypot(0.01, 0.01))


@pytest.mark.parametrize(("f1", "falls"), [([0.2, 0.19, 0.5], False), ([0.5, 0.485, 0.47], True)])
def test_falls_add_up_over_several_budgets(f1, falls):
    fall, margin = accuracy.largest_fall(curve(f1))
    assert (fall > margin) == falls


RISE = "L11 (L6), magnitude pruning"
BOUND, SIDES = (
    f"L11 (bound), magnitude pruning: minimising {name} maximises F1"
    for name in ("the joint bound", "the bound of each side")
)
BY_BOUND, BY_F1 = (
    f"{RISE}: the joint design by {name} is at least as good as each restriction, cut 4"
    for name in ("the joint bound", "predicted F1")
)


@pytest.mark.parametrize(
    ("split", "line", "f1", "failed"),
    [
        ("fixed", "device_pruning", [2.0] * 6, [BY_BOUND, BY_F1]),
        ("fixed", "joint", [0.1, 0.2, 0.2, 0.2, 0.2, 0.9], [BY_BOUND, f"{BOUND}, cut 4"]),
        ("fixed", "joint_accuracy", [0.1, 0.2, 0.2, 0.2, 0.2, 0.9], [BY_F1]),
        ("fixed", "joint_accuracy", [0.9] * 6, [f"{BOUND}, cut 4", f"{SIDES}, cut 4"]),
        ("fixed", "joint_sides", [0.1, 0.2, 0.2, 0.2, 0.2, 0.9], [f"{SIDES}, cut 4"]),
        ("free", "joint_closed_form", [0.9] * 6, [f"{BOUND}, cut free", f"{SIDES}, cut free"]),
        (
            *("free", "joint_accuracy", [0.1, 0.0, 0.5, 0.7, 0.8, 0.9]),
            [f"{RISE}: F1 never falls as the delay budget grows, designed by predicted F1"],
        ),
    ],
)
def test_verdict_along_budgets_says_yes_and_no(curves, split, line, f1, failed):
    alike = {key: curve([0.1, 0.3, 0.5, 0.7, 0.8, 0.9]) for key in curves[0]}
    assert failures(accuracy.verdict_budgets(accuracy.Data(alike, None))) == []
    changed = accuracy.Data({**alike, (("delay", split), "magnitude", line): curve(f1)}, None)
    assert sorted(failures(accuracy.verdict_budgets(changed))) == sorted(failed)


@pytest.mark.parametrize(
    ("f1", "best", "holds"),
    [
        ([0.4, 0.6, 0.9, 0.5], "inner", True),
        ([math.nan, 0.1, 0.2, math.nan], "inner", True),
        ([0.88, 0.6, 0.9, 0.5], "inner or on_server", False),
        ([0.4, 0.6, 0.7, 0.9], "on_device", False),
    ],
)
def test_verdict_on_cuts_says_yes_and_no(curves, f1, best, holds):
    judged = accuracy.verdict_cuts(accuracy.Data({key: curve(f1) for key in curves[1]}, None))
    assert len(judged["holds"]) == 4
    assert set(judged["holds"].values()) == {holds}
    assert {part["best"] for part in judged["measured"].values()} == {best}
    assert len(judged["found"]) == len(curves[1]) == 16


def test_command_measures_what_is_needed(found, tmp_path, monkeypatch, capsys):
    measure = pytest.importorskip("coinfer_gym.models.measure", exc_type=ImportError)
    asked = {}

    def fake(task, model, data, configurations, output, **options):
        asked.update(task=task, model=model, data=data, configurations=[*configurations], **options)
        write(output, designs.settings(found), fake_f1)
        return [{"samples": "50", "seconds": "1.5"}] * 2

    monkeypatch.setattr(measure, "measure", fake)
    monkeypatch.setattr(designs, "designs", lambda: found)
    output = tmp_path / "designs.csv"
    given = ["--model", "some/folder", "--data", "in/squad.json.gz", "--samples", "50", "--output", str(output)]
    assert designs.main(given) == 0
    settings = designs.settings(found)
    assert f"{len(settings)} configurations" in capsys.readouterr().out
    wanted = [{**setting._asdict(), "precision": "fp16", "seed": 0} for setting in settings]
    assert [asdict(each) for each in asked["configurations"]] == wanted
    assert (asked["task"], asked["model"], asked["data"]) == ("squad", "some/folder", Path("in/squad.json.gz"))
    assert (asked["samples"], asked["jobs"]) == (50, 1)
    made_by = json.loads((tmp_path / "designs.json").read_text(encoding="utf-8"))
    assert made_by["command"] == "python -m studies.lyu.designs --model folder --data squad.json.gz --samples 50"
    assert (made_by["samples"], made_by["rows"], made_by["seconds"]) == (50, 2, 3)
