"""What every command shows: tables in the terminal, pictures, and the revision that made them."""

from __future__ import annotations

import codecs
import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

# Okabe and Ito's colours keep apart under every common colour blindness.
BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#666666"
GRID = "#dddddd"

_PLAIN = {"±": "+/-", "…": "...", "µ": "u", "≤": "<=", "≥": ">="}


def git_revision() -> str | None:
    """Commit of the checkout, with ``-dirty`` where files differ from it; None outside a repository."""
    root = Path(__file__).resolve().parent.parent
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def open_console() -> Console:
    """Console for tables; characters that the terminal's encoding lacks are written in plain letters."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="plain_letters")
    console = Console()
    return console if console.is_terminal else Console(width=200)  # a file has no edge to wrap at


def _in_plain_letters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter, "?") for letter in letters), error.end


codecs.register_error("plain_letters", _in_plain_letters)


@contextmanager
def style() -> Iterator[None]:
    """Settings that all pictures share."""
    from matplotlib import rc_context

    with rc_context({"font.size": 10}):
        yield


def render(figure: Any) -> bytes:
    """A matplotlib figure as the bytes of a PNG file of 256 colours, a third of the size of one in full colour."""
    from PIL import Image

    drawn, buffer = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=150)
    with Image.open(drawn) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
