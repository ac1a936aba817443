"""The one error of bad input: it names the field, the value and the remedy."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

LONGEST = 200
"""Characters of a value that an error shows at most."""

_REPR = reprlib.Repr()
_REPR.maxlevel = 3  # nested lists are cut before they are written, so that none of them fills the memory
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 12
_REPR.maxstring = _REPR.maxother = LONGEST


class InvalidInputError(ValueError):
    """A value from outside (a file, a keyword, a call) that cannot be used.

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
        shown = _REPR.repr(value)
        shown = shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."
        super().__init__(f"{field}: got {shown}. {remedy}")
        self.field = field
        self.value = value
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[InvalidInputError], tuple[str, object, str]]:
        return type(self), (self.field, self.value, self.remedy)


def nearest(word: str, known: Iterable[str]) -> str:
    """Sentence that names the known word closest to `word`, or all of them.

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
    return f"Did you mean {close[0]!r}?" if close else f"Known are: {', '.join(choices)}."
