"""Recorded traces: channel gains and arrival times out of CSV files, checked row by row.

A file has a header and one sample a row; cells are separated by commas, columns that are not asked for are ignored and
blank lines skipped. A row whose sample is missing, ``-`` or an empty cell, counts as left out: the sample before it
holds on, and the gap must not be too long (see `MAX_GAP`). Errors count rows as an editor does: the header is row 1.
"""

from __future__ import annotations

import csv
import io
import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coinfer_gym import physics
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import read_text

FLOOR_GAIN_DB = -200.0
"""Gain in dB of a sample without any throughput, and the least of all others: logarithms stay finite, nothing gets
through. Of 1 W sent, 200 dB leave the thermal noise power of 2.5 Hz of bandwidth."""

MAX_GAIN_DB = 60.0
"""Gain in dB above which a trace is refused: most likely a path loss written without its minus. Gains above 0 dB are
let through, since some normalise the mean gain to 1."""

MAX_SNR_DB = 120.0
"""Signal-to-noise ratio in dB above which a trace is refused: 40 mW without any path loss over thermal noise in
10 MHz. It is 40 bit/s/Hz, some four times what a radio of today carries at most in one spatial layer."""

MAX_GAP, MAX_GAP_STEPS = 10.0, 10.0
"""Gap between samples of a channel above which a trace is refused: longer than both 10 s and 10 median steps."""

MAX_SPAN = 1e8
"""Longest recording in s, three years."""

MAX_RATE = 1e9
"""Highest mean rate of recorded arrivals in 1/s, that of all other arrivals."""

GAIN_COLUMNS = ("gain_db", "snr_db", "throughput_mbps")
"""Columns that a gain can be read from; without a choice the first of these that the file has."""

_MISSING = ("", "-")


@dataclass(frozen=True)
class _Table:
    """Cells of a CSV file as text, with the row number of each line that is not blank."""

    name: str
    columns: tuple[str, ...]
    rows: list[list[str]]
    numbers: list[int]

    def cell(self, row: int, column: str) -> str:
        """Text of a cell; empty where the row is too short to have it."""
        place = self.columns.index(column)
        cells = self.rows[row]
        return cells[place].strip() if place < len(cells) else ""

    def refuse(self, row: int, column: str, value: object, remedy: str) -> InvalidInputError:
        """Error that names file, row and column."""
        return InvalidInputError(f"{self.name}, row {self.numbers[row]}, column {column}", value, remedy)

    def without_missing(self, column: str) -> _Table:
        """The rows that have something in a column."""
        kept = [row for row in range(len(self.rows)) if self.cell(row, column) not in _MISSING]
        if len(kept) < 2:
            raise InvalidInputError(f"{self.name}, column {column}", len(kept), "A trace needs two samples at least.")
        return replace(self, rows=[self.rows[row] for row in kept], numbers=[self.numbers[row] for row in kept])

    def parse(self, column: str) -> NDArray[np.float64]:
        """Numbers of a column; every cell must hold a finite one."""
        values = np.empty(len(self.rows))
        for row in range(len(self.rows)):
            text = self.cell(row, column)
            if text in _MISSING:
                raise self.refuse(row, column, text, "The cell is empty: fill it or leave out the row.")
            try:
                value = float(
                    text.replace("_", "?").encode("ascii")
                )  # Python's float takes 1_000 and digits of all scripts
            except ValueError as error:
                raise self.refuse(row, column, text, "Give a number with a point as decimal sign.") from error
            if not math.isfinite(value):
                raise self.refuse(row, column, text, "Give a finite number or leave out the row.")
            values[row] = value
        return values


def load_channel_trace(
    path: str | Path, power_max: float, bandwidth: float, noise_density: float, column: str | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recorded channel gains, from a CSV file with the columns ``time_s`` and one of three.

    - ``gain_db``, the power gain;
    - ``snr_db``, the signal-to-noise ratio at the highest transmit power;
    - ``throughput_mbps``, the rate in Mbit/s of a link that is never idle; the gain is the one at which the highest
      transmit power yields that rate (eq. 2 solved for `g`). Where it is 0 the gain is `FLOOR_GAIN_DB`.

    Gains below `FLOOR_GAIN_DB` are raised to it.

    Parameters
    ----------
    path : str or Path
        The file.
    power_max : float
        Highest transmit power in W.
    bandwidth : float
        Bandwidth in Hz.
    noise_density : float
        Noise power density in W/Hz.
    column : str, optional
        One of `GAIN_COLUMNS`. Without it the first of these that the file has is read, with a warning if it has more.

    Returns
    -------
    time_s : ndarray of float64, shape (n,)
        Times of the samples in s from the first, strictly increasing.
    gain : ndarray of float64, shape (n,)
        Power gains, positive.

    Raises
    ------
    InvalidInputError
        If the file cannot be read, a column is missing, a cell is no finite number, times do not increase or leave a
        gap (see `MAX_GAP`), a value is out of range, or no sample lets anything through.
    """
    table = _read(path, "channel_trace")
    column = _choose_column(table, column)
    table = table.without_missing(column)
    time_s = _parse_times(table, strict=True)
    _check_gaps(table, time_s)
    values = table.parse(column)
    noise_over_power = noise_density * bandwidth / power_max
    if column == "gain_db":
        _check_most(table, column, values, MAX_GAIN_DB, "Give the gain, negative where the channel attenuates")
        gain = physics.from_db(values)
    elif column == "snr_db":
        _check_most(table, column, values, MAX_SNR_DB, "Give the ratio at the highest transmit power")
        gain = physics.from_db(values) * noise_over_power
    else:
        gain = _gain_of_rate(table, column, values * 1e6, bandwidth) * noise_over_power
    floor = physics.from_db(FLOOR_GAIN_DB)
    if not np.any(gain > floor):
        raise InvalidInputError(
            f"{table.name}, column {column}",
            float(values.max()),
            "No sample lets anything through: give a trace whose link works at some time.",
        )
    return time_s, np.maximum(gain, floor)


def load_arrival_trace(path: str | Path) -> NDArray[np.float64]:
    """Recorded arrival times, from a CSV file with the column ``time_s``, one row a task.

    Parameters
    ----------
    path : str or Path
        The file. Tasks may arrive at the same time, and gaps may be of any length.

    Returns
    -------
    ndarray of float64, shape (n,)
        Times in s from the first arrival, non-decreasing, the last one positive.

    Raises
    ------
    InvalidInputError
        If the file cannot be read, the column is missing, a cell is no finite number, times decrease, or all are equal.
    """
    table = _read(path, "arrival_trace")
    time_s = _parse_times(table, strict=False)
    last = len(time_s) - 1
    if time_s[last] * MAX_RATE < last:
        remedy = f"All tasks arrive at once, or more than {MAX_RATE:g} in a second: give a longer span."
        raise table.refuse(last, "time_s", table.cell(last, "time_s"), remedy)
    return time_s


def _read(path: str | Path, field: str) -> _Table:
    """Header and cells of a CSV file with two samples at least."""
    path = Path(path)
    text, name = read_text(path, field), f"{field} {path.name}"
    rows, numbers = [], []
    try:
        reader = csv.reader(io.StringIO(text, newline=""))
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append(cells)
                numbers.append(reader.line_num)
    except csv.Error as error:
        raise InvalidInputError(name, str(error), "Give a CSV file as UTF-8 text.") from error
    if not rows:
        raise InvalidInputError(name, "", "The file is empty: give a header and one sample a row.")
    columns = tuple(cell.strip() for cell in rows[0])
    header = ",".join(columns)
    if "time_s" not in columns:
        remedy = "The column time_s is missing: name the columns in the first row, separated by commas."
        raise InvalidInputError(f"{name}, row 1", header, remedy)
    for column in ("time_s", *GAIN_COLUMNS):
        if columns.count(column) > 1:
            raise InvalidInputError(f"{name}, row 1", header, f"The column {column} is there twice.")
    if len(rows) < 3:
        raise InvalidInputError(name, len(rows) - 1, "A trace needs two samples at least.")
    for cells, number in zip(rows[1:], numbers[1:], strict=True):
        if any(cell.strip() for cell in cells[len(columns) :]):
            remedy = f"The header names {len(columns)} columns: write numbers with a point and without separators."
            raise InvalidInputError(f"{name}, row {number}", ",".join(cells), remedy)
    return _Table(name, columns, rows[1:], numbers[1:])


def _choose_column(table: _Table, asked: str | None) -> str:
    """The column that the gain is read from."""
    found = [column for column in GAIN_COLUMNS if column in table.columns]
    header = ",".join(table.columns)
    if asked is not None:
        if asked not in found:
            raise InvalidInputError("channel_trace_column", asked, f"{table.name} has the columns {header}.")
        return asked
    if not found:
        remedy = f"A channel needs one of the columns {', '.join(GAIN_COLUMNS)}."
        raise InvalidInputError(f"{table.name}, row 1", header, remedy)
    if len(found) > 1:
        text = f"{table.name}: {found[0]} is read. The file also has {', '.join(found[1:])}: say channel_trace_column."
        warnings.warn(text, stacklevel=2)
    return found[0]


def _parse_times(table: _Table, strict: bool) -> NDArray[np.float64]:
    """Column ``time_s`` from 0, increasing: strictly, or at least never decreasing."""
    time_s = table.parse("time_s")
    with np.errstate(over="ignore"):
        shifted: NDArray[np.float64] = time_s - time_s[0]
        steps = np.diff(time_s)
    wrong = np.flatnonzero(steps <= 0.0 if strict else steps < 0.0)
    if wrong.size:
        row = int(wrong[0]) + 1
        remedy = f"Times must {'increase' if strict else 'not decrease'}; the row before has {time_s[row - 1]:.12g}."
        raise table.refuse(row, "time_s", table.cell(row, "time_s"), remedy)
    if shifted[-1] > MAX_SPAN:
        remedy = f"The trace spans more than {MAX_SPAN:g} s: give times in seconds."
        raise table.refuse(len(shifted) - 1, "time_s", table.cell(len(shifted) - 1, "time_s"), remedy)
    return shifted


def _check_gaps(table: _Table, time_s: NDArray[np.float64]) -> None:
    """Refuse a channel that was not watched for a while: holding its gain that long would invent data."""
    steps = np.diff(time_s)
    most = max(MAX_GAP, MAX_GAP_STEPS * float(np.quantile(steps, 0.5, method="lower")))
    wrong = np.flatnonzero(steps > most)
    if wrong.size:
        row = int(wrong[0]) + 1
        remedy = f"A gap of {steps[row - 1]:.6g} s before it, more than {most:.6g} s: fill or split the trace."
        raise table.refuse(row, "time_s", table.cell(row, "time_s"), remedy)


def _check_most(table: _Table, column: str, values: NDArray[np.float64], most: float, remedy: str) -> None:
    """Refuse values that only a mistake of sign or unit explains."""
    row = int(np.argmax(values))
    if values[row] > most:
        raise table.refuse(row, column, table.cell(row, column), f"{remedy}; at most {most:g} dB.")


def _gain_of_rate(table: _Table, column: str, rates: NDArray[np.float64], bandwidth: float) -> NDArray[np.float64]:
    """Signal-to-noise ratios ``2^(r/B) - 1`` at which a link has the given rates in bit/s."""
    row = int(np.argmin(rates))
    if rates[row] < 0.0:
        raise table.refuse(row, column, table.cell(row, column), "A throughput is at least 0.")
    most = physics.rate_of_snr(physics.from_db(MAX_SNR_DB), 1.0)
    row = int(np.argmax(rates))
    if rates[row] > most * bandwidth:
        remedy = (
            f"It is {rates[row] / bandwidth:.4g} bit/s/Hz at a bandwidth of {bandwidth:.4g} Hz, more than {most:.3g}: "
            "give the bandwidth it was recorded with."
        )
        raise table.refuse(row, column, table.cell(row, column), remedy)
    return np.array([physics.snr_of_rate(rate, bandwidth) for rate in rates])
