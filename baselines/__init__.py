"""Optimizers and rules that act in the environments, and the comparison of everything."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from coinfer_gym.extras import install

if TYPE_CHECKING:
    from baselines.conic import solve_conic
    from baselines.quantum import minimize_quantum
    from baselines.sca import solve_sca
    from baselines.search import solve_quantum

if find_spec("cvxpy") is None or find_spec("scipy") is None:
    raise ImportError(f"The baselines need cvxpy and scipy: {install('baselines')}")

__all__ = ["minimize_quantum", "solve_conic", "solve_quantum", "solve_sca"]

_HOMES = dict(zip(__all__, ("quantum", "conic", "search", "sca"), strict=True))


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)  # at first use: cvxpy takes a second to import
