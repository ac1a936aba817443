"""CellShares-v0: Cell-v0 in which an action is shares of time, band and server, under an id of its own."""

from __future__ import annotations

from typing import Any

from gymnasium.envs.registration import EnvSpec

from coinfer_gym.cell import vector_wrappers, wrappers
from coinfer_gym.cell.env import CellEnv, CellVectorEnv


class CellSharesEnv(wrappers.CellShareAction):
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

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]  # gymnasium declares an attribute too
        """The id and its arguments, without a wrapper: the id stands for both."""
        return self.env.spec


class CellSharesVectorEnv(vector_wrappers.CellShareAction):
    """Many lanes of `CellSharesEnv`; arguments as for `coinfer_gym.cell.env.CellVectorEnv`, and `energy`."""

    def __init__(self, /, energy: bool | None = None, **options: Any) -> None:
        super().__init__(CellVectorEnv(**options), energy)
