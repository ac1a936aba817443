"""Records: rows of named numbers, which compiled code and plain Python read in the same way, ``row.name``."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

Record: TypeAlias = Any
"""One row of an array of records; whoever takes one says of which type it is."""

Records: TypeAlias = NDArray[np.void]
"""Array of records. Constants stand in arrays of one row."""


def record_type(*floats: str, **others: DTypeLike) -> np.dtype[np.void]:
    """Type of records with the fields `others`, and then `floats` of float64."""
    fields: list[Any] = [*others.items(), *((name, np.float64) for name in floats)]
    return np.dtype((np.record, fields))
