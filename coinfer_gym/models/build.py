"""Turns any `transformers` model into a workload: its blocks with their FLOPs, parameters and activation sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.workload import Block, Workload
from coinfer_gym.models.blocks import find_blocks, raw_sample, trace_blocks, weights_by_block
from coinfer_gym.models.generation import one_pass, trace_generation
from coinfer_gym.models.inputs import check_positive
from coinfer_gym.models.prune import prunable

_DEFAULT_INITIALIZER_STD = 0.02


def workload_from_model(
    model: PreTrainedModel,
    *,
    name: str | None = None,
    tokens: int = 128,
    prompt_tokens: int | None = None,
    new_tokens: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    bits: int | None = None,
    bits_per_value: int | None = None,
    description: str = "",
) -> Workload:
    """Workload of a `transformers` model, measured without running it on real data.

    One sample passes through a copy of the model that has shapes but no values (torch's meta device). Work before
    the first block (embeddings, stem) counts to block 1, work between two blocks (downsampling) to the later one,
    work after the last block (norm, pooler, head) to the last block. Of an encoder-decoder only the encoder is cut;
    the decoder reads as many tokens as the encoder and belongs to the last block.

    With `prompt_tokens` and `new_tokens` a decoder generates. It reads the prompt in one pass, which makes the first
    new token, and makes each further one in a pass of its own. Each pass reads all weights, and each but the first also
    the keys and values that were kept of all tokens before. Cut 0 uploads the prompt alone. An inner cut sends the
    hidden state of every token that is read, and waits for the new token once per pass.

    Parameters
    ----------
    model : PreTrainedModel
        Text or image model with a chain of blocks, with weights or on the meta device; it is not changed.
    name : str, optional
        Name of the workload; the model's own name when left out.
    tokens : int
        Length of the text in tokens; ignored for image models, and for a decoder that generates.
    prompt_tokens, new_tokens : int, optional
        Tokens that a decoder reads and makes; give both or neither.
    image_size : int or (int, int), optional
        Side, or height and width, of the image in pixels; the configuration's, else 224, when left out. Ignored for
        text models.
    bits : int, optional
        Bits of one stored parameter, unless a scenario says otherwise (`parameter_bits`); 32, or 16 of a decoder that
        generates, when left out.
    bits_per_value : int, optional
        Bits of one uploaded activation value, and of kept keys and values; likewise.
    description : str
        Where the numbers come from; written from the arguments when empty.

    Returns
    -------
    Workload
        FLOPs of matrix products and convolutions at 2 per multiply-add (of experts, those that a token uses); every
        parameter once, where the forward pass meets it first, and how many of them `coinfer_gym.models.prune.prunable`
        finds; activation sizes and input size in bits (16 or 32 per token id, 8 per pixel and channel). Laplacian rates
        are measured on the prunable weights, or on the meta device follow from the spread of the initialisation. Of a
        decoder that generates, FLOPs, uploads and reads are those of all passes together.

    Raises
    ------
    InvalidInputError
        If an argument is out of range, the model takes neither text nor images, no blocks can be found, they do not
        run once each in order, or the forward pass fails.
    """
    if not isinstance(model, PreTrainedModel):
        raise InvalidInputError("model", type(model).__name__, "Give a model of the transformers library.")
    check_positive("tokens", tokens)
    if (prompt_tokens is None) != (new_tokens is None):
        given = (prompt_tokens, new_tokens)
        raise InvalidInputError("prompt_tokens, new_tokens", given, "Give both for a decoder that generates, or none.")
    if prompt_tokens is None or new_tokens is None:
        block_names, sample, usual = find_blocks(model), raw_sample(model, tokens, image_size), 32
        passes, words = one_pass(trace_blocks(model, block_names, sample)), sample.words
    else:
        block_names, usual = find_blocks(model), 16
        passes = trace_generation(model, block_names, prompt_tokens, new_tokens)
        sample = raw_sample(model, prompt_tokens, None)
        words = f"{sample.words}, {new_tokens} new ones"
    bits, bits_per_value = (usual if given is None else given for given in (bits, bits_per_value))
    check_positive("bits", bits)
    check_positive("bits_per_value", bits_per_value)
    weights = weights_by_block(model, len(block_names), passes.first.first_turn)
    touched = prunable(model)
    pruned = [[weight for weight in block if weight in touched] for block in weights]
    blocks = tuple(
        Block(
            name=block_name,
            flops=float(passes.first.flops_of_blocks[turn] + passes.step_flops[turn]),
            parameters=sum(weight.numel() for weight in weights[turn]),
            activation_bits=float(passes.values[turn] * bits_per_value),
            laplacian_rate=_laplacian_rate(block_name, pruned[turn], model.config),
            prunable=sum(weight.numel() for weight in pruned[turn]),
            step_flops=passes.step_flops[turn],
            cache_bits=float(passes.cache_values[turn] * bits_per_value),
            cache_read_bits=passes.cache_reads[turn] * bits_per_value,
        )
        for turn, block_name in enumerate(block_names)
    )
    return Workload(
        name or Path(model.config.name_or_path or "").name or str(model.config.model_type),
        float(sample.bits),
        blocks,
        description or f"{type(model).__name__} with {words}; FLOPs of matrix products at 2 per multiply-add.",
        bits_per_value,
        bits,
        passes.steps,
        _tied(model) if len(blocks) > 1 else 0,
    )


def workload_from_config(
    config: PreTrainedConfig,
    *,
    auto_class: Any = None,
    name: str | None = None,
    tokens: int = 128,
    prompt_tokens: int | None = None,
    new_tokens: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    bits: int | None = None,
    bits_per_value: int | None = None,
    description: str = "",
) -> Workload:
    """Workload of the model that a `transformers` configuration describes; no weights are made or loaded.

    Parameters
    ----------
    config : PreTrainedConfig
        For example ``BertConfig()``.
    auto_class : class, optional
        The `transformers` class whose ``from_config`` picks the model, for example
        ``AutoModelForImageClassification``. When left out, ``AutoModel`` (no task head), or ``AutoModelForCausalLM``
        for a decoder that generates.
    name, tokens, prompt_tokens, new_tokens, image_size, bits, bits_per_value, description
        As in `workload_from_model`.

    Returns
    -------
    Workload
        As in `workload_from_model`.

    Raises
    ------
    InvalidInputError
        If `auto_class` has no model for the configuration, or as in `workload_from_model`.
    """
    if auto_class is None:
        auto_class = AutoModel if prompt_tokens is None and new_tokens is None else AutoModelForCausalLM
    try:
        with torch.device("meta"):
            model = auto_class.from_config(config, trust_remote_code=False)
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidInputError(
            "config", type(config).__name__, f"Give a configuration of a model that transformers can build: {error}"
        ) from error
    return workload_from_model(
        model,
        name=name,
        tokens=tokens,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        image_size=image_size,
        bits=bits,
        bits_per_value=bits_per_value,
        description=description,
    )


def _tied(model: Any) -> int:
    """Number of weights of the table of tokens that the head multiplies by too."""
    head = model.get_output_embeddings()
    return int(head.weight.numel()) if head is not None and head.weight is model.get_input_embeddings().weight else 0


def _laplacian_rate(block_name: str, weights: Sequence[nn.Parameter], config: PreTrainedConfig) -> float:
    """Rate `1 / E|w|` of prunable weights, by measurement where they have values."""
    values = sum(weight.numel() for weight in weights)
    if values == 0:
        # Nothing to prune, so the rate multiplies nothing: any positive number serves.
        return math.sqrt(2.0) / _DEFAULT_INITIALIZER_STD
    if any(weight.is_meta for weight in weights):
        # A Laplacian of standard deviation sigma has E|w| = sigma / sqrt(2). Trained weights keep about the spread
        # they were initialised with; this stands in until they are measured.
        total = sum(weight.numel() * _initializer_std(weight, config) for weight in weights) / math.sqrt(2.0)
    else:
        # The maximum-likelihood estimate of a Laplacian's rate.
        total = sum(float(torch.linalg.vector_norm(weight.detach(), 1, dtype=torch.float64)) for weight in weights)
    if not total > 0.0:
        raise InvalidInputError(f"block {block_name!r}: weights", 0, "All are zero: load or initialise the model.")
    return values / total


def _initializer_std(weight: nn.Parameter, config: PreTrainedConfig) -> float:
    stated = getattr(config, "initializer_range", None)
    if stated is not None:
        return float(stated)
    if weight.ndim == 4:
        # Convolutional networks state no spread but draw by Kaiming, fan-out.
        return math.sqrt(2.0 / (weight.shape[0] * weight.shape[2] * weight.shape[3]))
    return _DEFAULT_INITIALIZER_STD
