"""Follows a language model that generates, without values: what its first pass and its further ones take per block."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.blocks import Sample, Trace, raw_sample, token_ids, trace_blocks
from coinfer_gym.models.inputs import check_positive


@dataclass(frozen=True)
class Passes:
    """What the passes of a task take; lists have one entry per block."""

    first: Trace  # of a language model that generates: the pass that reads the prompt and makes the first token
    steps: int  # passes after it, of one token each
    step_flops: list[float]  # of all steps
    values: list[int]  # of a block's output, over all passes
    cache_values: list[int]  # keys and values kept at the end
    cache_reads: list[float]  # keys and values that all steps read


def one_pass(trace: Trace) -> Passes:
    """A task of one pass, which keeps nothing."""
    blocks = len(trace.values)
    return Passes(trace, 0, [0.0] * blocks, trace.values, [0] * blocks, [0.0] * blocks)


def trace_generation(model: PreTrainedModel, block_names: Sequence[str], prompt_tokens: int, new_tokens: int) -> Passes:
    """Follow the pass over a prompt, and the first and the last of the steps after it.

    FLOPs and kept values grow by the same number from step to step, so that the mean of both ends is that of all steps
    (where a window of attention fills up on the way, nearly so).

    Raises
    ------
    InvalidInputError
        If a number of tokens is no whole number of at least 1 or more than the model takes, the model is no decoder
        with a language head that keeps keys and values, it has experts, or a pass fails.
    """
    check_positive("prompt_tokens", prompt_tokens)
    check_positive("new_tokens", new_tokens)
    decoder: Any = model
    if model.config.is_encoder_decoder or decoder.get_output_embeddings() is None:
        remedy = "Give a decoder with a language head, as AutoModelForCausalLM makes it, to generate with."
        raise InvalidInputError("model", type(model).__name__, remedy)
    convolutions = {id(layer.weight) for layer in model.modules() if isinstance(layer, nn.Conv1d)}
    if any(weight.ndim == 3 and id(weight) not in convolutions for weight in model.parameters()):
        remedy = "Its steps read only some experts, which a workload cannot express: give a dense decoder."
        raise InvalidInputError("model", type(model).__name__, remedy)
    steps, blocks = new_tokens - 1, len(block_names)
    raw_sample(model, prompt_tokens + steps, None)  # refuses what is longer than the model takes
    first = _read(model, block_names, prompt_tokens)
    if steps == 0:
        return replace(one_pass(first), cache_values=_kept(first, model, blocks))
    early = _step(model, block_names, first)
    early_kept = _kept(early, model, blocks)
    late = _step(model, block_names, _read(model, block_names, prompt_tokens + steps - 1))
    late_kept = _kept(late, model, blocks)
    return Passes(
        first,
        steps,
        _mean(steps, early.flops_of_blocks, late.flops_of_blocks),
        [prompt + steps * step for prompt, step in zip(first.values, late.values, strict=True)],
        late_kept,
        _mean(steps, early_kept, late_kept),
    )


def _mean(steps: int, early: Sequence[int], late: Sequence[int]) -> list[float]:
    """Sums over steps of what grows evenly from the first step to the last."""
    return [steps * (first + last) / 2.0 for first, last in zip(early, late, strict=True)]


def _read(model: PreTrainedModel, block_names: Sequence[str], tokens: int) -> Trace:
    """The pass that reads some tokens and makes one."""
    inputs: dict[str, Any] = {"input_ids": token_ids(tokens), "use_cache": True}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        inputs["logits_to_keep"] = 1  # as in generation: the head looks at the last token alone
    return trace_blocks(model, block_names, Sample(inputs, 0, f"{tokens} tokens"))


def _step(model: PreTrainedModel, block_names: Sequence[str], before: Trace) -> Trace:
    """The pass of one token after others, whose keys and values are kept."""
    _layers(before, model)
    inputs = {"input_ids": token_ids(1), "past_key_values": before.output.past_key_values, "use_cache": True}
    return trace_blocks(model, block_names, Sample(inputs, 0, "a token and kept keys and values"))


def _kept(trace: Trace, model: PreTrainedModel, blocks: int) -> list[int]:
    """Number of kept values of every block after a pass; a block that uses those of another keeps none."""
    counts = [layer.keys.numel() + layer.values.numel() for layer in _layers(trace, model)]
    return (counts + [0] * blocks)[:blocks]


def _layers(trace: Trace, model: PreTrainedModel) -> list[Any]:
    layers = getattr(getattr(trace.output, "past_key_values", None), "layers", [])
    if not layers or not all(hasattr(layer, "keys") for layer in layers):
        remedy = "It keeps no keys and values from pass to pass: give a decoder with attention alone."
        raise InvalidInputError("model", type(model).__name__, remedy)
    return list(layers)
