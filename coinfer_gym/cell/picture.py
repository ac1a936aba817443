"""What Cell-v0 looks like: who holds band and server over time, what every device does, and the last decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from coinfer_gym.cell.scenario import CellScenario
from coinfer_gym.envs.canvas import BAD, DEVICE, FAINT, GOOD, GREY, INK, SERVER, UPLOAD, WAIT, Canvas
from coinfer_gym.envs.moment import is_decided
from coinfer_gym.envs.subjects import Info
from coinfer_gym.envs.viewer import EpisodeViewer
from coinfer_gym.world import World

COLOURS = (DEVICE, SERVER, GOOD, UPLOAD, "#56b4e9", "#d55e00", "#f0e442", "#8c6bb1")
"""Of the devices, in turn; numbers stand beside them."""

_LEFT, _RIGHT, _ROWS_TOP, _ROWS_BOTTOM = 92, 860, 300, 540


class CellViewer(EpisodeViewer):
    """Shows an episode of one cell.

    Parameters
    ----------
    scenario : CellScenario
    fps : float
        Frames per second of the window.
    """

    def __init__(self, scenario: CellScenario, fps: float) -> None:
        self._scenario = scenario
        self._span = 8.0 * max(kind.delay_budget for kind in scenario.members)
        super().__init__(f"Cell-v0: {scenario.name}", fps, 2.0 * self._span)
        self._lost = 0.0

    def restart(self) -> None:
        """Forget the episode: a new one begins."""
        super().restart()
        self._lost = 0.0

    def note(self, info: Info, world: Callable[..., World]) -> None:
        """Take in what a reset or a step told."""
        super().note(info, world)
        self._lost += info["dropped"]

    def _words(self) -> list[str]:
        """The last decision in words: who, with what it met; what it took; what became of it."""
        info = self._notes[-1]
        device = int(info["device"])
        kinds = self._scenario.members
        kind = kinds[device % len(kinds)]
        words = [
            f"device {device} ({kind.name})   gain {info['gain_db']:.1f} dB   "
            f"waited {info['wait_s']:.3f} s, for shares {info['blocked_s']:.3f} s   "
            f"{info['queue_length']:.0f} behind it   {info['waiting_elsewhere']:.0f} elsewhere",
            f"free    band {info['band_free']:.2f}   server {info['server_free']:.2f}   "
            f"{info['busy']:.0f} of {self._scenario.devices - 1} others busy",
        ]
        if is_decided(info):
            end = "missed a budget" if info["violated"] else "within both budgets"
            words += [
                f"takes   band {info['band']:.2f}   server {info['server']:.2f}   "
                f"cut {info['cut']:.0f} of {kind.cuts - 1}   "
                f"keeps {info['retained_device']:.2f} and {info['retained_server']:.2f}",
                f"gives   quality {info['quality']:.3f}   delivered {info['delivered']:.3f}   {end}: "
                f"{info['delay_s']:.3f} of {info['delay_budget_s']:.3f} s, "
                f"{info['energy_j']:.3f} of {info['energy_budget_j']:.3f} J",
            ]
        return words

    def _heading(self) -> str:
        return f"decision {self._decisions} at {self._notes[-1]['time_s']:.3f} s   {self._lost:.0f} tasks lost"

    def _text(self) -> str:
        return "\n".join([f"Cell-v0 {self._scenario.name}   {self._heading()}", *self._words()])

    def _holds(self, name: str) -> Iterator[tuple[int, float, float, float]]:
        """Device, start, end and share of what was held of band or server."""
        for info in filter(is_decided, self._notes):
            kinds, device = self._scenario.members, int(info["device"])
            end = info["time_s"] + info["delay_s"]
            if name == "band":  # the round trip comes after the upload
                end -= info["delay_server_s"] + kinds[device % len(kinds)].round_trip
            if info[name] > 0.0 and end > info["time_s"]:
                yield device, info["time_s"], end, info[name]

    def _picture(self) -> NDArray[np.uint8]:
        canvas, now = Canvas(), float(self._notes[-1]["time_s"])
        start = max(0.0, now - 0.65 * self._span)

        def at(time: float) -> float:
            """Pixel of a moment."""
            return _LEFT + (_RIGHT - _LEFT) * min(1.0, max(0.0, (time - start) / self._span))

        canvas.text(24, 27, f"Cell-v0: {self._scenario.name}", 18)
        canvas.text(936, 27, self._heading(), 15, GREY, "rs")
        for name, top in (("band", 58), ("server", 174)):
            self._paint_holds(canvas, name, top, 90, at)
        self._paint_devices(canvas, at)
        canvas.line([(at(now), 50), (at(now), _ROWS_BOTTOM)], INK)
        canvas.text(at(now), _ROWS_BOTTOM + 14, f"{now:.2f} s", 12, INK, "ms")
        for row, line in enumerate(self._words()):
            canvas.text(24, 574 + 18 * row, line, 13)
        return canvas.finish()

    def _paint_holds(self, canvas: Canvas, name: str, top: float, height: float, at: Callable[[float], float]) -> None:
        """The shares that devices hold over time, stacked by their numbers."""
        canvas.text(24, top + 14, name.capitalize(), 14)
        canvas.box(_LEFT, top, _RIGHT - _LEFT, height, "#f4f4f4")
        canvas.text(_RIGHT + 8, top + 12, "all", 11, GREY)
        canvas.text(_RIGHT + 8, top + height, "none", 11, GREY)
        holds = sorted(self._holds(name))
        moments = sorted({time for _, start, end, _ in holds for time in (start, end)})
        for since, until in pairwise(moments):
            y = top + height
            for device, start, end, share in holds:
                if start <= since and until <= end:
                    y -= share * height
                    canvas.box(at(since), y, at(until) - at(since), share * height, COLOURS[device % len(COLOURS)])

    def _paint_devices(self, canvas: Canvas, at: Callable[[float], float]) -> None:
        """A row for each device: what computes or sends for it, whether budgets were met, and its queue."""
        count = self._scenario.devices
        height = (_ROWS_BOTTOM - _ROWS_TOP) / count
        canvas.text(24, _ROWS_TOP - 12, "Devices", 14)
        legend = ((DEVICE, "computes"), (UPLOAD, "sends"), (SERVER, "server computes"), (BAD, "missed a budget"))
        for place, (colour, text) in enumerate(legend):
            canvas.box(_LEFT + 130 * place, _ROWS_TOP - 22, 10, 10, colour)
            canvas.text(_LEFT + 130 * place + 15, _ROWS_TOP - 13, text, 12, GREY)
        canvas.text(936, _ROWS_TOP - 13, "queue", 12, GREY, "rs")
        for k in range(count):
            y = _ROWS_TOP + k * height
            canvas.line([(_LEFT, y + height - 1), (_RIGHT, y + height - 1)], FAINT)
            if count <= 20 or k % 4 == 0:
                canvas.box(64, y + 0.5 * height - 4, 8, 8, COLOURS[k % len(COLOURS)])
                canvas.text(60, y + 0.5 * height + 4, f"{k}", 11, INK, "rs")
        for info in self._notes:
            y = _ROWS_TOP + info["device"] * height
            time = info["time_s"]
            if info["blocked_s"] > 0.0:
                blocked = at(time - info["blocked_s"])
                canvas.hatch(blocked, y + 1, at(time) - blocked, height - 3, WAIT)
            for part, colour in (("device", DEVICE), ("upload", UPLOAD), ("server", SERVER)):
                left, time = at(time), time + info[f"delay_{part}_s"]
                canvas.box(left, y + 1, at(time) - left, height - 3, colour)
            if info["violated"]:
                canvas.box(at(info["time_s"]), y + height - 4, at(time) - at(info["time_s"]), 3, BAD)
        waiting = {info["device"]: info["queue_length"] for info in self._notes}
        for device, length in waiting.items():
            y, width = _ROWS_TOP + device * height, 56.0 * length / self._scenario.queue_capacity
            canvas.box(_RIGHT + 20, y + 1, width, height - 3, GREY)
