"""The one error of bad input: it names the field, the value and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InvalidInputError(ValueError):
    """A value from outside (a file, a keyword, a call) that cannot be used.

    Parameters
    ----------
    field : str
        What was given, by the name the user knows it under.
    value : object
        What was found there.
    remedy : str
        What to give instead.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{field}: got {value!r}. {remedy}")
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
    close = difflib.get_close_matches(word, choices, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known are: {', '.join(choices)}."
