"""Arrivals as a process of two phases, calm and burst, and the belief which of them is on."""

from __future__ import annotations

import math
from typing import NamedTuple

from coinfer_gym._compile import kernel
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.world import mean_arrival_rate


class Process(NamedTuple):
    """Arrival rates in calm and burst and the rates at which either ends, in 1/s."""

    calm: float
    burst: float
    leave_calm: float
    leave_burst: float


def arrival_process(scenario: Scenario, bursts: bool = True) -> Process:
    """The scenario's arrivals; both phases are equal where they are not bursty, or where bursts are to be ignored."""
    if scenario.arrivals == "mmpp" and bursts:
        ends = (1.0 / scenario.calm_duration, 1.0 / scenario.burst_duration)
        return Process(scenario.arrival_rate, scenario.burst_rate, *ends)
    rate = mean_arrival_rate(scenario)
    return Process(rate, rate, 0.0, 0.0)


@kernel
def _pass_time(calm: float, burst: float, process: Process, seconds: float) -> tuple[float, float]:
    """Shares of both phases after some time without an arrival, by the exponential of the two-by-two matrix."""
    a, d = -process.leave_calm - process.calm, -process.leave_burst - process.burst
    middle, half = 0.5 * (a + d), 0.5 * (a - d)
    root = math.sqrt(half * half + process.leave_calm * process.leave_burst)
    even = math.cosh(root * seconds)
    odd = math.sinh(root * seconds) / root if root > 0.0 else seconds
    scale = math.exp(middle * seconds)
    after_calm = calm * (even + odd * half) + burst * odd * process.leave_burst
    after_burst = burst * (even - odd * half) + calm * odd * process.leave_calm
    return scale * after_calm, scale * after_burst


@kernel
def update_belief(belief: float, process: Process, arrivals: int, seconds: float) -> float:
    """Bayes' rule for the probability of a burst, after some arrivals at even distances in a time in s."""
    calm, burst = 1.0 - belief, belief
    part = seconds / (arrivals + 1)
    for k in range(arrivals + 1):
        calm, burst = _pass_time(calm, burst, process, part)
        if k < arrivals:
            calm, burst = calm * process.calm, burst * process.burst
        total = calm + burst
        calm, burst = calm / total, burst / total
    return burst


@kernel
def note_arrival(belief: float, process: Process) -> float:
    """Probability of a burst just after an arrival."""
    calm, burst = (1.0 - belief) * process.calm, belief * process.burst
    return burst / (calm + burst)
