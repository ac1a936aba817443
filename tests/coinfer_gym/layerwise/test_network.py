"""Layer tables: Table I by hand and by torch's own count, the shipped files, and what is said of a bad one."""

import copy
import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.layerwise.network import Block, Group, Layer, load_network, shipped_networks

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "studies" / "mu" / "build_networks.py"

PLAIN = {
    "name": "tiny",
    "input_values": 48,
    "groups": [{"name": "a", "channels": 6, "step": 2}, {"name": "b", "channels": 5}],
    "blocks": [
        {
            "name": "conv",
            "outputs": "a",
            "area": 16,
            "layers": [
                {"type": "conv", "inputs": 3, "outputs": "a", "height": 4, "width": 4, "kernel": 3},
                {"type": "relu", "inputs": "a", "outputs": "a", "height": 4, "width": 4},
            ],
        },
        {
            "name": "pool",
            "outputs": "a",
            "area": 4,
            "layers": [{"type": "maxpool", "inputs": "a", "outputs": "a", "height": 2, "width": 2, "kernel": 2}],
        },
        {
            "name": "fc",
            "outputs": "b",
            "vector": True,
            "layers": [{"type": "fc", "inputs": "a", "outputs": "b", "area": 4}],
        },
        {"name": "end", "outputs": 10, "vector": True, "layers": [{"type": "fc", "inputs": "b", "outputs": 10}]},
    ],
}


def written(folder, content):
    path = folder / "network.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def changed(place, key, value):
    content = copy.deepcopy(PLAIN)
    target = content
    for step in place:
        target = target[step]
    if value is None:
        del target[key]
    else:
        target[key] = value
    return content


def test_a_small_network_by_hand(tmp_path):
    network = load_network(written(tmp_path, PLAIN))
    # 2/3 of 6 channels in steps of 2 are 4; 0.5 of 5 neurons are 2.5, half up 3
    assert network.kept([0.66, 0.5]).tolist() == [4, 3]
    # the least is one step, and a half goes up: 0.5 * 6 / 2 = 1.5 steps
    assert network.kept([0.01, 0.01]).tolist() == [2, 1]
    assert network.kept([0.5, 1.0]).tolist() == [4, 5]
    a, b = 4, 3
    assert network.block_flops([0.66, 0.5]).tolist() == [
        2 * 16 * (3 * 9 + 1) * a + 16 * a,
        2**2 * 4 * a,
        (2 * 4 * a - 1) * b,
        (2 * b - 1) * 10,
    ]
    assert network.upload_values([0.66, 0.5]).tolist() == [48, 16 * a, 4 * a, b, 0]
    assert network.cuts == 5


@pytest.mark.parametrize(
    ("layer", "flops"),
    [
        (Layer("conv", 8, 4, 5, 6, 3), 2 * 30 * (8 * 9 + 1) * 4),
        (Layer("conv", 8, 4, 5, 6, 3, fan_in=2), 2 * 30 * (2 * 9 + 1) * 4),
        (Layer("fc", 8, 4, area=9), (2 * 72 - 1) * 4),
        (Layer("maxpool", 8, 8, 5, 6, 3), 9 * 30 * 8),
        (Layer("avgpool", 8, 8, 5, 6), 30 * 8),
        (Layer("relu", 8, 8, 5, 6), 30 * 8),
        (Layer("dropout", 8, 8), 8),
        (Layer("add", 8, 8, 5, 6), 30 * 8),
    ],
)
def test_every_row_of_table_1(layer, flops):
    assert sum(math.prod(term) for term in layer.terms) == flops


def test_alexnet_by_hand():
    network = load_network("alexnet")
    flops = dict(zip([block.name for block in network.blocks], network.block_flops().tolist(), strict=True))
    assert flops["conv1"] == 2 * 256 * (3 * 9 + 1) * 64 + 256 * 64
    assert flops["pool1"] == 4 * 64 * 64
    assert flops["conv2"] == 2 * 64 * (64 * 9 + 1) * 192 + 64 * 192
    assert flops["fc1"] == 1024 + (2 * 1024 - 1) * 1024 + 1024
    assert flops["fc3"] == (2 * 1024 - 1) * 10
    assert network.upload_values()[:3].tolist() == [3072, 64 * 256, 64 * 64]


def test_pruning_scales_both_sides_of_a_layer():
    network = load_network("alexnet")
    ratios = np.ones(7)
    ratios[0] = 0.5
    difference = network.block_flops() - network.block_flops(ratios)
    names = [block.name for block in network.blocks]
    assert difference[names.index("conv1")] == (2 * 256 * 28 + 256) * 32
    assert difference[names.index("conv2")] == 2 * 64 * 9 * 32 * 192
    assert not difference[names.index("pool2") :].any()


@pytest.mark.parametrize("name", ["alexnet", "regnet"])
def test_weights_cost_what_torch_counts(name):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from torch.utils.flop_counter import FlopCounterMode

    from studies.mu.cifar.networks import make_network

    table, module = load_network(name), make_network(name).eval()
    channels = {group.name: group.channels for group in table.groups}
    feature = torch.zeros(1, 3, 32, 32)
    for block, (own, part) in zip(table.blocks, module.units.items(), strict=True):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            feature = part(feature)
        products = [layer.terms[0] for layer in block.layers if layer.type in ("conv", "fc")]
        weights = sum(math.prod(channels.get(factor, factor) for factor in term) for term in products)
        assert (block.name, weights) == (own, counter.get_total_flops())
        assert feature.numel() == block.area * channels.get(block.outputs, block.outputs)


@pytest.mark.parametrize("name", shipped_networks())
def test_yaml_round_trip(name, tmp_path):
    network = load_network(name)
    again = load_network(written(tmp_path, network.to_dict()))
    assert again.to_dict() == network.to_dict()
    assert (again.groups, again.blocks) == (network.groups, network.blocks)
    ratios = np.linspace(0.2, 0.9, len(network.groups))
    assert again.block_flops(ratios).tolist() == network.block_flops(ratios).tolist()


def test_the_script_makes_the_shipped_files(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    spec = importlib.util.spec_from_file_location("build_networks", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    shipped = script.FOLDER
    monkeypatch.setattr(script, "FOLDER", tmp_path)
    assert script.main([]) == 0
    assert sorted(path.stem for path in tmp_path.iterdir()) == shipped_networks()
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (shipped / path.name).read_bytes()


@pytest.mark.parametrize(
    ("place", "key", "value", "said"),
    [
        ((), "blocks", None, "blocks.*missing"),
        ((), "block", 1, "block.*Did you mean 'blocks'"),
        ((), "blocks", [], "at least one"),
        ((), "groups", {"a": 6}, "Give a list"),
        ((), "input_values", 0, "input_values.*0"),
        (("groups", 0), "channels", 0, "channels.*0"),
        (("groups", 0), "channels", True, "channels.*True"),
        (("groups", 0), "step", 4, "step.*divide 6"),
        (("blocks", 0), "outputs", "c", "'c'"),
        (("blocks", 0), "layers", "conv", "Give a list"),
        (("blocks", 0, "layers", 0), "type", "convolution", "type.*convolution"),
        (("blocks", 0, "layers", 0), "kernel", 1.5, "kernel.*1.5"),
        (("blocks", 0, "layers", 0), "inputs", None, "inputs.*missing"),
        (("blocks", 0, "layers", 0), "inputs", "d", "'d'"),
        (("blocks", 0, "layers", 0), "inputs", 0, "inputs.*0"),
        (("blocks", 0), "area", 0, "area.*0"),
        (("blocks", 0), "area", "x", "area.*x"),
        (("blocks", 0), "name", None, "name.*missing"),
        ((), "accuracy", 0.9, "key.*accuracy"),
        ((), "input_values", 10**400, "input_values.*from 1 to 1000000000"),
        ((), "name", ["tiny"], "network: name.*text"),
        ((), "groups", [], "at least one block and group"),
        (("groups", 0), "name", 7, "group: name.*text"),
        (("groups", 0), "name", "b", "groups.*name of its own"),
        (("blocks", 0), "name", {"a": 1}, "block: name.*text"),
        (("blocks", 0), "layers", [], "block 'conv': layers.*at least one"),
        (("blocks", 2), "vector", "yes", "block 'fc': vector.*true or false"),
        (("blocks", 0, "layers", 0), "type", ["conv"], "layer: type.*text"),
    ],
)
def test_a_bad_file_is_named(tmp_path, place, key, value, said):
    with pytest.raises(InvalidInputError, match=said):
        load_network(written(tmp_path, changed(place, key, value)))


def test_no_such_network(tmp_path):
    with pytest.raises(InvalidInputError, match="Did you mean 'alexnet'"):
        load_network("alexnt")
    with pytest.raises(InvalidInputError, match="no such file"):
        load_network(tmp_path / "absent.yaml")
    with pytest.raises(InvalidInputError, match="not valid YAML"):
        load_network(written(tmp_path, "name: [tiny"))
    with pytest.raises(InvalidInputError, match="mapping"):
        load_network(written(tmp_path, "- name"))


@pytest.mark.parametrize("ratios", [[0.5], [0.5, 0.0], [0.5, 1.1], [0.5, math.nan]])
def test_bad_ratios(tmp_path, ratios):
    with pytest.raises(InvalidInputError, match="retained"):
        load_network(written(tmp_path, PLAIN)).kept(ratios)


def test_tables_cannot_be_changed(tmp_path):
    with pytest.raises(ValueError, match="read-only"):
        load_network(written(tmp_path, PLAIN)).tables.prefix[0, 0] = 1.0
    layers = (Layer("relu", 1, 1),)
    assert Block("a", layers, "b") == Block("a", layers, "b", 1, False)
    assert Group("a", 4).step == 1


def test_whole_numbers_may_be_written_as_floats(tmp_path):
    content = changed(("blocks", 0, "layers", 0), "kernel", 3.0) | {"input_values": 48.0}
    found = load_network(written(tmp_path, content)).to_dict()
    assert json.dumps(found) == json.dumps(load_network(written(tmp_path, PLAIN)).to_dict())
