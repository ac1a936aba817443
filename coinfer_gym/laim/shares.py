"""LAIMShares-v0: LAIM-v0 in which an action is a share of the budgets, as environments of an id of their own."""

from __future__ import annotations

from typing import Any

from coinfer_gym.envs.base import SharesEnv
from coinfer_gym.laim import vector_wrappers, wrappers
from coinfer_gym.laim.env import LAIMEnv, LAIMVectorEnv


class LAIMSharesEnv(SharesEnv, wrappers.BudgetShareAction):
    """LAIM-v0 whose action is the share of the remaining time that a task may use; the exact optimum decides the rest.

    The action is that of `coinfer_gym.laim.wrappers.BudgetShareAction`, so every action meets both budgets if any
    decision does. All else is `coinfer_gym.laim.env.LAIMEnv`, which ``env.unwrapped`` returns.

    Parameters
    ----------
    energy : bool, optional
        Whether a second component is the share of the energy. By default it is if the scenario has a battery.
    margin : bool
        Whether a last component says how far below the observed gain to plan, for late or noisy channel state.
    **options
        As for `LAIMEnv`.
    """

    metadata = LAIMEnv.metadata

    def __init__(self, /, energy: bool | None = None, margin: bool = False, **options: Any) -> None:
        super().__init__(LAIMEnv(**options), energy, margin)


class LAIMSharesVectorEnv(vector_wrappers.BudgetShareAction):
    """Many lanes of `LAIMSharesEnv`; arguments as for `coinfer_gym.laim.env.LAIMVectorEnv`, `energy` and `margin`."""

    def __init__(self, /, energy: bool | None = None, margin: bool = False, **options: Any) -> None:
        super().__init__(LAIMVectorEnv(**options), energy, margin)
