"""What a decision is paid: the quality of a task, which fades beyond a limit into a bounded penalty."""

from __future__ import annotations

from coinfer_gym._compile import inlined_kernel, merged_kernel
from coinfer_gym.records import Record

STEEPNESS = 3.0
"""How fast pay fades beyond a budget: at an excess of ``1 / STEEPNESS``, a third, half of it is gone."""

STEEPNESS_ACCURACY = 120.0
"""The same of the accuracy: half is gone at some 0.7 points. A task that misses its accuracy by a hair delivers
nothing, and SAC stopped there when the pay faded six times as slowly."""


@inlined_kernel
def severity(excess: float, steepness: float) -> float:
    """How bad a relative excess ``x`` is: ``k x / (1 + k x)``, which rises from 0 and stays below 1."""
    return 1.0 - 1.0 / (1.0 + steepness * excess)


@merged_kernel
def reward(info: Record, rules: Record, weight_accuracy: float, shortfall: float) -> float:
    """``q (1 - m_T) (1 - m_E) (1 - m_A) - w_T m_T - w_E m_E - w_A m_A - w_drop lost``.

    Each ``m`` is the `severity` of how far a limit was missed: delay, energy, accuracy. A task within its limits is
    paid its quality; one that misses a limit a little is paid a little less, and one that misses it by far costs at
    most the limit's weight. So rewards are of order 1 and have no jump: an agent that explores sees from both sides
    where a limit is. Pay fades faster beyond a limit than quality can rise, so missing a limit does not pay, save
    where there is next to nothing to deliver.

    Parameters
    ----------
    info : record
        What became of the task: its `quality`, the relative excesses `cost_delay` and `cost_energy` of its budgets,
        whether it was `abandoned`, and how many others were `dropped` since. Both of the latter count as lost.
    rules : record of `coinfer_gym.envs.process.RULES`
        The weights ``w_T``, ``w_E`` and ``w_drop``.
    weight_accuracy, shortfall : float
        ``w_A`` and the relative shortfall of the accuracy, both 0 in environments that ask for none.
    """
    delay, energy = severity(info.cost_delay, STEEPNESS), severity(info.cost_energy, STEEPNESS)
    accuracy = severity(shortfall, STEEPNESS_ACCURACY)
    paid: float = (
        info.quality * (1.0 - delay) * (1.0 - energy) * (1.0 - accuracy)
        - rules.weight_delay * delay
        - rules.weight_energy * energy
        - weight_accuracy * accuracy
        - rules.weight_drop * (info.dropped + info.abandoned)
    )
    return paid
