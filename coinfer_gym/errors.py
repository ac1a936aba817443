"""The one error of bad input: it names the field, the value and the remedy."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable
from typing import Any

LONGEST = 200
"""Characters of a value that an error shows at most."""

_REPR = reprlib.Repr()
_REPR.maxlevel = 3  # nested lists are cut before they are written, so that none of them fills the memory
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 12
_REPR.maxstring = _REPR.maxother = LONGEST


_UNKNOWN = re.compile(r"unexpected keyword argument '(.*?)'\. (.*?) was raised from the environment creator", re.DOTALL)


class InvalidInputError(ValueError):
    """A value from outside (a file, a keyword, a call) that cannot be used. The message is one line.

    Parameters
    ----------
    field : str
        What was given, by the name the user knows it under.
    value : object
        What was found there; the message shows at most `LONGEST` characters of it.
    remedy : str
        What to give instead.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        shown = _shown(value)
        room = 390 + LONGEST - len(shown)  # what the value leaves free
        where = _ends(field, max(110, room - len(remedy)))
        super().__init__(f"{where}: got {shown}. {_ends(remedy, room - len(where))}")
        self.field = field
        self.value = value
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[InvalidInputError], tuple[Any, ...]]:
        return type(self), (self.field, self.value, self.remedy)


class UnknownKeywordError(InvalidInputError, TypeError):
    """A keyword that nothing takes. It is also a TypeError, which libraries expect of an unknown keyword.

    Parameters
    ----------
    keyword : str
    remedy : str
        Left out by Gymnasium, which makes a TypeError anew from its message and the keywords of ``make``.
    """

    def __init__(self, keyword: str, remedy: str = "") -> None:
        if made_anew := _UNKNOWN.match(keyword):
            keyword, remedy = made_anew.groups()
        super().__init__(keyword, keyword, remedy)
        self.args = (f"unexpected keyword argument '{_ends(keyword, 110)}'. {_ends(remedy, 280)}",)

    def __reduce__(self) -> tuple[type[InvalidInputError], tuple[Any, ...]]:
        return type(self), (self.field, self.remedy)


def _shown(value: object) -> str:
    """The value in one line of bounded length."""
    try:
        text = _REPR.repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        text = f"a {type(value).__name__} too long to write"
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _ends(text: str, longest: int) -> str:
    """A text in one line; of a long one its two ends, cut between words where there are some."""
    text = " ".join(text.split())
    if len(text) <= longest:
        return text
    start, end = text[: longest // 2], text[-longest // 2 :]
    return f"{start.rpartition(' ')[0] or start} ... {end.partition(' ')[2] or end}"


def nearest(word: str, known: Iterable[str]) -> str:
    """Sentence that names the known word closest to `word`, or else as many of them as fit into `LONGEST` characters.

    Parameters
    ----------
    word : str
        The unknown word.
    known : iterable of str
        The words that would have been understood.

    Returns
    -------
    str
        For example ``"Did you mean 'bandwidth'?"``.
    """
    choices = sorted(known)
    close = difflib.get_close_matches(word[:LONGEST], choices, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    named = ", ".join(choices)
    if len(named) > LONGEST:
        named = f"{named[:LONGEST].rpartition(', ')[0]}, ... ({len(choices)} in all)"
    return f"Known are: {named}."
