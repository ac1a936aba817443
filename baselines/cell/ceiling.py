"""The ceiling of an episode of Cell-v0: no policy delivers more, whatever it knows.

Prices on the band and on the server that are held, in bins of time, take the devices apart. Each alone serves its tasks
as it likes best, with the future known, and pays for what it holds. What all earn so, and the price of all there is,
bounds every policy of the cell at any prices, by weak duality. The prices are improved by subgradients: they rise where
the devices would hold more than there is. See docs/mathematics.md.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.arguments import yaml_value
from baselines.cell.ceiling_plan import Grid, Worths, fill_whole, follow, solve
from baselines.cell.ceiling_service import build_menu
from baselines.cell.ceiling_worth import build_scratch, fill_worth
from coinfer_gym.budgets import BUDGET_TOLERANCE
from coinfer_gym.cell.env import CellEnv
from coinfer_gym.cell.scenario import CellScenario
from coinfer_gym.checks import check_whole, is_number
from coinfer_gym.command import command
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import csv_text, write_text
from coinfer_gym.physics import from_db
from coinfer_gym.world import World

__all__ = ["CellCeiling", "WorthTables", "cell_ceiling"]

Floats = NDArray[np.float64]

_HIGHEST = 4.0  # price of everything, in quality per second and device: no task of the shipped worlds takes anything
_SPAN = 100.0  # the highest price over the least beside 0
_PACE = 0.3  # of the logarithms of the prices


@dataclass(frozen=True, eq=False)
class CellCeiling:
    """A bound of what any policy delivers in an episode, as mean quality per task.

    Attributes
    ----------
    bound : float
        No policy delivers more.
    alone : float
        The same without prices: as if every device had all of the band and the server for itself.
    prices : ndarray, shape (bins,)
        Price of all of the band and the server, in quality per second.
    bin : float
        Length of a bin in s.
    devices : ndarray, shape (K,)
        What each device earns at the prices after it has paid, in quality.
    """

    bound: float
    alone: float
    prices: Floats
    bin: float
    devices: Floats


class WorthTables:
    """What single tasks of a cell are worth at prices; the worlds of one scenario share them.

    Parameters
    ----------
    scenario : CellScenario
    mix : float
        Share of the price that the server bears, in [0, 1]; the band bears the rest.
    tolerance : float
        In quality; at its nodes a worth exceeds the truth by about as much.
    levels, nodes : int
        Prices beside 0, and service times, that are tabulated; between them bounds are interpolated.
    gain_step : float
        In dB; gains are rounded up to multiples of it.

    Raises
    ------
    InvalidInputError
        If a value is out of range.
    """

    def __init__(
        self,
        scenario: CellScenario,
        mix: float = 0.5,
        tolerance: float = 5e-3,
        levels: int = 9,
        nodes: int = 20,
        gain_step: float = 0.5,
    ) -> None:
        if not (is_number(mix) and 0.0 <= mix <= 1.0):
            raise InvalidInputError("mix", mix, "Give the server's share of the price, in [0, 1].")
        if not (is_number(tolerance) and 0.0 < tolerance < math.inf):
            raise InvalidInputError("tolerance", tolerance, "Give a quality above 0.")
        if not (is_number(gain_step) and 0.0 < gain_step < math.inf):
            raise InvalidInputError("gain_step", gain_step, "Give a step in dB above 0.")
        levels, self._nodes = check_whole("levels", levels, 2, 1000), check_whole("nodes", nodes, 2, 1000)
        self.scenario, self.gain_step, self._tolerance = scenario, float(gain_step), float(tolerance)
        highest = _HIGHEST * scenario.devices
        self.levels = np.concatenate([[0.0], highest * np.geomspace(1.0 / _SPAN, 1.0, levels)])
        self._prices = self.levels[:, None] * np.array([1.0 - mix, mix])
        self._menus = [build_menu(kind.tables) for kind in scenario.members]
        self._known: dict[tuple[int, float, float, int], Floats] = {}

    def worths(self, place: int, world: World, steps: NDArray[np.int64], cells: int) -> Worths:
        """Bounds for a device of the kind at a `place`, a row for each of the gains, given in whole `gain_step`."""
        longest = world.delay_budget * (1.0 + BUDGET_TOLERANCE)
        times = longest * (np.arange(self._nodes + 1) / self._nodes) ** 1.5
        ends = np.stack([self._ends(place, world, times, int(step)) for step in steps])
        return Worths(self.levels, times, ends, np.zeros((len(steps), len(self.levels), cells)))

    def _ends(self, place: int, world: World, times: Floats, step: int) -> Floats:
        key = place, world.delay_budget, world.energy_budget, step
        if key not in self._known:
            tables = self.scenario.members[place].tables
            ends = np.zeros((1, len(self.levels), self._nodes, 2))
            gain = np.array([from_db(step * self.gain_step)])
            energy = world.energy_budget * (1.0 + BUDGET_TOLERANCE)
            least = self.scenario.share_min
            scratch = build_scratch(tables)
            menu = self._menus[place]
            fill_worth(tables, menu, gain, energy, least, self._prices, times, self._tolerance, scratch, ends)
            self._known[key] = ends[0]
        return self._known[key]


class _Device:
    """One device, its tasks on the grid, and what it holds at prices."""

    def __init__(self, tables: WorthTables, place: int, world: World, step: float, cells: int) -> None:
        self._arrivals, self._deadline = world.arrivals, world.delay_budget * (1.0 + BUDGET_TOLERANCE)
        longest = int(self._deadline / step) + 3
        steps, rows = np.unique(_gain_steps(world, step, cells, tables.gain_step), return_inverse=True)
        serving = np.zeros(cells, np.bool_)
        for arrival in world.arrivals:
            first = max(0, int(arrival / step) - 1)
            serving[first : first + longest + 1] = True
        used = np.unique(rows[serving])
        row = np.zeros(len(steps), np.int64)
        row[used] = np.arange(len(used))
        self._rows, self._step = row[rows], step
        self._worths = tables.worths(place, world, steps[used], longest)
        fill_whole(self._worths, step)
        self._chosen = np.zeros((len(world.arrivals), longest), np.int32)
        self._room = np.zeros(cells), np.zeros(longest)

    def earn(self, price: Floats, used: Floats) -> float:
        """What the device earns at prices summed by cell; adds what it holds then to `used`."""
        grid = Grid(self._step, self._rows, price)
        given = (self._arrivals, self._deadline, self._worths, grid)
        value = float(solve(*given, *self._room, self._chosen))
        follow(*given, self._chosen, used)
        return value


def _gain_steps(world: World, step: float, cells: int, gain_step: float) -> NDArray[np.int64]:
    """Best gain in each cell of the grid, rounded up to whole `gain_step`."""
    gains = np.ceil(10.0 * np.log10(world.gains) / gain_step - 1e-9).astype(np.int64)
    first = np.floor(step * np.arange(cells) / world.block_duration - 1e-9).astype(np.int64)
    last = np.floor(step * np.arange(1, cells + 1) / world.block_duration + 1e-9).astype(np.int64)
    best: NDArray[np.int64] = gains[np.maximum(first, 0) % len(gains)]
    for k in range(1, int((last - first).max()) + 1):
        best = np.maximum(best, gains[np.minimum(first + k, last) % len(gains)])
    return best


def cell_ceiling(
    env: gym.Env[Any, Any],
    tables: WorthTables | None = None,
    steps: int = 100,
    bins: float = 1.0,
    rounds: int = 60,
) -> CellCeiling:
    """Bound of what any policy delivers in the running episode of a cell.

    Parameters
    ----------
    env : gymnasium.Env
        Cell-v0, wrapped or not, after its reset. It is not changed.
    tables : WorthTables, optional
        Of the scenario, to be used for several worlds.
    steps : int
        Cells of the time grid per shortest delay budget.
    bins : float
        Length of a bin of prices, in shortest delay budgets.
    rounds : int
        Prices that are tried.

    Returns
    -------
    CellCeiling

    Raises
    ------
    InvalidInputError
        If the environment is not Cell-v0, its tasks are always waiting, the tables are of another scenario, or a value
        is out of range.
    """
    cell = getattr(env, "unwrapped", None)
    if not isinstance(cell, CellEnv):
        raise InvalidInputError("env", env, "Give an environment of Cell-v0.")
    kinds = cell.scenario.members
    for kind in kinds:
        if kind.arrivals == "one_at_a_time":
            raise InvalidInputError("arrivals", kind.arrivals, "Give arrivals that do not wait for the device.")
    steps, rounds = check_whole("steps", steps, 4, 100_000), check_whole("rounds", rounds, 0, 100_000)
    if not (is_number(bins) and 0.0 < bins < math.inf):
        raise InvalidInputError("bins", bins, "Give a length above 0, in delay budgets.")
    tables = WorthTables(cell.scenario) if tables is None else tables
    if getattr(tables, "scenario", None) != cell.scenario:
        raise InvalidInputError("tables", tables, "Give the WorthTables of the environment's scenario.")
    worlds = [cell.world(k) for k in range(cell.devices)]
    step = min(world.delay_budget for world in worlds) / steps
    width = max(1, round(bins * steps))
    last = max(float(world.arrivals[-1]) + 1.1 * world.delay_budget for world in worlds)
    count = math.ceil(last / (step * width)) + 1
    devices = [_Device(tables, k % len(kinds), world, step, count * width) for k, world in enumerate(worlds)]
    tasks = sum(len(world.arrivals) for world in worlds)
    supply = width * step

    def earn(prices: Floats) -> tuple[Floats, float, Floats]:
        """What each device earns, the bound of the sum, and what of each bin's supply is left."""
        used = np.zeros(count * width)
        until = np.concatenate([[0.0], np.cumsum(np.repeat(prices, width)) * step])
        earned = np.array([device.earn(until, used) for device in devices])
        return earned, float(earned.sum() + supply * prices.sum()), supply - used.reshape(count, width).sum(axis=1)

    constants = [np.full(count, level) for level in tables.levels]
    bounds = [earn(prices)[1] for prices in constants]
    prices = best = constants[int(np.argmin(bounds))]
    (devices_earn, lowest, _), alone = earn(prices), bounds[0]
    for k in range(rounds):
        earned, bound, left = earn(prices)
        if bound < lowest:
            devices_earn, lowest, best = earned, bound, prices
        rise = np.clip(-left / supply, -1.0, 2.0) / math.sqrt(1.0 + 0.2 * k)
        prices = np.clip(prices * np.exp(_PACE * rise), 1e-3 * tables.levels[1], tables.levels[-1])
    return CellCeiling(lowest / tasks, alone / tasks, best, supply, devices_earn)


@command("baselines.cell.ceiling")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser("python -m baselines.cell.ceiling", description="Bound all policies of a cell.")
    parser.add_argument("scenario", help="name or YAML file of a cell")
    parser.add_argument("--worlds", type=int, default=1, help="number of worlds (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first world (default: 0)")
    parser.add_argument("--mix", type=yaml_value, default=0.5, help="the server's share of the price (default: 0.5)")
    parser.add_argument("--out", type=Path, help="CSV file that keeps the ceilings, such as ceilings.csv")
    options = parser.parse_args(arguments)
    check_whole("worlds", options.worlds, 1, 1_000_000)
    check_whole("seed", options.seed, 0)
    env = gym.make("coinfer_gym/Cell-v0", scenario=options.scenario)
    before, rows = process_time(), [("world", "ceiling", "without_prices", "seconds")]
    tables = WorthTables(cast(CellEnv, env.unwrapped).scenario, options.mix)
    for seed in range(options.seed, options.seed + options.worlds):
        env.reset(seed=seed)
        result = cell_ceiling(env, tables)
        rows.append((str(seed), f"{result.bound:.6f}", f"{result.alone:.6f}", f"{process_time() - before:.1f}"))
        print("world {}: ceiling {}, without prices {}, {} s of one core".format(*rows[-1]), flush=True)
        before = process_time()
        if options.out is not None:
            write_text(options.out, csv_text(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
