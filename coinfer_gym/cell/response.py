"""What one task of a cell does at prices of band and server: its best cut and shares, and a bound of what they earn.

At given shares a task is P1 with other constants. Over a box of shares and of the server's retained ratio, at one cut,
its quality is bounded by the optimum at the box's largest shares:

- more band and more server never hurt, so that nothing in the box is better than that corner;
- at any price of time the relaxed problem of `coinfer_gym.laim.cut_search` is concave in the band, and in the server
  too if only the least ratio pays for having less of it. So its value falls below the corner at least as fast as it
  would rise beyond it.

`respond` splits the boxes that promise most until one corner attains what the best of them promises. They bound the
task at all other prices too, and are kept. See docs/mathematics.md.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.cell.dynamics import share_hardware
from coinfer_gym.laim.costs import Case, case_of, controls_at, costs_at, delay_of, energy_of
from coinfer_gym.laim.cut_search import bound_cut, is_linear, solve_cut
from coinfer_gym.laim.outcome import Tables, model_quality
from coinfer_gym.records import Record, Records, record_type

PIECE = record_type(
    *("band_low", "band", "server_low", "server", "ratio_low", "ratio"),
    *("log_price", "value", "bound", "band_slope", "server_slope"),
    cut=np.int64,
)
"""A box of both shares and the server's retained ratio at one cut, and of its largest shares the best price of time,
the optimum and a bound of it.

The bound falls by the slopes, or more, with each unit of a share. The device alone is a box without shares, and so is a
task that is not served, which has a number beyond the cuts.
"""

_STEP = 1e-3  # relative, by which a slope looks beyond a corner
_SAME = 1e-9  # qualities that differ by less are one
_NEAR = 0.25  # ratio of two ends from which on they are halved by their logarithms


class Task(NamedTuple):
    """A task's gain and budgets in s and J, and what is there to be shared: band in Hz and share of the server."""

    gain: float
    delay_budget: float
    energy_budget: float
    band: float
    server: float


class Region(NamedTuple):
    """What a task may choose: cuts, after them whether it may stay unserved, and ends of the shares that it takes."""

    cuts: NDArray[np.bool_]
    band_low: float
    band: float
    server_low: float
    server: float


class Response(NamedTuple):
    """The most that a task can earn after what it pays, and of the best choice known: earned, quality, cut, shares."""

    bound: float
    earned: float
    quality: float
    cut: int
    band: float
    server: float


@kernel
def scale(whole: Tables, part: Tables, s: int, band: float, server: float) -> None:
    """Write into `part` the constants of cut `s` for a band in Hz and a share of the server that `whole` has."""
    part.hardware[0] = whole.hardware[0]
    share_hardware(part.hardware, band / whole.hardware[0].bandwidth, server)
    part.cuts[s] = whole.cuts[s]
    part.cuts[s].unpruned_delay_server /= server


@kernel
def _scale_piece(whole: Tables, part: Tables, task: Task, piece: Record, band: float, server: float) -> None:
    """`scale` for so many times the largest shares of a piece, with the server's ratio restricted to the piece."""
    scale(whole, part, piece.cut, band * piece.band * task.band, server * piece.server * task.server)
    part.hardware[0].retained_server_min = piece.ratio_low
    part.cuts[piece.cut].retained_server_max = piece.ratio


@kernel
def _case_of(part: Tables, task: Task) -> Case:
    """P1 of the task at the constants in `part`."""
    return case_of(part, task.gain, task.delay_budget, task.energy_budget)


@kernel
def _solve(part: Tables, task: Task, s: int, start: float) -> tuple[bool, float, float, float]:
    """Optimum of a cut: found, quality, its bound, logarithm of the price of time; `start` is one to begin with."""
    found, merit, _, _, theta, most = solve_cut(_case_of(part, task), s, start, 0.0)
    if not found:
        return False, 0.0, 0.0, start
    return True, _quality(part, s, merit), _quality(part, s, max(merit, most)), math.log(theta)


@kernel
def _bound(part: Tables, task: Task, s: int, log_price: float, saved: float) -> float:
    """Bound of a cut's quality by a price of time, with some energy `saved`."""
    theta, case = math.exp(log_price), case_of(part, task.gain, task.delay_budget, task.energy_budget + saved)
    return _quality(part, s, bound_cut(theta, case, s, controls_at(theta, case)))


@kernel
def _toll(part: Tables, task: Task, s: int, log_price: float) -> float:
    """What the least server's ratio, and what is fixed, takes of both budgets in J at a price of time."""
    theta, ratio = math.exp(log_price), part.hardware[0].retained_server_min
    costs = costs_at(theta, _case_of(part, task), s)
    return theta * delay_of(costs, 0.0, ratio) + energy_of(costs, 0.0, ratio)


@kernel
def _quality(part: Tables, s: int, merit: float) -> float:
    """Quality of a merit; 0 of what cannot be had."""
    if merit > 0.0 and is_linear(part.quality[0].kind):
        merit = model_quality(part, s, merit, merit)
    return max(0.0, merit)


@kernel
def _look(whole: Tables, part: Tables, task: Task, piece: Record) -> bool:
    """Solve a piece at its largest shares; False where nothing in it can be served."""
    s, h, beyond = piece.cut, part.hardware[0], 1.0 + _STEP
    _scale_piece(whole, part, task, piece, 1.0, 1.0)
    found, piece.value, piece.bound, piece.log_price = _solve(part, task, s, piece.log_price)
    if not found:
        return False
    toll = _toll(part, task, s, piece.log_price)
    _scale_piece(whole, part, task, piece, 1.0, beyond)
    saved = max(0.0, toll - _toll(part, task, s, piece.log_price))
    _scale_piece(whole, part, task, piece, 1.0, 1.0)
    gained = _bound(part, task, s, piece.log_price, saved) - piece.bound
    piece.server_slope, piece.band_slope = max(0.0, gained) / (piece.server * _STEP), 0.0
    h.power_min = 0.0  # with a least power the problem is not convex in the band: for a slope it must not matter
    if _bound(part, task, s, piece.log_price, 0.0) <= piece.bound + _SAME:
        _scale_piece(whole, part, task, piece, beyond, 1.0)
        h.power_min = 0.0
        gained = _bound(part, task, s, piece.log_price, 0.0) - piece.bound - _SAME
        piece.band_slope = max(0.0, gained) / (piece.band * _STEP)
    return True


@kernel
def _halve(low: float, high: float) -> float:
    return math.sqrt(low * high) if low > _NEAR * high else 0.5 * (low + high)


@kernel
def _split(
    whole: Tables, part: Tables, task: Task, pieces: Records, count: int, i: int, prices: tuple[float, float]
) -> int:
    """Split piece `i` where its bound misses most, its lower half put at the end; returns how many there are now."""
    pieces[count] = pieces[i]
    upper, lower = pieces[i], pieces[count]
    most, band, server = upper.bound, upper.band - upper.band_low, upper.server - upper.server_low
    by_band = prices[0] * band * (band / upper.band if upper.band_slope > 0.0 else 1.0)
    by_server = prices[1] * server * server / upper.server
    lacking = max(0.0, prices[1] - upper.server_slope) * server  # since ratios are larger than the least
    new_corner = False
    if by_band > max(by_server, lacking):
        upper.band_low = lower.band = _halve(upper.band_low, upper.band)
    elif lacking > by_server and upper.ratio - upper.ratio_low > upper.ratio * server / upper.server:
        upper.ratio_low = lower.ratio = 0.5 * (upper.ratio_low + upper.ratio)
        new_corner = True
    else:
        upper.server_low = lower.server = _halve(upper.server_low, upper.server)
    for k in (count, i):
        if k == i and not new_corner:
            continue
        found = _look(whole, part, task, pieces[k])
        pieces[k].bound = min(pieces[k].bound, most)
        count += found and k == count
    return count


@kernel
def begin(whole: Tables, part: Tables, task: Task, pieces: Records) -> int:
    """Write the first pieces: not served, the device alone, and all shares at every other cut; returns how many.

    Parameters
    ----------
    whole, part : Tables
        Constants with all of the server, and a copy of them to write in (with its own hardware and cuts).
    task : Task
    pieces : ndarray of `PIECE`
        Zeros, two more than there are cuts or longer.
    """
    last = whole.cuts.shape[0] - 1
    pieces[0].cut = last + 1
    count = 1
    for s in range(last, -1, -1):
        piece = pieces[count]
        piece.cut, piece.band, piece.server, piece.log_price = s, 1.0, 1.0, 0.0
        piece.ratio_low, piece.ratio = whole.hardware[0].retained_server_min, whole.cuts[s].retained_server_max
        if _look(whole, part, task, piece):
            count += 1
            if s == last:
                piece.bound, piece.band, piece.server = piece.value, 0.0, 0.0
                piece.band_slope, piece.server_slope = 0.0, 0.0
    return count


@kernel
def attain(whole: Tables, part: Tables, task: Task, s: int, band: float, server: float) -> float:
    """Quality that a task attains at a cut with shares of what there is; 0 where it cannot be served."""
    if s >= whole.cuts.shape[0] or band <= 0.0 or server <= 0.0:
        return 0.0
    scale(whole, part, s, band * task.band, server * task.server)
    return _solve(part, task, s, 0.0)[1]


@kernel
def respond(
    whole: Tables,
    part: Tables,
    task: Task,
    pieces: Records,
    count: int,
    region: Region,
    prices: tuple[float, float],
    tolerance: float,
) -> tuple[int, Response]:
    """Best choice within a region at prices of the whole band and the whole server, in quality.

    Splits pieces until the bound is within `tolerance` of what the best choice known earns, or there is no room for
    more of them.

    Returns
    -------
    count : int
        How many pieces there are now.
    response : Response
        Earns minus infinity where no choice is known, and its bound is that where there is none.
    """
    of_band, of_server = prices
    while True:
        bound, first, earned, best = -math.inf, 0, -math.inf, 0
        for i in range(count):
            piece = pieces[i]
            low, high = max(piece.band_low, region.band_low), min(piece.band, region.band)
            least, most = max(piece.server_low, region.server_low), min(piece.server, region.server)
            if not region.cuts[piece.cut] or (piece.band > 0.0 and (low > high or least > most)):
                continue
            # A plane is largest at an end of each share.
            own = piece.bound - piece.band_slope * piece.band - piece.server_slope * piece.server
            own += max((piece.band_slope - of_band) * low, (piece.band_slope - of_band) * high)
            own += max((piece.server_slope - of_server) * least, (piece.server_slope - of_server) * most)
            if own > bound:
                bound, first = own, i
            own = piece.value - of_band * piece.band - of_server * piece.server
            if own > earned and piece.band <= region.band and piece.server <= region.server:
                earned, best = own, i
        if bound - earned <= tolerance or bound == -math.inf or count == pieces.shape[0]:
            break
        count = _split(whole, part, task, pieces, count, first, prices)
    piece = pieces[best]
    return count, Response(bound, earned, piece.value, piece.cut, piece.band, piece.server)
