"""Activations over the link: their size is the workload's, and what comes out is what went in, to the precision."""

import pytest
import torch
import transformers

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.build import workload_from_model
from coinfer_gym.models.link import VALUE_BITS, pack, payload_bits, unpack
from coinfer_gym.models.split import HIDDEN_STATE, split

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
ERRORS = {"fp32": 0.0, "fp16": 2**-11, "int8": 0.5 / 127}  # relative to the largest value


@pytest.mark.parametrize("precision", VALUE_BITS)
def test_the_payload_is_what_the_workload_says(precision: str) -> None:
    model = transformers.BertModel(transformers.BertConfig(**SMALL))
    workload = workload_from_model(model, tokens=9, bits_per_value=VALUE_BITS[precision])
    inputs = torch.arange(9)[None] + 20_000
    for cut in (0, 1):
        sent = split(model, cut).device(input_ids=inputs)
        shapes = {name: value for name, value in sent.items() if name.endswith(".shape")}
        message = pack(sent, precision)
        assert payload_bits(message) == workload.upload_bits[cut] + sum(16 * value.numel() for value in shapes.values())


def test_an_image_at_cut_0_has_8_bits_a_value_in_int8() -> None:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])
    model = transformers.ResNetModel(config)
    message = pack(split(model, 0).device(pixel_values=torch.rand(1, 3, 32, 32)), "int8")
    assert payload_bits(message) == workload_from_model(model, image_size=32).input_bits


@pytest.mark.parametrize("precision", VALUE_BITS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_values_come_back_to_the_precision_and_in_their_type(precision: str, dtype: str) -> None:
    torch.manual_seed(0)
    value = torch.randn(2, 5, 7).to(getattr(torch, dtype))
    back = unpack(pack({HIDDEN_STATE: value}, precision))[HIDDEN_STATE]
    assert (back.dtype, back.shape) == (value.dtype, value.shape)
    rounding = torch.finfo(value.dtype).eps
    error = float((back.double() - value.double()).abs().max() / value.abs().max())
    assert error <= ERRORS[precision] + (0.0 if precision == "fp32" else rounding)


@pytest.mark.parametrize("precision", VALUE_BITS)
@pytest.mark.parametrize(
    "value",
    [
        [0, 65_535],
        [0, 65_536],
        [-1, 5],
        [2**31, 0],
        [],
    ],
)
def test_whole_numbers_are_exact(precision: str, value: list[int]) -> None:
    sent = {"ids": torch.tensor(value, dtype=torch.int64), "mask": torch.tensor([True, False])}
    back = unpack(pack(sent, precision))
    for name, tensor in sent.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)


@pytest.mark.parametrize("precision", VALUE_BITS)
def test_zeros_nothing_and_turned_tensors_come_back(precision: str) -> None:
    sent = {"zeros": torch.zeros(3), "nothing": torch.zeros(0, 4), "turned": torch.eye(3)[:2].t()}
    back = unpack(pack(sent, precision))
    assert all(torch.equal(back[name], value) for name, value in sent.items())


def test_outputs_that_share_memory_come_back() -> None:
    whole = torch.rand(2, 3)
    back = unpack(pack({"hidden": whole, "pooled": whole[:, 0]}))
    assert torch.equal(back["pooled"], whole[:, 0])


def test_the_answer_of_a_vision_network_whose_outputs_are_views_comes_back() -> None:
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    model = transformers.Dinov2Model(config).eval()
    with torch.no_grad():
        image = torch.rand(1, 3, 28, 28)
        answer = model(pixel_values=image)
        device, server = split(model, 1)
        served = server(unpack(pack(device(pixel_values=image))))
    back = unpack(pack(dict(served)))
    for name, value in answer.items():
        assert torch.equal(back[name], value)


@pytest.mark.parametrize("precision", VALUE_BITS)
def test_tensors_come_back_as_they_lay_in_memory(precision: str) -> None:
    # Sums over a tensor that lies otherwise may round otherwise.
    image = torch.rand(2, 3, 4, 5)
    sent = {
        "plain": image,
        "turned": image.flatten(2).transpose(1, 2),
        "channels last": image.to(memory_format=torch.channels_last),
        "one": image[:1, :, :1],
        "number": torch.tensor(3.0),
    }
    back = unpack(pack(sent, precision))
    for name in ("plain", "turned", "channels last"):
        assert back[name].stride() == sent[name].stride()
    for name, value in sent.items():
        assert torch.allclose(back[name], value, atol=0.01)


@torch.no_grad()
def test_the_link_changes_no_bit_of_a_network_whose_activation_is_turned() -> None:
    torch.manual_seed(0)
    small = SMALL | {"num_hidden_layers": 3, "image_size": 32, "patch_size": 8}
    model = transformers.Aimv2VisionModel(transformers.Aimv2VisionConfig(**small)).eval()
    inputs = {"pixel_values": torch.rand(2, 3, 32, 32)}
    whole = model(**inputs)
    for cut in range(4):
        device, server = split(model, cut)
        received = unpack(pack(device(**inputs)))
        assert torch.equal(server(received).last_hidden_state, whole.last_hidden_state)


def test_what_16_bits_cannot_hold_becomes_the_largest() -> None:
    back = unpack(pack({"x": torch.tensor([1e6, -1e6])}, "fp16"))["x"]
    assert back.tolist() == [65_504.0, -65_504.0]


def test_bad_input_is_named() -> None:
    with pytest.raises(InvalidInputError, match="Did you mean 'fp16'"):
        pack({}, "fp61")
    with pytest.raises(InvalidInputError, match="activations: x: got inf"):
        pack({"x": torch.tensor([1.0, torch.inf])}, "int8")
    for activations in (None, [1], {"x": 1}):
        with pytest.raises(InvalidInputError, match=r"activations: got .* Give a mapping of names to tensors"):
            pack(activations)
    with pytest.raises(InvalidInputError, match=r"message: got 5. Give bytes"):
        unpack(5)
    whole = pack({"x": torch.ones(4)})
    for message in (b"", b"12345678", whole[:-1], whole[:20]):
        with pytest.raises(InvalidInputError, match="Give a whole message made by pack"):
            unpack(message)
