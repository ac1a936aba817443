"""Scenarios: the shipped files and their sources, a user's own file, and what is said when something is wrong."""

import json
import math
from importlib import resources
from pathlib import Path

import pytest
import yaml

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.problem import HARDWARE, Problem
from coinfer_gym.laim.scenario import Scenario, load_scenario, shipped_scenarios

FOLDER = Path(str(resources.files("coinfer_gym.laim").joinpath("scenarios")))
NAMES = shipped_scenarios()

WORKLOAD = {
    "name": "two",
    "input_bits": 1e6,
    "flops": 3e9,
    "parameters": 3000,
    "blocks": [
        {"name": "a", "flops": 1e9, "parameters": 1000, "activation_bits": 1e5, "laplacian_rate": 30.0},
        {"name": "b", "flops": 2e9, "parameters": 2000, "activation_bits": 1e4, "laplacian_rate": 40.0},
    ],
}


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data), encoding="utf-8")
    return path


def plain(**changes):
    """Everything a scenario must state, and `changes`."""
    data = yaml.safe_load((FOLDER / "bert-multimodal.yaml").read_text(encoding="utf-8"))
    return data | changes


def test_five_scenarios_or_more_are_shipped():
    assert {"bert-multimodal", "bert-text", "bert-battery", "bart-multimodal", "vit-image"} <= set(NAMES)
    assert sorted(NAMES) == NAMES == sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_line_with_a_value_says_where_the_value_is_from(name):
    lines = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    words = ("extends", "name", "description", "workload")  # say by themselves what they are
    for line in lines:
        key = line.split(":")[0]
        if ":" in line and not line.startswith("#") and key not in words:
            assert "#" in line, line
            assert line.split("#")[1].strip(), line
    assert lines[0].startswith("# ")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_values_are_what_the_file_says(name):
    data = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    scenario = load_scenario(name)
    data.pop("extends", None)
    assert scenario.workload_name == data.pop("workload", "bert-base")
    assert scenario.predictor_name == data.pop("predictor", None)
    for key, value in data.items():
        stated = getattr(scenario, key)
        assert stated == (pytest.approx(float(value)) if isinstance(stated, float) else value), key


def test_every_field_is_described_and_every_number_has_symbol_and_unit():
    for name, field in Scenario.model_fields.items():
        assert field.description, name
        if float in (field.annotation, *getattr(field.annotation, "__args__", ())) and "range" not in name:
            extra = field.json_schema_extra
            assert isinstance(extra, dict), name
            assert extra["unit"], name
            assert "symbol" in extra, name


def test_every_number_has_a_lower_limit():
    properties = Scenario.model_json_schema()["properties"]
    for name, entry in properties.items():
        kinds = [entry, *entry.get("anyOf", [])]
        numbers = [kind for kind in kinds if kind.get("type") in ("number", "integer")]
        for kind in numbers:
            limits = kinds[0] | kind
            assert {"minimum", "exclusiveMinimum"} & set(limits), name


def test_constants_of_p1_reach_the_problem():
    scenario = load_scenario("bert-multimodal", quality="magnitude_pruning", retained_server_min=0.2)
    problem = scenario.problem(3e-11)
    assert isinstance(problem, Problem)
    assert problem.gain == 3e-11
    assert (problem.delay_budget, problem.energy_budget) == (scenario.delay_budget, scenario.energy_budget)
    for name in HARDWARE.names:
        assert getattr(problem, name) == getattr(scenario, name), name
    assert problem.quality == "magnitude_pruning"
    assert problem.workload == scenario.workload
    assert problem.workload.input_bits == 7.3728e6
    other = scenario.problem(1e-10, delay_budget=0.25, energy_budget=0.5)
    assert (other.delay_budget, other.energy_budget) == (0.25, 0.5)


def test_derived_numbers_of_the_link():
    scenario = load_scenario("bert-multimodal")
    assert scenario.noise_power == pytest.approx(2e-20 * 1e7)
    assert scenario.mean_gain_db == pytest.approx(-40 - 30 * math.log10(150))


def test_overrides_are_keywords():
    scenario = load_scenario("bert-multimodal", bandwidth=5e6, workload="vit-base", input_bits=None, tasks=7)
    assert (scenario.bandwidth, scenario.tasks, scenario.workload.name) == (5e6, 7, "vit-base")
    assert scenario.workload.input_bits == 1204224  # the workload's own
    assert load_scenario("bert-multimodal").bandwidth == 1e7


def test_overrides_survive_json():
    overrides = {"bandwidth": 5e6, "delay_budget_range": [0.3, 0.9], "channel_trace": None, "quality": "random_pruning"}
    scenario = load_scenario("bert-multimodal", **json.loads(json.dumps(overrides)))
    assert scenario == load_scenario("bert-multimodal", **overrides)
    assert scenario.delay_budget_range == (0.3, 0.9)


@pytest.mark.parametrize("name", NAMES)
def test_plain_form_of_a_scenario_makes_the_same_scenario(name):
    scenario = load_scenario(name)
    data = json.loads(json.dumps(scenario.model_dump(mode="json", by_alias=True)))
    assert load_scenario(data) == scenario


def test_mapping_that_is_given_stays_as_it_was():
    data = plain()
    before = dict(data)
    load_scenario(data, bandwidth=1e6)
    assert data == before


@pytest.mark.parametrize(
    ("key", "meant"),
    [("bandwith", "bandwidth"), ("Doppler", "doppler")],
)
def test_unknown_key_names_the_nearest(key, meant):
    with pytest.raises(InvalidInputError, match=f"{key}.*Did you mean '{meant}'"):
        load_scenario("bert-multimodal", **{key: 1.0})


def test_key_unlike_any_other_lists_what_is_known():
    with pytest.raises(InvalidInputError, match="bandwidth"):
        load_scenario(plain(**{"42zzz": 1.0}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bandwidth", -1e6),
        ("bandwidth", math.nan),
        ("bandwidth", "wide"),
        ("bandwidth", True),
        ("retained_device_min", 1.3),
        ("pue_server", 0.9),
        ("delay_budget", math.inf),
        ("tasks", 2.5),
        ("queue_capacity", 65),
        ("patience", 0.5),
        ("channel", "wire"),
        ("battery_initial", 1.1),
        ("delay_budget_range", [0.5]),
        ("delay_budget_range", [0.9, 0.5]),
        ("delay_budget_range", [0.1, math.inf]),
        ("energy_budget_range", "wide"),
        ("quality", "perfect"),
        ("workload", "bert-bas"),
    ],
)
def test_wrong_value_names_the_field(field, value):
    with pytest.raises(InvalidInputError) as error:
        load_scenario("bert-multimodal", **{field: value})
    assert field in error.value.field
    assert len(error.value.remedy) > 5


def test_error_tells_the_value_that_was_found():
    with pytest.raises(InvalidInputError, match=r"bandwidth: got -1000000\.0\. .*greater than 0"):
        load_scenario("bert-multimodal", bandwidth=-1e6)


@pytest.mark.parametrize("name", ["power", "frequency_server"])
def test_least_above_most_is_refused(name):
    with pytest.raises(InvalidInputError) as error:
        load_scenario("bert-multimodal", **{f"{name}_min": 1e12, f"{name}_max": 1.0})
    assert error.value.field == f"{name}_min"
    assert f"{name}_max" in error.value.remedy


@pytest.mark.parametrize("switch", ["channel", "arrivals"])
def test_trace_without_a_file_is_refused(switch):
    with pytest.raises(InvalidInputError) as error:
        load_scenario("bert-multimodal", **{switch: "trace"})
    assert error.value.field.endswith("_trace")


def test_missing_field_is_named_without_dumping_the_whole_file():
    data = plain()
    del data["bandwidth"]
    with pytest.raises(InvalidInputError, match="bandwidth") as error:
        load_scenario(data)
    assert len(str(error.value)) < 200


def test_unknown_scenario_names_the_nearest_and_how_to_give_a_file():
    with pytest.raises(InvalidInputError, match=r"Did you mean 'bert-multimodal'.*\.yaml"):
        load_scenario("bert-multimodel")


@pytest.mark.parametrize("text", ["bandwidth: [1, 2", "- a\n- list\n", ""])
def test_file_that_is_no_mapping_is_refused(tmp_path, text):
    with pytest.raises(InvalidInputError, match=r"YAML|mapping"):
        load_scenario(write(tmp_path / "bad.yaml", text))


def test_error_in_a_file_names_the_file(tmp_path):
    path = write(tmp_path / "mine.yaml", {"extends": "bert-multimodal", "bandwith": 1e6})
    with pytest.raises(InvalidInputError, match=r"mine\.yaml.*bandwith.*'bandwidth'"):
        load_scenario(path)


def test_number_with_an_exponent_but_no_point_is_a_number(tmp_path):
    path = write(tmp_path / "mine.yaml", "extends: bert-multimodal\nbandwidth: 5e6\n")  # YAML 1.1 reads a string
    assert load_scenario(path).bandwidth == 5e6


def test_file_extends_a_shipped_scenario(tmp_path):
    path = write(tmp_path / "mine.yaml", {"extends": "bert-battery", "name": "mine", "distance": 80})
    mine, base = load_scenario(str(path)), load_scenario("bert-battery")
    assert (mine.name, mine.distance) == ("mine", 80)
    assert mine.model_copy(update={"name": base.name, "distance": base.distance}) == base


def test_keywords_win_over_the_file_and_the_file_over_its_base(tmp_path):
    path = write(tmp_path / "mine.yaml", {"extends": "bert-text", "input_bits": 4096, "distance": 80})
    scenario = load_scenario(path, distance=90)
    assert (scenario.input_bits, scenario.distance, scenario.bandwidth) == (4096, 90, 1e7)


@pytest.mark.parametrize("base", ["bert-multimodel", None])
def test_unknown_base_is_refused(tmp_path, base):
    path = write(tmp_path / "mine.yaml", {"extends": base, "name": "mine"})
    with pytest.raises(InvalidInputError, match="extends"):
        load_scenario(path)


def test_paths_in_a_file_count_from_its_folder(tmp_path, monkeypatch):
    write(tmp_path / "worlds" / "net.yaml", WORKLOAD)
    traces = {"channel": "trace", "channel_trace": "traces/c.csv", "arrivals": "trace", "arrival_trace": "../a.csv"}
    data = {"extends": "bert-multimodal", "name": "mine", "workload": "net.yaml", "input_bits": None, **traces}
    path = write(tmp_path / "worlds" / "mine.yaml", data)
    monkeypatch.chdir(tmp_path)
    for source in (path, "worlds/mine.yaml"):
        scenario = load_scenario(source)
        assert scenario.workload.name == "two"
        assert Path(scenario.channel_trace).resolve() == tmp_path / "worlds" / "traces" / "c.csv"
        assert Path(scenario.arrival_trace).resolve() == tmp_path / "a.csv"


def test_absolute_paths_and_shipped_names_stay(tmp_path):
    workload = write(tmp_path / "net.yaml", WORKLOAD)
    path = write(tmp_path / "deep" / "mine.yaml", {"extends": "bert-text", "workload": str(workload)})
    assert load_scenario(path).workload_name == str(workload)
    path = write(tmp_path / "deep" / "other.yaml", {"extends": "bert-text", "workload": "vit-base"})
    assert load_scenario(path).workload.name == "vit-base"


def test_path_in_a_keyword_counts_from_the_working_folder(tmp_path, monkeypatch):
    write(tmp_path / "net.yaml", WORKLOAD)
    path = write(tmp_path / "deep" / "mine.yaml", {"extends": "bert-text"})
    monkeypatch.chdir(tmp_path)
    assert load_scenario(path, workload="net.yaml").workload.name == "two"


def test_workload_that_does_not_add_up_fails_when_the_scenario_is_loaded(tmp_path):
    write(tmp_path / "net.yaml", WORKLOAD | {"flops": 4e9})
    path = write(tmp_path / "mine.yaml", {"extends": "bert-text", "workload": "net.yaml"})
    with pytest.raises(InvalidInputError, match=r"flops: got 4000000000\.0\. The blocks sum to 3000000000"):
        load_scenario(path)


def test_workload_that_is_not_there_fails_when_the_scenario_is_loaded(tmp_path):
    path = write(tmp_path / "mine.yaml", {"extends": "bert-text", "workload": "net.yaml"})
    with pytest.raises(InvalidInputError, match=r"net\.yaml.*no such file"):
        load_scenario(path)
