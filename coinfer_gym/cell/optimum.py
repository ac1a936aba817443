"""The joint myopic optimum of several tasks that share a band and a server, with a proven bound beside it.

At prices of band and server the tasks fall apart: each takes what suits it best (`coinfer_gym.cell.response`). What
they earn together after what they pay, and the prices of all there is, bounds the joint optimum from above at any
prices, and is convex in them. `solve_cell` searches the best prices, serves the tasks by the shares that they ask for
there, and, where that leaves a gap, branches on the cut or the share of a task that is torn between two. See
docs/mathematics.md.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coinfer_gym.cell.response import PIECE, Region, Response, Task, attain, begin, respond, scale
from coinfer_gym.checks import check_whole, is_number
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim import distortion as dst
from coinfer_gym.laim.costs import NO_LIMIT
from coinfer_gym.laim.decision import Solution, check_cut
from coinfer_gym.laim.optimum import SOLUTION, solution_from_row, solve_row
from coinfer_gym.laim.outcome import Tables
from coinfer_gym.laim.problem import Problem, check_problem

Floats = NDArray[np.float64]

_BRANCHINGS = 64  # after which the gap is left as it is
_PRICES = 80  # most prices tried in a node; each cuts what is left of them to two thirds or less
_PIECES = 4096  # most rectangles of a task; about a hundred are needed where nothing is odd
_EAGER = 0.3  # responses are found to within this share of what is not known yet
_SMALL = 1e-6  # a sum of qualities below which the gap is not relative
_NEXT_TO_NOTHING = 1e-9  # share that stands for none where one must be given


@dataclass(frozen=True, eq=False)
class CellSolution:
    """A joint decision for the tasks of a cell, what it yields, and what no joint decision exceeds.

    Attributes
    ----------
    solutions : tuple of Solution, one per task
        Each the optimum of P1 at its shares. One that is not feasible is not served.
    band : ndarray, shape (K,)
        Bandwidth of each task in Hz.
    server : ndarray, shape (K,)
        Share of the server of each task.
    quality : float
        Sum of the qualities of the tasks that are served.
    bound : float
        Proven: no decisions have a larger sum.
    prices : tuple of float
        What a Hz and what all of the server would add to the bound, in units of quality.
    """

    solutions: tuple[Solution, ...]
    band: Floats
    server: Floats
    quality: float
    bound: float
    prices: tuple[float, float]


def solve_cell(
    problems: Sequence[Problem],
    band: float,
    server: float = 1.0,
    cuts: Sequence[int] | None = None,
    tolerance: float = 1e-3,
    branchings: int = _BRANCHINGS,
) -> CellSolution:
    """Largest sum of qualities of tasks that share a band and a server, each within its budgets.

    A task with the share `phi` of the server is P1 with `c_s`, `kappa_s`, the server's static power and the bandwidth
    of its memory times `phi`. A task that cannot be served earns 0 and takes nothing.

    Parameters
    ----------
    problems : sequence of Problem
        One per task, with the constants of all of the server. Their bandwidths are not looked at.
    band : float
        Bandwidth in Hz that is there to be shared.
    server : float
        Share of the server that is, in (0, 1].
    cuts : sequence of int, optional
        The cut of each task; all cuts where not given.
    tolerance : float
        The search ends where the bound exceeds the sum by at most this share of it.
    branchings : int
        It also ends after so many branchings, with a gap that may be larger; without any it takes a few milliseconds.

    Returns
    -------
    CellSolution

    Raises
    ------
    InvalidInputError
        If there is no task, something is not P1, a quality is a measured accuracy (which need not be concave), or a
        value is out of its range.
    """
    _check(problems, band, server, cuts, tolerance)
    branchings = check_whole("branchings", branchings, 0)
    members = [Member(problem, float(band), float(server)) for problem in problems]
    search = _Search(members, tolerance, branchings)
    chosen = [None] * len(members) if cuts is None else [int(cut) for cut in cuts]
    search.run([member.region(cut) for member, cut in zip(members, chosen, strict=True)])
    solutions = tuple(
        member.solution(float(beta), float(phi), cut)
        for member, (beta, phi), cut in zip(members, search.shares.T, chosen, strict=True)
    )
    quality = sum(solution.quality for solution in solutions if solution.feasible)
    return CellSolution(
        *(solutions, search.shares[0] * band, search.shares[1] * server, quality, max(float(search.bound), quality)),
        (float(search.prices[0] / band), float(search.prices[1] / server)),
    )


class Member:
    """One task, and what is known about its responses.

    Parameters
    ----------
    problem : Problem
        With the constants of all of the server.
    band, server : float
        What there is: bandwidth in Hz, and a share of the server.
    seconds : float
        Time that the task may take, if that is less than its budget.
    """

    def __init__(self, problem: Problem, band: float, server: float, seconds: float = math.inf) -> None:
        self._whole = problem.tables
        hardware, quality, cuts, blocks = self._whole
        self._part = Tables(hardware.copy(), quality, cuts.copy(), blocks)
        budgets = (min(float(problem.delay_budget), seconds, NO_LIMIT), min(float(problem.energy_budget), NO_LIMIT))
        self._task = Task(float(problem.gain), *budgets, band, server)
        self._pieces = np.zeros(_PIECES + len(cuts), PIECE)
        self._count = begin(self._whole, self._part, self._task, self._pieces)
        self._last = len(cuts) - 1

    def region(self, cut: int | None) -> Region:
        """All shares, at one cut or at all; or not served."""
        allowed = np.full(self._last + 2, cut is None)
        allowed[[-1 if cut is None else cut, -1]] = True
        return Region(allowed, 0.0, 1.0, 0.0, 1.0)

    def respond(self, region: Region, prices: Floats, tolerance: float) -> Response:
        """Best choice at prices of the whole band and the whole server."""
        known, paid = (self._whole, self._part, self._task), (float(prices[0]), float(prices[1]))
        self._count, response = respond(*known, self._pieces, self._count, region, paid, tolerance)
        return Response(*response)

    def attain(self, cut: int, band: float, server: float) -> float:
        """Quality at a cut with some shares of what there is."""
        shares = (band, server) if cut < self._last else (1.0, 1.0)  # the device alone needs none
        return float(attain(self._whole, self._part, self._task, cut, *shares))

    def solution(self, band: float, server: float, cut: int | None) -> Solution:
        """Optimum at shares of what there is, of one cut or of all; at a share of 0 only the device alone is left."""
        row = np.zeros(1, SOLUTION)
        first = cut if cut is not None else self._last if min(band, server) <= 0.0 else 0
        last = self._last + 1 if cut is None else cut + 1
        task = self._task
        for s in range(first, last):
            used = max(band, _NEXT_TO_NOTHING) * task.band, max(server, _NEXT_TO_NOTHING) * task.server
            scale(self._whole, self._part, s, *used)
        solve_row(self._part, task.gain, task.delay_budget, task.energy_budget, first, last, row, 0)
        return solution_from_row(row[0])


class _Tried(NamedTuple):
    """Prices that were tried, what they bound, and what the tasks choose there."""

    bound: float
    prices: Floats
    responses: list[Response]


class _Search:
    """Branch and bound over regions of the tasks' choices; its attributes are the best found, and the root's prices."""

    def __init__(self, members: Sequence[Member], tolerance: float, branchings: int) -> None:
        self._members, self._tolerance, self._branchings = members, tolerance, branchings
        self.quality, self.bound = -1.0, math.inf
        self.shares: Floats = np.zeros((2, len(members)))
        self.prices: Floats = np.zeros(2)

    def run(self, regions: list[Region]) -> None:
        """Search within regions until the bound is near the quality found."""
        order = itertools.count()
        nodes = [(-math.inf, next(order), regions)]
        settled = -math.inf  # bound of what cannot be branched any more
        for step in range(self._branchings + 1):
            if not nodes or self._near(-nodes[0][0]):
                break
            bound, _, regions = heapq.heappop(nodes)
            tried = self._price(regions, -bound)
            if step == 0:
                self.prices = tried[0].prices
            bound = min(-bound, tried[0].bound)
            halves = () if self._near(bound) else _branch(regions, tried, bound - self.quality)
            if not halves:
                settled = max(settled, bound)
            for half in halves:
                heapq.heappush(nodes, (-bound, next(order), half))
        self.bound = max(settled, -nodes[0][0] if nodes else -math.inf)

    @property
    def _allowed(self) -> float:
        """Gap at which the search ends."""
        return self._tolerance * max(self.quality, _SMALL)

    def _near(self, bound: float) -> bool:
        return bound - self.quality <= self._allowed

    def _price(self, regions: list[Region], bound: float) -> list[_Tried]:
        """Search the prices that bound a node best; what was tried, the best first.

        Every response gives a plane below the bound as a function of the prices. A plane cuts a part off the polygon in
        which the best prices lie; the next ones to be tried are its centre of gravity.
        """
        lowest, prices, corners = -math.inf, np.zeros(2), np.zeros((0, 2))
        tried: list[_Tried] = []
        for _ in range(_PRICES):
            missing = max(_EAGER * (bound - max(lowest, self.quality)), 0.2 * self._allowed)
            responses = [
                member.respond(region, prices, missing / len(regions))
                for member, region in zip(self._members, regions, strict=True)
            ]
            tried.append(_Tried(prices.sum() + sum(each.bound for each in responses), prices, responses))
            bound = min(bound, tried[-1].bound)
            if not math.isfinite(bound):
                break
            self._serve(responses)
            earned = prices.sum() + sum(each.earned for each in responses)
            slope = np.array([1.0 - sum(each.band for each in responses), 1.0 - sum(each.server for each in responses)])
            if not len(corners):
                corners = bound * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # beyond them prices alone exceed it
            level = earned - slope @ prices
            lowest = max(lowest, level + (corners @ slope).min())
            if self._near(bound) or bound - lowest <= 0.4 * self._allowed:
                break
            corners = _cut_off(corners, slope, bound - level)
            if len(corners) < 3:
                break
            prices = _centre(corners)
        return sorted(tried, key=lambda each: each.bound)

    def _serve(self, responses: list[Response]) -> None:
        """Serve the tasks as they choose, with shares that fit or use up all there is; keep what is best."""
        asked = np.array([[each.band for each in responses], [each.server for each in responses]])
        total = np.maximum(asked.sum(axis=1, keepdims=True), _NEXT_TO_NOTHING)
        for shares in (asked / total, asked / np.maximum(total, 1.0))[: 1 + int((total < 1.0).any())]:
            quality = sum(
                member.attain(each.cut, float(band), float(server))
                for member, each, (band, server) in zip(self._members, responses, shares.T, strict=True)
            )
            if quality > self.quality:
                self.quality, self.shares = quality, shares


def _branch(regions: list[Region], tried: list[_Tried], gap: float) -> list[list[Region]]:
    """Halve the region of the task that is torn most between choices at prices as good but for half the gap."""
    best, torn, farthest = tried[0], None, 0.0
    for other in tried[1:]:
        if other.bound > best.bound + 0.5 * gap:
            break
        for k, (one, two) in enumerate(zip(best.responses, other.responses, strict=True)):
            moved = best.prices * np.abs([one.band - two.band, one.server - two.server])
            if moved.sum() > farthest:
                farthest, torn = moved.sum(), (k, _halves(regions[k], one, two, bool(moved[0] > moved[1])))
    if torn is None:
        return []
    k, halves = torn
    return [[*regions[:k], half, *regions[k + 1 :]] for half in halves]


def _halves(region: Region, one: Response, two: Response, along_band: bool) -> tuple[Region, Region]:
    """Two regions that hold one choice each and together all of a region."""
    if one.cut != two.cut:
        own = np.zeros_like(region.cuts)
        own[one.cut] = True
        return region._replace(cuts=own), region._replace(cuts=region.cuts & ~own)
    sharing = region.cuts.copy()
    sharing[-2:] = False
    if along_band:
        middle = 0.5 * (one.band + two.band)
        return region._replace(band=middle), region._replace(cuts=sharing, band_low=middle)
    middle = 0.5 * (one.server + two.server)
    return region._replace(server=middle), region._replace(cuts=sharing, server_low=middle)


def _cut_off(corners: Floats, slope: Floats, most: float) -> Floats:
    """Part of a convex polygon where ``slope @ x`` is at most `most`."""
    beyond, kept = corners @ slope - most, []
    for i in range(len(corners)):
        j = (i + 1) % len(corners)
        if beyond[i] <= 0.0:
            kept.append(corners[i])
        if (beyond[i] <= 0.0) != (beyond[j] <= 0.0):
            kept.append(corners[i] + (corners[j] - corners[i]) * (beyond[i] / (beyond[i] - beyond[j])))
    return np.array(kept)


def _centre(corners: Floats) -> Floats:
    """Centre of gravity of a convex polygon."""
    middle = corners.mean(axis=0)
    (x, y), (u, v) = (corners - middle).T, np.roll(corners - middle, -1, axis=0).T
    areas = x * v - u * y
    if areas.sum() <= 0.0:
        return np.asarray(middle)
    centre: Floats = middle + np.array([((x + u) * areas).sum(), ((y + v) * areas).sum()]) / (3.0 * areas.sum())
    return centre


def check_concave(quality: str) -> None:
    """Raise `InvalidInputError` if a quality is a measured accuracy, which need not be concave."""
    if quality not in dst.QUALITIES:
        remedy = f"A measured accuracy need not be concave. Solve for one of {', '.join(dst.QUALITIES)}."
        raise InvalidInputError("quality", quality, remedy)


def _check(problems: Any, band: Any, server: Any, cuts: Any, tolerance: Any) -> None:
    if isinstance(problems, Problem) or not isinstance(problems, Sequence) or not len(problems):
        raise InvalidInputError("problems", problems, "Give a list of one Problem or more.")
    for problem in problems:
        check_problem(problem)
        check_concave(problem.quality)
    if not (is_number(band) and 0.0 < band < math.inf):
        raise InvalidInputError("band", band, "Give the bandwidth that is there to be shared, in Hz, above 0.")
    if not (is_number(server) and 0.0 < server <= 1.0):
        raise InvalidInputError("server", server, "Give the share of the server that is there to be shared, in (0, 1].")
    if not (is_number(tolerance) and 0.0 < tolerance < math.inf):
        raise InvalidInputError("tolerance", tolerance, "Give a relative gap above 0.")
    if cuts is not None:
        if not isinstance(cuts, Sequence) or isinstance(cuts, str) or len(cuts) != len(problems):
            raise InvalidInputError("cuts", cuts, f"Give a list of one cut per problem, {len(problems)} in all.")
        for cut, problem in zip(cuts, problems, strict=True):
            check_cut(cut, problem.workload)
