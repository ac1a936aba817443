"""Finds the chain of blocks in a `transformers` model and follows one forward pass through it, without values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.inputs import check_positive

Network = TypeVar("Network", bound=nn.Module)

_DEFAULT_IMAGE_SIZE = 224


@dataclass(frozen=True)
class Sample:
    """One raw sample: the model's keyword arguments on the meta device, its size in bits, and what to call it."""

    inputs: dict[str, Any]
    bits: int
    words: str


@dataclass
class Trace:
    """What one forward pass showed."""

    passed: list[str] = field(default_factory=list)  # blocks in the order in which they ended, and then for each:
    flops_so_far: list[int] = field(default_factory=list)  # of the whole model
    values: list[int] = field(default_factory=list)  # number of them in the block's output
    # How many blocks had ended when a module was called first, and when its last call ended (a block's own end aside).
    first_turn: dict[str, int] = field(default_factory=dict)
    last_turn: dict[str, int] = field(default_factory=dict)
    flops: int = 0  # of the whole pass
    output: Any = None  # what the model returned

    @property
    def flops_of_blocks(self) -> list[int]:
        """FLOPs of each block; the last one takes all that follows it, so its share ends at the total."""
        ends = [0, *self.flops_so_far[:-1], self.flops]
        return [end - start for start, end in pairwise(ends)]


def raw_sample(model: PreTrainedModel, tokens: int, image_size: int | tuple[int, int] | None) -> Sample:
    """Raw sample that the model takes; the arguments are those of `coinfer_gym.models.build.workload_from_model`.

    Raises
    ------
    InvalidInputError
        If the model takes neither text nor images, or not this size.
    """
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
        sample.inputs["decoder_input_ids"] = token_ids(tokens)
    return sample


def _text_sample(model: PreTrainedModel, tokens: int) -> Sample:
    longest = most_tokens(model)
    # Without values an index beyond the position table goes unnoticed, so it is looked for here.
    if longest is not None and longest < tokens:
        raise InvalidInputError("tokens", tokens, f"{type(model).__name__} takes at most {longest}.")
    # The largest table is the tokens': positions and segments are fewer.
    vocabulary = max((table.num_embeddings for table in model.modules() if isinstance(table, nn.Embedding)), default=0)
    bits_per_token = 16 if vocabulary <= 2**16 else 32
    return Sample({"input_ids": token_ids(tokens)}, tokens * bits_per_token, f"{tokens} tokens")


def most_tokens(model: PreTrainedModel) -> int | None:
    """Longest text that the model's table of positions takes; None where there is none."""
    # LED states its decoder's positions, which are fewer than its encoder's.
    fields = ("max_position_embeddings", "max_decoder_position_embeddings")
    longest = next((getattr(model.config, field) for field in fields if hasattr(model.config, field)), None)
    for name, table in model.named_modules():
        # RoBERTa and its kin count from the entry after the padding's.
        if isinstance(table, nn.Embedding) and name.endswith("position_embeddings") and table.padding_idx is not None:
            longest = table.num_embeddings - table.padding_idx - 1
    # Where positions are relative, some state 0 or -1.
    return longest if longest is not None and longest > 0 else None


def fewest_tokens(limit: int | None, model: PreTrainedModel) -> int | None:
    """The smaller one of a limit and of what the model takes; None where neither is bounded."""
    return min((each for each in (limit, most_tokens(model)) if each is not None), default=None)


def _image_sample(model: PreTrainedModel, image_size: int | tuple[int, int] | None) -> Sample:
    size = image_size if image_size is not None else getattr(model.config, "image_size", _DEFAULT_IMAGE_SIZE)
    height, width = (size, size) if isinstance(size, int) else size
    check_positive("image_size", height)
    check_positive("image_size", width)
    channels = getattr(model.config, "num_channels", 3)
    pixels = torch.empty(1, channels, height, width, dtype=model.dtype, device="meta")
    return Sample({"pixel_values": pixels}, pixels.numel() * 8, f"an image of {height} x {width}")


def token_ids(tokens: int) -> Tensor:
    """Indices of some tokens, without values."""
    return torch.empty(1, tokens, dtype=torch.long, device="meta")


def find_blocks(model: PreTrainedModel) -> list[str]:
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


def trace_blocks(model: PreTrainedModel, block_names: Sequence[str], sample: Sample) -> Trace:
    """Follow one forward pass through a copy of the model without values.

    InvalidInputError if the pass fails, or the blocks do not run once each in order.
    """
    skeleton = make_skeleton(model)
    counter = FlopCounterMode(display=False)
    trace = Trace()
    for name, module in skeleton.named_modules():
        module.register_forward_pre_hook(partial(_note_call, trace, name))
        module.register_forward_hook(partial(_note_return, trace, name))
    for name in block_names:
        skeleton.get_submodule(name).register_forward_hook(partial(_note_end, trace, name, counter))
    try:
        with torch.no_grad(), counter:
            trace.output = skeleton(**sample.inputs)
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


def copy_network(model: Network, tensor_copy: Callable[[Tensor], Tensor]) -> Network:
    """Copy in evaluation mode, its tensors made by `tensor_copy`."""
    tensors = [*model.parameters(), *model.buffers()]
    # Weights that are computed at every call, as after torch.nn.utils.prune, are plain attributes, which deepcopy
    # refuses.
    tensors += [value for part in model.modules() for value in vars(part).values() if isinstance(value, Tensor)]
    memory: dict[int, Any] = {id(tensor): tensor_copy(tensor) for tensor in tensors}
    return nn.Module.eval(copy.deepcopy(model, memory))


def make_skeleton(model: PreTrainedModel) -> PreTrainedModel:
    """Copy of the model with tensors that have shapes but no values, so that hooks and modes stay off the original."""
    skeleton = copy_network(model, _without_values)
    # Fused attention kernels hide their matrix products or do not exist on the meta device.
    skeleton.set_attn_implementation("eager")
    # Other kernels of expert layers look at which token goes where; this one computes just the experts in use.
    skeleton.set_experts_implementation("batched_mm")
    # A model that knows its padding token searches the input's values for it, only to warn.
    skeleton.config.pad_token_id = None
    return skeleton


def _without_values(tensor: Tensor) -> Tensor:
    shape = torch.empty_like(tensor, device="meta", requires_grad=False)
    return nn.Parameter(shape, requires_grad=False) if isinstance(tensor, nn.Parameter) else shape


def _note_call(trace: Trace, name: str, *_: Any) -> None:
    trace.first_turn.setdefault(name, len(trace.passed))


def _note_return(trace: Trace, name: str, *_: Any) -> None:
    trace.last_turn[name] = len(trace.passed)


def _note_end(trace: Trace, name: str, counter: FlopCounterMode, _module: nn.Module, _input: Any, output: Any) -> None:
    trace.passed.append(name)
    trace.flops_so_far.append(counter.get_total_flops())
    trace.values.append(first_tensor(output).numel())


def first_tensor(output: Any) -> Tensor:
    """Take the hidden state: blocks return it alone, or first in a tuple with masks, biases or attention weights."""
    return output if isinstance(output, Tensor) else first_tensor(output[0])


def weights_by_block(model: PreTrainedModel, blocks: int, first_turn: Mapping[str, int]) -> list[list[nn.Parameter]]:
    """Parameters of every block, each once, where the forward pass meets it first; shape ``(blocks,)`` of lists."""
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
