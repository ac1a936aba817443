"""Scenarios: the shipped files and their sources, a user's own file, and what is said when something is wrong."""

import copy
import json
import math
from importlib import resources
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import is_path
from coinfer_gym.laim.predictor import shipped_predictors
from coinfer_gym.laim.problem import HARDWARE, Problem
from coinfer_gym.laim.scenario import Scenario, load_scenario, shipped_scenarios
from coinfer_gym.laim.workload import shipped_workloads
from coinfer_gym.layerwise.network import shipped_networks
from coinfer_gym.layerwise.predictor import shipped_regression_predictors
from coinfer_gym.layerwise.scenario import shipped_layerwise_scenarios

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
    assert scenario.workload_name == data.pop("workload", "mpnet-base")
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


def test_constants_of_p1_reach_the_problem():
    scenario = load_scenario("bert-multimodal", quality="magnitude_pruning", retained_server_min=0.2)
    problem = scenario.problem(3e-11)
    assert isinstance(problem, Problem)
    assert problem.gain == 3e-11
    assert (problem.delay_budget, problem.energy_budget) == (scenario.delay_budget, scenario.energy_budget)
    for name in HARDWARE.names:
        stated = getattr(scenario, name)
        assert getattr(problem, name) == (math.inf if stated is None else stated), name
    assert problem.quality == "magnitude_pruning"
    assert problem.workload == scenario.workload
    assert problem.workload.input_bits == 640 * 480  # a bit a pixel
    other = scenario.problem(1e-10, delay_budget=0.25, energy_budget=0.5)
    assert (other.delay_budget, other.energy_budget) == (0.25, 0.5)


def test_derived_numbers_of_the_link():
    scenario = load_scenario("bert-multimodal")
    assert scenario.mean_gain_db == pytest.approx(-40 - 30 * math.log10(100))


def test_overrides_are_keywords():
    scenario = load_scenario("bert-multimodal", bandwidth=2e7, workload="vit-base", input_bits=None, tasks=7)
    assert (scenario.bandwidth, scenario.tasks, scenario.workload.name) == (2e7, 7, "vit-base")
    assert scenario.workload.input_bits == 1204224  # the workload's own
    assert load_scenario("bert-multimodal").bandwidth == 5e6


def test_overrides_survive_json():
    overrides = {"bandwidth": 2e7, "delay_budget_range": [0.3, 0.9], "channel_trace": None, "quality": "random_pruning"}
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


def test_key_unlike_any_other_leads_to_the_page():
    with pytest.raises(InvalidInputError, match=r"42zzz.*/scenarios/$") as error:
        load_scenario(plain(**{"42zzz": 1.0}))
    assert len(str(error.value)) < 600


def test_unknown_keyword_is_also_the_type_error_of_python():
    """TorchRL tries ``frameskip``, and goes on without it if this is what it meets."""
    for make, name in ((load_scenario, "bert-text"), (gym.make, "coinfer_gym/LAIM-v0")):
        with pytest.raises(TypeError, match=r"^unexpected keyword argument 'frameskip'\. .*/scenarios/$") as error:
            make(name, frameskip=1)
        assert isinstance(error.value, InvalidInputError)
    assert str(copy.copy(error.value)) == str(error.value)
    with pytest.raises(InvalidInputError, match=r"max_episode_steps.*tasks.*vectorization_mode='sync'"):
        gym.make_vec("coinfer_gym/LAIM-v0", num_envs=2, max_episode_steps=5)


@pytest.mark.parametrize("name", ["self", "source"])
def test_keyword_that_is_a_parameter_of_python_alone_is_unknown(name):
    for make in (gym.make, gym.make_vec):
        with pytest.raises(InvalidInputError, match=f"unexpected keyword argument '{name}'"):
            make("coinfer_gym/LAIM-v0", **{name: 1})


def test_scenario_object_is_refused_with_what_to_give():
    scenario = load_scenario("bert-text", distance=80)
    with pytest.raises(InvalidInputError, match=r"scenario.model_dump\(mode='json', by_alias=True\)"):
        load_scenario(scenario)
    assert load_scenario(scenario.model_dump(mode="json", by_alias=True)) == scenario
    for source in (None, 3, ["bert-text"]):
        with pytest.raises(InvalidInputError, match="Give a name, the path of a YAML file"):
            load_scenario(source)


@pytest.mark.parametrize(
    ("field", "value", "meant"),
    [
        ("channel", "fadin", "Did you mean 'fading'"),
        ("channel", "Trace", "Did you mean 'trace'"),
        ("channel_trace_column", "snr", "Did you mean 'snr_db'"),
        ("arrivals", "poison", "Did you mean 'poisson'"),
        ("arrivals", "one-at-a-time", "Did you mean 'one_at_a_time'"),
        ("quality", "rate-distortion", "Did you mean 'rate_distortion'"),
        ("norm", "L1", "'l1'"),
        ("quality_scale", "logarithmic", "'log'"),
        ("arrivals", 3, "one_at_a_time, periodic"),
    ],
)
def test_wrong_choice_names_the_nearest(field, value, meant):
    with pytest.raises(InvalidInputError, match=rf"{field}: got .*{meant}"):
        load_scenario("bert-multimodal", **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tasks", 2.5),
        ("delay_budget_range", [0.5]),
        ("energy_budget_range", "wide"),
        ("quality", "perfect"),
        ("workload", "bert-bas"),
        ("arrivals", np.array([1.0, 2.0])),
    ],
)
def test_wrong_value_names_the_field(field, value):
    with pytest.raises(InvalidInputError) as error:
        load_scenario("bert-multimodal", **{field: value})
    assert field in error.value.field
    assert len(error.value.remedy) > 5


def test_error_tells_the_value_that_was_found():
    with pytest.raises(InvalidInputError, match=r"bandwidth: got -1000000\.0\. Give a number from 1 to 1e\+12 Hz"):
        load_scenario("bert-multimodal", bandwidth=-1e6)


@pytest.mark.parametrize("name", ["power", "frequency_server"])
def test_least_above_most_is_refused(name):
    with pytest.raises(InvalidInputError) as error:
        load_scenario("bert-multimodal", **{f"{name}_min": 2.0, f"{name}_max": 1.0})
    assert error.value.field == f"{name}_min"
    assert f"{name}_max" in error.value.remedy


@pytest.mark.parametrize(("switch", "path"), [("channel", "channel_trace"), ("arrivals", "arrival_trace")])
def test_trace_and_its_switch_go_together(tmp_path, switch, path):
    """A trace that is given but not read, or asked for but not given, is no silent change of the world."""
    with pytest.raises(InvalidInputError, match=f"{path}: got None.*{switch} is 'trace'"):
        load_scenario("bert-multimodal", **{switch: "trace"})
    with pytest.raises(InvalidInputError, match=f"{path}: got 'nope.csv'.*{switch}='trace'"):
        load_scenario("bert-multimodal", **{path: "nope.csv"})
    own = write(tmp_path / "own.yaml", {"extends": "bert-multimodal", switch: "trace", path: "a.csv"})
    other = write(tmp_path / "other.yaml", {"extends": "own.yaml", switch: "periodic" if path[0] == "a" else "fading"})
    assert getattr(load_scenario(own), path) == str(tmp_path / "a.csv")
    for scenario in (load_scenario(other), load_scenario(own, **{switch: getattr(load_scenario(other), switch)})):
        assert getattr(scenario, path) is None


def test_phases_too_short_to_draw_are_refused():
    """Compiled code would draw them for hours, and could not be interrupted."""
    short = {
        "arrivals": "mmpp",
        "calm_duration": 1e-6,
        "burst_duration": 1e-6,
        "arrival_rate": 1e-3,
        "burst_rate": 1e-3,
    }
    with pytest.raises(InvalidInputError, match=r"calm_duration: got 1e-06.*durations \(s\)"):
        load_scenario("bert-multimodal", **short)


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
    path = write(tmp_path / "mine.yaml", "extends: bert-multimodal\nbandwidth: 2e7\n")  # YAML 1.1 reads a string
    assert load_scenario(path).bandwidth == 2e7


def test_file_extends_a_shipped_scenario(tmp_path):
    path = write(tmp_path / "mine.yaml", {"extends": "bert-battery", "name": "mine", "distance": 80})
    mine, base = load_scenario(str(path)), load_scenario("bert-battery")
    assert (mine.name, mine.distance) == ("mine", 80)
    assert mine.model_copy(update={"name": base.name, "distance": base.distance}) == base


def test_keywords_win_over_the_file_and_the_file_over_its_base(tmp_path):
    path = write(tmp_path / "mine.yaml", {"extends": "bert-text", "input_bits": 4096, "distance": 80})
    scenario = load_scenario(path, distance=90)
    assert (scenario.input_bits, scenario.distance, scenario.bandwidth) == (4096, 90, 5e6)


def test_a_file_that_changes_the_workload_keeps_no_measurements_of_another(tmp_path):
    path = write(
        tmp_path / "mine.yaml", {"extends": "minilm-squad", "workload": "bert-base", "quality": "rate_distortion"}
    )
    by_keyword = load_scenario("minilm-squad", workload="bert-base", quality="rate_distortion")
    assert load_scenario(path) == by_keyword
    assert (by_keyword.input_bits, by_keyword.predictor_name) == (None, None)


@pytest.mark.parametrize("base", ["bert-multimodel", None, ["bert-text"], "none.yaml"])
def test_unknown_base_is_refused(tmp_path, base):
    path = write(tmp_path / "mine.yaml", {"extends": base, "name": "mine"})
    with pytest.raises(InvalidInputError, match=r"extends|none\.yaml.*no such file"):
        load_scenario(path)


def test_file_extends_own_files_and_each_counts_paths_from_its_folder(tmp_path, monkeypatch):
    write(tmp_path / "base" / "net.txt", WORKLOAD)
    write(
        tmp_path / "base" / "base.yml", {"extends": "bert-text", "workload": "net.txt", "input_bits": 5, "distance": 9}
    )
    path = write(tmp_path / "mine" / "mine.yaml", {"extends": "../base/base.yml", "distance": 80})
    monkeypatch.chdir(tmp_path)
    scenario = load_scenario("mine/mine.yaml")
    assert (scenario.workload.name, scenario.distance, scenario.input_bits) == ("two", 80, 5)
    for extended in ("mine.yaml", str(path), "../mine/mine.yaml"):
        write(path, {"extends": extended})
        with pytest.raises(InvalidInputError, match=r"extends: got .*circle"):
            load_scenario(path)


@pytest.mark.parametrize("trace", ["c.csv", "link.txt", "C.CSV", "sub/x.dat", "plain", "../c.csv"])
def test_paths_in_a_file_count_from_its_folder(tmp_path, monkeypatch, trace):
    write(tmp_path / "worlds" / "net.TXT", WORKLOAD)
    traces = {"channel": "trace", "channel_trace": trace, "arrivals": "trace", "arrival_trace": trace}
    data = {"extends": "bert-multimodal", "name": "mine", "workload": "net.TXT", "input_bits": None, **traces}
    path = write(tmp_path / "worlds" / "mine.dat", data)
    monkeypatch.chdir(tmp_path)
    for source in (path, "worlds/mine.dat"):
        scenario = load_scenario(source)
        assert scenario.workload.name == "two"
        for found in (scenario.channel_trace, scenario.arrival_trace):
            assert Path(found).resolve() == (tmp_path / "worlds" / trace).resolve()


def test_keywords_take_paths(tmp_path, monkeypatch):
    write(tmp_path / "net", WORKLOAD)
    monkeypatch.chdir(tmp_path)
    scenario = load_scenario("bert-text", workload=Path("net"), channel="trace", channel_trace=Path("c.csv"))
    assert (scenario.workload.name, scenario.channel_trace) == ("two", "c.csv")


def test_no_shipped_name_looks_like_a_path():
    names = [*NAMES, *shipped_layerwise_scenarios(), *shipped_workloads(), *shipped_networks()]
    names += [*shipped_predictors(), *shipped_regression_predictors()]
    assert not [name for name in names if is_path(name)]


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


def test_value_bits_change_the_activations_and_not_the_raw_sample():
    whole, byte = (load_scenario("bert-multimodal", value_bits=bits).workload.upload_bits for bits in (None, 8))
    assert byte[0] == whole[0]
    assert (byte[1:] == whole[1:] / 4).all()


def test_memories_that_no_cut_fits_are_refused_with_what_would_do():
    small = {"memory_capacity_device": 1.2e7, "memory_capacity_server": 1e6}
    with pytest.raises(InvalidInputError, match=r"memory_capacity_device or memory_capacity_server.*Give") as error:
        load_scenario("bert-multimodal", **small)
    words = str(error.value).replace(".", " ").split()
    *_, device, server = (float(word) for word in words if len(word) > 5 and word.isdigit())  # after what was given
    for enough in ({"memory_capacity_device": device}, {"memory_capacity_server": server}):
        assert load_scenario("bert-multimodal", **(small | enough))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("static_power_device", -0.1),
        ("amplifier_efficiency", 1.1),
        ("rate_max", 0.0),
        ("snr_gap", 0.5),
        ("value_bits", 7.5),
        ("parameter_bits", 7.5),
        ("sparsity_gain", 1.5),
    ],
)
def test_a_constant_that_no_world_has_is_refused(field, value):
    with pytest.raises(InvalidInputError, match=f"{field}: got {value}"):
        load_scenario("bert-multimodal", **{field: value})
