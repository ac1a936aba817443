"""What a decision is paid: the quality it gives, minus penalties for missed limits and lost tasks."""

from __future__ import annotations

from coinfer_gym._compile import kernel
from coinfer_gym.records import Record


@kernel
def reward(info: Record, rules: Record, weight_accuracy: float, shortfall: float) -> float:
    """``quality - w_T [age/T0 - 1]+ - w_E [E/E0 - 1]+ - w_drop lost - w_A [1 - A/A_min]+``.

    Parameters
    ----------
    info : record
        What became of the task: `quality`, the relative excesses `cost_delay` and `cost_energy` of its budgets, whether
        it was `abandoned`, and how many others were `dropped` since. Both of the latter count as lost.
    rules : record of `coinfer_gym.envs.process.RULES`
        The weights ``w_T``, ``w_E`` and ``w_drop``.
    weight_accuracy, shortfall : float
        ``w_A`` and the relative shortfall of the accuracy, both 0 in environments that ask for none.
    """
    paid: float = (
        info.quality
        - rules.weight_delay * info.cost_delay
        - rules.weight_energy * info.cost_energy
        - rules.weight_drop * (info.dropped + info.abandoned)
        - weight_accuracy * shortfall
    )
    return paid
