"""Optimizers and rules that act in the environments, and the comparison of everything."""

from importlib.util import find_spec

if find_spec("cvxpy") is None or find_spec("scipy") is None:
    raise ImportError("The baselines need the extra 'baselines': pip install '.[baselines]' in the checkout.")

from baselines.conic import solve_conic
from baselines.quantum import minimize_quantum
from baselines.sca import solve_sca
from baselines.search import solve_quantum

__all__ = ["minimize_quantum", "solve_conic", "solve_quantum", "solve_sca"]
