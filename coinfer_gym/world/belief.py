"""What an observed gain tells of the gain: the exact statistics of channel state that is late, noisy, or both.

A gain is observed `k` coherence blocks late and with an error in dB (`csi_delay`, `csi_noise_db` of a scenario). With
`F` the power of the fading, `L` a standard normal level of the shadowing, ``sigma`` and ``nu`` the deviations of
shadowing and error in natural logarithms,

    observed    z = ln(path) + ln F_0 + sigma L_0 + nu N
    now         ln g = ln(path) + ln F_k + sigma L_k

Fading is ``h_k = a + rho (h_0 - a) + innovation`` with a complex normal innovation, so that ``F_k = |h_k|^2`` given
`h_0` is a non-central chi-square of two degrees; given `F_0` alone the phase of `h_0` is von Mises' about that of the
line of sight `a`. Given `F_0` the level `L_0` is normal, and so is `L_k`. What is left is an integral over `F_0`, whose
weight is its prior times the normal density of ``z - ln F_0``. Where the delay is no multiple of a block, some instants
have the one lag and others the next: the posterior is a mixture of both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.checks import is_number
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.records import Record
from coinfer_gym.world.channel import CHANNELS
from coinfer_gym.world.generator import build_world_tables

if TYPE_CHECKING:
    from coinfer_gym.scenario import WorldScenario

Floats = NDArray[np.float64]

_CELLS = 512  # of each lag
_DEPTH = 18.0  # weights below e^-18 of the largest are left out
_TAIL = 1e-6  # what is left out at either end of a non-central chi-square
_REACH = math.sqrt(-2.0 * math.log(_TAIL))
_NORMAL_REACH = 4.9  # deviations, for the same tail
_PHASES, _FADED = 8, 12.0  # nodes, and the depth at which they end
_TRIALS = 96
_NEPERS_PER_DB = math.log(10.0) / 10.0


@dataclass(frozen=True, eq=False)
class GainPosterior:
    """Distribution of a power gain: the probability that it is at least so large.

    Between two gains the probability is linear in the logarithm of the gain. A gain that stands there twice has a
    probability of its own, the difference of the two; what is left at the last gain is its own, too.

    Parameters
    ----------
    gains : array_like, shape (n,)
        Power gains, positive and not decreasing.
    survival : array_like, shape (n,)
        Probability that the gain is at least that: 1 at the first, not increasing, at least 0.

    Raises
    ------
    InvalidInputError
        If they are no distribution.
    """

    gains: Floats
    survival: Floats

    def __init__(self, gains: ArrayLike, survival: ArrayLike) -> None:
        for name, given in (("gains", gains), ("survival", survival)):
            try:
                values = np.array(given, np.float64)
            except (TypeError, ValueError) as error:
                raise InvalidInputError(name, given, "Give an array of numbers.") from error
            if values.ndim != 1 or values.size == 0:
                raise InvalidInputError(name, values.shape, "Give one row of numbers.")
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        g, s = self.gains, self.survival
        if not (np.isfinite(g).all() and g[0] > 0.0 and (np.diff(g) >= 0.0).all()):
            raise InvalidInputError("gains", gains, "Give positive gains that do not decrease.")
        if s.shape != g.shape or s[0] != 1.0 or not (np.diff(s) <= 0.0).all() or not s[-1] >= 0.0:
            raise InvalidInputError("survival", survival, "Give one per gain: first 1, never rising, at least 0.")

    @cached_property
    def log_gains(self) -> Floats:
        """Natural logarithms of the gains."""
        return np.log(self.gains)

    def gain_at(self, log_gain: float) -> float:
        """Gain that has this natural logarithm; that of `gains` itself where it is one of them."""
        place = int(np.searchsorted(self.log_gains, log_gain))
        known = place < self.gains.size and self.log_gains[place] == log_gain
        return float(self.gains[place]) if known else math.exp(log_gain)

    def probability(self, gain: ArrayLike) -> Any:
        """Probability that the gain is at least `gain`, element by element.

        Parameters
        ----------
        gain : array_like
            Power gains, positive.
        """
        wanted = np.asarray(gain, np.float64)
        after = np.searchsorted(self.gains, wanted)
        upper = np.minimum(after, self.gains.size - 1)
        lower = np.maximum(upper - 1, 0)
        x, y = self.log_gains, self.survival
        width = x[upper] - x[lower]
        inside = (self.gains[lower] < wanted) & (wanted < self.gains[upper]) & (width > 0.0)
        share = np.where(inside, np.log(wanted) - x[lower], 0.0) / np.where(inside, width, 1.0)
        found = np.where(inside, y[lower] + share * (y[upper] - y[lower]), y[upper])
        return np.where(after < self.gains.size, found, 0.0)[()]


class Fading(NamedTuple):
    """Amplitudes of the fading, and what of it lasts from the observation until now.

    `scattered` and `innovation` are deviations of one of two components.
    """

    steady: float
    scattered: float
    keep: float
    innovation: float


class GainBelief:
    """What the world of a scenario lets one conclude from an observed gain.

    A decision is based on one observed gain: what was observed before is not looked at. An instant is taken to be
    anywhere in its coherence block, and to be later than `csi_delay` after the start of the episode. Probabilities are
    integrated numerically, to within 3e-4.

    Parameters
    ----------
    scenario : WorldScenario
        Of LAIM-v0 or Layerwise-v0.

    Raises
    ------
    InvalidInputError
        If the channel is a recorded trace that is observed late or with noise, whose statistics are not known, or the
        scenario is a cell, whose devices have distances of their own.
    """

    def __init__(self, scenario: WorldScenario) -> None:
        self._perfect = scenario.csi_delay == 0.0 and scenario.csi_noise_db == 0.0
        if scenario.family == "cell":
            remedy = "A cell draws the distance of each device: give the world of one device, with its distance."
            raise InvalidInputError("scenario", scenario.name, remedy)
        if scenario.channel == "trace" and not self._perfect:
            remedy = "What a late or noisy gain tells is known of 'fading' and 'constant' channels only."
            raise InvalidInputError("channel", scenario.channel, remedy)
        self._record: Record = build_world_tables(scenario).record[0]
        self._noise = scenario.csi_noise_db * _NEPERS_PER_DB
        blocks = scenario.csi_delay / scenario.block_duration
        whole = math.floor(blocks)
        shares = ((whole, 1.0 - (blocks - whole)), (whole + 1, blocks - whole))
        self._lags = [(lag, share) for lag, share in shares if share > 0.0]

    def given(self, gain: float) -> GainPosterior:
        """Distribution of the gain, given the observed one.

        Parameters
        ----------
        gain : float
            Observed power gain.

        Raises
        ------
        InvalidInputError
            If it is not positive, or above 1e50.
        """
        if not (is_number(gain) and 0.0 < gain <= 1e50):
            raise InvalidInputError("gain", gain, "Give a positive power gain, 1e50 at most.")
        if self._perfect:
            return GainPosterior([gain], [1.0])
        path = float(self._record.path_gain)
        if CHANNELS[self._record.channel] == "constant":
            return GainPosterior([path], [1.0])
        z = math.log(gain / path)
        parts = [self._spread_out(z, lag) for lag, _ in self._lags]
        knots = np.sort(np.concatenate([edges for edges, _ in parts]))
        survival = np.zeros(knots.size)
        for (edges, above), (_, share) in zip(parts, self._lags, strict=True):
            if edges[0] < edges[-1]:
                survival += share * np.interp(knots, edges, above)
            else:  # the gain itself: its first knot still has it, its second no longer
                survival[: np.searchsorted(knots, edges[0]) + 1] += share
        survival[0] = 1.0
        gains = np.where(knots == z, gain, path * np.exp(knots))
        return GainPosterior(gains, np.minimum.accumulate(np.clip(survival, 0.0, 1.0)))

    def _spread_out(self, z: float, lag: int) -> tuple[Floats, Floats]:
        """Logarithms of the gain relative to the path's, and the probability to be above each, at one lag in blocks."""
        r, noise = self._record, self._noise
        sigma, keep = float(r.shadowing), float(r.shadowing_correlation) ** lag
        rho = float(r.fading_correlation) ** lag
        lost = math.sqrt(max(0.0, 1.0 - rho * rho))
        fading = Fading(float(r.line_of_sight), float(r.scattered), rho, float(r.scattered) * lost)
        spread = math.hypot(sigma, noise)
        known = (sigma / spread) ** 2 if spread > 0.0 else 0.0
        smooth = sigma * math.sqrt(max(0.0, 1.0 - keep * keep * known))
        if noise == 0.0 and (lag == 0 or (fading.innovation == 0.0 and smooth == 0.0)):
            return np.array([z, z]), np.array([1.0, 0.0])
        cells: Floats = np.zeros(_CELLS)
        low, width = _fill_cells(z, spread, keep * known, smooth, fading, cells)
        if smooth > 0.0:
            reach = math.ceil(_NORMAL_REACH * smooth / width)
            ends = (np.arange(-reach, reach + 2) - 0.5) * (width / (smooth * math.sqrt(2.0)))
            cells = np.convolve(cells, np.diff([math.erf(end) for end in ends]), "same")
        above = np.concatenate([[0.0], np.cumsum(cells[::-1])])[::-1]
        return np.linspace(low, low + _CELLS * width, _CELLS + 1), above / above[0]


@kernel
def _bessel(x: float) -> float:
    """``I_0(x) e^-x`` of ``x >= 0``, to a relative 2e-7 (Abramowitz and Stegun, 9.8.1 and 9.8.2)."""
    if x < 3.75:
        t = (x / 3.75) ** 2
        series = 1.2067492 + t * (0.2659732 + t * (0.0360768 + t * 0.0045813))
        return (1.0 + t * (3.5156229 + t * (3.0899424 + t * series))) * math.exp(-x)
    t = 3.75 / x
    series = 0.00916281 + t * (-0.02057706 + t * (0.02635537 + t * (-0.01647633 + t * 0.00392377)))
    series = 0.39894228 + t * (0.01328592 + t * (0.00225319 + t * (-0.00157565 + t * series)))
    return series / math.sqrt(x)


@kernel
def _log_prior(u: float, fading: Fading) -> float:
    """Logarithm of the density of the fading's level ``u = ln |h|^2``, up to a constant."""
    amplitude, variance = math.exp(0.5 * u), fading.scattered * fading.scattered
    off = amplitude - fading.steady
    return u - 0.5 * off * off / variance + math.log(_bessel(fading.steady * amplitude / variance))


@kernel
def _log_weight(u: float, z: float, spread: float, fading: Fading) -> float:
    """Logarithm of the prior of the fading's level `u` times the density of what was observed, up to a constant."""
    off = (z - u) / spread
    return _log_prior(u, fading) - 0.5 * off * off


@kernel
def _window(z: float, spread: float, fading: Fading, scratch: Floats) -> tuple[float, float, float]:
    """Levels of the fading between which it has been when `z` was observed, and the logarithm of the largest weight."""
    highest = 2.0 * math.log(fading.steady + 7.0 * fading.scattered)
    lowest = 2.0 * math.log(max(fading.steady - 7.0 * fading.scattered, 1e-9 * fading.scattered))
    low = max(min(lowest, z), min(z, highest) - 6.1 * spread)
    high = min(max(highest, z), max(z, lowest) + (6.1 + spread) * spread)
    best = -math.inf
    for _ in range(2):
        step, best = (high - low) / _TRIALS, -math.inf
        for i in range(_TRIALS + 1):
            scratch[i] = _log_weight(low + i * step, z, spread, fading)
            best = max(best, scratch[i])
        first, last = 0, _TRIALS
        while scratch[first] < best - _DEPTH:
            first += 1
        while scratch[last] < best - _DEPTH:
            last -= 1
        low, high = low + max(first - 1, 0) * step, low + min(last + 1, _TRIALS) * step
    return low, high, best


@kernel
def _phase(j: int, amplitude: float, fading: Fading) -> tuple[float, float]:
    """Phase number `j` of the observed fading relative to the line of sight, and its weight.

    Von Mises' density with ``kappa = a |h_0| / s^2`` from 0 to where it has died out, by the midpoint rule.
    """
    kappa = fading.steady * amplitude / (fading.scattered * fading.scattered)
    end = math.acos(1.0 - _FADED / kappa) if kappa > 0.5 * _FADED else math.pi
    phase = end * (j + 0.5) / _PHASES
    return phase, math.exp(kappa * (math.cos(phase) - 1.0))


@kernel
def _centre(phase: float, amplitude: float, fading: Fading) -> float:
    """Amplitude of the fading that is expected now, when it had this amplitude and phase."""
    steady, kept = fading.steady * (1.0 - fading.keep), fading.keep * amplitude
    real, imaginary = steady + kept * math.cos(phase), kept * math.sin(phase)
    return math.sqrt(real * real + imaginary * imaginary)


@kernel
def _ends(centre: float, innovation: float) -> tuple[float, float]:
    """Levels between which the fading is now, but for tails of `_TAIL`."""
    if innovation == 0.0:
        return 2.0 * math.log(centre), 2.0 * math.log(centre)
    high = 2.0 * math.log(centre + _REACH * innovation)
    if centre > 7.0 * innovation:
        return 2.0 * math.log(centre - _REACH * innovation), high
    fade = min(0.5 * (centre / innovation) ** 2, -math.log(_TAIL) - 1.0)
    return math.log(2.0 * innovation * innovation * _TAIL) + fade, high


@kernel
def _fill_cells(
    z: float, spread: float, shift: float, smooth: float, fading: Fading, cells: Floats
) -> tuple[float, float]:
    """Probability of each cell of ``ln(g / path)`` before the shadowing is smoothed; returns lower end and width.

    Where the fading was at level `u`, the shadowing's share of the rest is ``shift (z - u)``.
    """
    low, high, best = z, z, 0.0
    if spread > 0.0:
        low, high, best = _window(z, spread, fading, cells)
        cells[:] = 0.0
    phases = _PHASES if fading.steady > 0.0 and fading.innovation > 0.0 and fading.keep != 0.0 else 1
    bottom, top, narrowest = math.inf, -math.inf, math.inf
    for i in range(65):
        u = low + (high - low) * i / 64
        if spread > 0.0 and _log_weight(u, z, spread, fading) < best + math.log(_TAIL):
            continue
        amplitude = math.exp(0.5 * u)
        for j in range(phases):
            phase, weight = _phase(j, amplitude, fading)
            if weight < _TAIL:
                continue
            centre = _centre(phase, amplitude, fading)
            end_low, end_high = _ends(centre, fading.innovation)
            moved = shift * (z - u)
            bottom, top = min(bottom, end_low + moved), max(top, end_high + moved)
            narrowest = min(narrowest, fading.innovation / max(centre, fading.innovation))
    margin = _NORMAL_REACH * smooth
    width = (top - bottom + 2.0 * margin) / (cells.shape[0] - 4)
    bottom -= margin + 2.0 * width
    nodes = 1
    if spread > 0.0:
        step = max(0.25 * width / max(1.0 - shift, 1e-12), narrowest)  # a step of the level moves the gain by 1 - shift
        nodes = 2 + int((high - low) / min(step, 0.7 * spread, (high - low) / 24.0))
    for i in range(nodes):
        u = low + (high - low) * i / max(nodes - 1, 1)
        weight = math.exp(_log_weight(u, z, spread, fading) - best) if spread > 0.0 else 1.0
        _drop(u, weight, shift * (z - u), phases, fading, bottom, width, cells)
    return bottom, width


@kernel
def _drop(
    u: float, weight: float, moved: float, phases: int, fading: Fading, bottom: float, width: float, cells: Floats
) -> None:
    """Add to the cells where the fading leads from level `u`, by the density of a non-central chi-square.

    A spread below a cell's width is one point.
    """
    amplitude = math.exp(0.5 * u)
    total = 0.0
    for j in range(phases):
        total += _phase(j, amplitude, fading)[1]
    last = cells.shape[0] - 1
    for j in range(phases):
        phase, part = _phase(j, amplitude, fading)
        part *= weight / total
        centre = _centre(phase, amplitude, fading)
        if 2.0 * fading.innovation < width * centre:
            spare = (fading.innovation / centre) ** 2  # the mean of |h|^2 is beyond that of its square root
            place = (2.0 * math.log(centre) + spare + moved - bottom) / width - 0.5
            cell = min(max(int(place), 0), last - 1)
            share = min(1.0, max(0.0, place - cell))
            cells[cell] += (1.0 - share) * part
            cells[cell + 1] += share * part
            continue
        end_low, end_high = _ends(centre, fading.innovation)
        first = max(0, int((end_low + moved - bottom) / width))
        level, growth = math.exp(0.5 * (bottom + (first + 0.5) * width - moved)), math.exp(0.5 * width)
        inverse = 1.0 / (fading.innovation * fading.innovation)
        part *= width * inverse
        for cell in range(first, min(last, int((end_high + moved - bottom) / width)) + 1):
            off = level - centre
            bell = math.exp(-0.5 * off * off * inverse)
            cells[cell] += part * level * level * bell * _bessel(level * centre * inverse)
            level *= growth
