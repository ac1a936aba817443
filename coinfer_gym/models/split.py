"""Cuts a network at a block into a device half and a server half whose composition is the uncut network, exactly.

Both halves run the network's own forward pass. The device leaves it where block `s` ends. The server runs it from the
start with every module of the device replaced by a stand-in, which returns what came over the link where the server
reads it, and otherwise a placeholder of the right shape. So no architecture's forward pass is written anew here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only, tree_unflatten
from transformers import PreTrainedModel

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.blocks import (
    Network,
    Sample,
    Trace,
    copy_network,
    find_blocks,
    make_skeleton,
    raw_sample,
    trace_blocks,
)
from coinfer_gym.models.dataflow import sources_read, tensors_of

HIDDEN_STATE = "hidden_state"
"""Name of the cut block's output among the activations; its size is what a workload says of the cut."""

LENT = "_lent"
"""Name under which a half keeps the weights of all embeddings: a head of the other half may be tied to one."""

_SHAPE = ".shape"
_TRIAL_TOKENS = 8

Activations = dict[str, Tensor]


class Halves(NamedTuple):
    """The two parts of a cut network.

    Attributes
    ----------
    device : Module
        Called with the network's own inputs, by name (a plain ``nn.Sequential``: its one input); returns the
        activations, a dict of tensors.
    server : Module
        Called with the activations; returns the network's ordinary output.
    """

    device: nn.Module
    server: nn.Module


def split(model: nn.Module, cut: int) -> Halves:
    """Cut a network after block `cut`.

    Parameters
    ----------
    model : PreTrainedModel or nn.Sequential
        With weights; it is not changed. Of a ``Sequential`` each member is a block, of the others those that
        `coinfer_gym.models.build` finds.
    cut : int
        0 sends the raw inputs, `J`, the number of blocks, leaves nothing to the server but to return the output.

    Returns
    -------
    Halves
        In evaluation mode. ``server(device(**inputs))`` equals ``model(**inputs)`` in every bit, for tensor inputs.
        Hidden states and attention maps are not returned, and caches of keys and values neither filled nor returned:
        a decoder that rounds otherwise with a cache, such as GPT-J or LongT5, equals ``model(**inputs,
        use_cache=False)``. The activations are the cut block's output, named `HIDDEN_STATE`, of shape (batch, tokens,
        width) or (batch, channels, height, width), and what else the server reads: attention mask, inputs of a decoder,
        position biases, shapes of inputs that stay on the device. Each half holds the parameters that it uses and no
        others; one that both use, such as a tied embedding, is in both. They are the model's own tensors: who changes
        them in place (`prune`) changes the model, unless it was copied before.

    Raises
    ------
    InvalidInputError
        If the cut is out of range, the model has no values, or its blocks cannot be found, as in
        `coinfer_gym.models.build.workload_from_model`.
    """
    if isinstance(model, nn.Sequential):
        check_cut(cut, len(model))
        chain = list(_twin(model))
        halves = Halves(_ChainDevice(*chain[:cut]), _ChainServer(*chain[cut:]))
        for half in halves:
            _lend_embeddings(half, chain)
        return halves
    if not isinstance(model, PreTrainedModel):
        raise InvalidInputError(
            "model", type(model).__name__, "Give a model of the transformers library or a torch.nn.Sequential."
        )
    if any(weight.is_meta for weight in model.parameters()):
        raise InvalidInputError("model", type(model).__name__, "It has shapes but no values: load or initialise it.")
    block_names = find_blocks(model)
    check_cut(cut, len(block_names))
    sample = raw_sample(model, _TRIAL_TOKENS, None)
    trace = trace_blocks(model, block_names, sample)
    required = tuple(sample.inputs)
    network = _plain_copy(model)
    if cut == 0:
        return Halves(_EndDevice(None, required), _EndServer(network))
    if cut == len(block_names):
        return Halves(_EndDevice(network, required), _EndServer(_output_class(network, sample)))
    return _halves(network, required, _plan(network, trace, cut, sample))


class _EndDevice(nn.Module):
    """Device half of both ends: the inputs as they are, or of cut `J` the network's output as a dict of tensors."""

    def __init__(self, network: nn.Module | None, required: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.required = required

    def forward(self, **inputs: Tensor) -> Activations:
        _check_inputs(inputs, self.required)
        if self.network is None:
            return inputs
        return {name: value for name, value in self.network(**inputs).items() if isinstance(value, Tensor)}


class _EndServer(nn.Module):
    """Server half of both ends: the whole network, or of cut `J` the class that puts its output together again."""

    def __init__(self, network: nn.Module | type) -> None:
        super().__init__()
        self.network = network

    def forward(self, activations: Mapping[str, Tensor]) -> Any:
        return self.network(**activations)


class _ChainDevice(nn.Sequential):
    """Device half of a plain sequence of modules."""

    def forward(self, inputs: Tensor) -> Activations:
        if not isinstance(inputs, Tensor):
            raise InvalidInputError("inputs", inputs, "Give a tensor.")
        return {HIDDEN_STATE: super().forward(inputs)}  # type: ignore[no-untyped-call]


class _ChainServer(nn.Sequential):
    """Server half of a plain sequence of modules."""

    def forward(self, activations: Mapping[str, Tensor]) -> Any:
        _check_activations(activations)
        return super().forward(activations[HIDDEN_STATE])  # type: ignore[no-untyped-call]


class _CutReachedError(Exception):
    """Leaves the forward pass of the device where the cut block ends."""


@dataclass(frozen=True)
class _Plan:
    """How a network is cut between its ends."""

    block: str  # the cut block
    on_device: tuple[str, ...]  # outermost modules that only the device calls, and that have parameters or are blocks
    on_server: tuple[str, ...]  # outermost modules that only the server calls
    sent: dict[str, tuple[int, ...]]  # modules of the device whose output the server reads, and which of its tensors
    kept_inputs: dict[str, torch.dtype]  # inputs that the server does not read, and their types


class _Device(nn.Module):
    """Device half of a cut between the ends: runs until the cut block has ended."""

    def __init__(self, network: nn.Module, required: tuple[str, ...], plan: _Plan) -> None:
        super().__init__()
        self.network = network
        self.required = required
        self.plan = plan

    def forward(self, **inputs: Tensor) -> Activations:
        _check_inputs(inputs, self.required)
        activations = {name: value for name, value in inputs.items() if name not in self.plan.kept_inputs}
        for name in self.plan.kept_inputs:
            if name in inputs:
                activations[name + _SHAPE] = torch.tensor(inputs[name].shape)
        handles = [
            self.network.get_submodule(name).register_forward_hook(partial(self._note, activations, name))
            for name in dict.fromkeys((*self.plan.sent, self.plan.block))
        ]
        try:
            self.network(**inputs)
        except _CutReachedError:
            return activations
        finally:
            for handle in handles:
                handle.remove()
        raise RuntimeError(f"The forward pass ended without {self.plan.block}.")

    def _note(self, activations: Activations, name: str, _module: nn.Module, _arguments: Any, output: Any) -> None:
        tensors = tensors_of(output)
        for leaf in self.plan.sent.get(name, ()):
            activations[_label(self.plan, name, leaf)] = tensors[leaf]
        if name == self.plan.block:
            raise _CutReachedError


class _Server(nn.Module):
    """Server half of a cut between the ends: the network with stand-ins for the modules of the device."""

    def __init__(self, network: nn.Module, plan: _Plan) -> None:
        super().__init__()
        self.network = network
        self.plan = plan

    def forward(self, activations: Mapping[str, Tensor]) -> Any:
        _check_activations(activations)
        rest = dict(activations)
        device = rest[HIDDEN_STATE].device
        for name, leaves in self.plan.sent.items():
            stand_in = self.network.get_submodule(name)
            assert isinstance(stand_in, _StandIn)
            stand_in.place = device
            stand_in.received = {leaf: rest.pop(_label(self.plan, name, leaf)) for leaf in leaves}
        for name, dtype in self.plan.kept_inputs.items():
            if name + _SHAPE in rest:
                rest[name] = torch.zeros(rest.pop(name + _SHAPE).tolist(), dtype=dtype, device=device)
        return self.network(**rest)


class _StandIn(nn.Module):
    """Holds the place of a module of the other half and answers for it, without its weights.

    A twin on the meta device says what the answer looks like, once for every shape of the arguments; the tensors in it
    are those received over the link, or else zeros that nothing reads.
    """

    def __init__(self, twin: nn.Module) -> None:
        super().__init__()
        # In a tuple, so that the twin's valueless parameters are none of this module's.
        self._twin = (twin,)
        self._answers: dict[tuple[Any, ...], Any] = {}
        self.place = torch.device("cpu")
        self.received: dict[int, Tensor] = {}

    def __getattr__(self, name: str) -> Any:
        # The network may ask its parts for a type, a size or a setting.
        return super().__getattr__(name) if "_twin" not in vars(self) else getattr(self._twin[0], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        arguments, _ = tree_flatten((args, kwargs))
        key = tuple(_kind(argument) for argument in arguments)
        if key not in self._answers:
            self._answers[key] = self._answer(args, kwargs)
        values, form = self._answers[key]
        values, places = list(values), [place for place, value in enumerate(values) if isinstance(value, Tensor)]
        for leaf, tensor in self.received.items():
            values[places[leaf]] = tensor
        return tree_unflatten(values, form)

    def _answer(self, args: Any, kwargs: Any) -> Any:
        # Positions that are computed need no tensor, only a shape.
        devices = (value.device for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor))
        device = next(devices, self.place)
        with torch.no_grad():
            answer = self._twin[0](*_to(args, "meta"), **_to(kwargs, "meta"))
        return tree_flatten(tree_map_only(Tensor, partial(torch.zeros_like, device=device), answer))


def _halves(network: PreTrainedModel, required: tuple[str, ...], plan: _Plan) -> Halves:
    skeleton = make_skeleton(network)
    _lend_embeddings(network, network.modules())
    front, back = _twin(network), network
    _replace(front, {name: _StandIn(skeleton.get_submodule(name)) for name in plan.on_server})
    _replace(back, {name: _StandIn(skeleton.get_submodule(name)) for name in plan.on_device})
    return Halves(_Device(front, required, plan), _Server(back, plan))


def _lend_embeddings(half: nn.Module, modules: Iterable[nn.Module]) -> None:
    # In a tuple, so that they are no parameters of the half.
    vars(half)[LENT] = tuple(part.weight for part in modules if isinstance(part, nn.Embedding))


def _plan(network: PreTrainedModel, trace: Trace, cut: int, sample: Sample) -> _Plan:
    block_names = trace.passed
    on_device = tuple(_outermost(network, partial(_is_of_device, trace, frozenset(block_names), cut)))
    on_server = tuple(_outermost(network, partial(_is_of_server, trace, cut)))
    inputs = _trial_inputs(network, sample)
    read = sources_read(network, on_device, inputs)
    block = block_names[cut - 1]
    sent = {name: tuple(sorted(leaf for other, leaf in read if other == name)) for name in on_device}
    # Where no rest of the network reads the cut block's first tensor, this is not the chain that was taken for it.
    if 0 not in sent[block]:
        raise InvalidInputError("model", type(network).__name__, f"Nothing reads the output of its block {block}.")
    return _Plan(
        block,
        on_device,
        on_server,
        {name: leaves for name, leaves in sent.items() if leaves},
        {name: value.dtype for name, value in inputs.items() if (name, 0) not in read},
    )


def _is_of_device(trace: Trace, blocks: frozenset[str], cut: int, name: str, module: nn.Module) -> bool:
    # What has no parameters (rotary angles, dropout) the server can run for itself; angles need not be sent then.
    counts = name in blocks or any(True for _ in module.parameters())
    return counts and name in trace.first_turn and trace.first_turn[name] < cut and trace.last_turn[name] < cut


def _is_of_server(trace: Trace, cut: int, name: str, _module: nn.Module) -> bool:
    return trace.first_turn.get(name, -1) >= cut


def _outermost(module: nn.Module, holds: Callable[[str, nn.Module], bool], name: str = "") -> Iterable[str]:
    if holds(name, module):
        yield name
        return
    for child_name, child in module.named_children():
        yield from _outermost(child, holds, f"{name}.{child_name}" if name else child_name)


def _trial_inputs(network: PreTrainedModel, sample: Sample) -> dict[str, Tensor]:
    # Zeros: any values do. An attention mask is left out, for its values decide what is run; it is always sent.
    inputs = {name: torch.zeros_like(value, device=network.device) for name, value in sample.inputs.items()}
    if "input_ids" in inputs and "token_type_ids" in inspect.signature(network.forward).parameters:
        inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    return inputs


def _twin(model: Network) -> Network:
    """Copy in evaluation mode that shares the tensors.

    Matrix products of a copy that is aligned differently may round otherwise.
    """
    return copy_network(model, lambda tensor: tensor)


def _plain_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Copy in evaluation mode that returns its output as named tensors and nothing of its inside."""
    network = _twin(model)
    for module in network.modules():
        if isinstance(module, PreTrainedModel):
            # It would look for padding among the server's placeholders.
            vars(module)["warn_if_padding_and_no_attention_mask"] = _no_warning
        config = getattr(module, "config", None)
        for switch in ("use_cache", "output_hidden_states", "output_attentions"):
            if getattr(config, switch, False):
                setattr(config, switch, False)
    network.config.return_dict = True
    return network


def _no_warning(*_arguments: Any) -> None:
    """Do nothing."""


def _output_class(network: PreTrainedModel, sample: Sample) -> type:
    with torch.no_grad():
        return type(network(**_trial_inputs(network, sample)))


def _replace(network: nn.Module, others: Mapping[str, nn.Module]) -> None:
    """Put other modules into a network, wherever the same module stands."""
    by_identity = {id(network.get_submodule(name)): other for name, other in others.items()}
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):
            if id(child) in by_identity:
                parent._modules[name] = by_identity[id(child)]


def _label(plan: _Plan, name: str, leaf: int) -> str:
    return HIDDEN_STATE if (name, leaf) == (plan.block, 0) else f"{name}:{leaf}"


def _kind(value: Any) -> Any:
    return (value.shape, value.dtype) if isinstance(value, Tensor) else repr(value)


def _to(values: Any, device: str) -> Any:
    return tree_map_only(Tensor, lambda value: value.to(device), values)


def check_cut(cut: object, blocks: int) -> None:
    """Raise InvalidInputError unless `cut` is a whole number from 0 to `blocks`."""
    if not isinstance(cut, int) or isinstance(cut, bool) or not 0 <= cut <= blocks:
        raise InvalidInputError("cut", cut, f"Give a whole number from 0 to {blocks}, the number of blocks.")


def _check_inputs(inputs: Mapping[str, Any], required: Iterable[str]) -> None:
    for name in required:
        if name not in inputs:
            raise InvalidInputError("inputs", sorted(inputs), f"Give {name} by name, a tensor.")
    for name, value in inputs.items():
        if not isinstance(value, Tensor):
            raise InvalidInputError(f"inputs: {name}", value, "Only tensors go over the link: leave it out.")


def _check_activations(activations: object) -> None:
    if not isinstance(activations, Mapping) or not isinstance(activations.get(HIDDEN_STATE), Tensor):
        raise InvalidInputError("activations", activations, f"Give what the device half returns, with {HIDDEN_STATE}.")
