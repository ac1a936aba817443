"""Records: rows of named numbers, which compiled code and plain Python read in the same way, ``row.name``."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

Record: TypeAlias = Any
"""One row of an array of records; whoever takes one says of which type it is."""

Records: TypeAlias = NDArray[np.void]
"""Array of records. Constants stand in arrays of one row."""


def record_type(*floats: str | tuple[str, int], **others: DTypeLike) -> np.dtype[np.void]:
    """Type of records with the fields `others`, and then `floats` of float64; a pair is a name and how many it has."""
    fields: list[Any] = [*others.items()]
    fields += [(each, np.float64) if isinstance(each, str) else (each[0], np.float64, each[1:]) for each in floats]
    return np.dtype((np.record, fields))
