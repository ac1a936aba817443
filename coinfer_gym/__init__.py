"""Gymnasium environments for wireless edge-device co-inference, with the exact optimum of every task."""

import coinfer_gym.starting  # noqa: F401  # isort: skip  # first: what follows takes seconds

from gymnasium.envs.registration import register, registry

from coinfer_gym._version import __version__
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.decision import Decision, Solution
from coinfer_gym.laim.optimum import solve_exact, solve_exact_batch
from coinfer_gym.laim.problem import Problem
from coinfer_gym.laim.robust import RobustSolution, solve_robust
from coinfer_gym.laim.scenario import Scenario, load_scenario, shipped_scenarios
from coinfer_gym.laim.workload import Block, Workload, load_workload, shipped_workloads
from coinfer_gym.named_wrappers import register_wrappers
from coinfer_gym.world.belief import GainBelief, GainPosterior

__all__ = [
    "Block",
    "Decision",
    "GainBelief",
    "GainPosterior",
    "InvalidInputError",
    "Problem",
    "RobustSolution",
    "Scenario",
    "Solution",
    "Workload",
    "__version__",
    "load_scenario",
    "load_workload",
    "shipped_scenarios",
    "shipped_workloads",
    "solve_exact",
    "solve_exact_batch",
    "solve_robust",
]

_ENTRY_POINTS = {  # environment and vector environment of each id
    "LAIM": ("coinfer_gym.laim.env:LAIMEnv", "coinfer_gym.laim.env:LAIMVectorEnv"),
    "LAIMShares": ("coinfer_gym.laim.shares:LAIMSharesEnv", "coinfer_gym.laim.shares:LAIMSharesVectorEnv"),
    "Layerwise": ("coinfer_gym.layerwise.env:LayerwiseEnv", "coinfer_gym.layerwise.env:LayerwiseVectorEnv"),
    "Cell": ("coinfer_gym.cell.env:CellEnv", "coinfer_gym.cell.env:CellVectorEnv"),
    "CellShares": ("coinfer_gym.cell.shares:CellSharesEnv", "coinfer_gym.cell.shares:CellSharesVectorEnv"),
    "LayerwiseShares": (
        "coinfer_gym.layerwise.shares:LayerwiseSharesEnv",
        "coinfer_gym.layerwise.shares:LayerwiseSharesVectorEnv",
    ),
}
for _name, (_single, _vector) in _ENTRY_POINTS.items():
    if f"coinfer_gym/{_name}-v0" not in registry:  # importing twice must not warn
        register(id=f"coinfer_gym/{_name}-v0", entry_point=_single, vector_entry_point=_vector)

_IN_LANES = ["BudgetShareAction", "DiscreteActions", "KeepBudgets"]
register_wrappers("coinfer_gym.laim.wrappers", [*_IN_LANES, "Regret"], "coinfer_gym.laim.vector_wrappers", _IN_LANES)
_OF_CELLS = ["CellShareAction", "KeepCellBudgets"]
register_wrappers("coinfer_gym.cell.wrappers", _OF_CELLS, "coinfer_gym.cell.vector_wrappers", _OF_CELLS)
