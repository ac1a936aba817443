"""Workloads from real networks: parameters, FLOPs and sizes against closed forms, published counts and real runs."""

import importlib
import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.workload import Workload, load_workload
from coinfer_gym.models.blocks import most_tokens
from coinfer_gym.models.build import workload_from_config, workload_from_model

SCRIPT = Path(__file__).resolve().parents[3] / "studies" / "lyu" / "build_workloads.py"
TOKENS = 9
IMAGE = 32

SMALL_TEXT = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 40}
SMALL_STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 1]}

TEXT_CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**SMALL_TEXT),
    "roberta": lambda: transformers.RobertaConfig(**SMALL_TEXT),
    "distilbert": lambda: transformers.DistilBertConfig(dim=24, n_layers=3, n_heads=2, hidden_dim=40),
    "deberta-v2": lambda: transformers.DebertaV2Config(**SMALL_TEXT, vocab_size=500, relative_attention=True),
    "gpt2": lambda: transformers.GPT2Config(n_embd=24, n_layer=3, n_head=2),
    "llama": lambda: transformers.LlamaConfig(**SMALL_TEXT, num_key_value_heads=1, vocab_size=500),
    "opt": lambda: transformers.OPTConfig(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=2, ffn_dim=40, word_embed_proj_dim=24, vocab_size=500
    ),
    "bart": lambda: transformers.BartConfig(
        d_model=24,
        encoder_layers=3,
        decoder_layers=4,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=40,
        decoder_ffn_dim=40,
        vocab_size=500,
    ),
    "t5": lambda: transformers.T5Config(d_model=24, d_kv=12, d_ff=40, num_layers=3, num_heads=2, vocab_size=500),
}
IMAGE_CONFIGS: dict[str, Callable[[], Any]] = {
    "vit": lambda: transformers.ViTConfig(**SMALL_TEXT, image_size=IMAGE, patch_size=8),
    "deit": lambda: transformers.DeiTConfig(**SMALL_TEXT, image_size=IMAGE, patch_size=8),
    "resnet": lambda: transformers.ResNetConfig(**SMALL_STAGES),
    "regnet": lambda: transformers.RegNetConfig(**SMALL_STAGES, groups_width=4),
    "convnext": lambda: transformers.ConvNextConfig(num_stages=2, hidden_sizes=[8, 16], depths=[2, 1], patch_size=4),
}
SMALL_CONFIGS = TEXT_CONFIGS | IMAGE_CONFIGS


def small_model(kind: str) -> Any:
    torch.manual_seed(0)
    return transformers.AutoModel.from_config(SMALL_CONFIGS[kind]()).eval()


def small_workload(model: Any) -> Workload:
    size = IMAGE if model.main_input_name == "pixel_values" else None
    return workload_from_model(model, tokens=TOKENS, image_size=size)


def real_inputs(model: Any) -> dict[str, Any]:
    if model.main_input_name == "pixel_values":
        return {"pixel_values": torch.rand(1, 3, IMAGE, IMAGE)}
    inputs = {"input_ids": torch.arange(3, 3 + TOKENS)[None]}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = inputs["input_ids"]
    return inputs


def run(model: Any, **options: Any) -> tuple[int, Any]:
    """FLOPs and output of a run with real values; the counter cannot see into the CPU's fused attention."""
    model.set_attn_implementation("eager")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = model(**real_inputs(model), **options)
    return counter.get_total_flops(), output


@pytest.mark.parametrize("kind", SMALL_CONFIGS)
def test_totals_are_those_of_the_model(kind: str) -> None:
    model = small_model(kind)
    workload = small_workload(model)
    assert workload.parameters == sum(weight.numel() for weight in model.parameters())
    assert workload.flops == run(model)[0]
    assert len(workload.blocks) == 3
    assert workload.name == model.config.model_type


@pytest.mark.parametrize("kind", TEXT_CONFIGS)
def test_text_activations_are_tokens_times_width(kind: str) -> None:
    workload = small_workload(small_model(kind))
    assert {block.activation_bits for block in workload.blocks} == {TOKENS * 24 * 32}
    assert workload.input_bits == TOKENS * 16


def test_activations_of_stages_shrink_as_the_hidden_states_do() -> None:
    model = small_model("resnet")
    hidden_states = run(model, output_hidden_states=True)[1].hidden_states
    # The hidden states are those after the stem and after each stage, of 2 layers and 1.
    stage_bits = [32 * state.numel() for state in hidden_states[1:]]
    found = [block.activation_bits for block in small_workload(model).blocks]
    assert found == [stage_bits[0], stage_bits[0], stage_bits[1]]


def test_narrower_values_upload_fewer_bits() -> None:
    model = small_model("bert")
    full, half = workload_from_model(model, tokens=TOKENS), workload_from_model(model, tokens=TOKENS, bits_per_value=16)
    assert (full.upload_bits[1:] == 2 * half.upload_bits[1:]).all()
    assert full.input_bits == half.input_bits


def test_a_vocabulary_beyond_16_bits_takes_32_bits_a_token() -> None:
    for vocabulary, bits in ((65_536, 16), (65_537, 32)):
        config = transformers.BertConfig(**SMALL_TEXT, vocab_size=vocabulary)
        assert workload_from_config(config, tokens=TOKENS).input_bits == TOKENS * bits


def test_images_take_8_bits_a_channel_and_need_not_be_square() -> None:
    workload = workload_from_config(SMALL_CONFIGS["resnet"](), image_size=(32, 64))
    assert workload.input_bits == 32 * 64 * 3 * 8
    assert workload_from_config(SMALL_CONFIGS["vit"]()).input_bits == IMAGE * IMAGE * 3 * 8
    assert workload_from_config(SMALL_CONFIGS["resnet"]()).input_bits == 224 * 224 * 3 * 8


def bert_base_layer_flops(tokens: int) -> int:
    """12 h^2 weights in the four attention projections and the two feed-forward ones, then QK' and AV."""
    return 2 * tokens * 12 * 768**2 + 4 * tokens**2 * 768


def test_bert_base_against_its_closed_form_and_the_paper() -> None:
    workload = load_workload("bert-base")
    assert workload.flops == 12 * bert_base_layer_flops(128) + 2 * 768**2
    assert workload.blocks[0].flops == bert_base_layer_flops(128)
    assert workload.blocks[-1].flops == bert_base_layer_flops(128) + 2 * 768**2
    layer = 12 * 768**2 + 9 * 768 + 4 * 768
    embeddings = (30_522 + 512 + 2 + 2) * 768
    pooler = 768**2 + 768
    assert [block.parameters for block in workload.blocks] == [embeddings + layer, *[layer] * 10, layer + pooler]
    assert round(workload.parameters / 1e6, 2) == 109.48
    assert round(2 * 12 * layer * 128 / 1e9, 2) == 21.77
    assert workload.input_bits == 128 * 16
    assert workload.upload_bits[6] == 128 * 768 * 32


def test_bart_base_against_its_closed_form_and_the_paper() -> None:
    workload = load_workload("bart-base")
    encoder_layer, decoder_linear = bert_base_layer_flops(128), 2 * 128 * 16 * 768**2
    decoder_layer = decoder_linear + 2 * 4 * 128**2 * 768
    assert [block.flops for block in workload.blocks] == [*[encoder_layer] * 5, encoder_layer + 6 * decoder_layer]
    assert round(workload.parameters / 1e6, 2) == 139.42
    # A token of the encoder meets its layers and the keys and values of cross-attention, one of the decoder the rest.
    encoder_weights, decoder_weights = 6 * (12 + 2) * 768**2, 6 * (16 - 2) * 768**2
    for flops_per_multiply_add, read, written in ((2, 64, 1), (1, 65, 65)):
        paper = flops_per_multiply_add * (read * encoder_weights + written * decoder_weights)
        assert round(paper / 1e9, 2) == 6.44


def test_the_bart_with_its_tied_head_has_the_same_parameters() -> None:
    config = TEXT_CONFIGS["bart"]()
    bare = workload_from_config(config, tokens=TOKENS)
    headed = workload_from_config(config, tokens=TOKENS, auto_class=transformers.AutoModelForSeq2SeqLM)
    assert headed.parameters == bare.parameters
    extra = [block.flops - twin.flops for block, twin in zip(headed.blocks, bare.blocks, strict=True)]
    assert extra == [0, 0, 2 * TOKENS * 24 * 500]


def test_gpt2_against_its_closed_form() -> None:
    workload = load_workload("gpt2")
    assert workload.flops == 12 * bert_base_layer_flops(128)
    assert workload.parameters == 124_439_808


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    # As published with torchvision's vit_b_16 and resnet152, in GFLOPS that count a multiply-add as one.
    [("vit-base", 86_567_656, 17.56), ("resnet-152", 60_192_808, 11.51)],
)
def test_image_networks_against_published_counts(name: str, parameters: int, multiply_adds: float) -> None:
    workload = load_workload(name)
    assert workload.parameters == parameters
    assert round(workload.flops / 2e9, 2) == multiply_adds
    assert workload.input_bits == 224 * 224 * 3 * 8


def test_llama_layers_with_shared_keys_and_gates() -> None:
    linear = 24 * 24 * 2 + 24 * 12 * 2 + 3 * 24 * 40
    flops = 2 * TOKENS * linear + 4 * TOKENS**2 * 24
    assert [block.flops for block in small_workload(small_model("llama")).blocks] == [flops] * 3


def test_of_experts_only_those_in_use_compute_but_all_hold_parameters() -> None:
    config = transformers.MixtralConfig(
        **SMALL_TEXT, num_key_value_heads=2, num_local_experts=5, num_experts_per_tok=2, vocab_size=500
    )
    workload = workload_from_config(config, tokens=TOKENS)
    linear = 4 * 24 * 24 + 5 * 24 + 2 * 3 * 24 * 40
    assert workload.blocks[1].flops == 2 * TOKENS * linear + 4 * TOKENS**2 * 24
    assert workload.blocks[1].parameters == 4 * 24 * 24 + 5 * 24 + 5 * 3 * 24 * 40 + 2 * 24


def test_what_runs_before_the_first_block_belongs_to_it_wherever_it_is_registered() -> None:
    # BART's embedding norm is registered after the layers, and runs before them.
    model = small_model("bart")
    block = small_workload(model).blocks[0]
    encoder = model.encoder
    parts = (encoder.embed_tokens, encoder.embed_positions, encoder.layernorm_embedding, encoder.layers[0])
    assert block.parameters == sum(weight.numel() for part in parts for weight in part.parameters())


def test_what_runs_between_two_blocks_belongs_to_the_later() -> None:
    model = small_model("convnext")
    stage = model.encoder.stages[1]
    parts = (stage.downsampling_layer, stage.layers[0], model.layernorm)
    last = small_workload(model).blocks[-1]
    assert last.name == "encoder.stages.1.layers.0"
    assert last.parameters == sum(weight.numel() for part in parts for weight in part.parameters())


def test_a_model_changed_by_hand_is_measured_as_it_is() -> None:
    model = small_model("bert")
    layer = model.encoder.layer[1]
    layer.intermediate.dense, layer.output.dense = nn.Linear(24, 10), nn.Linear(10, 24)
    workload = small_workload(model)
    assert workload.blocks[0].flops - workload.blocks[1].flops == 2 * 2 * TOKENS * 24 * (40 - 10)
    assert workload.parameters == sum(weight.numel() for weight in model.parameters())


def test_modules_that_are_never_called_count_to_the_block_they_stand_in() -> None:
    model = small_model("bert")
    before = [block.parameters for block in small_workload(model).blocks]
    model.encoder.layer[1].spare = nn.Linear(3, 4)
    assert [block.parameters for block in small_workload(model).blocks] == [before[0], before[1] + 16, before[2]]


def test_the_model_is_left_as_it_was() -> None:
    model = small_model("gpt2").train()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    attention, padding = model.config._attn_implementation, model.config.pad_token_id
    small_workload(model)
    assert model.training
    assert (model.config._attn_implementation, model.config.pad_token_id) == (attention, padding)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_layers_that_training_would_skip_are_measured() -> None:
    config = TEXT_CONFIGS["bart"]()
    config.encoder_layerdrop = 1.0
    model = transformers.AutoModel.from_config(config).train()
    assert small_workload(model).blocks == small_workload(model.eval()).blocks


def test_real_weights_give_the_rate_they_were_drawn_with() -> None:
    model = small_model("bert")
    for rate, layer in zip((20.0, 50.0, 80.0), model.encoder.layer, strict=True):
        for weight in layer.parameters():
            # Vectors (biases, norms) are not pruned: far-off values there must not count.
            drawn = torch.distributions.Laplace(0.0, 1.0 / rate).sample(weight.shape)
            weight.data = drawn if weight.ndim >= 2 else torch.full_like(weight, 100.0)
    # 4416 weights: a mean of as many exponentials is off by 1.5 %, one standard deviation.
    assert small_workload(model).blocks[1].laplacian_rate == pytest.approx(50.0, rel=0.06)


def test_without_weights_the_rate_follows_the_initialisation() -> None:
    config = transformers.BertConfig(**SMALL_TEXT, initializer_range=0.05)
    for block in workload_from_config(config, tokens=TOKENS).blocks:
        assert block.laplacian_rate == pytest.approx(math.sqrt(2.0) / 0.05)


def test_without_weights_convolutions_are_as_wide_as_transformers_draws_them() -> None:
    config = transformers.ResNetConfig(embedding_size=64, hidden_sizes=[64, 128], depths=[1, 1])
    torch.manual_seed(0)
    layer = transformers.AutoModel.from_config(config).encoder.stages[1].layers[0]
    drawn = [weight.detach() for weight in layer.parameters() if weight.ndim == 4]
    values = sum(weight.numel() for weight in drawn)
    mean_deviation = sum(weight.numel() * float(weight.std()) for weight in drawn) / values
    rate = workload_from_config(config, image_size=IMAGE).blocks[1].laplacian_rate
    assert rate == pytest.approx(math.sqrt(2.0) / mean_deviation, rel=0.01)


def test_a_model_of_zeros_has_no_rate() -> None:
    model = small_model("bert")
    for weight in model.encoder.layer[2].parameters():
        weight.data.zero_()
    for weight in model.pooler.parameters():
        weight.data.zero_()
    with pytest.raises(InvalidInputError, match=r"block 'encoder.layer.2': weights: got 0. All are zero"):
        small_workload(model)


@pytest.mark.parametrize(
    ("options", "field", "remedy"),
    [
        ({"tokens": 0}, "tokens", "whole number of at least 1"),
        ({"tokens": 2.5}, "tokens", "whole number of at least 1"),
        ({"tokens": 513}, "tokens", "BertModel takes at most 512"),
        ({"bits_per_value": True}, "bits_per_value", "whole number of at least 1"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], field: str, remedy: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        workload_from_config(SMALL_CONFIGS["bert"](), **options)
    assert caught.value.field == field
    assert remedy in caught.value.remedy


def test_positions_that_begin_after_the_padding_are_fewer() -> None:
    config = transformers.RobertaConfig(**SMALL_TEXT, vocab_size=500, max_position_embeddings=20)
    assert workload_from_config(config, tokens=18).cuts
    with pytest.raises(InvalidInputError, match="RobertaModel takes at most 18"):
        workload_from_config(config, tokens=19)


def test_positions_of_a_decoder_count_where_the_encoder_has_more() -> None:
    config = transformers.LEDConfig(
        d_model=24,
        encoder_layers=3,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=40,
        decoder_ffn_dim=40,
        vocab_size=500,
        attention_window=4,
        max_encoder_position_embeddings=40,
        max_decoder_position_embeddings=20,
    )
    with torch.device("meta"):
        model = transformers.LEDModel(config)
    assert most_tokens(model) == 20
    with pytest.raises(InvalidInputError, match="LEDModel takes at most 20"):
        workload_from_model(model, tokens=21)


@pytest.mark.parametrize(
    ("config", "remedy"),
    [
        (lambda: transformers.AlbertConfig(**SMALL_TEXT, vocab_size=500), "neither shares nor skips layers"),
        (lambda: transformers.WhisperConfig(encoder_layers=1, decoder_layers=1), "text (input_ids) or images"),
        (lambda: transformers.FNetConfig(hidden_size=24, num_hidden_layers=0, intermediate_size=40), "No blocks"),
        (lambda: transformers.LongformerConfig(**SMALL_TEXT, attention_window=8), "without values, failed"),
    ],
)
def test_models_that_cannot_be_cut_are_refused(config: Callable[[], Any], remedy: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        workload_from_config(config(), tokens=TOKENS)
    assert caught.value.field == "model"
    assert remedy in caught.value.remedy


def test_an_image_that_the_model_does_not_take_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="an image of 40 x 40, without values, failed"):
        workload_from_config(SMALL_CONFIGS["vit"](), image_size=40)
    with pytest.raises(InvalidInputError, match="image_size: got 0"):
        workload_from_config(SMALL_CONFIGS["vit"](), image_size=0)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="model: got 'Linear'"):
        workload_from_model(nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="config: got 'str'"):
        workload_from_config("bert-base-uncased")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="config: got 'BertConfig'"):
        workload_from_config(SMALL_CONFIGS["bert"](), auto_class=transformers.AutoModelForImageClassification)


@pytest.mark.parametrize("absent", ["torch", "transformers"])
def test_without_the_extra_the_import_says_how_to_get_it(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("coinfer_gym.models", "coinfer_gym.models.build"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(ImportError, match=r"pip install 'coinfer-gym\[models\]'"):
        importlib.import_module("coinfer_gym.models.build")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_workloads", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_shipped_files_are_what_the_script_makes(script: ModuleType) -> None:
    assert script.main(["--check"]) == 0


def test_a_file_that_differs_is_named_and_can_be_made_anew(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "BUILDS", {"gpt2": script.BUILDS["gpt2"]})
    monkeypatch.setattr(script, "WEIGHTS", {})
    path = tmp_path / "gpt2.yaml"
    folder = ["--folder", str(tmp_path)]
    assert script.main(["--check", *folder]) == 1
    assert not path.exists()
    assert script.main(folder) == 0
    assert script.main(["--check", *folder]) == 0
    path.write_text(path.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    capsys.readouterr()
    assert script.main(["--check", *folder]) == 1
    assert str(path) in capsys.readouterr().err
    assert script.main(folder) == 0
    assert load_workload(path) == load_workload("gpt2")
    assert [file.name for file in tmp_path.iterdir()] == ["gpt2.yaml"]
