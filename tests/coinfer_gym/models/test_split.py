"""Cut networks: the halves together equal the whole in every bit, and each holds and sends what a workload says."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.build import workload_from_model
from coinfer_gym.models.split import HIDDEN_STATE, split

TOKENS, IMAGE = 9, 32
SMALL = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 40}
STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 1]}
VOCABULARY = {"vocab_size": 500}
BART = {
    "d_model": 24,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
}
GPT2 = {"n_embd": 24, "n_layer": 3, "n_head": 2}

# Networks of which every weight is on one side only.
PLAIN: dict[str, Callable[[], Any]] = {
    "BertModel": lambda: transformers.BertConfig(**SMALL, **VOCABULARY),
    "BertForQuestionAnswering": lambda: transformers.BertConfig(**SMALL, **VOCABULARY),
    "DistilBertModel": lambda: transformers.DistilBertConfig(dim=24, n_layers=3, n_heads=2, hidden_dim=40),
    "GPT2Model": lambda: transformers.GPT2Config(**GPT2, **VOCABULARY),
    "GPT2ForSequenceClassification": lambda: transformers.GPT2Config(**GPT2, **VOCABULARY, pad_token_id=7),
    "LlamaForCausalLM": lambda: transformers.LlamaConfig(**SMALL, **VOCABULARY, num_key_value_heads=1),
    "MPNetModel": lambda: transformers.MPNetConfig(**SMALL, **VOCABULARY),
    "ViTForImageClassification": lambda: transformers.ViTConfig(**SMALL, image_size=IMAGE, patch_size=8),
    "ResNetForImageClassification": lambda: transformers.ResNetConfig(**STAGES),
    "ConvNextModel": lambda: transformers.ConvNextConfig(
        num_stages=2, hidden_sizes=[8, 16], depths=[2, 1], patch_size=4
    ),
    "SwinModel": lambda: transformers.SwinConfig(
        image_size=IMAGE, patch_size=4, embed_dim=8, depths=[2, 1], num_heads=[2, 2], window_size=4
    ),
}
# Networks with a table that both sides read.
SHARING: dict[str, Callable[[], Any]] = {
    "GPT2LMHeadModel": lambda: transformers.GPT2Config(**GPT2, **VOCABULARY),
    "BartForConditionalGeneration": lambda: transformers.BartConfig(**BART, **VOCABULARY),
    # Its positions are computed from a shape, without any tensor.
    "MarianModel": lambda: transformers.MarianConfig(**BART, **VOCABULARY, pad_token_id=0, decoder_start_token_id=0),
    "PegasusModel": lambda: transformers.PegasusConfig(**BART, **VOCABULARY, pad_token_id=0, decoder_start_token_id=0),
    "BlenderbotSmallModel": lambda: transformers.BlenderbotSmallConfig(**BART, **VOCABULARY),
    "ProphetNetModel": lambda: transformers.ProphetNetConfig(
        hidden_size=24,
        num_encoder_layers=3,
        num_decoder_layers=2,
        num_encoder_attention_heads=2,
        num_decoder_attention_heads=2,
        encoder_ffn_dim=40,
        decoder_ffn_dim=40,
        **VOCABULARY,
    ),
    "T5ForConditionalGeneration": lambda: transformers.T5Config(
        d_model=24, d_kv=12, d_ff=40, num_layers=3, num_heads=2, **VOCABULARY
    ),
    "DebertaV2Model": lambda: transformers.DebertaV2Config(
        **SMALL, **VOCABULARY, relative_attention=True, norm_rel_ebd="layer_norm", pos_att_type=["c2p", "p2c"]
    ),
}
NETWORKS = PLAIN | SHARING
# Networks that may round otherwise where they fill a cache.
CACHING: dict[str, Callable[[], Any]] = {
    "GPTJModel": lambda: transformers.GPTJConfig(**GPT2, **VOCABULARY, rotary_dim=4),
    "LongT5Model": lambda: transformers.LongT5Config(
        d_model=24, d_kv=12, d_ff=40, num_layers=3, num_heads=2, **VOCABULARY
    ),
}


def network(kind: str) -> Any:
    torch.manual_seed(0)
    model = getattr(transformers, kind)(NETWORKS[kind]()).eval()
    for name, weight in model.named_parameters():
        # Fresh biases are 0 and hide a lost one.
        if name.endswith("bias"):
            nn.init.normal_(weight, std=0.1)
    return model


def inputs_of(model: Any, batch: int = 2, tokens: int = TOKENS) -> dict[str, Any]:
    if model.main_input_name == "pixel_values":
        return {"pixel_values": torch.rand(batch, 3, IMAGE, IMAGE)}
    inputs = {"input_ids": torch.randint(10, 500, (batch, tokens))}
    inputs["attention_mask"] = torch.ones(batch, tokens, dtype=torch.long)
    inputs["attention_mask"][-1, -3:] = 0
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.randint(10, 500, (batch, 4))
    return inputs


def assert_same(output: Any, whole: Any) -> None:
    assert type(output) is type(whole)
    names = set(whole) - {"past_key_values"}
    assert set(output) == names
    assert names
    for name in names:
        assert torch.equal(output[name], whole[name]), name


@torch.no_grad()
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_halves_together_are_the_whole_at_every_cut(kind: str) -> None:
    model = network(kind)
    inputs, shorter = inputs_of(model), inputs_of(model, batch=1, tokens=TOKENS - 2)
    whole, whole_shorter = model(**inputs), model(**shorter)
    for cut in range(4):
        device, server = split(model, cut)
        activations = device(**inputs)
        for _ in range(2):
            assert_same(server(activations), whole)
        # Other shapes than those before.
        assert_same(server(device(**shorter)), whole_shorter)


@torch.no_grad()
@pytest.mark.parametrize("kind", CACHING)
def test_the_whole_is_that_without_a_cache(kind: str) -> None:
    torch.manual_seed(0)
    model = getattr(transformers, kind)(CACHING[kind]()).eval()
    inputs = inputs_of(model)
    for cut in range(4):
        device, server = split(model, cut)
        assert_same(server(device(**inputs)), model(**inputs, use_cache=False))


@pytest.mark.parametrize("kind", PLAIN)
def test_each_half_holds_and_sends_what_the_workload_says(kind: str) -> None:
    model = network(kind)
    image = {"image_size": IMAGE} if model.main_input_name == "pixel_values" else {}
    workload = workload_from_model(model, tokens=TOKENS, **image)
    for cut in range(4):
        device, server = split(model, cut)
        assert sum(weight.numel() for weight in device.parameters()) == workload.parameters_device[cut]
        assert sum(weight.numel() for weight in server.parameters()) == workload.parameters_server[cut]
        if 0 < cut < 3:
            with torch.no_grad():
                sent = device(**inputs_of(model, batch=1))
            assert sent[HIDDEN_STATE].numel() * 32 == workload.upload_bits[cut]


@pytest.mark.parametrize("kind", SHARING)
def test_a_table_that_both_sides_read_is_on_both_and_the_rest_is_not(kind: str) -> None:
    model = network(kind)
    device, server = split(model, 2)
    on_device = {id(weight) for weight in device.parameters()}
    on_server = {id(weight) for weight in server.parameters()}
    both = [name for name, weight in model.named_parameters() if id(weight) in on_device & on_server]
    assert len(both) == 1
    assert all(id(weight) in on_device | on_server for weight in model.parameters())


def test_what_the_server_does_not_read_stays_on_the_device() -> None:
    inputs = inputs_of(network("BertModel")) | {"token_type_ids": torch.ones(2, TOKENS, dtype=torch.long)}
    device, server = split(network("BertModel"), 1)
    sent = device(**inputs)
    assert set(sent) == {"attention_mask", HIDDEN_STATE, "input_ids.shape", "token_type_ids.shape"}
    assert_same(server(sent), network("BertModel")(**inputs))
    # The last token that is no padding is looked for in the ids.
    assert "input_ids" in split(network("GPT2ForSequenceClassification"), 1).device(
        **inputs_of(network("GPT2ForSequenceClassification"))
    )


def test_beside_the_hidden_state_go_the_tables_of_the_first_block_and_the_decoders_input() -> None:
    for kind, more in (
        ("T5ForConditionalGeneration", {"encoder.block.1:1", "decoder_input_ids"}),
        ("BartForConditionalGeneration", {"decoder_input_ids"}),
        ("MPNetModel", {"encoder.relative_attention_bias:0"}),
        ("DebertaV2Model", {"encoder.LayerNorm:0"}),
    ):
        model = network(kind)
        sent = split(model, 2).device(**inputs_of(model))
        assert set(sent) == {HIDDEN_STATE, "attention_mask", "input_ids.shape"} | more


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize(
    "reparametrise",
    [
        lambda layer: torch.nn.utils.prune.l1_unstructured(layer, "weight", 0.5),
        lambda layer: torch.nn.utils.prune.l1_unstructured(layer, "bias", 0.5),
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.orthogonal,
    ],
)
def test_a_network_whose_weights_are_computed_is_cut_all_the_same(reparametrise: Any) -> None:
    model = network("BertModel")
    for layer in model.encoder.layer:
        with torch.enable_grad():
            reparametrise(layer.output.dense)
    inputs = inputs_of(model)
    chain = nn.Sequential(nn.Linear(4, 24), nn.Linear(24, 24), nn.Linear(24, 2)).eval()
    with torch.enable_grad():
        reparametrise(chain[1])
    given = torch.rand(3, 4)
    for cut in range(4):
        device, server = split(model, cut)
        assert_same(server(device(**inputs)), model.eval()(**inputs))
        device, server = split(chain, cut)
        assert torch.equal(server(device(given)), chain(given))


@torch.no_grad()
def test_a_plain_sequence_is_cut_between_any_two_members() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    inputs = torch.rand(5, 6)
    whole = copy.deepcopy(model).eval()(inputs)
    for cut in range(5):
        device, server = split(model, cut)
        assert torch.equal(server(device(inputs)), whole)
        held = [sum(weight.numel() for weight in half.parameters()) for half in (device, server)]
        assert held == [[0, 83], [56, 27], [56, 27], [56, 27], [83, 0]][cut]
    assert model.training


def test_the_model_is_left_as_it_was() -> None:
    model = network("GPT2Model").train()
    before = copy.deepcopy(model.config)
    modules = list(model.modules())
    split(model, 1).device(**inputs_of(model))
    assert model.training
    assert list(model.modules()) == modules
    assert model.config.to_dict() == before.to_dict()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def test_the_loss_is_part_of_the_output() -> None:
    model = network("BertForQuestionAnswering")
    inputs = inputs_of(model) | {"start_positions": torch.tensor([1, 2]), "end_positions": torch.tensor([3, 4])}
    for cut in range(4):
        device, server = split(model, cut)
        assert_same(server(device(**inputs)), model(**inputs))


@pytest.mark.parametrize("cut", [-1, 4, 1.0, True, None])
def test_a_cut_out_of_range_is_refused(cut: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"cut: got .* from 0 to 3"):
        split(network("BertModel"), cut)


def test_networks_that_cannot_be_cut_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"Linear.*transformers library or a torch.nn.Sequential"):
        split(nn.Linear(2, 2), 0)
    with pytest.raises(InvalidInputError, match="neither shares nor skips layers"):
        split(transformers.AlbertModel(transformers.AlbertConfig(**SMALL, **VOCABULARY)), 1)
    with torch.device("meta"):
        empty = transformers.BertModel(transformers.BertConfig(**SMALL, **VOCABULARY))
    with pytest.raises(InvalidInputError, match="load or initialise it"):
        split(empty, 1)


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_inputs_that_lack_something_or_are_no_tensors_are_refused(cut: int) -> None:
    model = network("BartForConditionalGeneration")
    device = split(model, cut).device
    with pytest.raises(InvalidInputError, match="Give decoder_input_ids by name"):
        device(input_ids=torch.ones(1, 4, dtype=torch.long))
    with pytest.raises(InvalidInputError, match=r"inputs: use_cache: got True\. Only tensors"):
        device(**inputs_of(model), use_cache=True)


def test_what_is_no_activation_is_refused() -> None:
    servers = [split(network("BertModel"), 1).server, split(nn.Sequential(nn.Linear(2, 2)), 0).server]
    for server in servers:
        for activations in (None, {}, {"hidden_state": 1}):
            with pytest.raises(InvalidInputError, match=r"activations: got .* Give what the device half returns"):
                server(activations)
    with pytest.raises(InvalidInputError, match=r"inputs: got 1. Give a tensor"):
        split(nn.Sequential(nn.Linear(2, 2)), 1).device(1)
