"""Designs of a network: whole channels that are kept and sent. Here, and nowhere else, ratios are rounded to them.

A ratio keeps a whole number of channels, and a compression sends a whole number of those before the cut. Delay, sizes,
accuracy and optimum are functions of these numbers, so that two ratios which build the same network are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coinfer_gym._compile import kernel, merged_kernel
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.layerwise.network import Network, NetworkTables, kept_channels

SENT, POWER, FREQUENCY = -3, -2, -1
"""Columns of an array of designs, shape (n, G + 4). Column 0 has the cut, the next G the channels that each group
keeps, these three the channels that are sent, the transmit power in W and the clock of the device in Hz. Without a
codec as many channels are sent as the group before the cut keeps; where no group stands before the cut, that is 1."""

COMPRESSION = SENT
"""Column of an array of ratios, shape (n, G + 4), where designs have the channels that are sent; columns 1 to G have
retained ratios there."""


@merged_kernel
def kept_before(designs: NDArray[np.float64], i: int, group: int) -> float:
    """Channels that a group keeps in the design of row `i`, by its number from 1; group 0 is the constant 1."""
    return designs[i, group] if group > 0 else 1.0


@merged_kernel
def sent_channels(compression: float, kept: float) -> float:
    """Channels that are sent of those kept: the nearest whole number, but at least 1."""
    return max(1.0, math.floor(compression * kept + 0.5))


@merged_kernel
def round_design(network: NetworkTables, rows: NDArray[np.float64], i: int) -> None:
    """Make a design of the ratios in row `i`, in place."""
    groups = network.groups
    for g in range(groups.shape[0]):
        rows[i, g + 1] = kept_channels(rows[i, g + 1], groups[g].channels, groups[g].step)
    kept = kept_before(rows, i, network.cuts[int(rows[i, 0])].group)
    rows[i, SENT] = sent_channels(rows[i, COMPRESSION], kept)


@kernel
def _round_designs(network: NetworkTables, rows: NDArray[np.float64]) -> None:
    for i in range(rows.shape[0]):
        round_design(network, rows, i)


def make_designs(network: Network, ratios: ArrayLike) -> NDArray[np.float64]:
    """Designs of ratios: the nearest whole numbers of channels, but at least a step of each group and one channel sent.

    Parameters
    ----------
    network : Network
    ratios : array_like, shape (n, G + 4)
        Rows of the cut, the retained ratio of each group in (0, 1], the compression in (0, 1] (the share of the
        channels before the cut that is sent, 1 without a codec), power and clock. The last two are copied.

    Returns
    -------
    ndarray, shape (n, G + 4)
        See `SENT`.

    Raises
    ------
    InvalidInputError
        If the shape is another one, there is no such cut, or a ratio is out of range.
    """
    rows = np.array(ratios, np.float64, order="C")
    _check_cuts(network, rows)
    shares = rows[:, 1:POWER]
    good = (shares > 0.0) & (shares <= 1.0)
    if not good.all():
        raise _refusal(network, rows, good, ["Give a share in (0, 1]."] * shares.shape[1])
    _round_designs(network.tables, rows)
    return rows


def ratios_of(network: Network, designs: ArrayLike) -> NDArray[np.float64]:
    """Ratios of designs, shape (n, G + 4): the shares of channels, of which `make_designs` makes the same designs."""
    rows = np.array(designs, np.float64)
    rows[:, COMPRESSION] /= _kept_before_cut(network, rows)
    rows[:, 1:COMPRESSION] /= network.tables.groups["channels"]
    return rows


def check_designs(network: Network, designs: NDArray[np.float64]) -> None:
    """Raise `InvalidInputError` if a row is not a design of the network."""
    _check_cuts(network, designs)
    kept, sent, controls = designs[:, 1:SENT], designs[:, SENT], designs[:, POWER:]
    steps, channels = network.tables.groups["step"], network.tables.groups["channels"]
    is_kept = (kept >= steps) & (kept <= channels) & (kept % steps == 0.0)
    is_sent = (sent >= 1.0) & (sent <= _kept_before_cut(network, designs)) & (sent % 1.0 == 0.0)
    good = np.column_stack([is_kept, is_sent, controls > 0.0])
    if not good.all():
        hint = "coinfer_gym.layerwise.designs.make_designs makes designs of ratios."
        remedies = [f"Give a multiple of {group.step} up to {group.channels}; {hint}" for group in network.groups]
        remedies += [f"Give a whole number up to the channels that are kept before the cut; {hint}"]
        raise _refusal(network, designs, good, [*remedies, *["Give a positive number."] * 2])


def _kept_before_cut(network: Network, designs: NDArray[np.float64]) -> NDArray[np.float64]:
    group = network.tables.cuts["group"][designs[:, 0].astype(np.int64)]
    return np.where(group > 0, designs[np.arange(len(designs)), group], 1.0)


def _check_cuts(network: Network, rows: NDArray[np.float64]) -> None:
    if rows.ndim != 2 or rows.shape[1] != len(network.groups) + 4:
        raise InvalidInputError("decision", rows.shape, f"Give {', '.join(_names(network))}.")
    cuts, last = rows[:, 0], network.cuts - 1
    good = (cuts >= 0.0) & (cuts <= last) & (cuts % 1.0 == 0.0)
    if not good.all():
        raise InvalidInputError("cut", float(cuts[~good][0]), f"Give a whole number in 0..{last}.")


def _refusal(
    network: Network, rows: NDArray[np.float64], good: NDArray[np.bool_], remedies: Sequence[str]
) -> InvalidInputError:
    """Error of the first number behind the cut that is not good."""
    row, column = np.argwhere(~good)[0]
    return InvalidInputError(_names(network)[column + 1], float(rows[row, column + 1]), remedies[column])


def _names(network: Network) -> list[str]:
    return ["cut", *(f"retained of {group.name}" for group in network.groups), "compression", "power", "frequency"]
