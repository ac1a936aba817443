"""Workloads: sums over every cut, the shipped files, and what is said when a workload is wrong."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.workload import Block, Workload, load_workload, shipped_workloads, workload_from_dict

PLAIN: dict[str, Any] = {
    "name": "three",
    "description": "Made up.",
    "input_bits": 800,
    "flops": 60,
    "parameters": 9,
    "blocks": [
        {"name": "a", "flops": 10, "parameters": 4, "activation_bits": 320, "laplacian_rate": 20.0},
        {"name": "b", "flops": 20, "parameters": 0, "activation_bits": 160, "laplacian_rate": 30.0},
        {"name": "c", "flops": 30, "parameters": 5, "activation_bits": 64, "laplacian_rate": 40.0},
    ],
}


def changed(**entries: Any) -> dict[str, Any]:
    return {**copy.deepcopy(PLAIN), **entries}


def with_block(number: int, **entries: Any) -> dict[str, Any]:
    data = copy.deepcopy(PLAIN)
    data["blocks"][number].update(entries)
    return data


def test_sums_of_every_cut() -> None:
    workload = workload_from_dict(PLAIN)
    assert workload.cuts == 4
    assert workload.flops_device.tolist() == [0, 10, 30, 60]
    assert workload.flops_server.tolist() == [60, 50, 30, 0]
    assert workload.parameters_device.tolist() == [0, 4, 4, 9]
    assert workload.parameters_server.tolist() == [9, 5, 5, 0]
    assert workload.laplacian_rates.tolist() == [20, 30, 40]
    assert (workload.flops, workload.parameters) == (60, 9)


def test_nothing_is_uploaded_after_the_last_block() -> None:
    assert workload_from_dict(PLAIN).upload_bits.tolist() == [800, 320, 160, 0]


def test_another_input_size_changes_only_the_first_upload() -> None:
    workload = workload_from_dict(PLAIN).with_input_bits(5.0)
    assert workload.upload_bits.tolist() == [5, 320, 160, 0]
    assert workload.blocks == workload_from_dict(PLAIN).blocks


def test_other_value_bits_scale_every_upload_but_the_first() -> None:
    workload = workload_from_dict(changed(value_bits=16)).with_value_bits(8)
    assert workload.upload_bits.tolist() == [workload.input_bits, 160, 80, 0]
    assert workload.value_bits == 8


def test_prunable_weights_and_reads_are_told_per_block() -> None:
    data = with_block(0, prunable=1, reads=3)
    blocks = workload_from_dict(data).blocks
    assert [block.prunable for block in blocks] == [1, 0, 5]  # all parameters where the file does not say
    assert [block.reads for block in blocks] == [3, 1, 1]
    assert workload_from_dict(data).to_dict() == data


def test_plain_form_and_file_carry_everything(tmp_path: Path) -> None:
    workload = workload_from_dict(PLAIN)
    assert workload.to_dict() == PLAIN
    path = tmp_path / "three.yaml"
    path.write_text(yaml.safe_dump(workload.to_dict()), encoding="utf-8")
    assert load_workload(path) == load_workload(str(path)) == workload


def test_totals_and_description_may_be_left_out() -> None:
    data = {key: PLAIN[key] for key in ("name", "input_bits", "blocks")}
    assert workload_from_dict(data).to_dict() == changed(description="")


@pytest.mark.parametrize(
    ("data", "field", "remedy"),
    [
        (changed(blokcs=[]), "workload: key", "Did you mean 'blocks'?"),
        (with_block(0, flop=1), "workload: block 1: key", "Did you mean 'flops'?"),
        ({key: PLAIN[key] for key in ("name", "blocks")}, "workload: input_bits", "The key is missing."),
        (changed(flops=61), "workload: flops", "The blocks sum to 60: correct the blocks or the total."),
        (with_block(1, flops=-20), "block 'b': flops", "from 0 to 1e+30 FLOP"),
        (with_block(1, flops="2e9"), "block 'b': flops", "number"),
        (with_block(1, flops=10**400), "block 'b': flops", "from 0 to 1e+30 FLOP"),
        (with_block(1, parameters=True), "block 'b': parameters", "from 0 to 1e+18."),
        (with_block(1, name=["b"]), "block: name", "text"),
        (changed(name=10**5000), "workload: name", "text"),
        (changed(description=None), "workload 'three': description", "text"),
        (changed(flops=10**400), "workload: flops", "The blocks sum to 60"),
        (with_block(2, activation_bits=math.nan), "block 'c': activation_bits", "from 0 to 1e+18 bit"),
        (with_block(2, laplacian_rate=0), "block 'c': laplacian_rate", "1 / mean(|weight|)"),
        (changed(input_bits=math.inf), "workload 'three': input_bits", "bit"),
        (changed(value_bits=7.5), "workload 'three': value_bits", "whole number of bits"),
        (with_block(0, prunable=10**9), "block 'a': prunable", "at most its parameters"),
        (with_block(0, prunable=-1), "block 'a': prunable", "from 0"),
        (changed(blocks=[]), "workload 'three': blocks", "at least one block"),
        (changed(blocks="all"), "workload: blocks", "list of blocks"),
        ([PLAIN], "workload", "mapping"),
    ],
)
def test_bad_content_is_named_with_its_remedy(data: Any, field: str, remedy: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        workload_from_dict(data)
    assert caught.value.field == field
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("field", ["flops", "parameters"])
def test_a_network_of_nothing_is_refused(field: str) -> None:
    sizes = {"flops": 1, "parameters": 1, field: 0}
    with pytest.raises(InvalidInputError, match=f"workload 'empty': {field}: got 0. At least one block"):
        Workload("empty", 8.0, (Block("a", sizes["flops"], sizes["parameters"], 8.0, 1.0),))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    with pytest.raises(InvalidInputError, match="There is no such file") as caught:
        load_workload(path)
    assert caught.value.value == str(path)


def test_an_unknown_name_leads_to_the_nearest() -> None:
    with pytest.raises(InvalidInputError, match="Did you mean 'bert-base'"):
        load_workload("bert_base")


def test_text_that_is_not_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("blocks: [1, 2", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="not valid YAML") as caught:
        load_workload(path)
    assert caught.value.value == str(path)


def test_yaml_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text("!!python/object/apply:os.getcwd []", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="not valid YAML"):
        load_workload(path)


@pytest.mark.parametrize("name", shipped_workloads())
def test_shipped_workloads_are_whole(name: str) -> None:
    workload = load_workload(name)
    assert workload.name == name
    assert workload.description
    shape = (len(workload.blocks) + 1,)
    for device, server, total in (
        (workload.flops_device, workload.flops_server, workload.flops),
        (workload.parameters_device, workload.parameters_server, workload.parameters),
    ):
        assert device.shape == server.shape == shape
        np.testing.assert_allclose(device + server, total, rtol=1e-12)
        assert (np.diff(device) >= 0).all()
    assert workload.upload_bits.shape == shape
    assert workload.upload_bits[-1] == 0
    assert (workload.upload_bits[:-1] > 0).all()
    assert workload_from_dict(workload.to_dict()) == workload
