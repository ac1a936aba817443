"""A world as its history tells of it: the belief in a burst, and what the channel so far says of its next blocks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from baselines.causal_bound.recursion import History
from baselines.clairvoyant.plan import Episode
from baselines.stochastic.arrivals import Process, arrival_process, note_arrival, update_belief
from coinfer_gym._compile import kernel
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.world import World, WorldTables, build_world_tables, draw

Floats = NDArray[np.float64]

_NODES = 32  # of the quadrature over either component of the fading
_TINY = 1e-300


def build_history(episode: Episode, log_gains: Floats, lags: int) -> History:
    """What every cell of an episode's grid knows, and the channel up to `lags` coherence blocks ahead."""
    scenario, world, step = episode.scenario, episode.world, episode.times.step
    cells = len(episode.right)
    block = np.arange(cells) // round(world.block_duration / step)
    come = np.searchsorted(world.arrivals, step * np.arange(1, cells + 1), side="right")
    belief, noted = believe(world.arrivals, arrival_process(scenario), step, cells)
    weights = channel_weights(scenario, world, log_gains, int(block[-1]) + 1, lags)
    return History(world.arrivals, block, episode.right[:, 0].copy(), come, belief, noted, weights)


def believe(arrivals: Floats, process: Process, step: float, cells: int) -> tuple[Floats, Floats]:
    """Probability of a burst at the end of each cell and just after each arrival, given all arrivals until then."""
    ends = process.leave_calm + process.leave_burst
    belief, noted = np.empty(cells), np.empty(len(arrivals))
    _fill_belief(arrivals, process, step, process.leave_calm / ends if ends > 0.0 else 0.0, belief, noted)
    return belief, noted


@kernel
def _fill_belief(arrivals: Floats, process: Process, step: float, belief: float, out: Floats, noted: Floats) -> None:
    """Bayes' rule from arrival to arrival, from a belief at time 0 on."""
    task, time = 0, 0.0
    for c in range(out.shape[0]):
        end = (c + 1) * step
        while task < arrivals.shape[0] and arrivals[task] <= end:
            belief = note_arrival(update_belief(belief, process, 0, arrivals[task] - time), process)
            time, noted[task] = arrivals[task], belief
            task += 1
        belief = update_belief(belief, process, 0, end - time)
        time = end
        out[c] = belief


def channel_weights(scenario: Scenario, world: World, log_gains: Floats, blocks: int, lags: int) -> Floats:
    """Expected weights of the levels of the gain 0, 1, ... blocks ahead, given the channel so far.

    Shape (blocks, lags, gains). Blocks are counted on where the path repeats: from there on all is known. The history
    is that of both components of the fading and of the shadowing, which is more than their product, the gain.
    """
    actual = _hats(np.log(np.resize(world.gains, blocks + lags)), log_gains)
    out = np.stack([actual[lag : lag + blocks] for lag in range(lags)], axis=1)
    if scenario.channel != "fading" or len(log_gains) == 1:
        return out
    tables = build_world_tables(scenario)
    r = tables.record[0]
    first, second, level = channel_states(tables, world.seed)
    x, w = np.polynomial.hermite_e.hermegauss(_NODES)
    u, v, chance = np.repeat(x, _NODES), np.tile(x, _NODES), np.outer(w, w).ravel() / w.sum() ** 2
    for lag in range(1, lags):
        keep, dark = r["fading_correlation"] ** lag, r["shadowing_correlation"] ** lag
        new, blur = math.sqrt(max(1.0 - keep * keep, 0.0)), math.sqrt(max(1.0 - dark * dark, 0.0))
        for b in range(min(len(world.gains) - lag, blocks)):
            in_phase = r["line_of_sight"] + r["scattered"] * (keep * first[b] + new * u)
            quadrature = r["scattered"] * (keep * second[b] + new * v)
            log_gain = np.log(r["path_gain"] * (in_phase**2 + quadrature**2) + _TINY)
            out[b, lag] = chance @ _hats(log_gain + r["shadowing"] * dark * level[b], log_gains, r["shadowing"] * blur)
    return out


def channel_states(tables: WorldTables, seed: int) -> tuple[Floats, Floats, Floats]:
    """Both components of the scattered fading, the second without its sign, and the shadowing, by block.

    They are read off the gains that the same seed draws with other constants.
    """

    def gains(**changes: float) -> Floats:
        record = tables.record.copy()
        for name, value in {"path_gain": 1.0, "shadowing": 0.0, "scattered": 1.0, **changes}.items():
            record[name] = value
        return draw(tables._replace(record=record), seed).gains

    power, shifted = gains(line_of_sight=0.0), gains(line_of_sight=1.0)
    first = 0.5 * (shifted - power - 1.0)
    second = np.sqrt(np.maximum(power - first * first, 0.0))
    return first, second, np.log(gains(line_of_sight=1.0, scattered=0.0, shadowing=1.0))


def _hats(values: Floats, nodes: Floats, deviation: float = 0.0) -> Floats:
    """Weights of nodes in linear interpolation, shape (values, nodes), or their means if normal noise is added."""
    if len(nodes) == 1:
        return np.ones((len(values), 1))
    if deviation > 0.0:
        z = (values[:, None] - nodes) / deviation
        above = deviation * (z * ndtr(z) + np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi))  # mean of max(x - node, 0)
    else:
        above = np.maximum(values[:, None] - nodes, 0.0)
    passed = -np.diff(above, axis=1) / np.diff(nodes)  # share of the way from each node to the next
    ends = np.ones((len(values), 1))
    weights: Floats = np.hstack([ends, passed]) - np.hstack([passed, 0.0 * ends])
    return weights
