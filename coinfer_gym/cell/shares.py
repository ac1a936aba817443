"""CellShares-v0: Cell-v0 in which an action is shares of time, band and server, under an id of its own."""

from __future__ import annotations

from typing import Any

from coinfer_gym.cell import vector_wrappers, wrappers
from coinfer_gym.cell.env import CellEnv, CellVectorEnv
from coinfer_gym.envs.base import SharesEnv


class CellSharesEnv(SharesEnv, wrappers.CellShareAction):
    """Cell-v0 whose action is shares of what a task may use; the exact optimum decides cut, ratios, power and clocks.

    The action is that of `coinfer_gym.cell.wrappers.CellShareAction`, so every action meets both budgets if any
    decision with its shares of band and server does. All else is `coinfer_gym.cell.env.CellEnv`, which
    ``env.unwrapped`` returns.

    Parameters
    ----------
    energy : bool, optional
        Whether the agent also chooses the share of energy. By default it does if some kind of device has a battery.
    **options
        As for `CellEnv`.
    """

    metadata = CellEnv.metadata

    def __init__(self, /, energy: bool | None = None, **options: Any) -> None:
        super().__init__(CellEnv(**options), energy)


class CellSharesVectorEnv(vector_wrappers.CellShareAction):
    """Many lanes of `CellSharesEnv`; arguments as for `coinfer_gym.cell.env.CellVectorEnv`, and `energy`."""

    def __init__(self, /, energy: bool | None = None, **options: Any) -> None:
        super().__init__(CellVectorEnv(**options), energy)
