"""What a decision is paid: the quality that it delivers, minus bounded penalties for missed limits and lost tasks."""

from __future__ import annotations

from coinfer_gym._compile import inlined_kernel, kernel
from coinfer_gym.records import Record


@inlined_kernel
def severity(excess: float) -> float:
    """How bad a relative excess ``x`` is: ``x / (1 + x)``, which rises from 0 by the excess and stays below 1."""
    return 1.0 - 1.0 / (1.0 + excess)


@kernel
def reward(info: Record, rules: Record, weight_accuracy: float, shortfall: float) -> float:
    """``delivered - w_T m(age/T0 - 1) - w_E m(E/E0 - 1) - w_A m(1 - A/A_min) - w_drop lost``.

    Here ``m(x)`` is `severity` for ``x > 0`` and else 0. A task that misses a limit delivers nothing, and each limit
    costs at most its weight, the more the further it was missed. So rewards are of order 1, and still tell from afar
    where the limits are.

    Parameters
    ----------
    info : record
        What became of the task: what it `delivered`, the relative excesses `cost_delay` and `cost_energy` of its
        budgets, whether it was `abandoned`, and how many others were `dropped` since. Both of the latter count as lost.
    rules : record of `coinfer_gym.envs.process.RULES`
        The weights ``w_T``, ``w_E`` and ``w_drop``.
    weight_accuracy, shortfall : float
        ``w_A`` and the relative shortfall of the accuracy, both 0 in environments that ask for none.
    """
    paid: float = (
        info.delivered
        - rules.weight_delay * severity(info.cost_delay)
        - rules.weight_energy * severity(info.cost_energy)
        - weight_accuracy * severity(shortfall)
        - rules.weight_drop * (info.dropped + info.abandoned)
    )
    return paid
