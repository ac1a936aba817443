"""Cell-v0: several devices share one band and one server; each decision is one of LAIM-v0 and two shares."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coinfer_gym.cell import dynamics, spaces
from coinfer_gym.cell.dynamics import CellModel
from coinfer_gym.cell.scenario import CellScenario
from coinfer_gym.checks import check_whole, is_number
from coinfer_gym.envs.actions import clip_action
from coinfer_gym.envs.base import Setup, TaskEnv
from coinfer_gym.envs.lanes import Lanes, Steps, check_count
from coinfer_gym.envs.vector import TaskVectorEnv
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.decision import Decision, check_decision
from coinfer_gym.laim.env import check_budgets
from coinfer_gym.laim.problem import HARDWARE, Problem, with_tables
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.laim.spaces import decode, encode
from coinfer_gym.world import World, draw


class CellLanes(Lanes):
    """Lanes of Cell-v0, each a cell of devices.

    Parameters
    ----------
    scenario : CellScenario
    count : int
        Number of lanes.
    parallel : bool
        Spread the lanes over all cores.

    Raises
    ------
    InvalidInputError
        If there is no lane, or no decision of a device meets its largest budgets even in the best channel with all of
        the band and the server.
    """

    steps = Steps(dynamics.step_lanes, dynamics.step_lanes_parallel)
    model: CellModel

    def __init__(self, scenario: CellScenario, count: int | None, parallel: bool = False) -> None:
        kinds = scenario.members
        super().__init__(
            scenario,
            build_model(scenario, check_count(count)),
            spaces.ACTION_NAMES,
            dynamics.INFO_NAMES,
            dynamics.INFO,
            count,
            parallel,
            spaces.CELL_NAMES,
            kinds,
            scenario.devices,
        )
        self.held, self.cells = self.model.held, self.model.cells  # of the running episodes, as the arrays of all lanes
        self.ring = scenario.distance_range or (0.0, 0.0)
        self._paths = [(kind.distance, kind.path_loss_exponent) for kind in kinds]
        for rules, kind in zip(np.split(self.rules, len(kinds)), kinds, strict=True):
            near, far, place = 0.0, 0.0, ""
            if scenario.distance_range is not None:
                near, far = (_relative_db(kind, distance) for distance in scenario.distance_range)
                place = f" at {scenario.distance_range[1]:g} m"
            farthest = rules.copy()  # it must be able to serve a task, too
            farthest["gain_db_high"] += far
            try:
                check_budgets(kind, farthest)
            except InvalidInputError as error:
                raise InvalidInputError(f"{error.field} of {kind.name}{place}", error.value, error.remedy) from error
            rules["gain_db_low"] += far
            rules["gain_db_high"] += near
        for name in ("gain_db", "log_delay", "log_energy"):  # one scale for what is seen of all kinds
            self.rules[f"{name}_low"] = self.rules[f"{name}_low"].min()
            self.rules[f"{name}_high"] = self.rules[f"{name}_high"].max()
        self.rules["intensity_high"] = self.rules["intensity_high"].max()

    def reset(self, chosen: NDArray[np.int64], seeds: NDArray[np.uint64]) -> None:
        """Start new episodes in place, the k-th of the `chosen` cells in the worlds of ``seeds[k]``."""
        self.infos[chosen] = 0.0
        for kind, (world, path) in enumerate(zip(self.worlds, self._paths, strict=True)):
            rules = self.rules[kind : kind + 1]
            dynamics.draw_devices(rules, world, self.ring, path, self._arrays, self.model, kind, chosen, seeds)
        dynamics.begin(self.rules, self.model, self._arrays, chosen)

    def tasks(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """What an agent can know of the task of the device at hand in every cell; see `Lanes.tasks`."""
        gain, delay, energy = np.empty((3, self.count))
        dynamics.write_task_view(self.rules, self.model, self._arrays, gain, delay, energy)
        return gain, delay, energy


def build_model(scenario: CellScenario, count: int) -> CellModel:
    """Constants of the kinds of device, and the state of `count` cells."""
    tables = [kind.tables for kind in scenario.members]
    hardware, quality, cuts, blocks = (np.concatenate(parts) for parts in zip(*tables, strict=True))
    starts = np.zeros((len(tables) + 1, 2), np.int64)
    starts[1:] = np.cumsum([(len(each.cuts), len(each.blocks)) for each in tables], axis=0)
    return CellModel(
        *(hardware, quality, cuts, blocks, starts),
        share_min=np.array([scenario.share_min]),
        held=np.zeros((count, scenario.devices), dynamics.HELD),
        cells=np.zeros(count, dynamics.CELL),
        scaled=np.zeros(count, HARDWARE),
    )


class CellEnv(TaskEnv):
    """Cut, prune, clock and send the tasks of several devices that share one band and one server.

    ## Description
    Every device of the cell is one of LAIM-v0 (`coinfer_gym.laim.env.LAIMEnv`). Tasks come to it at random, wait in its
    own queue, and are served one after another over its own fading channel. The devices share the band that they send
    in and the server that runs the rest of their networks.

    A step decides one task of one device. Among the idle devices that have a task waiting, the one that has been ready
    longest decides; in a tie, the lowest number. It takes the decision of LAIM-v0, a share of the free band and a
    share of the free server. It holds the band until the upload ends, and the server until the task ends. A task that
    stays on the device holds nothing. If less than ``share_min`` of band or server is free, the device waits and is
    ready again at the next release, when the lowest number decides, however long the others have waited.

    A share of the band is a share of its hertz. A share of the server is a share of its cores: FLOPs per cycle, power
    coefficient, static power and memory bandwidth scale with it. The clock is chosen for each task. With one device
    that takes the whole band and server, this is LAIM-v0 to the last bit.

    The worlds of all devices are drawn at reset and do not depend on the actions. One agent can decide for any number
    of devices, because actions and observations do not grow with it.

    ## Action Space
    ``Box(-1, 1, (8,), float32)``. Components 0 to 5 are those of LAIM-v0: cut, retained_device, retained_server, power,
    frequency_device, frequency_server.

    | index | name | -1 | 1 | scale |
    |---|---|---|---|---|
    | 6 | band | share_min | all that is free | square of the share of the scale: 0 is a quarter |
    | 7 | server | share_min | all that is free | square of the share of the scale: 0 is a quarter |

    A component outside [-1, 1] is clipped and counted in ``info["clipped"]``. `action` gives such a component for a
    share larger than what is free.

    ## Observation Space
    ``Box(-1, 1, (13,), float32)``. Components 0 to 6 are those of LAIM-v0 for the device at hand: gain, queue, wait,
    intensity, delay_budget, energy_budget, battery.

    | index | name | -1 | 1 |
    |---|---|---|---|
    | 7 | band_free | nothing | all of the band |
    | 8 | server_free | nothing | all of the server |
    | 9 | busy | no other device serves a task | all devices |
    | 10 | waiting_elsewhere | no task waits at another device | many more tasks than devices; 0: as many as devices |
    | 11 | band_release | nothing is held, or it is released now | the next release of band is T0 away or more |
    | 12 | server_release | nothing is held, or it is released now | the next release of server is T0 away or more |

    A device reports its queue when it decides or finds too little free; ``waiting_elsewhere`` sums the last reports
    of the devices that serve a task or wait for shares.
    With several kinds of device, the scales of 0 to 6 span all kinds, so the budgets tell the kinds apart.

    ## Rewards
    That of LAIM-v0 for the task that was decided. ``dropped`` counts the tasks that its device lost until its next
    decision, and the tasks lost at any device that waited for shares before the next decision of the cell.

    ## Starting State
    Band and server are free. The device whose first task arrives first decides.

    ## Episode End
    The episode is truncated when all tasks of all devices were served or lost. There is no termination.

    ## Arguments
    ``scenario`` is the name of a shipped cell (default ``cell-4``), of a world of LAIM-v0, or the path of your own YAML
    file. Every field of `coinfer_gym.cell.scenario.CellScenario` is also a keyword, for example ``devices=8`` or
    ``bandwidth=2e7``.

    ## Vectorized environment
    ``gym.make_vec("coinfer_gym/Cell-v0", num_envs=1024, vectorization_mode="vector_entry_point")``. Lane `i` of a batch
    seeded ``s`` equals the single environment seeded ``s + i``, exactly.

    ## Version History
    - v0: first version.
    """

    setup = Setup("cell-4", CellScenario, CellLanes)
    scenario: CellScenario
    lanes: CellLanes

    @property
    def device(self) -> int:
        """Number of the device that decides next."""
        self._lane()
        return int(self.lanes.model.cells["deciding"][0])

    @property
    def free(self) -> tuple[float, float]:
        """Free shares of band and server."""
        self._lane()
        cell = self.lanes.model.cells[0]
        return float(cell["band_free"]), float(cell["server_free"])

    @property
    def kind(self) -> Scenario:
        """World of LAIM-v0 of the device that decides next, with all of the band and the server."""
        kinds = self.scenario.members
        return kinds[self.device % len(kinds)]

    def problem(self, band: float | None = None, server: float | None = None) -> Problem:
        """Problem P1 of the task at hand at given shares of the whole, from what the agent observes.

        Parameters
        ----------
        band, server : float, optional
            Shares in (0, 1], free or not; by default all that is free.

        Returns
        -------
        Problem

        Raises
        ------
        InvalidInputError
            If a share is out of range.
        """
        shares = self._shares(band, server)
        return share_problem(self.kind.problem(*(float(each[0]) for each in self.tasks())), *shares)

    def action(self, decision: Decision, band: float | None = None, server: float | None = None) -> NDArray[np.float32]:
        """Action for a decision or a solution at given shares of the whole, up to the rounding of float32.

        Parameters
        ----------
        decision : Decision
        band, server : float, optional
            Shares of at least ``share_min``; by default all that is free. The component of a share above what is free
            lies above 1: the step clips and counts it.

        Raises
        ------
        InvalidInputError
            If the decision or a share is out of range.
        """
        kind, shares, least = self.kind, self._shares(band, server), self.scenario.share_min
        check_decision(decision, kind.workload)
        components = encode(kind.tables, decision).tolist()
        for name, share, free in zip(("band", "server"), shares, self.free, strict=True):
            if share < least:
                raise InvalidInputError(name, share, f"A device takes at least share_min, {least:g}.")
            components.append(spaces.component_of_share(share, max(free, least)))
        return np.array(components, np.float32)

    def decision(self, action: NDArray[np.float32]) -> Decision:
        """Decision for an action of the device at hand, in SI units."""
        kind = self.kind
        clipped = clip_action(action, len(spaces.ACTION_NAMES))[None]
        return Decision(*decode(kind.tables, clipped, 0))

    def shares(self, action: NDArray[np.float32]) -> tuple[float, float]:
        """Shares of band and server that an action asks for now; a task that stays on the device takes none."""
        clipped = clip_action(action, len(spaces.ACTION_NAMES))
        band, server = self.free
        least = self.scenario.share_min
        return (
            spaces.share_of(float(clipped[spaces.BAND]), band, least),
            spaces.share_of(float(clipped[spaces.SERVER]), server, least),
        )

    def world(self, device: int = 0) -> World:
        """The world of one device in the running episode: arrival times, channel path and budgets.

        Raises
        ------
        InvalidInputError
            If there is no such device.
        """
        place = check_whole("device", device, 0, self.devices - 1) % len(self.scenario.members)
        kind, world = self.scenario.members[place], self.lanes.worlds[place]
        seed = dynamics.device_seed(np.uint64(self._lane()["world_seed"]), device)
        drawn = draw(world, int(seed))
        if self.lanes.ring[1] == 0.0:
            return drawn
        gains = drawn.gains.copy()
        factor = dynamics.distance_factor(np.uint64(seed), self.lanes.ring, kind.distance, kind.path_loss_exponent)
        dynamics.apply_distance(gains, factor)
        gains.flags.writeable = False
        return replace(drawn, gains=gains)

    @property
    def devices(self) -> int:
        """Number of devices."""
        return self.scenario.devices

    def _build_viewer(self) -> Any:
        from coinfer_gym.cell.picture import CellViewer  # pictures need the extra "render"

        return CellViewer(self.scenario, self.metadata["render_fps"])

    def _shares(self, band: float | None, server: float | None) -> tuple[float, float]:
        """Given shares, by default all that is free."""
        for name, share in (("band", band), ("server", server)):
            if share is not None and not (is_number(share) and 0.0 < share <= 1.0):
                raise InvalidInputError(name, share, "Give a share of the whole, in (0, 1].")
        band_free, server_free = (max(free, self.scenario.share_min) for free in self.free)
        return band_free if band is None else float(band), server_free if server is None else float(server)


class CellVectorEnv(TaskVectorEnv):
    """Many lanes of `CellEnv`. Parameters are those of `coinfer_gym.envs.vector.TaskVectorEnv`."""

    single = CellEnv
    scenario: CellScenario
    lanes: CellLanes


def share_problem(whole: Problem, band: float, server: float) -> Problem:
    """P1 of a task that holds shares of the band and of the server; `whole` is that with all of both."""
    tables = whole.tables._replace(hardware=whole.tables.hardware.copy())
    dynamics.share_hardware(tables.hardware, band, server)
    constants: dict[str, Any] = {name: float(tables.hardware[name][0]) for name in dynamics.SCALED}
    return with_tables(replace(whole, **constants), tables)


def _relative_db(kind: Scenario, distance: float) -> float:
    """Gain in dB at a distance in m over that at the distance of the scenario."""
    return 10.0 * kind.path_loss_exponent * math.log10(kind.distance / distance)
