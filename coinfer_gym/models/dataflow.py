"""Follows values through a forward pass, to find the modules' outputs and the inputs that its result depends on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

Source = tuple[str, int]
"""A module, or an input, by its name, and the number of one of its tensors."""


def tensors_of(output: Any) -> list[Tensor]:
    """Tensors in what a module returns, in order."""
    return [value for value in tree_leaves(output) if isinstance(value, Tensor)]


def sources_read(network: nn.Module, cut_off: Iterable[str], inputs: Mapping[str, Tensor]) -> frozenset[Source]:
    """Outputs of the modules `cut_off`, and inputs, that reach the result by a way that leaves these modules out."""
    spread = _Spread()
    for name, value in inputs.items():
        spread.mark(value, frozenset({(name, 0)}))
    handles = [network.get_submodule(name).register_forward_hook(partial(_mark, spread, name)) for name in cut_off]
    try:
        with torch.no_grad(), spread:
            output = network(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return spread.of(tree_leaves(output)) | spread.looked_at


def _mark(spread: _Spread, name: str, _module: nn.Module, _arguments: Any, output: Any) -> Any:
    numbers = iter(range(len(tensors_of(output))))
    return tree_map_only(Tensor, lambda value: spread.fresh(value, (name, next(numbers))), output)


_LIKE = {
    getattr(torch.ops.aten, name)
    for name in (
        *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like"),
        *("new_zeros", "new_ones", "new_empty", "new_full"),
    )
}
_LOOKS = {torch.ops.aten._local_scalar_dense, torch.ops.aten.equal, torch.ops.aten.is_nonzero}


class _Spread(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows through every operation which sources a tensor's values come from."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.looked_at: frozenset[Source] = frozenset()
        self._sources: dict[int, frozenset[Source]] = {}
        self._alive: list[Tensor] = []

    def mark(self, value: Tensor, sources: frozenset[Source]) -> None:
        self._sources[value.untyped_storage()._cdata] = sources
        # The key is an address, which another tensor must not get.
        self._alive.append(value)

    def fresh(self, value: Tensor, source: Source) -> Tensor:
        """Copy of a tensor, with itself as only source."""
        twin = value.clone()
        self.mark(twin, frozenset({source}))
        return twin

    def of(self, values: Iterable[Any]) -> frozenset[Source]:
        """Sources of several values together."""
        tensors = (value for value in values if isinstance(value, Tensor))
        return frozenset().union(*(self._sources.get(value.untyped_storage()._cdata, frozenset()) for value in tensors))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        sources = self.of(tree_leaves((args, kwargs)))
        output = func(*args, **kwargs)
        if func.overloadpacket in _LOOKS:
            # Control flow on values: whoever runs this code needs them.
            self.looked_at |= sources
        elif sources and func.overloadpacket not in _LIKE:
            changed = zip(func._schema.arguments, args, strict=False)
            written = [value for argument, value in changed if argument.alias_info and argument.alias_info.is_write]
            for value in tree_leaves((output, written)):
                if isinstance(value, Tensor):
                    self.mark(value, sources | self.of([value]))
        return output
