"""The step of LAIM-v0, compiled: serve a task by a decision of P1, and move the clock to the next one."""

from __future__ import annotations

from numba import prange

from coinfer_gym._compile import inlined_kernel, kernel, parallel_kernel
from coinfer_gym.envs import process
from coinfer_gym.envs.process import OUTCOME_NAMES, SITUATION_NAMES, LaneArrays, first_nan
from coinfer_gym.envs.reward import reward
from coinfer_gym.laim import spaces
from coinfer_gym.laim.outcome import Choice, Tables, evaluate, fit, model_quality
from coinfer_gym.records import Record, Records, record_type

INFO_NAMES = (
    *SITUATION_NAMES,
    "cut",
    "retained_device",
    "retained_server",
    "power_w",
    "frequency_device_hz",
    "frequency_server_hz",
    "limited",
    "energy_static_device_j",
    "energy_circuit_j",
    "energy_waiting_j",
    "energy_static_server_j",
    *OUTCOME_NAMES,
)
"""Keys of ``info``, all float64: the task that was decided and what became of it; zeros for a decision not yet made.

``delay_budget_s`` and ``energy_budget_j`` are what was left for the task when its service started; ``delivered`` is
the quality of a task that met both budgets, else 0; ``cost_*`` are relative excesses and ``cost`` is their sum;
``dropped`` counts tasks lost since the last decision, ``clipped`` components of the action that lay outside [-1, 1].
``abandoned`` is 1 where the task was given up in service, at the end of patience or battery. ``battery_j`` is 0 on
mains power. At reset ``dropped`` counts tasks lost before the first decision; no reward pays for them.

``delay_upload_s`` includes the round trip, ``energy_upload_j`` what the device draws while it waits. Of the energies of
device, upload and server, four parts are told: ``energy_static_device_j``, ``energy_circuit_j`` and
``energy_waiting_j`` of the upload, and ``energy_static_server_j``. ``limited`` is 1 where the decision did not fit the
memories and was changed by `coinfer_gym.laim.outcome.fit`; what stands in ``info`` is what was run.
"""

INFO = record_type(*INFO_NAMES)
"""The same as a record."""


@inlined_kernel
def serve(
    lane: Record, tables: Tables, rules: Record, gain: float, decision: Choice, info: Record
) -> tuple[float, float]:
    """Run one decision and write what became of it; returns the seconds of its service and pause, and of its upload."""
    s, retained_device, retained_server, power, f_device, f_server = decision
    h, cut = tables.hardware[0], tables.cuts[s]
    t_device, tau, t_server, e_device, e_upload, e_server = evaluate(tables, gain, decision)
    info.cut, info.retained_device, info.retained_server = s, retained_device, retained_server
    info.power_w, info.frequency_device_hz, info.frequency_server_hz = power, f_device, f_server
    waiting = h.waiting_power_device
    sent = tau - cut.round_trip
    sending = e_upload - waiting * (tau + t_server) if waiting > 0.0 else e_upload
    delays, energies = (t_device, sent, t_server), (e_device, sending, e_server)
    finished, duration, pause = process.spend(lane, rules, delays, energies, cut.round_trip, waiting, info)
    info.energy_static_device_j = h.pue_device * h.static_power_device * info.delay_device_s
    info.energy_static_server_j = h.pue_server * h.static_power_server * info.delay_server_s
    info.energy_waiting_j = waiting * (info.delay_upload_s + info.delay_server_s)
    info.energy_circuit_j = h.circuit_power * min(sent, info.delay_upload_s)
    worth = model_quality(tables, s, retained_device, retained_server) if finished else 0.0
    process.score_service(lane, finished, duration, worth, info)
    return duration + pause, min(sent, info.delay_upload_s)


def _step_lane(rules: Records, tables: Tables, lanes: LaneArrays, i: int) -> None:
    """Decide the task at the head of lane `i` by its action, pay for it and move to the next task."""
    lane, r, info = lanes.state[i], rules[0], lanes.info[i]
    info.clipped = process.clip(lanes.actions, i)
    process.inform(lane, info)
    wanted = spaces.decode(tables, lanes.actions, i)
    decision = fit(tables.cuts, wanted)
    info.limited = 0.0 if decision == wanted else 1.0
    gain = process.gain_at(lanes.gains, i, lane.clock, r.block_duration)
    duration, _ = serve(lane, tables, r, gain, decision, info)
    process.advance(lanes, i, r, duration)
    lanes.rewards[i] = reward(info, r, 0.0, 0.0)


step_lane = inlined_kernel(_step_lane)
_call_step_lane = kernel(_step_lane)  # inlined in a parallel loop, numba drops its writes to arrays of a named tuple


@kernel
def step_lanes(rules: Records, tables: Tables, lanes: LaneArrays) -> int:
    """Step every lane that is not skipped; returns -1, or the flat index of a NaN in the actions, nothing done."""
    bad = first_nan(lanes)
    if bad < 0:
        for i in range(lanes.actions.shape[0]):
            process.fetch_ahead(lanes, i + process.AHEAD, rules[0])
            if not lanes.skipped[i]:
                step_lane(rules, tables, lanes, i)
    return bad


@parallel_kernel
def step_lanes_parallel(rules: Records, tables: Tables, lanes: LaneArrays) -> int:
    """`step_lanes` over all cores."""
    bad = first_nan(lanes)
    if bad < 0:
        for i in prange(lanes.actions.shape[0]):
            if not lanes.skipped[i]:
                _call_step_lane(rules, tables, lanes, i)
    return bad
