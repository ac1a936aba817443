"""The clock and the power that suit a price of time, whatever the work.

In durations instead of clocks and power the problems are convex (see docs/mathematics.md), so that their Lagrangians
fall apart. For a price ``theta`` of a second in joules

- a clock minimises ``theta a/f + k a f^2`` with ``a = L/c`` cycles and ``k = eta kappa``: ``f^3 = theta / (2 k)``;
- the power minimises ``theta tau + p tau``: with ``y = ln(1 + p / n)`` and `n` the power at an SNR of 1, it solves
  ``(y - 1) e^y + 1 = theta / n``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from coinfer_gym._compile import kernel

HUGE = 1e40
"""Seconds that stand for never."""

END = 92.0
"""Logarithm of a price of time at which every clock and power stands at an end."""

ROUNDING = 1e-13
"""Relative excess of a budget that is rounding."""


@kernel
def best_clock(theta: float, coefficient: float, low: float, high: float) -> float:
    """Clock that minimises ``theta a/f + k a f^2``."""
    best: float = (theta / (2.0 * coefficient)) ** (1.0 / 3.0)
    return min(high, max(low, best))


@kernel
def clock_price(frequency: float, coefficient: float) -> float:
    """Price of time at which a clock is the best: the inverse of `best_clock` between its ends."""
    return 2.0 * coefficient * frequency**3


@kernel
def _spectral_price(y: float) -> float:
    """``(y - 1) e^y + 1``: price of time, in units of ``N0 B / g``, at which ``y = ln(1 + SNR)`` is the best."""
    if y < 1e-3:
        return y * y * (0.5 + y * (1.0 / 3.0 + y * 0.125))
    return y * math.exp(y) - math.expm1(y)


@kernel
def _spectral_response(price: float) -> float:
    """Inverse of `_spectral_price`, by Halley's method from the leading terms at either end."""
    if price < 1.0:
        root = math.sqrt(2.0 * price)
        y = root / (1.0 + root / 3.0)
    else:
        y = 1.0 + math.log(price) * (1.0 - math.log(1.0 + math.log(price) / 2.0) / (1.0 + math.log(price)))
    for _ in range(30):
        slope = y * math.exp(y)
        newton = (_spectral_price(y) - price) / slope
        step = newton / (1.0 - 0.5 * newton * (1.0 + 1.0 / y))
        y -= step
        if abs(step) <= 1e-15 * y + 1e-9 * abs(newton) * abs(newton):
            break
        if abs(step) < 1e-5 * y:  # Halley triples the digits, so that the next step would be below rounding
            break
    return y


class Span(NamedTuple):
    """Ends of ``y = ln(1 + SNR)``, and the prices of time, in powers at an SNR of 1, at which they are best."""

    low: float
    high: float
    price_low: float
    price_high: float


@kernel
def spectral_span(unit: float, power_min: float, power_max: float, most: float) -> Span:
    """Ends of ``y = ln(1 + p / unit)`` for powers in W; what exceeds `most` has no use, unless it cannot be avoided."""
    low = math.log1p(power_min / unit)
    high = max(low, min(most, math.log1p(power_max / unit)))
    return Span(low, high, _spectral_price(low), _spectral_price(high))


@kernel
def best_nats(price: float, span: Span) -> float:
    """Best ``y = ln(1 + SNR)`` at a price of time in units of the power at an SNR of 1."""
    if price >= span.price_high:
        return span.high
    if price <= span.price_low:
        return span.low
    return min(span.high, max(span.low, _spectral_response(price)))
