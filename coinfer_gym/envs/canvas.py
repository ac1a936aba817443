"""The drawing tools of the picture: sizes, colours, and a canvas of smooth shapes and text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 960, 640
"""Size of the picture in pixels."""

_FINE = 2  # shapes are drawn this much larger and scaled down, which smooths their edges

# Okabe and Ito's colours, which the colour-blind tell apart; what is bad is hatched or crossed, too.
INK, GREY, FAINT, PAPER = "#222222", "#767676", "#dddddd", "#ffffff"
DEVICE, UPLOAD, SERVER, WAIT, GOOD, BAD = "#0072b2", "#cc79a7", "#e69f00", "#999999", "#009e73", "#b2182b"
DEVICE_TINT, SERVER_TINT = "#d3e6f2", "#fbecca"

Point = tuple[float, float]


class Canvas:
    """A picture in the making: smooth shapes, and text above them all.

    Coordinates are pixels of the finished picture.
    """

    def __init__(self) -> None:
        try:
            from PIL import Image, ImageDraw
        except ImportError as error:
            raise missing_extra("Pillow", "pillow") from error
        self._image: Image.Image = Image.new("RGB", (WIDTH * _FINE, HEIGHT * _FINE), PAPER)
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
        self._draw.ellipse(box, fill, PAPER, _FINE)

    def hatch(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Rising lines across a rectangle."""
        for shift in np.arange(-height, width, 6.0):
            first, last = max(0.0, -shift), min(height, width - shift)
            if first < last:
                ends = [(x + shift + rise, y + height - rise) for rise in (first, last)]
                self.line(ends, colour, 1.0)

    def text(self, x: float, y: float, text: str, size: int = 13, colour: str = INK, anchor: str = "ls") -> None:
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


def missing_extra(module: str, package: str) -> DependencyNotInstalled:
    """Error of a missing package of the extra ``render``."""
    return DependencyNotInstalled(
        f"{module} is not installed, run `pip install {package}` or `pip install 'coinfer-gym[render]'`."
    )
