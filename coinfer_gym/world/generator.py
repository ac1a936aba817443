"""Who draws the world: a scenario's constants as compiled code reads them, and an episode's world from one seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.checks import check_whole
from coinfer_gym.physics import from_db, path_gain
from coinfer_gym.records import Record, Records, record_type
from coinfer_gym.world.arrivals import ARRIVAL_KINDS, draw_arrivals
from coinfer_gym.world.channel import CHANNELS, bessel_j0, block_at, draw_gains
from coinfer_gym.world.random import BUDGETS, substream, uniform
from coinfer_gym.world.traces import FLOOR_GAIN_DB, load_arrival_trace, load_channel_trace

if TYPE_CHECKING:
    from coinfer_gym.scenario import WorldScenario

WORLD = record_type(
    "block_duration",
    "path_gain",
    "line_of_sight",
    "scattered",
    "fading_correlation",
    "fading_innovation",
    "shadowing",
    "shadowing_correlation",
    "shadowing_innovation",
    "channel_trace_period",
    "arrival_rate",
    "burst_rate",
    "calm_duration",
    "burst_duration",
    "delay_budget",
    "delay_budget_spread",
    "energy_budget",
    "energy_budget_spread",
    channel=np.int64,
    arrivals=np.int64,
    tasks=np.int64,
    blocks=np.int64,
)
"""Constants that a world is drawn with, in SI units. `channel` and `arrivals` are places in `CHANNELS` and
`ARRIVAL_KINDS`; `tasks` and `blocks` count an episode's tasks and the coherence blocks of its channel path;
`line_of_sight` and `scattered` are amplitudes of the fading (the latter of one component); `shadowing` is the deviation
of the gain's natural logarithm; a correlation is that of neighbouring blocks, its innovation ``sqrt(1 - c^2)``; a
budget's spread is ``ln(high / low)``, 0 if it is fixed, and the budget itself is the lower end."""

_LEAST_BLOCKS, _MOST_BLOCKS, _BLOCKS_MARGIN = 64, 2**20, 1.25

_SIGMAS = 3.0
_FADE_LOW, _FADE_HIGH = 10.0 ** (-25.0 / 20.0), 10.0 ** (8.0 / 20.0)
"""Amplitudes of Rayleigh fading, -25 dB and +8 dB, which 0.3 % and 0.2 % of all blocks fall short of and exceed."""


class WorldTables(NamedTuple):
    """What the world of an episode is drawn from.

    Attributes
    ----------
    record : ndarray of `WORLD`, shape (1,)
        Constants.
    channel_trace_time, channel_trace_gain : ndarray of float64, shape (n,)
        Recorded channel: times in s from the first sample, and power gains; empty without one.
    arrival_trace : ndarray of float64, shape (n,)
        Recorded arrivals in s from the first; empty without any.
    """

    record: Records
    channel_trace_time: NDArray[np.float64]
    channel_trace_gain: NDArray[np.float64]
    arrival_trace: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class World:
    """The world of one episode: all that chance decides, whatever the agent does.

    Attributes
    ----------
    seed : int
        World seed.
    arrivals : ndarray of float64, shape (tasks,)
        Arrival times in s, non-decreasing; all 0 where a task is always waiting.
    gains : ndarray of float64, shape (blocks,)
        Power gains of the coherence blocks; the path repeats after its end.
    block_duration : float
        Duration of a coherence block in s.
    delay_budget, energy_budget : float
        Budgets of every task in s and J.
    """

    seed: int
    arrivals: NDArray[np.float64]
    gains: NDArray[np.float64]
    block_duration: float
    delay_budget: float
    energy_budget: float

    def gain_at(self, time: float) -> float:
        """Power gain at a time in s from the start of the episode."""
        return float(self.gains[block_at(time, self.block_duration, self.gains.size)])


def build_world_tables(scenario: WorldScenario) -> WorldTables:
    """Constants of a scenario's world, and its traces, as compiled code reads them.

    Raises
    ------
    InvalidInputError
        If a trace cannot be used.
    """
    none = np.empty(0)
    trace_time, trace_gain = none, none
    if scenario.channel == "trace":
        trace_time, trace_gain = load_channel_trace(
            scenario.channel_trace or "",
            scenario.power_max,
            scenario.bandwidth,
            scenario.noise_density,
            scenario.channel_trace_column,
        )
    arrival_trace = load_arrival_trace(scenario.arrival_trace or "") if scenario.arrivals == "trace" else none
    return WorldTables(
        record=_build_record(scenario, trace_time, arrival_trace),
        channel_trace_time=np.ascontiguousarray(trace_time),
        channel_trace_gain=np.ascontiguousarray(trace_gain),
        arrival_trace=np.ascontiguousarray(arrival_trace),
    )


@kernel
def draw_world(
    world_seed: np.uint64,
    tables: WorldTables,
    arrivals_out: NDArray[np.float64],
    gains_out: NDArray[np.float64],
) -> tuple[float, float]:
    """Draw the world of one episode: arrival times in s and power gains into the arrays, both budgets in s and J.

    Arrivals, channel and budgets come from streams of their own: a change of one leaves the others as they are. Budgets
    are fixed, or log-uniform in their range.
    """
    r = tables.record[0]
    draw_arrivals(world_seed, r, tables.arrival_trace, arrivals_out)
    draw_gains(world_seed, r, tables.channel_trace_time, tables.channel_trace_gain, gains_out)
    u_delay, state = uniform(substream(world_seed, BUDGETS))
    u_energy, _ = uniform(state)
    delay_budget = r.delay_budget * math.exp(u_delay * r.delay_budget_spread)
    energy_budget = r.energy_budget * math.exp(u_energy * r.energy_budget_spread)
    return delay_budget, energy_budget


def draw(source: WorldScenario | WorldTables, world_seed: int) -> World:
    """World of one episode, to look at, to plot, or to optimise with hindsight.

    Parameters
    ----------
    source : WorldScenario or WorldTables
        What to draw from; tables spare reading the traces anew.
    world_seed : int
        Seed, from 0 to 2^64 - 1.

    Returns
    -------
    World
        Exactly the one that an environment meets whose episode has this world seed. Its arrays are read-only.

    Raises
    ------
    InvalidInputError
        If the seed is out of range or a trace cannot be used.
    """
    seed = check_whole("world_seed", world_seed, 0, 2**64 - 1)
    tables = source if isinstance(source, WorldTables) else build_world_tables(source)
    record: Record = tables.record[0]
    arrivals, gains = np.empty(record.tasks), np.empty(record.blocks)
    budgets = draw_world(np.uint64(seed), tables, arrivals, gains)
    arrivals.flags.writeable = gains.flags.writeable = False
    return World(seed, arrivals, gains, float(record.block_duration), *budgets)


def gain_db_range(source: WorldScenario | WorldTables) -> tuple[float, float]:
    """Bounds in dB between which a world's gain moves, by which observations are normalised.

    With fading these are the path gain with three deviations of the shadowing and the fading's 0.3 % and 99.8 % points
    (-25 and +8 dB for Rayleigh, closer together with a line of sight, but 1 dB at least). A constant channel has 1 dB
    to either side. A trace has 1 dB beyond its extremes, samples at the floor (no throughput) aside.

    Parameters
    ----------
    source : WorldScenario or WorldTables

    Returns
    -------
    low, high : float
        In dB, ``low < high``. The gain can lie outside; clip it.

    Raises
    ------
    InvalidInputError
        If a trace cannot be used.
    """
    tables = source if isinstance(source, WorldTables) else build_world_tables(source)
    r: Record = tables.record[0]
    if CHANNELS[r.channel] == "trace":
        gains_db = 10.0 * np.log10(tables.channel_trace_gain)
        # Outages would stretch the range over tens of dB in which nothing else lies.
        gains_db = gains_db[gains_db > FLOOR_GAIN_DB + 1e-9]
        return float(gains_db.min()) - 1.0, float(gains_db.max()) + 1.0
    path_db = 10.0 * math.log10(r.path_gain)
    if CHANNELS[r.channel] == "constant":
        return path_db - 1.0, path_db + 1.0
    shadowing_db = _SIGMAS * float(r.shadowing) * 10.0 / math.log(10.0)
    line_of_sight, scattered = float(r.line_of_sight), math.sqrt(2.0) * float(r.scattered)
    weakest = max(line_of_sight - _FADE_HIGH * scattered, _FADE_LOW * scattered)
    strongest = line_of_sight + _FADE_HIGH * scattered
    low = min(20.0 * math.log10(weakest), -1.0)
    high = max(20.0 * math.log10(strongest), 1.0)
    return path_db - shadowing_db + low, path_db + shadowing_db + high


def _build_record(
    scenario: WorldScenario, trace_time: NDArray[np.float64], arrival_trace: NDArray[np.float64]
) -> Records:
    """The constants of `WORLD`."""
    record = np.zeros(1, WORLD)
    record["tasks"], record["blocks"] = scenario.tasks, _count_blocks(scenario, arrival_trace)
    record["channel"] = CHANNELS.index(scenario.channel)
    record["arrivals"] = ARRIVAL_KINDS.index(scenario.arrivals)
    for name in ("block_duration", "arrival_rate", "burst_rate", "calm_duration", "burst_duration"):
        record[name] = getattr(scenario, name)
    record["path_gain"] = path_gain(from_db(scenario.reference_gain_db), scenario.distance, scenario.path_loss_exponent)
    # Mean power 1 in all; the scattered part has two components of half its power each.
    record["line_of_sight"] = math.sqrt(scenario.rician_factor / (scenario.rician_factor + 1.0))
    record["scattered"] = math.sqrt(0.5 / (scenario.rician_factor + 1.0))
    fading = bessel_j0(2.0 * math.pi * scenario.doppler * scenario.block_duration)
    shadowing = math.exp(-scenario.block_duration / scenario.shadowing_time)
    for name, correlation in (("fading", fading), ("shadowing", shadowing)):
        record[f"{name}_correlation"] = correlation
        record[f"{name}_innovation"] = math.sqrt(max(1.0 - correlation * correlation, 0.0))
    record["shadowing"] = scenario.shadowing_db * math.log(10.0) / 10.0
    if trace_time.size:
        record["channel_trace_period"] = trace_time[-1] + np.median(np.diff(trace_time))
    for name in ("delay_budget", "energy_budget"):
        fixed = getattr(scenario, name)
        low, high = getattr(scenario, f"{name}_range") or (fixed, fixed)
        record[name], record[f"{name}_spread"] = low, math.log(high / low)
    return record


def mean_arrival_rate(scenario: WorldScenario, arrival_trace: NDArray[np.float64] | None = None) -> float:
    """Mean arrival rate in 1/s; infinite where a task is always waiting. A recorded trace is read unless given."""
    if scenario.arrivals == "one_at_a_time":
        return math.inf
    if scenario.arrivals == "trace":
        times = load_arrival_trace(scenario.arrival_trace or "") if arrival_trace is None else arrival_trace
        return float((times.size - 1) / times[-1])
    if scenario.arrivals == "mmpp":
        calm, burst = scenario.calm_duration, scenario.burst_duration
        return (calm * scenario.arrival_rate + burst * scenario.burst_rate) / (calm + burst)
    return scenario.arrival_rate


def _count_blocks(scenario: WorldScenario, arrival_trace: NDArray[np.float64]) -> int:
    """Length of an episode's channel path in coherence blocks.

    It covers 1.25 times the mean duration of an episode, in 64 to 2^20 blocks (8 MiB). A longer episode meets the path
    again from its start.
    """
    if scenario.channel == "constant":
        return _LEAST_BLOCKS
    delay_budget = (scenario.delay_budget_range or (scenario.delay_budget, scenario.delay_budget))[1]
    if scenario.arrivals == "one_at_a_time":
        duration = scenario.tasks * delay_budget
    else:
        duration = scenario.tasks / mean_arrival_rate(scenario, arrival_trace) + scenario.patience * delay_budget
    wanted = _BLOCKS_MARGIN * duration / scenario.block_duration
    return math.ceil(min(max(wanted, _LEAST_BLOCKS), _MOST_BLOCKS))
