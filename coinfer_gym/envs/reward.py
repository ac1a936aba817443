"""What a decision is paid: the quality it delivers, less penalties for missed budgets and lost tasks."""

from __future__ import annotations

from coinfer_gym._compile import kernel


@kernel
def reward(
    quality: float,
    excess_delay: float,
    excess_energy: float,
    dropped: float,
    weight_delay: float,
    weight_energy: float,
    weight_drop: float,
) -> float:
    """``quality - w_T [age/T0 - 1]+ - w_E [E/E0 - 1]+ - w_drop drops``.

    Parameters
    ----------
    quality : float
        Quality of the finished task, 0 where it was abandoned.
    excess_delay, excess_energy : float
        Relative excesses of the two budgets; the age of a task is its waiting plus its service time.
    dropped : float
        Tasks that were lost since the last decision, in the queue or abandoned in service.
    weight_delay, weight_energy, weight_drop : float
        Prices ``w_T``, ``w_E``, ``w_drop``.
    """
    return quality - weight_delay * excess_delay - weight_energy * excess_energy - weight_drop * dropped
