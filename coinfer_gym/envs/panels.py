"""The panels of the picture: channel, queue, service, network, budgets and outcome."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from coinfer_gym.budgets import BUDGET_TOLERANCE
from coinfer_gym.envs.canvas import (
    BAD,
    DEVICE,
    DEVICE_TINT,
    FAINT,
    GOOD,
    GREY,
    HEIGHT,
    INK,
    PAPER,
    SERVER,
    SERVER_TINT,
    UPLOAD,
    WAIT,
    Canvas,
)
from coinfer_gym.envs.moment import Moment, digits, excess_text, is_decided

_LEFT, _RIGHT = 66, 936  # of the time axis
_BAR_LEFT, _BAR_RIGHT = 84.0, 612.0  # of the budgets
_BAR_BUDGET = (_BAR_RIGHT - _BAR_LEFT) / 1.5


def paint(state: Moment) -> NDArray[np.uint8]:
    """The picture of the last decision."""
    canvas = Canvas()
    canvas.text(24, 27, f"{state.subject.title}: {state.scenario.name}", 18)
    moment = f"decision {state.decisions} at {state.now:.2f} s" if state.decided else "start of the episode"
    canvas.text(_RIGHT, 27, moment, 15, GREY, "rs")
    bottom = 184 if state.has_queue else 284
    _paint_gains(canvas, state, 62, bottom)
    if state.has_queue:
        _paint_queue(canvas, state, 216, 284)
    _paint_service(canvas, state, 290, 302)
    _paint_time_axis(canvas, state, 62, 302)
    _paint_network(canvas, state, 366)
    _paint_bar(canvas, state.delays, (WAIT, DEVICE, UPLOAD, SERVER), state.delay_budget, "Delay", "s", 506)
    _paint_bar(canvas, state.energies, (DEVICE, UPLOAD, SERVER), state.energy_budget, "Energy", "J", 578)
    _paint_overheads(canvas, state, 578)
    _paint_outcome(canvas, state, 712, 506)
    return canvas.finish()


def _place(value: float, low: float, high: float, start: float, end: float) -> float:
    """Pixel of a value on an axis from `low` at `start` to `high` at `end`; values outside are put at its ends."""
    return start + (end - start) * min(1.0, max(0.0, (value - low) / (high - low)))


def _at(state: Moment, time: float) -> float:
    """Pixel of a moment."""
    return _place(time, state.start, state.end, _LEFT, _RIGHT)


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers between two bounds, about `count` of them."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= 0.999 * raw)
    return [step * index for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _paint_gains(canvas: Canvas, state: Moment, top: float, bottom: float) -> None:
    """The channel over time: what was, solid; what is to come, faint."""
    low, high = state.gain_range
    canvas.text(_LEFT, top - 8, "Channel gain (dB)", 13)
    canvas.text(_LEFT + 122, top - 8, f"{state.info['gain_db']:.1f} now", 13, GREY)
    for tick in _ticks(low, high, 6):
        y = _place(tick, low, high, bottom, top)
        canvas.line([(_LEFT, y), (_RIGHT, y)], FAINT)
        canvas.text(_LEFT - 6, y + 4, f"{tick:.0f}", 11, GREY, "rs")
    now = _at(state, state.now)
    gains = state.gains_db(_RIGHT - _LEFT)
    points = [(_LEFT + x + 0.5, _place(gain, low, high, bottom, top)) for x, gain in enumerate(gains.tolist())]
    split = sum(x <= now for x, _ in points)
    canvas.line(points[split:], "#b8b8b8", 1.5)
    canvas.line(points[: split + 1], INK, 2.0)
    canvas.line([(now, top), (now, bottom)], INK)
    canvas.dot(now, _place(state.info["gain_db"], low, high, bottom, top), 5.0, INK)


def _paint_queue(canvas: Canvas, state: Moment, top: float, bottom: float) -> None:
    """Waiting tasks over time, arrivals as ticks below, lost tasks as triangles above."""
    capacity = state.scenario.queue_capacity
    full = top + 12.0  # what was lost stands above a full queue
    canvas.text(_LEFT, top - 8, "Tasks waiting", 13)
    canvas.text(_LEFT + 90, top - 8, f"{state.info['queue_length']:.0f} of {capacity}", 13, GREY)
    for tick in sorted({0, capacity // 2, capacity}):
        y = _place(tick, 0, capacity, bottom, full)
        canvas.line([(_LEFT, y), (_RIGHT, y)], FAINT)
        canvas.text(_LEFT - 6, y + 4, f"{tick}", 11, GREY, "rs")
    corners = [(_at(state, time), _place(length, 0, capacity, bottom, full)) for time, length in state.queue()]
    if len(corners) > 1:
        canvas.polygon([(corners[0][0], bottom), *corners, (corners[-1][0], bottom)], "#d9d9d9")
    canvas.line(corners, INK, 1.5)
    for time in state.arrivals().tolist():
        x = _at(state, time)
        canvas.line([(x, bottom - 7), (x, bottom)], INK if time <= state.now else "#b8b8b8", 1.5)
    now = _at(state, state.now)
    canvas.line([(now, top), (now, bottom)], INK)
    canvas.dot(now, _place(state.info["queue_length"], 0, capacity, bottom, full), 5.0, INK)
    _paint_losses(canvas, state, top)


def _paint_losses(canvas: Canvas, state: Moment, top: float) -> None:
    """A triangle where tasks were lost, with their number where they are several and there is room."""
    losses = [(note["time_s"] + note["delay_s"], note["dropped"]) for note in state.notes if note["dropped"] > 0.0]
    places = [(_at(state, time), dropped) for time, dropped in losses if state.start <= time <= state.end]
    for (x, dropped), (following, _) in pairwise([*places, (math.inf, 0.0)]):
        canvas.polygon([(x - 5, top), (x + 5, top), (x, top + 9)], BAD)
        if dropped > 1.0 and following - x > 26.0:
            canvas.text(x + 6, top + 9, f"{dropped:.0f}", 11, BAD)


def _paint_service(canvas: Canvas, state: Moment, top: float, bottom: float) -> None:
    """When tasks were in service: full where both budgets were met, hollow and hatched where not."""
    canvas.text(_LEFT - 6, bottom - 2, "service", 11, GREY, "rs")
    for note in state.notes:
        start, end = note["time_s"], note["time_s"] + note["delay_s"]
        if is_decided(note) and end > state.start:
            x = _at(state, start)
            width = max(_at(state, end) - x - 1.0, 1.0)
            good = not note["violated"]
            canvas.box(x, top, width, bottom - top, GOOD if good else PAPER, None if good else BAD)
            if not good:
                canvas.hatch(x, top, width, bottom - top, BAD)


def _paint_time_axis(canvas: Canvas, state: Moment, top: float, bottom: float) -> None:
    """Ticks in seconds, the moment of the decision, and what the marks mean."""
    now = _at(state, state.now)
    canvas.text(min(max(now, _LEFT + 14), _RIGHT - 14), bottom + 15, "now", 12, INK, "ms")
    for tick in _ticks(state.start, state.end, 8):
        x = _at(state, tick)
        canvas.line([(x, bottom + 1), (x, bottom + 4)], GREY)
        if abs(x - now) > 34.0:
            canvas.text(x, bottom + 15, f"{tick:g} s", 11, GREY, "ms")
    x = _RIGHT
    y = top - 8 if not state.has_queue else 208
    every, one = state.subject.limits
    for index, text in enumerate((f"missed {one}", f"met {every}")):
        width = 16 + 6 * len(text)
        canvas.text(x, y, text, 11, GREY, "rs")
        canvas.box(x - width, y - 9, 12, 9, PAPER if index == 0 else GOOD, BAD if index == 0 else None)
        if index == 0:
            canvas.hatch(x - width, y - 9, 12, 9, BAD)
        x -= width + 16
    if state.has_queue:
        canvas.text(x, y, "lost", 11, GREY, "rs")
        canvas.polygon([(x - 38, y - 9), (x - 28, y - 9), (x - 33, y)], BAD)
        canvas.text(x - 54, y, "arrived", 11, GREY, "rs")
        canvas.line([(x - 98, y - 8), (x - 98, y)], INK, 1.5)


def _paint_network(canvas: Canvas, state: Moment, top: float) -> None:
    """The chain of units: their share of the FLOPs as width, what is kept of them as fill, the upload in between."""
    height, left, right, gap = 56.0, 78.0, 936.0, 128.0
    canvas.text(24, top - 14, f"Network {state.subject.network}", 13)
    subject, decision = state.subject, state.depiction
    where = f"cut {state.cut} of {state.units}" if state.decided else f"{state.units} blocks, not cut yet"
    legend = f"(width: FLOPs, fill: share of the {subject.fill} kept)"
    canvas.text(right, top - 14, f"{where}   {legend}", 12, GREY, "rs")
    canvas.box(24, top, 46, height, PAPER, DEVICE if state.decided else GREY)
    canvas.text(47, top + 33, "input", 12, GREY, "ms")
    widths = _unit_widths(subject.flops, right - left - (gap if state.decided else 0.0))
    x, labelled = left, -math.inf
    for unit, width in enumerate(widths, start=1):
        if state.decided and unit == state.cut + 1:
            _paint_upload(canvas, state, x, top, gap, height)
            x += gap
        _paint_unit(canvas, state, unit, x, top, width, height)
        middle = x + 0.5 * width
        if middle - labelled > 24.0 or unit == state.cut + 1:
            canvas.text(middle, top + height + 14, f"{unit}", 11, GREY, "ms")
            labelled = middle
        x += width
    if state.decided and state.cut == state.units:
        _paint_upload(canvas, state, x, top, gap, height)
    if state.decided:
        device = f"device {decision.device}" if state.cut > 0 else "device sends the input as it is"
        server = f"server {decision.server}" if state.cut < state.units else "server has nothing to do"
        canvas.text(24, top + height + 34, device, 14, DEVICE)
        canvas.text(right, top + height + 34, server, 14, "#9a6a00", "rs")  # orange dark enough to read
        if decision.upload_bits > 0.0:
            canvas.text(0.5 * (24 + right), top + height + 34, f"sends at {state.power}", 14, "#a04d7b", "ms")


def _unit_widths(flops: NDArray[np.float64], total: float) -> list[float]:
    """Widths by FLOPs, none too thin to be seen."""
    widths = np.maximum(flops / flops.sum() * total, min(5.0, 0.5 * total / flops.size))
    return list((widths * total / widths.sum()).tolist())


def _paint_unit(canvas: Canvas, state: Moment, unit: int, x: float, top: float, width: float, height: float) -> None:
    """One unit, filled from below to the share kept."""
    inner = width - (2.0 if width > 8.0 else 1.0)
    if not state.decided:
        canvas.box(x, top, inner, height, "#eeeeee")
        return
    on_device = unit <= state.cut
    canvas.box(x, top, inner, height, DEVICE_TINT if on_device else SERVER_TINT)
    filled = state.depiction.kept[unit - 1] * height
    canvas.box(x, top + height - filled, inner, filled, DEVICE if on_device else SERVER)


def _paint_upload(canvas: Canvas, state: Moment, x: float, top: float, width: float, height: float) -> None:
    """The upload as an arrow with its size above and its rate below."""
    middle, y = x + 0.5 * width, top + 0.5 * height
    size, rate = state.upload
    sent = state.depiction.upload_bits > 0.0
    colour = UPLOAD if sent else FAINT
    start, end = x + 6, x + width - 6
    if state.depiction.compression < 1.0:
        _paint_codec(canvas, state.depiction.compression, x, top, width, height)
        start, end = start + 16, end - 16
    canvas.line([(start, y), (end - 12, y)], colour, 5.0)
    canvas.polygon([(end - 14, y - 9), (end - 14, y + 9), (end, y)], colour)
    canvas.text(middle, y - 12, size, 14, INK if sent else GREY, "ms")
    canvas.text(middle, y + 23, rate, 14, INK if sent else GREY, "ms")


def _paint_codec(canvas: Canvas, compression: float, x: float, top: float, width: float, height: float) -> None:
    """Encoder and decoder at both ends of an upload, as narrow inside as what is left of the feature."""
    inset = 0.5 * height * (1.0 - max(compression, 0.1))
    for outside, inside, colour in ((x + 2, x + 16, DEVICE), (x + width - 4, x + width - 18, SERVER)):
        corners = [(outside, top), (inside, top + inset), (inside, top + height - inset), (outside, top + height)]
        canvas.polygon(corners, colour)


def _paint_overheads(canvas: Canvas, state: Moment, top: float) -> None:
    """What of the energy went into neither computing nor radiating: hatched in the bar, and in words below."""
    overheads, start = state.depiction.overheads, _BAR_LEFT
    for stage, spent in enumerate(state.energies):
        end = start + spent / state.energy_budget * _BAR_BUDGET
        idle = sum(joules for _, owner, joules in overheads if owner == stage) / state.energy_budget * _BAR_BUDGET
        left, right = max(start, min(_BAR_RIGHT, end - idle)), min(_BAR_RIGHT, end)
        if right - left > 1.0:
            canvas.hatch(left, top, right - left, 22.0, "#ffffff")
        start = end
    if overheads:
        words = ", ".join(f"{name} {digits(joules)} J" for name, _, joules in overheads)
        canvas.text(_BAR_LEFT, top + 53, f"hatched: {words}", 11, GREY)


def _paint_bar(
    canvas: Canvas,
    parts: Sequence[float],
    colours: Sequence[str],
    budget: float,
    name: str,
    unit: str,
    top: float,
) -> None:
    """A budget as a stacked bar that ends at one and a half times the budget; red and hatched beyond it."""
    left, right, height = _BAR_LEFT, _BAR_RIGHT, 22.0
    mark = left + _BAR_BUDGET
    total = sum(parts)
    canvas.text(24, top + 16, name, 14)
    canvas.box(left, top, right - left, height, "#f1f1f1")
    x = left
    for part, colour in zip(parts, colours, strict=True):
        end = min(right, x + part / budget * (mark - left))
        canvas.box(x, top, end - x, height, colour)
        x = end
    if x > mark + 0.5:
        canvas.box(mark, top, x - mark, height, BAD)
        canvas.hatch(mark, top, x - mark, height, "#ffffff")
    canvas.line([(mark, top - 6), (mark, top + height + 5)], INK, 2.0)
    canvas.text(mark, top - 10, f"budget {digits(budget)} {unit}", 12, INK, "ms")
    excess = excess_text(total, budget)
    canvas.text(right + 10, top + (10 if excess else 16), f"{digits(total)} {unit}", 14, BAD if excess else INK)
    canvas.text(right + 10, top + 26, excess, 13, BAD)
    _paint_parts(canvas, parts, colours, unit, left, top + height + 16)


def _paint_parts(
    canvas: Canvas, parts: Sequence[float], colours: Sequence[str], unit: str, left: float, y: float
) -> None:
    """What a bar consists of, in its colours."""
    names = ("wait", "device", "upload", "server")[-len(parts) :]
    for index, (part, colour, name) in enumerate(zip(parts, colours, names, strict=True)):
        x = left + 128.0 * index
        canvas.box(x, y - 9, 10, 10, colour)
        canvas.text(x + 15, y, f"{name} {digits(part)} {unit}", 12, GREY)


def _paint_outcome(canvas: Canvas, state: Moment, left: float, top: float) -> None:
    """Quality, what became of the task, the accuracy where one is asked for, and the battery."""
    info = state.info
    good = state.decided and not info["violated"]
    canvas.line([(left - 16, top - 20), (left - 16, HEIGHT - 18)], FAINT)
    canvas.text(left, top + 2, "Quality", 14)
    canvas.text(_RIGHT, top + 6, f"{info['quality']:.3f}" if state.decided else "-", 26, INK, "rs")
    canvas.box(left, top + 16, _RIGHT - left, 8, "#f1f1f1")
    canvas.box(left, top + 16, (_RIGHT - left) * info["quality"], 8, INK)
    canvas.text(left, top + 46, state.status, 15, GOOD if good else BAD if state.decided else GREY)
    if state.has_queue and info["dropped"] > 0.0:
        canvas.text(left, top + 66, f"{info['dropped']:.0f} waiting lost meanwhile", 13, BAD)
    least = state.subject.accuracy_min
    if least is not None:
        _paint_accuracy(canvas, state.depiction.accuracy, least, left, top + 82)
    if state.scenario.battery_capacity is not None:
        capacity = state.scenario.battery_capacity
        y, height = (top + 94, 14) if least is None else (top + 109, 8)
        canvas.text(left, y, "Battery", 14)
        canvas.text(_RIGHT, y, f"{digits(info['battery_j'])} of {digits(capacity)} J", 13, GREY, "rs")
        canvas.box(left, y + 8, _RIGHT - left, height, "#f1f1f1")
        canvas.box(left, y + 8, (_RIGHT - left) * min(1.0, info["battery_j"] / capacity), height, GOOD)


def _paint_accuracy(canvas: Canvas, accuracy: float | None, least: float, left: float, y: float) -> None:
    """The predicted accuracy as a bar, and a mark at the least one."""
    canvas.text(left, y, "Accuracy", 14)
    shown = "-" if accuracy is None else f"{accuracy:.3f}"
    canvas.text(_RIGHT, y, f"{shown}, at least {least:.3f}", 13, GREY, "rs")
    canvas.box(left, y + 6, _RIGHT - left, 8, "#f1f1f1")
    if accuracy is not None:
        colour = GOOD if accuracy >= least - BUDGET_TOLERANCE else BAD
        canvas.box(left, y + 6, (_RIGHT - left) * accuracy, 8, colour)
    mark = left + (_RIGHT - left) * least
    canvas.line([(mark, y + 3), (mark, y + 17)], INK, 2.0)
