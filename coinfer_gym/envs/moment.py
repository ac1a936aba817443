"""What the viewer shows, in numbers and words: the last decision and what led to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from coinfer_gym.budgets import excess, meets
from coinfer_gym.envs.subjects import Depiction, Info, Subject
from coinfer_gym.world import World

_PAST = 0.65  # share of the time axis before the moment of the decision

_UNDECIDED = Depiction(kept=(), device="", server="", upload_bits=0.0)


class Moment:
    """The last decision, what led to it, and how it reads in words; shared by picture and text."""

    def __init__(
        self,
        subject: Subject,
        world: World,
        gain_range: tuple[float, float],
        notes: list[Info],
        decisions: int,
        span: float,
    ) -> None:
        self.subject = subject
        self.scenario = scenario = subject.scenario
        self.world = world
        self.gain_range = gain_range
        self.notes = notes
        self.decisions = decisions
        self.info = info = notes[-1]
        self.decided = is_decided(info)
        self.now: float = info["time_s"]
        self.start = max(0.0, self.now - _PAST * span)
        self.end = self.start + span
        self.cut = int(info["cut"])
        self.units = len(subject.flops)
        self.depiction = subject.depict(info) if self.decided else _UNDECIDED
        self.has_queue = scenario.arrivals != "one_at_a_time"
        self.rate = subject.rate(info)
        self.delay_budget: float = info["wait_s"] + info["delay_budget_s"]
        self.energy_budget: float = info["energy_budget_j"]
        self.delays = tuple(info[f"{name}_s"] for name in ("wait", "delay_device", "delay_upload", "delay_server"))
        self.energies = tuple(info[f"energy_{name}_j"] for name in ("device", "upload", "server"))

    def gains_db(self, count: int) -> NDArray[np.float64]:
        """Gain in dB at `count` equally spaced moments of the time axis."""
        world = self.world
        times = np.linspace(self.start, self.end, count, endpoint=False)
        return 10.0 * np.log10(world.gains[(times / world.block_duration).astype(np.int64) % world.gains.size])

    def arrivals(self) -> NDArray[np.float64]:
        """Arrival times on the time axis."""
        times = self.world.arrivals
        first, last = np.searchsorted(times, (self.start, self.end))
        return times[first:last] if self.has_queue else times[:0]

    def queue(self) -> list[tuple[float, float]]:
        """Corners of the number of waiting tasks over time, from the left end of the axis to the last decision."""
        corners = [*self._queue_corners(), (self.now, self.info["queue_length"])]
        before = [length for time, length in corners if time < self.start]
        inside = [corner for corner in corners if corner[0] >= self.start]
        return [(self.start, before[-1]), *inside] if before else inside

    def _queue_corners(self) -> Iterator[tuple[float, float]]:
        """Between two decisions arrivals add up; where service ended before the second, no task was left waiting."""
        capacity, arrivals = self.scenario.queue_capacity, self.world.arrivals
        for note, following in pairwise(self.notes):
            start, end = note["time_s"], following["time_s"]
            served = min(end, start + note["delay_s"])
            length = note["queue_length"]
            yield start, length
            first, last = np.searchsorted(arrivals, (start, served))
            for time in arrivals[first:last].tolist():
                yield time, length
                length = min(capacity, length + (time > start))
                yield time, length
            yield served, length
            yield served, 0.0 if served < end - 1e-9 else following["queue_length"]
            yield end, following["queue_length"]

    @property
    def status(self) -> str:
        """What became of the task."""
        info = self.info
        if not self.decided:
            return "no decision yet"
        if not info["violated"]:
            return f"within {self.subject.limits[0]}"
        if info["abandoned"]:
            return "given up: too late" if info["cost_delay"] > 0.0 else "given up: battery empty"
        reasons = {"delay": "late", "energy": "over its energy", "accuracy": "too inaccurate"}
        *most, last = [word for cost, word in reasons.items() if info.get(f"cost_{cost}", 0.0) > 0.0]
        return f"{', '.join(most)} and {last}" if most else last

    @property
    def power(self) -> str:
        """Transmit power."""
        return f"{10.0 * math.log10(1e3 * self.info['power_w']):.1f} dBm"

    @property
    def upload(self) -> tuple[str, str]:
        """Size of the upload and its rate."""
        if self.depiction.upload_bits == 0.0:
            return "nothing", "to send"
        return scaled(self.depiction.upload_bits, "bit"), scaled(self.rate, "bit/s")


def gain_range_db(world: World) -> tuple[float, float]:
    """Bounds in dB of the axis of gains: of the episode's path, outages aside, and not too narrow."""
    gains = 10.0 * np.log10(world.gains)
    low, high = float(np.quantile(gains, 0.005)), float(gains.max())
    margin = max(0.05 * (high - low), 0.5 * (6.0 - (high - low)))
    return low - margin, high + margin


def is_decided(info: Info) -> bool:
    """Whether an info is of a decision, and not of a reset: no decision stops the device's clock."""
    return bool(info["frequency_device_hz"] > 0.0)


def scaled(value: float, unit: str) -> str:
    """Number with three digits and a decimal prefix."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * factor:
            return f"{digits(value / factor)} {prefix}{unit}"
    return f"{digits(value)} {unit}"


def digits(value: float) -> str:
    """Number with about three digits, without an exponent."""
    if value <= 0.0:
        return "0"
    return f"{value:.{min(6, max(0, 2 - math.floor(math.log10(value))))}f}"


def excess_text(spent: float, budget: float) -> str:
    """By how much a budget is exceeded; empty where it is met."""
    return f"{100.0 * excess(spent, budget):+.0f} %" if not meets(spent, budget) else ""
