"""The step of LAIM-v0, compiled: serve a task by a decision of P1, and move the clock to the next one."""

from __future__ import annotations

from typing import Any

from numba import prange

from coinfer_gym._compile import inlined_kernel, kernel, parallel_kernel
from coinfer_gym.envs import process
from coinfer_gym.envs.process import OUTCOME_NAMES, SHARED, SITUATION_NAMES, first_nan
from coinfer_gym.laim import spaces
from coinfer_gym.laim.problem import evaluate, model_quality
from coinfer_gym.laim.scenario import Scenario

INFO_NAMES = (
    *SITUATION_NAMES,
    "cut",
    "retained_device",
    "retained_server",
    "power_w",
    "frequency_device_hz",
    "frequency_server_hz",
    *OUTCOME_NAMES,
)
"""Keys of ``info``, all floats: the task that was decided and what became of it; zeros for a decision not yet made.

``delay_budget_s`` and ``energy_budget_j`` are what was left for the task when its service started; ``delivered`` is
the quality of a task that met both budgets, else 0; ``cost_*`` are relative excesses, ``dropped`` counts tasks lost
since the last decision, ``clipped`` components of the action that lay outside [-1, 1]. ``abandoned`` is 1 where the
task was given up in service, at the end of patience or battery. ``battery_j`` is 0 on mains power. At reset ``dropped``
counts tasks lost before the first decision; no reward pays for them.
"""


def build_constants(scenario: Scenario) -> process.Constants:
    """Constants of a scenario for compiled code; its model is ``(hardware, quality, cuts, blocks)`` of P1."""
    tables = scenario.tables
    return process.build_constants(scenario, (tables.hardware, tables.quality, tables.cuts, tables.blocks))


@inlined_kernel
def _serve(lane: Any, model: Any, rules: Any, gain: float, decision: Any, info: Any) -> float:
    """Run one decision, writing what became of it into `info`; returns the seconds that the device is occupied."""
    hardware, quality, cuts, blocks = model
    s, retained_device, retained_server, power, f_device, f_server = decision
    t_device, tau, t_server, e_device, e_upload, e_server = evaluate(
        hardware, cuts, s, gain, retained_device, retained_server, power, f_device, f_server
    )
    info.cut, info.retained_device, info.retained_server = s, retained_device, retained_server
    info.power_w, info.frequency_device_hz, info.frequency_server_hz = power, f_device, f_server
    delays, energies = (t_device, tau, t_server), (e_device, e_upload, e_server)
    finished, duration, pause = process.spend(lane, rules, delays, energies, info)
    worth = model_quality(hardware, quality, cuts, blocks, s, retained_device, retained_server) if finished else 0.0
    process.score_service(lane, finished, duration, worth, info)
    occupied: float = duration + pause
    return occupied


@inlined_kernel
def step_lane(
    constants: Any, lanes: Any, i: int, actions: Any, observation: Any, rewards: Any, ends: Any, info: Any
) -> None:
    """Decide the task at the head of lane `i` by an action and move to the next task."""
    model, rules, scale = constants[SHARED:], constants[0], constants[1]
    state, gains = lanes[0], lanes[2]
    lane, r, row = state[i], rules[0], info[i]
    row.clipped = process.clip(actions, i)
    process.inform(lane, row)
    decision = spaces.decode(model[0], model[2].shape[0], actions, i, r.log_power_ratio)
    gain = process.gain_at(gains, i, lane.clock, r.block_duration)
    duration = _serve(lane, model, r, gain, decision, row)
    process.advance(lane, lanes, i, duration, r, scale, observation, rewards, ends, row)


@kernel
def step_lanes(
    constants: Any, lanes: Any, skipped: Any, actions: Any, observation: Any, rewards: Any, ends: Any, info: Any
) -> int:
    """Step every lane that is not `skipped`; returns -1, or the flat index of a NaN in `actions`, nothing done."""
    bad = first_nan(actions, skipped)
    if bad >= 0:
        return bad
    for i in range(actions.shape[0]):
        if not skipped[i]:
            step_lane(constants, lanes, i, actions, observation, rewards, ends, info)
    return -1


@parallel_kernel
def step_lanes_parallel(
    constants: Any, lanes: Any, skipped: Any, actions: Any, observation: Any, rewards: Any, ends: Any, info: Any
) -> int:
    """`step_lanes` over all cores."""
    bad = first_nan(actions, skipped)
    if bad >= 0:
        return bad
    for i in prange(actions.shape[0]):
        if not skipped[i]:
            step_lane(constants, lanes, i, actions, observation, rewards, ends, info)
    return -1
