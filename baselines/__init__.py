"""Optimizers and rules that act in the environments, and the comparison of everything."""

from baselines.conic import solve_conic
from baselines.sca import solve_sca

__all__ = ["solve_conic", "solve_sca"]
