"""What an environment looks like: the last decision as a picture, in a window, or as a block of text."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

from coinfer_gym.budgets import BUDGET_TOLERANCE
from coinfer_gym.envs.subjects import Depiction, Info, Subject
from coinfer_gym.physics import transmission_rate
from coinfer_gym.world import World

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 960, 640
"""Size of the picture in pixels."""

_FINE = 2  # shapes are drawn this much larger and scaled down, which smooths their edges
_LEFT, _RIGHT = 66, 936  # of the time axis
_PAST = 0.65  # share of the time axis before the moment of the decision

# Okabe and Ito's colours, which the colour-blind tell apart; what is bad is hatched or crossed, too.
_INK, _GREY, _FAINT, _PAPER = "#222222", "#767676", "#dddddd", "#ffffff"
_DEVICE, _UPLOAD, _SERVER, _WAIT, _GOOD, _BAD = "#0072b2", "#cc79a7", "#e69f00", "#999999", "#009e73", "#b2182b"
_DEVICE_TINT, _SERVER_TINT = "#d3e6f2", "#fbecca"

_SPARKS = "▁▂▃▄▅▆▇█"

_UNDECIDED = Depiction(kept=(), device="", server="", upload_bits=0.0)

Point = tuple[float, float]


class Viewer:
    """Shows an episode of one environment; it remembers the stretch of the episode that the picture spans.

    Parameters
    ----------
    subject : Subject
        The environment as it is shown.
    fps : float
        Frames per second of the window.
    """

    def __init__(self, subject: Subject, fps: float) -> None:
        self._subject = subject
        scenario = subject.scenario
        self._fps = fps
        self._span = max(24.0 * scenario.delay_budget, 32.0 * scenario.block_duration)
        self._world: World | None = None
        self._gain_range = (0.0, 1.0)
        self._notes: deque[Info] = deque()
        self._decisions = 0
        self._window: _Window | None = None

    def restart(self) -> None:
        """Forget the episode: a new one begins."""
        self._world = None
        self._notes.clear()
        self._decisions = 0

    def note(self, info: Info, world: Callable[[], World]) -> None:
        """Take in what a reset or a step told.

        Parameters
        ----------
        info : dict of float
            As the environment tells it; its decision is zeros at a reset.
        world : callable
            Gives the world of the episode; called once an episode.
        """
        if self._world is None:
            self._world = world()
            self._gain_range = _gain_range(self._world)
        self._notes.append(info)
        self._decisions += _is_decided(info)
        while self._notes[0]["time_s"] < info["time_s"] - self._span:
            self._notes.popleft()

    def draw(self, mode: str) -> str | NDArray[np.uint8] | None:
        """Show the last decision.

        Parameters
        ----------
        mode : {"ansi", "rgb_array", "human"}

        Returns
        -------
        str, ndarray of uint8 with shape (640, 960, 3), or None
            Text, picture, or nothing where a window shows the picture.

        Raises
        ------
        gymnasium.error.DependencyNotInstalled
            If Pillow is missing for a picture, or pygame for a window.
        """
        assert self._world is not None, "note() comes before draw()"
        state = _State(self._subject, self._world, self._gain_range, list(self._notes), self._decisions, self._span)
        if mode == "ansi":
            return _write(state)
        picture = _paint(state)
        if mode == "rgb_array":
            return picture
        if self._window is None:
            self._window = _Window(f"{self._subject.title}: {self._subject.scenario.name}", self._fps)
        self._window.show(picture)
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_window": None}


class _Window:
    """A pygame window of the picture's size."""

    def __init__(self, title: str, fps: float) -> None:
        try:
            import pygame
        except ImportError as error:
            raise _missing("pygame", "pygame-ce") from error
        self._pygame = pygame
        self._fps = fps
        pygame.display.init()
        pygame.display.set_caption(title)
        self._screen = pygame.display.set_mode((WIDTH, HEIGHT))
        self._clock = pygame.time.Clock()

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show a picture, no more often than `fps` times a second."""
        surface = self._pygame.image.frombuffer(picture.tobytes(), (WIDTH, HEIGHT), "RGB")
        self._screen.blit(surface, (0, 0))
        self._pygame.event.pump()
        self._pygame.display.flip()
        self._clock.tick(self._fps)

    def close(self) -> None:
        self._pygame.display.quit()


class _State:
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
        self.decided = _is_decided(info)
        self.now: float = info["time_s"]
        self.start = max(0.0, self.now - _PAST * span)
        self.end = self.start + span
        self.cut = int(info["cut"])
        self.units = len(subject.flops)
        self.depiction = subject.depict(info) if self.decided else _UNDECIDED
        self.has_queue = scenario.arrivals != "one_at_a_time"
        gain = 10.0 ** (info["gain_db"] / 10.0)
        self.rate = transmission_rate(info["power_w"], gain, scenario.bandwidth, scenario.noise_density)
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

    def queue(self) -> list[Point]:
        """Corners of the number of waiting tasks over time, from the left end of the axis to the last decision."""
        corners = [*self._queue_corners(), (self.now, self.info["queue_length"])]
        before = [length for time, length in corners if time < self.start]
        inside = [corner for corner in corners if corner[0] >= self.start]
        return [(self.start, before[-1]), *inside] if before else inside

    def _queue_corners(self) -> Iterator[Point]:
        """Between two decisions arrivals add up; where service ended before the second, nobody was left waiting."""
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
        return _scaled(self.depiction.upload_bits, "bit"), _scaled(self.rate, "bit/s")


def _is_decided(info: Info) -> bool:
    """Whether an info tells of a decision: no decision of an environment stops a clock."""
    return bool(info["frequency_device_hz"] > 0.0)


def _missing(module: str, package: str) -> DependencyNotInstalled:
    return DependencyNotInstalled(
        f"{module} is not installed, run `pip install {package}` or `pip install coinfer-gym[render]`."
    )


def _scaled(value: float, unit: str) -> str:
    """Number with three digits and a decimal prefix."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * factor:
            return f"{_digits(value / factor)} {prefix}{unit}"
    return f"{_digits(value)} {unit}"


def _digits(value: float) -> str:
    """Number with about three digits, without an exponent."""
    if value <= 0.0:
        return "0"
    return f"{value:.{min(6, max(0, 2 - math.floor(math.log10(value))))}f}"


def _excess(spent: float, budget: float) -> str:
    """By how much a budget is exceeded; empty where it is met."""
    return f"{100.0 * (spent / budget - 1.0):+.0f} %" if spent > budget * 1.00001 else ""


# --- text


def _write(state: _State) -> str:
    """The block of text of mode ``ansi``."""
    info, scenario = state.info, state.scenario
    lines = [
        f"{state.subject.title} {scenario.name}   decision {state.decisions}   t {state.now:.3f} s   {state.status}   "
        f"quality {info['quality']:.3f}   delivered {info['delivered']:.3f}",
        f"channel {info['gain_db']:.1f} dB   {_spark(state)}",
    ]
    if state.has_queue:
        lines.append(
            f"queue   {info['queue_length']:.0f} of {scenario.queue_capacity} waiting   lost {info['dropped']:.0f}"
        )
    if state.decided:
        size, rate = state.upload
        upload = f"{size} at {rate}, {state.power}" if state.depiction.upload_bits > 0.0 else "nothing to send"
        lines.append(
            f"cut     {state.cut} of {state.units}   device {state.depiction.device}   upload {upload}   "
            f"server {state.depiction.server}"
        )
        lines.extend(state.depiction.remarks)
    else:
        lines.append(f"cut     - of {state.units}")
    lines.append(_account("delay", state.delays, ("wait", "device", "upload", "server"), state.delay_budget, "s"))
    lines.append(_account("energy", state.energies, ("device", "upload", "server"), state.energy_budget, "J"))
    if scenario.battery_capacity is not None:
        lines.append(f"battery {info['battery_j']:.4f} of {scenario.battery_capacity:.4f} J before the task")
    return "\n".join(lines)


def _spark(state: _State) -> str:
    """The channel of the time axis in one line, a bar marking the moment of the decision."""
    gains = state.gains_db(40)
    low, high = state.gain_range
    levels = np.clip((gains - low) / (high - low) * len(_SPARKS), 0, len(_SPARKS) - 1).astype(int)
    sparks = "".join(_SPARKS[level] for level in levels)
    here = int(40 * (state.now - state.start) / (state.end - state.start))
    return f"{sparks[:here]}|{sparks[here:]}"


def _account(name: str, parts: Sequence[float], names: Sequence[str], budget: float, unit: str) -> str:
    """One budget and what it was spent on."""
    total = sum(parts)
    filled = min(30, round(20 * total / budget))
    bar = "".join("|" * (place == 20) + ("#" if place < filled else ".") for place in range(30))
    spent = "  ".join(f"{part} {value:.4f}" for part, value in zip(names, parts, strict=True))
    return f"{name:<7} {total:.4f} of {budget:.4f} {unit}   [{bar}] {_excess(total, budget):>6}   {spent}"


def _gain_range(world: World) -> tuple[float, float]:
    """Bounds in dB of the axis of gains: of the episode's path, outages aside, and not too narrow."""
    gains = 10.0 * np.log10(world.gains)
    low, high = float(np.quantile(gains, 0.005)), float(gains.max())
    margin = max(0.05 * (high - low), 0.5 * (6.0 - (high - low)))
    return low - margin, high + margin


# --- picture


class _Canvas:
    """A picture in the making: smooth shapes, and text above them all.

    Coordinates are pixels of the finished picture.
    """

    def __init__(self) -> None:
        try:
            from PIL import Image, ImageDraw
        except ImportError as error:
            raise _missing("Pillow", "pillow") from error
        self._image: Image.Image = Image.new("RGB", (WIDTH * _FINE, HEIGHT * _FINE), _PAPER)
        self._draw: ImageDraw.ImageDraw = ImageDraw.Draw(self._image)
        self._texts: list[tuple[Point, str, int, str, str]] = []

    def box(
        self, x: float, y: float, width: float, height: float, fill: str | None, outline: str | None = None
    ) -> None:
        """Rectangle by its upper left corner; nothing where it has no extent."""
        right, bottom = round((x + width) * _FINE) - 1, round((y + height) * _FINE) - 1
        left, top = round(x * _FINE), round(y * _FINE)
        if right >= left and bottom >= top:
            self._draw.rectangle((left, top, right, bottom), fill, outline, _FINE)

    def line(self, points: Sequence[Point], colour: str, width: float = 1.0) -> None:
        """Line through points."""
        if len(points) > 1:
            scaled = [coordinate * _FINE for point in points for coordinate in point]
            self._draw.line(scaled, colour, round(width * _FINE), joint=None)

    def polygon(self, points: Sequence[Point], fill: str) -> None:
        """Filled polygon."""
        self._draw.polygon([coordinate * _FINE for point in points for coordinate in point], fill)

    def dot(self, x: float, y: float, radius: float, fill: str) -> None:
        """Disc with a white rim."""
        box = [(value + sign * radius) * _FINE for sign in (-1, 1) for value in (x, y)]
        self._draw.ellipse(box, fill, _PAPER, _FINE)

    def hatch(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Rising lines across a rectangle."""
        for shift in np.arange(-height, width, 6.0):
            first, last = max(0.0, -shift), min(height, width - shift)
            if first < last:
                ends = [(x + shift + rise, y + height - rise) for rise in (first, last)]
                self.line(ends, colour, 1.0)

    def text(self, x: float, y: float, text: str, size: int = 13, colour: str = _INK, anchor: str = "ls") -> None:
        """Text; the anchor is Pillow's: l, m, r for left, middle, right, and s for the line it stands on."""
        self._texts.append(((x, y), text, size, colour, anchor))

    def finish(self) -> NDArray[np.uint8]:
        """The picture, shape (640, 960, 3)."""
        image = self._image.reduce(_FINE)
        for (x, y), text, size, colour, anchor in self._texts:
            mask, left, top = _letters(text, size, anchor)
            image.paste(colour, (round(x) + left, round(y) + top), mask)
        return np.array(image)


@lru_cache(maxsize=1024)  # most words are the same from frame to frame, and drawing them takes longest
def _letters(text: str, size: int, anchor: str) -> tuple[Image.Image, int, int]:
    """Coverage of the pixels by a text, and where its upper left corner lies from the anchor."""
    from PIL import Image, ImageDraw

    font = _font(size * _FINE)
    left, top, right, bottom = (math.floor(edge / _FINE) for edge in font.getbbox(text, anchor=anchor))
    mask = Image.new("L", ((right - left + 2) * _FINE, (bottom - top + 2) * _FINE))
    ImageDraw.Draw(mask).text((-left * _FINE, -top * _FINE), text, 255, font, anchor)
    return mask.reduce(_FINE), left, top


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _paint(state: _State) -> NDArray[np.uint8]:
    """The picture of the last decision."""
    canvas = _Canvas()
    canvas.text(24, 27, f"{state.subject.title}: {state.scenario.name}", 18)
    moment = f"decision {state.decisions} at {state.now:.2f} s" if state.decided else "start of the episode"
    canvas.text(_RIGHT, 27, moment, 15, _GREY, "rs")
    bottom = 184 if state.has_queue else 284
    _paint_gains(canvas, state, 62, bottom)
    if state.has_queue:
        _paint_queue(canvas, state, 216, 284)
    _paint_service(canvas, state, 290, 302)
    _paint_time_axis(canvas, state, 62, 302)
    _paint_network(canvas, state, 366)
    _paint_bar(canvas, state.delays, (_WAIT, _DEVICE, _UPLOAD, _SERVER), state.delay_budget, "Delay", "s", 506)
    _paint_bar(canvas, state.energies, (_DEVICE, _UPLOAD, _SERVER), state.energy_budget, "Energy", "J", 578)
    _paint_outcome(canvas, state, 712, 506)
    return canvas.finish()


def _place(value: float, low: float, high: float, start: float, end: float) -> float:
    """Pixel of a value on an axis from `low` at `start` to `high` at `end`; values outside are put at its ends."""
    return start + (end - start) * min(1.0, max(0.0, (value - low) / (high - low)))


def _at(state: _State, time: float) -> float:
    """Pixel of a moment."""
    return _place(time, state.start, state.end, _LEFT, _RIGHT)


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers between two bounds, about `count` of them."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= 0.999 * raw)
    return [step * index for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _paint_gains(canvas: _Canvas, state: _State, top: float, bottom: float) -> None:
    """The channel over time: what was, solid; what is to come, faint."""
    low, high = state.gain_range
    canvas.text(_LEFT, top - 8, "Channel gain (dB)", 13)
    canvas.text(_LEFT + 122, top - 8, f"{state.info['gain_db']:.1f} now", 13, _GREY)
    for tick in _ticks(low, high, 6):
        y = _place(tick, low, high, bottom, top)
        canvas.line([(_LEFT, y), (_RIGHT, y)], _FAINT)
        canvas.text(_LEFT - 6, y + 4, f"{tick:.0f}", 11, _GREY, "rs")
    now = _at(state, state.now)
    gains = state.gains_db(_RIGHT - _LEFT)
    points = [(_LEFT + x + 0.5, _place(gain, low, high, bottom, top)) for x, gain in enumerate(gains.tolist())]
    split = sum(x <= now for x, _ in points)
    canvas.line(points[split:], "#b8b8b8", 1.5)
    canvas.line(points[: split + 1], _INK, 2.0)
    canvas.line([(now, top), (now, bottom)], _INK)
    canvas.dot(now, _place(state.info["gain_db"], low, high, bottom, top), 5.0, _INK)


def _paint_queue(canvas: _Canvas, state: _State, top: float, bottom: float) -> None:
    """Waiting tasks over time, arrivals as ticks below, lost tasks as triangles above."""
    capacity = state.scenario.queue_capacity
    full = top + 12.0  # what was lost stands above a full queue
    canvas.text(_LEFT, top - 8, "Tasks waiting", 13)
    canvas.text(_LEFT + 90, top - 8, f"{state.info['queue_length']:.0f} of {capacity}", 13, _GREY)
    for tick in sorted({0, capacity // 2, capacity}):
        y = _place(tick, 0, capacity, bottom, full)
        canvas.line([(_LEFT, y), (_RIGHT, y)], _FAINT)
        canvas.text(_LEFT - 6, y + 4, f"{tick}", 11, _GREY, "rs")
    corners = [(_at(state, time), _place(length, 0, capacity, bottom, full)) for time, length in state.queue()]
    if len(corners) > 1:
        canvas.polygon([(corners[0][0], bottom), *corners, (corners[-1][0], bottom)], "#d9d9d9")
    canvas.line(corners, _INK, 1.5)
    for time in state.arrivals().tolist():
        x = _at(state, time)
        canvas.line([(x, bottom - 7), (x, bottom)], _INK if time <= state.now else "#b8b8b8", 1.5)
    now = _at(state, state.now)
    canvas.line([(now, top), (now, bottom)], _INK)
    canvas.dot(now, _place(state.info["queue_length"], 0, capacity, bottom, full), 5.0, _INK)
    _paint_losses(canvas, state, top)


def _paint_losses(canvas: _Canvas, state: _State, top: float) -> None:
    """A triangle where tasks were lost, with their number where they are several and there is room."""
    losses = [(note["time_s"] + note["delay_s"], note["dropped"]) for note in state.notes if note["dropped"] > 0.0]
    places = [(_at(state, time), dropped) for time, dropped in losses if state.start <= time <= state.end]
    for (x, dropped), (following, _) in pairwise([*places, (math.inf, 0.0)]):
        canvas.polygon([(x - 5, top), (x + 5, top), (x, top + 9)], _BAD)
        if dropped > 1.0 and following - x > 26.0:
            canvas.text(x + 6, top + 9, f"{dropped:.0f}", 11, _BAD)


def _paint_service(canvas: _Canvas, state: _State, top: float, bottom: float) -> None:
    """When tasks were in service: full where both budgets were met, hollow and hatched where not."""
    canvas.text(_LEFT - 6, bottom - 2, "service", 11, _GREY, "rs")
    for note in state.notes:
        start, end = note["time_s"], note["time_s"] + note["delay_s"]
        if _is_decided(note) and end > state.start:
            x = _at(state, start)
            width = max(_at(state, end) - x - 1.0, 1.0)
            good = not note["violated"]
            canvas.box(x, top, width, bottom - top, _GOOD if good else _PAPER, None if good else _BAD)
            if not good:
                canvas.hatch(x, top, width, bottom - top, _BAD)


def _paint_time_axis(canvas: _Canvas, state: _State, top: float, bottom: float) -> None:
    """Ticks in seconds, the moment of the decision, and what the marks mean."""
    now = _at(state, state.now)
    canvas.text(min(max(now, _LEFT + 14), _RIGHT - 14), bottom + 15, "now", 12, _INK, "ms")
    for tick in _ticks(state.start, state.end, 8):
        x = _at(state, tick)
        canvas.line([(x, bottom + 1), (x, bottom + 4)], _GREY)
        if abs(x - now) > 34.0:
            canvas.text(x, bottom + 15, f"{tick:g} s", 11, _GREY, "ms")
    x = _RIGHT
    y = top - 8 if not state.has_queue else 208
    every, one = state.subject.limits
    for index, text in enumerate((f"missed {one}", f"met {every}")):
        width = 16 + 6 * len(text)
        canvas.text(x, y, text, 11, _GREY, "rs")
        canvas.box(x - width, y - 9, 12, 9, _PAPER if index == 0 else _GOOD, _BAD if index == 0 else None)
        if index == 0:
            canvas.hatch(x - width, y - 9, 12, 9, _BAD)
        x -= width + 16
    if state.has_queue:
        canvas.text(x, y, "lost", 11, _GREY, "rs")
        canvas.polygon([(x - 38, y - 9), (x - 28, y - 9), (x - 33, y)], _BAD)
        canvas.text(x - 54, y, "arrived", 11, _GREY, "rs")
        canvas.line([(x - 98, y - 8), (x - 98, y)], _INK, 1.5)


def _paint_network(canvas: _Canvas, state: _State, top: float) -> None:
    """The chain of units: their share of the FLOPs as width, what is kept of them as fill, the upload in between."""
    height, left, right, gap = 56.0, 78.0, 936.0, 128.0
    canvas.text(24, top - 14, f"Network {state.subject.network}", 13)
    subject, decision = state.subject, state.depiction
    where = f"cut {state.cut} of {state.units}" if state.decided else f"{state.units} blocks, not cut yet"
    legend = f"(width: FLOPs, fill: share of the {subject.fill} kept)"
    canvas.text(right, top - 14, f"{where}   {legend}", 12, _GREY, "rs")
    canvas.box(24, top, 46, height, _PAPER, _DEVICE if state.decided else _GREY)
    canvas.text(47, top + 33, "input", 12, _GREY, "ms")
    widths = _unit_widths(subject.flops, right - left - (gap if state.decided else 0.0))
    x, labelled = left, -math.inf
    for unit, width in enumerate(widths, start=1):
        if state.decided and unit == state.cut + 1:
            _paint_upload(canvas, state, x, top, gap, height)
            x += gap
        _paint_unit(canvas, state, unit, x, top, width, height)
        middle = x + 0.5 * width
        if middle - labelled > 24.0 or unit == state.cut + 1:
            canvas.text(middle, top + height + 14, f"{unit}", 11, _GREY, "ms")
            labelled = middle
        x += width
    if state.decided and state.cut == state.units:
        _paint_upload(canvas, state, x, top, gap, height)
    if state.decided:
        device = f"device {decision.device}" if state.cut > 0 else "device sends the input as it is"
        server = f"server {decision.server}" if state.cut < state.units else "server has nothing to do"
        canvas.text(24, top + height + 34, device, 14, _DEVICE)
        canvas.text(right, top + height + 34, server, 14, "#9a6a00", "rs")  # orange dark enough to read
        if decision.upload_bits > 0.0:
            canvas.text(0.5 * (24 + right), top + height + 34, f"sends at {state.power}", 14, "#a04d7b", "ms")


def _unit_widths(flops: NDArray[np.float64], total: float) -> list[float]:
    """Widths by FLOPs, none too thin to be seen."""
    widths = np.maximum(flops / flops.sum() * total, min(5.0, 0.5 * total / flops.size))
    return list((widths * total / widths.sum()).tolist())


def _paint_unit(canvas: _Canvas, state: _State, unit: int, x: float, top: float, width: float, height: float) -> None:
    """One unit, filled from below to the share kept."""
    inner = width - (2.0 if width > 8.0 else 1.0)
    if not state.decided:
        canvas.box(x, top, inner, height, "#eeeeee")
        return
    on_device = unit <= state.cut
    canvas.box(x, top, inner, height, _DEVICE_TINT if on_device else _SERVER_TINT)
    filled = state.depiction.kept[unit - 1] * height
    canvas.box(x, top + height - filled, inner, filled, _DEVICE if on_device else _SERVER)


def _paint_upload(canvas: _Canvas, state: _State, x: float, top: float, width: float, height: float) -> None:
    """The upload as an arrow with its size above and its rate below."""
    middle, y = x + 0.5 * width, top + 0.5 * height
    size, rate = state.upload
    sent = state.depiction.upload_bits > 0.0
    colour = _UPLOAD if sent else _FAINT
    start, end = x + 6, x + width - 6
    if state.depiction.compression < 1.0:
        _paint_codec(canvas, state.depiction.compression, x, top, width, height)
        start, end = start + 16, end - 16
    canvas.line([(start, y), (end - 12, y)], colour, 5.0)
    canvas.polygon([(end - 14, y - 9), (end - 14, y + 9), (end, y)], colour)
    canvas.text(middle, y - 12, size, 14, _INK if sent else _GREY, "ms")
    canvas.text(middle, y + 23, rate, 14, _INK if sent else _GREY, "ms")


def _paint_codec(canvas: _Canvas, compression: float, x: float, top: float, width: float, height: float) -> None:
    """Encoder and decoder at both ends of an upload, as narrow inside as what is left of the feature."""
    inset = 0.5 * height * (1.0 - max(compression, 0.1))
    for outside, inside, colour in ((x + 2, x + 16, _DEVICE), (x + width - 4, x + width - 18, _SERVER)):
        corners = [(outside, top), (inside, top + inset), (inside, top + height - inset), (outside, top + height)]
        canvas.polygon(corners, colour)


def _paint_bar(
    canvas: _Canvas,
    parts: Sequence[float],
    colours: Sequence[str],
    budget: float,
    name: str,
    unit: str,
    top: float,
) -> None:
    """A budget as a stacked bar that ends at one and a half times the budget; red and hatched beyond it."""
    left, right, height = 84.0, 612.0, 22.0
    mark = left + (right - left) / 1.5
    total = sum(parts)
    canvas.text(24, top + 16, name, 14)
    canvas.box(left, top, right - left, height, "#f1f1f1")
    x = left
    for part, colour in zip(parts, colours, strict=True):
        end = min(right, x + part / budget * (mark - left))
        canvas.box(x, top, end - x, height, colour)
        x = end
    if x > mark + 0.5:
        canvas.box(mark, top, x - mark, height, _BAD)
        canvas.hatch(mark, top, x - mark, height, "#ffffff")
    canvas.line([(mark, top - 6), (mark, top + height + 5)], _INK, 2.0)
    canvas.text(mark, top - 10, f"budget {_digits(budget)} {unit}", 12, _INK, "ms")
    excess = _excess(total, budget)
    canvas.text(right + 10, top + (10 if excess else 16), f"{_digits(total)} {unit}", 14, _BAD if excess else _INK)
    canvas.text(right + 10, top + 26, excess, 13, _BAD)
    _paint_parts(canvas, parts, colours, unit, left, top + height + 16)


def _paint_parts(
    canvas: _Canvas, parts: Sequence[float], colours: Sequence[str], unit: str, left: float, y: float
) -> None:
    """What a bar consists of, in its colours."""
    names = ("wait", "device", "upload", "server")[-len(parts) :]
    for index, (part, colour, name) in enumerate(zip(parts, colours, names, strict=True)):
        x = left + 128.0 * index
        canvas.box(x, y - 9, 10, 10, colour)
        canvas.text(x + 15, y, f"{name} {_digits(part)} {unit}", 12, _GREY)


def _paint_outcome(canvas: _Canvas, state: _State, left: float, top: float) -> None:
    """Quality, what became of the task, the accuracy where one is asked for, and the battery."""
    info = state.info
    good = state.decided and not info["violated"]
    canvas.line([(left - 16, top - 20), (left - 16, HEIGHT - 18)], _FAINT)
    canvas.text(left, top + 2, "Quality", 14)
    canvas.text(_RIGHT, top + 6, f"{info['quality']:.3f}" if state.decided else "-", 26, _INK, "rs")
    canvas.box(left, top + 16, _RIGHT - left, 8, "#f1f1f1")
    canvas.box(left, top + 16, (_RIGHT - left) * info["quality"], 8, _INK)
    canvas.text(left, top + 46, state.status, 15, _GOOD if good else _BAD if state.decided else _GREY)
    if state.has_queue and info["dropped"] > 0.0:
        canvas.text(left, top + 66, f"{info['dropped']:.0f} waiting lost meanwhile", 13, _BAD)
    least = state.subject.accuracy_min
    if least is not None:
        _paint_accuracy(canvas, state.depiction.accuracy, least, left, top + 82)
    if state.scenario.battery_capacity is not None:
        capacity = state.scenario.battery_capacity
        y, height = (top + 94, 14) if least is None else (top + 109, 8)
        canvas.text(left, y, "Battery", 14)
        canvas.text(_RIGHT, y, f"{_digits(info['battery_j'])} of {_digits(capacity)} J", 13, _GREY, "rs")
        canvas.box(left, y + 8, _RIGHT - left, height, "#f1f1f1")
        canvas.box(left, y + 8, (_RIGHT - left) * min(1.0, info["battery_j"] / capacity), height, _GOOD)


def _paint_accuracy(canvas: _Canvas, accuracy: float | None, least: float, left: float, y: float) -> None:
    """The predicted accuracy as a bar, and a mark at the least one."""
    canvas.text(left, y, "Accuracy", 14)
    shown = "-" if accuracy is None else f"{accuracy:.3f}"
    canvas.text(_RIGHT, y, f"{shown}, at least {least:.3f}", 13, _GREY, "rs")
    canvas.box(left, y + 6, _RIGHT - left, 8, "#f1f1f1")
    if accuracy is not None:
        colour = _GOOD if accuracy >= least - BUDGET_TOLERANCE else _BAD
        canvas.box(left, y + 6, (_RIGHT - left) * accuracy, 8, colour)
    mark = left + (_RIGHT - left) * least
    canvas.line([(mark, y + 3), (mark, y + 17)], _INK, 2.0)
