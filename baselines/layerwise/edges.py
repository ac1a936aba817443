"""The search proposed here: at each cut by itself, every design is taken to the edge of what is accurate enough.

Predicted accuracy never rises when less is kept or sent, and a codec apart, neither do delay and energy. So no single
ratio of an optimum can fall: it lies on the edge of what is accurate enough. A search that knows designs by their
values alone must meet this edge by chance, in all its variables at once.

At each cut some designs start at uniform places. As in the form ``mqhoa`` of `baselines.quantum`, each has a sample
around it and takes one that beats its own value. But a sample differs in a few variables only, and goes to the edge:

- where it is not accurate enough, all its variables rise by the same part of what is left above them;
- then one variable after another, in random order, falls as far as accuracy allows, if that makes the design better.

After each step the worst design takes the place of the best. The cuts compete: every round has the same evaluations,
and the better half of the cuts goes on to the next.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from baselines.layerwise.designs import LEAST_INACCURATE, DesignSearch
from coinfer_gym.errors import InvalidInputError

__all__ = ["search_edges"]

Floats = NDArray[np.float64]

_DESIGNS = 64
_HALVINGS = 10
_MOST_CHANGED = 3
_LOG_STEPS = (-2.0, 0.0)
_RAISED = 0.2  # share of the variables that go back to 1, in every other sample


def search_edges(search: DesignSearch, evaluations: int, seed: int) -> OptimizeResult:
    """The best design on the edge of what is accurate enough.

    Parameters
    ----------
    search : DesignSearch
    evaluations : int
        Points to look at at most.
    seed : int

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x``, ``fun``, ``maxcv``, ``nfev``, ``success`` and ``history``, as those of
        `baselines.quantum.minimize_quantum`.

    Raises
    ------
    InvalidInputError
        If the evaluations do not suffice for one design at every cut.
    """
    generator = np.random.default_rng(seed)
    cuts = [_Cut(search.at(cut), generator) for cut in search.cuts]
    rounds = math.ceil(math.log2(len(cuts))) + 1
    share = evaluations // (rounds * len(cuts))
    if share < cuts[0].cost:
        remedy = f"This search needs {rounds * len(cuts) * cuts[0].cost} or more."
        raise InvalidInputError("evaluations", evaluations, remedy)
    best, nfev = (math.inf, math.inf), 0
    times, levels = list[int](), list[float]()
    for cut in cuts:
        cut.draw(min(_DESIGNS, share // cut.cost))
    for _ in range(rounds):
        share = evaluations // (rounds * len(cuts))
        for cut in cuts:
            end = nfev + share
            while nfev + cut.size * cut.cost <= end:
                nfev += cut.step()
                if cut.best < best:
                    best = cut.best
                    if best[0] == 0.0:
                        times.append(nfev)
                        levels.append(best[1])
        cuts = sorted(cuts, key=lambda cut: cut.best)[: (len(cuts) + 1) // 2]
    found = best[0] == 0.0
    x = cuts[0].point if len(search.cuts) == 1 else np.append(cuts[0].cut, cuts[0].point)
    history = np.array(times, np.int64), np.array(levels)
    result = OptimizeResult()
    result.update(x=x, fun=best[1] if found else math.inf, maxcv=best[0], nfev=nfev, success=found, history=history)
    return result


class _Cut:
    """The designs of one cut.

    Attributes
    ----------
    cut : int
    cost : int
        Points that a step looks at for one design, at most.
    size : int
        Number of designs.
    best : tuple of (float, float)
        Excess and value of the best design.
    """

    def __init__(self, search: DesignSearch, generator: np.random.Generator) -> None:
        self._search, self._generator = search, generator
        self._variables = len(search.box.low)
        self.cut = search.cuts[0]
        self.cost = 2 + _HALVINGS + self._variables * (_HALVINGS + 2)
        self.draw(0)

    def draw(self, size: int) -> None:
        """Begin anew with some uniform designs, of which nothing is known."""
        self.size, self.best, self._seen = size, (math.inf, math.inf), 0
        self._points = self._generator.random((self._variables, size))
        self._excesses, self._values = np.full(size, math.inf), np.full(size, math.inf)

    @property
    def point(self) -> Floats:
        """Place of the best design."""
        return self._points[:, np.lexsort((self._values, self._excesses))[0]]

    def step(self) -> int:
        """Improve the designs once; the number of points that were looked at."""
        self._seen = 0
        samples = self._change() if self.best[0] < math.inf else self._points.copy()
        self._raise(samples)
        excesses, values = self._lower(samples)
        better = _beats(excesses, values, self._excesses, self._values)
        self._points[:, better] = samples[:, better]
        self._excesses[better], self._values[better] = excesses[better], values[better]
        order = np.lexsort((self._values, self._excesses))
        first, last = order[0], order[-1]
        self._points[:, last] = self._points[:, first]
        self._excesses[last], self._values[last] = self._excesses[first], self._values[first]
        self.best = float(self._excesses[first]), float(self._values[first])
        return self._seen

    def _change(self) -> Floats:
        """Samples that differ from the designs in a few variables by normal steps, or by going back to 1."""
        draw, shape = self._generator, self._points.shape
        moved = draw.random(shape).argsort(axis=0) < draw.integers(1, _MOST_CHANGED + 1, self.size)
        steps = draw.normal(size=shape) * 10.0 ** draw.uniform(*_LOG_STEPS, self.size)
        raised = draw.random(shape) < _RAISED * draw.integers(0, 2, self.size)
        samples: Floats = np.where(raised, 1.0, np.clip(self._points + moved * steps, 0.0, 1.0))
        return samples

    def _raise(self, points: Floats) -> None:
        """Move points that are not accurate enough towards 1, as far as is needed."""
        short = ~self._accurate(points)
        start = points[:, short]
        low, high = np.zeros(start.shape[1]), np.ones(start.shape[1])
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            enough = self._accurate(start + middle * (1.0 - start))
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        points[:, short] = start + high * (1.0 - start)

    def _lower(self, points: Floats) -> tuple[Floats, Floats]:
        """Let one variable of each point after another fall as far as accuracy allows; their excesses and values."""
        everywhere = np.arange(self.size)
        excesses, values = self._assess(points)
        for chosen in self._generator.random(points.shape).argsort(axis=0):
            trial = points.copy()
            low, high = np.zeros(self.size), points[chosen, everywhere]
            middle = low
            for _ in range(_HALVINGS + 1):  # the first looks at 0 itself
                trial[chosen, everywhere] = middle
                enough = self._accurate(trial)
                low, high = np.where(enough, low, middle), np.where(enough, middle, high)
                middle = 0.5 * (low + high)
            trial[chosen, everywhere] = high
            after = self._assess(trial)
            better = _beats(*after, excesses, values)
            points[:, better] = trial[:, better]
            excesses, values = np.where(better, after[0], excesses), np.where(better, after[1], values)
        return excesses, values

    def _accurate(self, points: Floats) -> NDArray[np.bool_]:
        return self._assess(points)[0] < LEAST_INACCURATE

    def _assess(self, points: Floats) -> tuple[Floats, Floats]:
        self._seen += points.shape[1]
        values, excesses = self._search.assess(points)
        return excesses, values


def _beats(excesses: Floats, values: Floats, than_excesses: Floats, than_values: Floats) -> NDArray[np.bool_]:
    better: NDArray[np.bool_] = (excesses < than_excesses) | ((excesses == than_excesses) & (values < than_values))
    return better
