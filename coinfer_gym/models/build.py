"""Turns any `transformers` model into a workload: its blocks with their FLOPs, parameters and activation sizes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.workload import Block, Workload

try:
    import torch
    from torch import Tensor, nn
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
except ImportError as error:
    raise ImportError(
        'Workloads from real models need torch and transformers: pip install "coinfer-gym[models]"'
    ) from error

_DEFAULT_IMAGE_SIZE = 224
_DEFAULT_INITIALIZER_STD = 0.02


def workload_from_model(
    model: PreTrainedModel,
    *,
    name: str | None = None,
    tokens: int = 128,
    image_size: int | tuple[int, int] | None = None,
    bits_per_value: int = 32,
    description: str = "",
) -> Workload:
    """Workload of a `transformers` model, measured without running it on real data.

    One sample passes through a copy of the model that has shapes but no values (torch's meta device). Work before
    the first block (embeddings, stem) counts to block 1, work between two blocks (downsampling) to the later one,
    work after the last block (norm, pooler, head) to the last block. Of an encoder-decoder only the encoder is cut;
    the decoder reads as many tokens as the encoder and belongs to the last block.

    Parameters
    ----------
    model : PreTrainedModel
        Text or image model with a chain of blocks, with weights or on the meta device; it is not changed.
    name : str, optional
        Name of the workload; the model's own name when left out.
    tokens : int
        Length of the text in tokens; ignored for image models.
    image_size : int or (int, int), optional
        Side, or height and width, of the image in pixels; the configuration's, else 224, when left out. Ignored for
        text models.
    bits_per_value : int
        Bits of one uploaded activation value.
    description : str
        Where the numbers come from; written from the arguments when empty.

    Returns
    -------
    Workload
        FLOPs of matrix products and convolutions at 2 per multiply-add (of experts, those that a token uses); every
        parameter once, where the forward pass meets it first; activation sizes and input size in bits (16 or 32 per
        token id, 8 per pixel and channel). Laplacian rates are measured from the weights, or on the meta device
        follow from the spread of the initialisation.

    Raises
    ------
    InvalidInputError
        If an argument is out of range, the model takes neither text nor images, no blocks can be found, they do not
        run once each in order, or the forward pass fails.
    """
    if not isinstance(model, PreTrainedModel):
        raise InvalidInputError("model", type(model).__name__, "Give a model of the transformers library.")
    _check_positive("tokens", tokens)
    _check_positive("bits_per_value", bits_per_value)
    sample = _sample(model, tokens, image_size)
    block_names = _block_names(model)
    trace = _trace(model, block_names, sample)
    weights = _weights_by_block(model, len(block_names), trace.first_turn)
    # The last block takes all that follows it, so its share ends at the total and not at its own end.
    ends = [0, *trace.flops_so_far[:-1], trace.flops]
    blocks = tuple(
        Block(
            name=block_name,
            flops=float(ends[turn + 1] - ends[turn]),
            parameters=sum(weight.numel() for weight in weights[turn]),
            activation_bits=float(trace.values[turn] * bits_per_value),
            laplacian_rate=_laplacian_rate(block_name, weights[turn], model.config),
        )
        for turn, block_name in enumerate(block_names)
    )
    return Workload(
        name or Path(model.config.name_or_path or "").name or str(model.config.model_type),
        float(sample.bits),
        blocks,
        description or f"{type(model).__name__} with {sample.words}; FLOPs of matrix products at 2 per multiply-add.",
    )


def workload_from_config(
    config: PreTrainedConfig,
    *,
    auto_class: Any = AutoModel,
    name: str | None = None,
    tokens: int = 128,
    image_size: int | tuple[int, int] | None = None,
    bits_per_value: int = 32,
    description: str = "",
) -> Workload:
    """Workload of the model that a `transformers` configuration describes; no weights are made or loaded.

    Parameters
    ----------
    config : PreTrainedConfig
        For example ``BertConfig()``.
    auto_class : class
        The `transformers` class whose ``from_config`` picks the model: ``AutoModel`` (no task head), or for example
        ``AutoModelForImageClassification``.
    name, tokens, image_size, bits_per_value, description
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
    try:
        with torch.device("meta"):
            model = auto_class.from_config(config)
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidInputError(
            "config", type(config).__name__, f"Give a configuration of a model that transformers can build: {error}"
        ) from error
    return workload_from_model(
        model,
        name=name,
        tokens=tokens,
        image_size=image_size,
        bits_per_value=bits_per_value,
        description=description,
    )


@dataclass(frozen=True)
class _Sample:
    """One raw sample: the model's keyword arguments on the meta device, its size in bits, and what to call it."""

    inputs: dict[str, Tensor]
    bits: int
    words: str


@dataclass
class _Trace:
    """What one forward pass showed.

    Attributes
    ----------
    passed : list of str
        Blocks in the order in which they ended; then, one entry each, `flops_so_far` of the whole model and the
        number of `values` in the block's output.
    first_turn : dict
        How many blocks had ended when a module, by its name, was called first.
    flops : int
        FLOPs of the whole pass.
    """

    passed: list[str] = field(default_factory=list)
    flops_so_far: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    first_turn: dict[str, int] = field(default_factory=dict)
    flops: int = 0


def _sample(model: PreTrainedModel, tokens: int, image_size: int | tuple[int, int] | None) -> _Sample:
    kind = model.main_input_name
    if kind == "input_ids":
        sample = _text_sample(model, tokens)
    elif kind == "pixel_values":
        sample = _image_sample(model, image_size)
    else:
        raise InvalidInputError(
            "model",
            f"{type(model).__name__} with input {kind!r}",
            "Give a model of text (input_ids) or images (pixel_values).",
        )
    if model.config.is_encoder_decoder:
        # Some models would derive the decoder's input from the encoder's, others ask for it: this treats all alike.
        sample.inputs["decoder_input_ids"] = _token_ids(tokens)
    return sample


def _text_sample(model: PreTrainedModel, tokens: int) -> _Sample:
    longest = getattr(model.config, "max_position_embeddings", None)
    # Without values an index beyond the position table goes unnoticed, so it is looked for here.
    if longest is not None and 0 < longest < tokens:
        raise InvalidInputError("tokens", tokens, f"{type(model).__name__} takes at most {longest}.")
    # The largest table is the tokens': positions and segments are fewer.
    vocabulary = max((table.num_embeddings for table in model.modules() if isinstance(table, nn.Embedding)), default=0)
    bits_per_token = 16 if vocabulary <= 2**16 else 32
    return _Sample({"input_ids": _token_ids(tokens)}, tokens * bits_per_token, f"{tokens} tokens")


def _image_sample(model: PreTrainedModel, image_size: int | tuple[int, int] | None) -> _Sample:
    size = image_size if image_size is not None else getattr(model.config, "image_size", _DEFAULT_IMAGE_SIZE)
    height, width = (size, size) if isinstance(size, int) else size
    _check_positive("image_size", height)
    _check_positive("image_size", width)
    channels = getattr(model.config, "num_channels", 3)
    pixels = torch.empty(1, channels, height, width, dtype=model.dtype, device="meta")
    return _Sample({"pixel_values": pixels}, pixels.numel() * 8, f"an image of {height} x {width}")


def _token_ids(tokens: int) -> Tensor:
    return torch.empty(1, tokens, dtype=torch.long, device="meta")


def _block_names(model: PreTrainedModel) -> list[str]:
    """Names of the chain's blocks: the longest list of modules, or for a staged network the layers of all stages."""
    cut_part: nn.Module = model.get_encoder() if model.config.is_encoder_decoder else model
    prefix = next(name for name, module in model.named_modules() if module is cut_part)
    modules = dict(cut_part.named_modules(prefix=prefix))
    # Only the configuration tells a stage, a list of layers, from a layer, itself a list of convolutions.
    depths = getattr(model.config, "depths", None)
    names = _staged_layers(modules, sum(depths)) if depths else _longest_list(modules)
    if not names:
        raise InvalidInputError(
            "model", type(model).__name__, "No blocks were found in it: give a model with a ModuleList of layers."
        )
    return names


def _longest_list(modules: Mapping[str, nn.Module]) -> list[str]:
    outermost: list[str] = []
    for name, module in modules.items():
        # A list inside a list (the experts of a layer) may be longer, but it is a part of a block, not the chain.
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{outer}.") for outer in outermost):
            outermost.append(name)
    longest = max(outermost, key=lambda name: len(_members(name, modules[name])), default=None)
    return [] if longest is None else _members(longest, modules[longest])


def _staged_layers(modules: Mapping[str, nn.Module], total_depth: int) -> list[str]:
    by_class: dict[type[nn.Module], list[str]] = {}
    for name, module in modules.items():
        classes = {type(member) for member in module.children()}
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and len(classes) == 1:
            by_class.setdefault(classes.pop(), []).extend(_members(name, module))
    return next((names for names in by_class.values() if len(names) == total_depth), [])


def _members(name: str, module: nn.Module) -> list[str]:
    return [f"{name}.{child}" if name else child for child, _ in module.named_children()]


def _trace(model: PreTrainedModel, block_names: Sequence[str], sample: _Sample) -> _Trace:
    skeleton = _skeleton(model)
    counter = FlopCounterMode(display=False)
    trace = _Trace()
    for name, module in skeleton.named_modules():
        module.register_forward_pre_hook(_note_call(trace, name))
    for name in block_names:
        skeleton.get_submodule(name).register_forward_hook(_note_end(trace, name, counter))
    try:
        with torch.no_grad(), counter:
            skeleton(**sample.inputs)
    except Exception as error:  # the model is foreign code: whatever it raises means that it is not handled
        raise InvalidInputError(
            "model",
            type(model).__name__,
            f"Its forward pass with {sample.words}, without values, failed: {error}. Give an input that the model "
            "takes, or a model that runs on text or an image alone.",
        ) from error
    if trace.passed != block_names:
        raise InvalidInputError(
            "model",
            type(model).__name__,
            f"Its {len(block_names)} blocks ({block_names[0]} ...) must run once each, in order, but "
            f"{len(trace.passed)} calls were seen: give a model that neither shares nor skips layers.",
        )
    trace.flops = counter.get_total_flops()
    return trace


def _skeleton(model: PreTrainedModel) -> nn.Module:
    """Copy of the model with tensors that have shapes but no values, so that hooks and modes stay off the original."""
    valueless: dict[int, Any] = {id(buffer): torch.empty_like(buffer, device="meta") for buffer in model.buffers()}
    for weight in model.parameters():
        valueless[id(weight)] = nn.Parameter(torch.empty_like(weight, device="meta"), requires_grad=False)
    skeleton = copy.deepcopy(model, valueless)
    # Fused attention kernels hide their matrix products or do not exist on the meta device.
    skeleton.set_attn_implementation("eager")
    # Other kernels of expert layers look at which token goes where; this one computes just the experts in use.
    skeleton.set_experts_implementation("batched_mm")
    # A model that knows its padding token searches the input's values for it, only to warn.
    skeleton.config.pad_token_id = None
    return nn.Module.eval(skeleton)


def _note_call(trace: _Trace, name: str) -> Callable[[nn.Module, Any], None]:
    def note(_module: nn.Module, _arguments: Any) -> None:
        trace.first_turn.setdefault(name, len(trace.passed))

    return note


def _note_end(trace: _Trace, name: str, counter: FlopCounterMode) -> Callable[[nn.Module, Any, Any], None]:
    def note(_module: nn.Module, _arguments: Any, output: Any) -> None:
        trace.passed.append(name)
        trace.flops_so_far.append(counter.get_total_flops())
        trace.values.append(_first_tensor(output).numel())

    return note


def _first_tensor(output: Any) -> Tensor:
    """Take the hidden state: blocks return it alone, or first in a tuple with masks, biases or attention weights."""
    return output if isinstance(output, Tensor) else _first_tensor(output[0])


def _weights_by_block(model: PreTrainedModel, blocks: int, first_turn: Mapping[str, int]) -> list[list[nn.Parameter]]:
    turns: dict[nn.Parameter, int] = {}
    for name, module in model.named_modules():
        turn = min(_turn(name, first_turn), blocks - 1)
        for weight in module.parameters(recurse=False):
            turns[weight] = min(turn, turns.get(weight, turn))
    return [[weight for weight, place in turns.items() if place == turn] for turn in range(blocks)]


def _turn(name: str, first_turn: Mapping[str, int]) -> int:
    """Turn of a module; of one that only lends its weights to a parent, and is never called, the parent's."""
    while name not in first_turn:
        name = name.rpartition(".")[0]
    return first_turn[name]


def _laplacian_rate(block_name: str, weights: Sequence[nn.Parameter], config: PreTrainedConfig) -> float:
    """Rate `1 / E|w|` over the matrices of a block, by measurement where the weights have values."""
    matrices = [weight for weight in weights if weight.ndim >= 2] or list(weights)
    values = sum(weight.numel() for weight in matrices)
    if values == 0:
        # Nothing to prune, so the rate multiplies nothing: any positive number serves.
        return math.sqrt(2.0) / _DEFAULT_INITIALIZER_STD
    if any(weight.is_meta for weight in matrices):
        # A Laplacian of standard deviation sigma has E|w| = sigma / sqrt(2). Trained weights keep about the spread
        # they were initialised with; this stands in until they are measured.
        total = sum(weight.numel() * _initializer_std(weight, config) for weight in matrices) / math.sqrt(2.0)
    else:
        # The maximum-likelihood estimate of a Laplacian's rate.
        total = sum(float(torch.linalg.vector_norm(weight.detach(), 1, dtype=torch.float64)) for weight in matrices)
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


def _check_positive(field_name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidInputError(field_name, value, "Give a whole number of at least 1.")
