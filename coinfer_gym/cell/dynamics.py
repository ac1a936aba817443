"""The step of Cell-v0, compiled: a device decides what is free of band and server, and the next in time is found.

Every device of a cell is a lane of LAIM-v0 with a clock of its own: a row of `coinfer_gym.envs.process.STATE`, with its
world and its queue, that `coinfer_gym.laim.dynamics.serve` serves. Which device decides next, and what is free then, is
all that a cell adds.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from coinfer_gym._compile import inlined_kernel, kernel, parallel_kernel
from coinfer_gym.cell import spaces
from coinfer_gym.envs import process
from coinfer_gym.envs.fetch import fetch
from coinfer_gym.envs.interval import share
from coinfer_gym.envs.process import LaneArrays, first_nan
from coinfer_gym.envs.queue import postpone
from coinfer_gym.envs.reward import reward
from coinfer_gym.laim import dynamics as laim
from coinfer_gym.laim.outcome import Tables, fit
from coinfer_gym.laim.spaces import decode
from coinfer_gym.records import Record, Records, record_type
from coinfer_gym.world import DEVICE, DISTANCE, WorldTables, substream, uniform

INFO_NAMES = (
    "device",
    "band",
    "server",
    "band_free",
    "server_free",
    "busy",
    "waiting_elsewhere",
    "blocked_s",
    *laim.INFO_NAMES,
)
"""Keys of ``info``, all float64: of the cell, and those of `coinfer_gym.laim.dynamics.INFO_NAMES` for the device that
decided. The cell's are the `device`'s number; the shares of `band` and `server` that its task held, 0 where it stayed
on the device; what was free; how many other devices were `busy`, and the tasks that waited there; and for how long the
device had waited for shares. ``dropped`` counts the tasks that the device lost until its next decision, and those that
any device lost while it waited for shares before the next decision of the cell."""

INFO = record_type(*INFO_NAMES)
"""The same as a record."""

HELD = record_type("ready", "busy_until", "band", "band_until", "server", "waiting", "blocked")
"""What the cell knows of a device: when it decides next (infinite after its last task); until when it serves, which is
also how long it holds its share of the server; its share of the band, and until when; the queue that it last reported;
and since its last decision the time in which too little was free. Times in s from the start of the episode."""

CELL = record_type("band_free", "server_free", "band_release", "server_release", "busy", "waiting", deciding=np.int64)
"""The cell as the device `deciding` meets it: free shares, the moments when others are released (infinite where nothing
is held), how many other devices are busy, and how many tasks wait there."""


class CellModel(NamedTuple):
    """Constants of the kinds of device, and the state of the cells beside that of their devices.

    Attributes
    ----------
    hardware, quality : ndarray, shape (kinds,)
        Records of `coinfer_gym.laim.problem.HARDWARE` and `coinfer_gym.laim.outcome.QUALITY`.
    cuts, blocks : ndarray
        Those of all kinds, one after another.
    starts : ndarray of int64, shape (kinds + 1, 2)
        Where a kind begins in `cuts` and in `blocks`.
    share_min : ndarray of float64, shape (1,)
    held : ndarray of `HELD`, shape (count, devices)
    cells : ndarray of `CELL`, shape (count,)
    scaled : ndarray, shape (count,)
        Scratch: the hardware at the shares of the decision.
    """

    hardware: Records
    quality: Records
    cuts: Records
    blocks: NDArray[np.float64]
    starts: NDArray[np.int64]
    share_min: NDArray[np.float64]
    held: Records
    cells: Records
    scaled: Records


@kernel
def device_seed(seed: np.uint64, device: int) -> np.uint64:
    """World seed of a device of the cell with this world seed; the first has the cell's own."""
    return seed if device == 0 else substream(seed, DEVICE + device)


@kernel
def distance_factor(seed: np.uint64, ring: tuple[float, float], distance: float, exponent: float) -> float:
    """Gain at the distance that a device's world seed draws, uniformly over a ring's area, over that at `distance`."""
    inner, outer = ring
    u, _ = uniform(substream(seed, DISTANCE))
    drawn = math.sqrt(inner * inner + u * (outer * outer - inner * inner))
    factor: float = (distance / drawn) ** exponent
    return factor


@kernel
def apply_distance(gains: NDArray[np.float64], factor: float) -> None:
    """Multiply a path of gains, which stay above 0."""
    for k in range(gains.shape[0]):
        gains[k] = max(gains[k] * factor, 1e-30)


@kernel
def draw_devices(
    rules: Records,
    world: WorldTables,
    ring: tuple[float, float],
    path: tuple[float, float],
    lanes: LaneArrays,
    model: CellModel,
    kind: int,
    chosen: NDArray[np.int64],
    seeds: NDArray[np.uint64],
) -> None:
    """Draw the devices of one `kind` in the `chosen` cells; a ring of (0, 0) leaves all at the scenario's distance.

    `path` has that distance in m and the path-loss exponent.
    """
    count, kinds = model.held.shape[1], model.hardware.shape[0]
    for c in range(chosen.shape[0]):
        i = chosen[c]
        for k in range(kind, count, kinds):
            row, seed, held = i * count + k, device_seed(seeds[c], k), model.held[i, k]
            lanes.info[i].dropped += process.draw_lane(rules, world, lanes, row, seed)
            if ring[1] > 0.0:
                apply_distance(lanes.gains[row], distance_factor(seed, ring, path[0], path[1]))
            held.ready, held.busy_until, held.waiting, held.blocked = lanes.state[row].clock, 0.0, 0.0, 0.0
            held.band, held.band_until, held.server = 0.0, 0.0, 0.0


@kernel
def begin(rules: Records, model: CellModel, lanes: LaneArrays, chosen: NDArray[np.int64]) -> None:
    """Find the first decision of the `chosen` cells, whose devices are drawn."""
    for i in chosen:
        _choose(rules, model, lanes, i)
        k, info = model.cells[i].deciding, lanes.info[i]
        process.inform(lanes.state[i * model.held.shape[1] + k], info)
        _inform(model, i, info)


@inlined_kernel
def _inform(model: CellModel, i: int, info: Record) -> None:
    """Write what is known of the cell before a decision."""
    cell = model.cells[i]
    info.device, info.band_free, info.server_free = cell.deciding, cell.band_free, cell.server_free
    info.busy, info.waiting_elsewhere, info.blocked_s = cell.busy, cell.waiting, model.held[i, cell.deciding].blocked


@inlined_kernel
def _survey(model: CellModel, i: int, k: int, now: float) -> None:
    """Write what device `k` finds at the moment `now` to the cell; its own shares are back."""
    held, cell = model.held, model.cells[i]
    band, server, busy, waiting = 0.0, 0.0, 0.0, 0.0
    band_release, server_release = math.inf, math.inf
    for j in range(held.shape[1]):  # without branches, which would be mispredicted half of the time
        other, is_other = held[i, j], 1.0 if j != k else 0.0
        sends, serves = is_other if other.band_until > now else 0.0, is_other if other.busy_until > now else 0.0
        band += sends * other.band
        server += serves * other.server
        busy += serves
        waiting += (serves if other.blocked <= 0.0 else is_other) * other.waiting
        band_release = min(band_release, other.band_until if sends * other.band > 0.0 else math.inf)
        server_release = min(server_release, other.busy_until if serves * other.server > 0.0 else math.inf)
    cell.deciding, cell.busy, cell.waiting = k, busy, waiting
    cell.band_free, cell.server_free = max(0.0, 1.0 - band), max(0.0, 1.0 - server)
    cell.band_release, cell.server_release = band_release, server_release


@inlined_kernel
def _earliest(model: CellModel, i: int) -> int:
    """The device that decides next, the first of several; -1 if no device has a task left."""
    held, first, ready = model.held, -1, math.inf
    for k in range(held.shape[1]):
        at = held[i, k].ready
        first, ready = k if at < ready else first, min(ready, at)
    return first


@inlined_kernel
def _choose(rules: Records, model: CellModel, lanes: LaneArrays, i: int) -> int:
    """Move cell `i` to its next decision, or to its end, and write what is seen; returns the tasks that were lost.

    A device that finds less than a least share of band or server waits for the next release of it. After the end the
    observation is of the device that decided last.
    """
    count, kinds, least, dropped = model.held.shape[1], model.hardware.shape[0], model.share_min[0], 0
    cell = model.cells[i]
    while True:
        k = _earliest(model, i)
        lanes.ends[i] = k < 0
        k = cell.deciding if k < 0 else k
        row, r, held = i * count + k, rules[k % kinds], model.held[i, k]
        lane = lanes.state[row]
        _survey(model, i, k, lane.clock)
        if lanes.ends[i] or (cell.band_free >= least and cell.server_free >= least):
            break
        release = cell.band_release if cell.band_free < least else cell.server_release
        since = lane.clock
        lost, ended = postpone(lane, lanes.arrivals[row], lanes.queue[row], r, release)
        dropped += lost
        held.blocked = held.blocked + lane.clock - since if lane.clock <= release else 0.0  # it had nothing left to do
        held.waiting = lane.waiting + 1
        held.ready = math.inf if ended else lane.clock
    process.observe(lanes, row, r, i)
    budget, seen, now = lane.delay_budget, lanes.observation[i], lane.clock
    seen[7] = share(cell.band_free, 0.0, 1.0)
    seen[8] = share(cell.server_free, 0.0, 1.0)
    seen[9] = share(cell.busy, 0.0, count)
    seen[10] = 2.0 * cell.waiting / (cell.waiting + count) - 1.0
    seen[11] = share((cell.band_release - now) / budget if cell.band_release < math.inf else 0.0, 0.0, 1.0)
    seen[12] = share((cell.server_release - now) / budget if cell.server_release < math.inf else 0.0, 0.0, 1.0)
    return dropped


SCALED = (
    "bandwidth",
    "flops_per_cycle_server",
    "kappa_server",
    "static_power_server",
    "memory_bandwidth_server",
)
"""Constants of `coinfer_gym.laim.problem.HARDWARE` that shares scale."""


@inlined_kernel
def share_hardware(hardware: Records, band: float, server: float) -> None:
    """Scale the constants of one record to a share of the band, and one of the server's cores and their memory."""
    h = hardware[0]
    h.bandwidth *= band
    h.flops_per_cycle_server *= server
    h.kappa_server *= server
    h.static_power_server *= server
    h.memory_bandwidth_server *= server


@inlined_kernel
def tables_at(model: CellModel, i: int, band: float, server: float) -> Tables:
    """Constants of P1 of the device at hand in cell `i` at these shares; they last until the cell's next call."""
    kind = model.cells[i].deciding % model.hardware.shape[0]
    start, end, hardware = model.starts[kind], model.starts[kind + 1], model.scaled[i : i + 1]
    hardware[0] = model.hardware[kind]
    share_hardware(hardware, band, server)
    return Tables(
        hardware,
        model.quality[kind : kind + 1],
        model.cuts[start[0] : end[0]],
        model.blocks[start[1] : end[1]],
    )


def _step_lane(rules: Records, model: CellModel, lanes: LaneArrays, i: int) -> None:
    """Decide the task of the device at hand in cell `i`, pay for it and move to the next decision."""
    cell, info = model.cells[i], lanes.info[i]
    k = cell.deciding
    kind, row, held = k % model.hardware.shape[0], i * model.held.shape[1] + k, model.held[i, k]
    lane, r = lanes.state[row], rules[kind]
    info.clipped = process.clip(lanes.actions, i)
    process.inform(lane, info)
    _inform(model, i, info)
    band = spaces.share_of(lanes.actions[i, spaces.BAND], cell.band_free, model.share_min[0])
    server = spaces.share_of(lanes.actions[i, spaces.SERVER], cell.server_free, model.share_min[0])
    tables = tables_at(model, i, band, server)
    wanted = decode(tables, lanes.actions, i)
    decision = fit(tables.cuts, wanted)
    info.limited = 0.0 if decision == wanted else 1.0
    gain = process.gain_at(lanes.gains, row, lane.clock, r.block_duration)
    began = lane.clock
    occupied, sent = laim.serve(lane, tables, r, gain, decision, info)
    if decision.cut == tables.cuts.shape[0] - 1:
        band, server = 0.0, 0.0
    info.band, info.server = band, server
    held.server, held.busy_until = server, began + info.delay_s
    held.band, held.band_until = band, min(began + info.delay_device_s + sent, held.busy_until)  # the sum may round up
    held.waiting, held.blocked = lane.waiting, 0.0
    dropped, ended = process.move_on(lanes, row, r, occupied)
    held.ready = math.inf if ended else lane.clock
    info.dropped = dropped + _choose(rules, model, lanes, i)
    lanes.rewards[i] = reward(info, r, 0.0, 0.0)


step_lane = inlined_kernel(_step_lane)
_call_step_lane = kernel(_step_lane)  # inlined in a parallel loop, numba drops its writes to arrays of a named tuple


@inlined_kernel
def _fetch_ahead(rules: Records, model: CellModel, lanes: LaneArrays, later: int) -> None:
    """Fetch what a later cell, if there is one, reads of the device that decides there."""
    if later < model.cells.shape[0]:
        k = model.cells[later].deciding
        for j in range(model.held.shape[1]):
            fetch(model.held, later, j)
        process.fetch_ahead(lanes, later * model.held.shape[1] + k, rules[k % model.hardware.shape[0]])


@kernel
def step_lanes(rules: Records, model: CellModel, lanes: LaneArrays) -> int:
    """Step every cell that is not skipped; returns -1, or the flat index of a NaN in the actions, nothing done."""
    bad = first_nan(lanes)
    if bad < 0:
        for i in range(lanes.actions.shape[0]):
            _fetch_ahead(rules, model, lanes, i + process.AHEAD)
            if not lanes.skipped[i]:
                step_lane(rules, model, lanes, i)
    return bad


@parallel_kernel
def step_lanes_parallel(rules: Records, model: CellModel, lanes: LaneArrays) -> int:
    """`step_lanes` over all cores."""
    bad = first_nan(lanes)
    if bad < 0:
        for i in prange(lanes.actions.shape[0]):
            if not lanes.skipped[i]:
                _call_step_lane(rules, model, lanes, i)
    return bad


@kernel
def write_task_view(
    rules: Records,
    model: CellModel,
    lanes: LaneArrays,
    gain: NDArray[np.float64],
    delay: NDArray[np.float64],
    energy: NDArray[np.float64],
) -> None:
    """`coinfer_gym.envs.process.write_task_view` of the device at hand in every cell."""
    for i in range(gain.shape[0]):
        k = model.cells[i].deciding
        row, r = i * model.held.shape[1] + k, rules[k % model.hardware.shape[0]]
        gain[i], delay[i], energy[i] = process.task_view(lanes, row, r)
