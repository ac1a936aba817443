"""Delay, energy and quality of a decision of P1 (Lyu et al., Secs. II and IV), as compiled code sees them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coinfer_gym import physics
from coinfer_gym._compile import inlined_kernel, kernel, merged_kernel
from coinfer_gym.budgets import meets
from coinfer_gym.laim import distortion as dst
from coinfer_gym.laim.predictor import LEVELS, interpolate
from coinfer_gym.records import Record, Records, record_type

ACCURACY = len(dst.QUALITIES)

QUALITIES = {**dst.QUALITIES, "accuracy": ACCURACY}
"""Name of each quality and its code in compiled functions: the formulas of Sec. IV, and an accuracy predictor."""

QUALITY = record_type("log_distortion_zero", "prunable", kind=np.int64, log_scale=np.int64)
"""Which quality is meant, and its constants that hold for every cut."""

CUT = record_type(
    "flops_device",
    "flops_server",
    "step_flops_device",
    "step_flops_server",
    "upload_bits",
    "round_trip",
    "prunable_device",
    "prunable_server",
    "scale_device",
    "scale_server",
    "distortion_full",
    "log_distortion_full",
    "frequency_device_fed",
    "frequency_server_fed",
    "step_frequency_device_fed",
    "step_frequency_server_fed",
    "unpruned_delay_device",
    "unpruned_delay_server",
    "retained_device_max",
    "retained_server_max",
    "bytes_device",
    "bytes_server",
    predicted=(np.float64, (LEVELS, LEVELS)),
)
"""One cut: sums over its two sides, and what follows from them.

`scale` is ``sum N_j / lambda_j`` over prunable weights, `distortion_full` the distortion with all ratios 1 (and its
logarithm), `predicted` the predictor's table, if there is a predictor. `round_trip` is 0 at the last cut.
`step_flops_*` are those of further passes, within `flops_*`. `frequency_*_fed` is the highest clock in Hz that the
memory keeps fed with weights (0 where there is nothing to run in further passes), `unpruned_delay_*` the time in s that
it takes to read what is not pruned, as cached keys and values. `retained_*_max` is the highest ratio that the memory
holds (below the least ratio where it cannot hold that), `bytes_*` what the least ratio takes.
"""


class Tables(NamedTuple):
    """The constants of a problem as compiled code reads them; gain and budgets are separate.

    Attributes
    ----------
    hardware : ndarray of `HARDWARE`, shape (1,)
    quality : ndarray of `QUALITY`, shape (1,)
    cuts : ndarray of `CUT`, shape (J + 1,)
    blocks : ndarray of float64, shape (J, 4)
        `coinfer_gym.laim.distortion.block_rows` of the prunable weights and their Laplacian rates.
    """

    hardware: Records
    quality: Records
    cuts: Records
    blocks: NDArray[np.float64]


class Choice(NamedTuple):
    """A `coinfer_gym.laim.decision.Decision` as compiled code takes it."""

    cut: int
    retained_device: float
    retained_server: float
    power: float
    frequency_device: float
    frequency_server: float


@inlined_kernel
def choice_of(row: Record) -> Choice:
    """The decision in a record with its fields, as `coinfer_gym.laim.optimum.SOLUTION`."""
    return Choice(
        row.cut, row.retained_device, row.retained_server, row.power, row.frequency_device, row.frequency_server
    )


@kernel
def run_device(h: Record, cut: Record, share: float, frequency: float) -> tuple[float, float]:
    """Delay in s and energy in J of the device that runs a `share` of its FLOPs (eqs. 4 and 5, and static power).

    A clock that computes faster than the memory delivers the weights is slowed to what the memory delivers, in the
    first pass and in the further ones for itself.
    """
    chip = h.flops_per_cycle_device, h.pue_device, h.kappa_device, h.static_power_device
    once = cut.flops_device - cut.step_flops_device
    first = _run(share, once, min(frequency, cut.frequency_device_fed), chip)
    if cut.step_flops_device == 0.0:
        return first
    steps = _run(share, cut.step_flops_device, min(frequency, cut.step_frequency_device_fed), chip)
    return first[0] + steps[0], first[1] + steps[1]


@kernel
def run_server(h: Record, cut: Record, share: float, frequency: float) -> tuple[float, float]:
    """The same of the server (eqs. 8 and 9)."""
    chip = h.flops_per_cycle_server, h.pue_server, h.kappa_server, h.static_power_server
    once = cut.flops_server - cut.step_flops_server
    first = _run(share, once, min(frequency, cut.frequency_server_fed), chip)
    if cut.step_flops_server == 0.0:
        return first
    steps = _run(share, cut.step_flops_server, min(frequency, cut.step_frequency_server_fed), chip)
    return first[0] + steps[0], first[1] + steps[1]


@kernel
def read_unpruned(h: Record, cut: Record) -> tuple[float, float]:
    """Energy in J that device and server draw while they read what is not pruned."""
    device = physics.energy_at(h.pue_device * h.static_power_device, cut.unpruned_delay_device)
    return device, physics.energy_at(h.pue_server * h.static_power_server, cut.unpruned_delay_server)


@kernel
def _run(share: float, flops: float, clock: float, chip: tuple[float, float, float, float]) -> tuple[float, float]:
    """Delay and energy of a chip: its FLOPs per cycle, power usage effectiveness, power coefficient, static power."""
    flops_per_cycle, pue, kappa, static_power = chip
    delay = physics.compute_delay(share, flops, clock, flops_per_cycle)
    dynamic = physics.compute_energy(share, flops, clock, flops_per_cycle, pue, kappa)
    return delay, dynamic + physics.energy_at(pue * static_power, delay)


@kernel
def send(h: Record, cut: Record, power: float, rate: float) -> tuple[float, float]:
    """Delay in s and energy in J of the upload at a power in W and a rate in bit/s (eqs. 6 and 7, and the circuits)."""
    delay = physics.upload_delay(cut.upload_bits, min(rate, h.rate_max))
    return delay, physics.energy_at(power / h.amplifier_efficiency + h.circuit_power, delay)


@kernel
def link_gain(h: Record, gain: float) -> float:
    """Gain that an ideal code would need for the same rate: the channel's over the SNR gap."""
    effective: float = gain / h.snr_gap
    return effective


@kernel
def most_nats(h: Record) -> float:
    """``ln(1 + SNR)`` at the highest rate of the link."""
    most: float = h.rate_max * math.log(2.0) / h.bandwidth
    return most


@kernel
def fits(cut: Record, retained_device: float, retained_server: float) -> bool:
    """Whether both memories hold what is retained."""
    return meets(retained_device, cut.retained_device_max) and meets(retained_server, cut.retained_server_max)


@merged_kernel
def evaluate(tables: Tables, gain: float, choice: Choice) -> tuple[float, float, float, float, float, float]:
    """Delays ``t_d, tau, t_s`` in s and energies ``e_d, e_tx, e_s`` in J of a decision.

    Lyu et al., eq. 2 (rate), eqs. 4 and 5 (device), eqs. 6 and 7 (upload), eqs. 8 and 9 (server), and the terms that
    they leave out: static power, the memory's bandwidth, circuits of the radio. To the upload count the round trip, and
    all that the device draws for radio and waiting.
    """
    s, retained_device, retained_server, power, frequency_device, frequency_server = choice
    h, cut = tables.hardware[0], tables.cuts[s]
    share_device = physics.executed_share(retained_device, h.sparsity_gain)
    share_server = physics.executed_share(retained_server, h.sparsity_gain)
    delay_device, energy_device = run_device(h, cut, share_device, frequency_device)
    delay_server, energy_server = run_server(h, cut, share_server, frequency_server)
    reading_device, reading_server = read_unpruned(h, cut)
    delay_device, energy_device = delay_device + cut.unpruned_delay_device, energy_device + reading_device
    delay_server, energy_server = delay_server + cut.unpruned_delay_server, energy_server + reading_server
    delay_upload, energy_upload = 0.0, 0.0
    if cut.upload_bits > 0.0:
        rate = physics.transmission_rate(power, link_gain(h, gain), h.bandwidth, h.noise_density)
        delay_upload, energy_upload = send(h, cut, power, rate)
    delay_upload += cut.round_trip
    energy_upload += physics.energy_at(h.waiting_power_device, delay_upload + delay_server)
    return delay_device, delay_upload, delay_server, energy_device, energy_upload, energy_server


@kernel
def spend(tables: Tables, gain: float, choice: Choice) -> tuple[float, float]:
    """Delay in s and energy in J of a decision (eqs. 10 and 11)."""
    t_device, tau, t_server, e_device, e_upload, e_server = evaluate(tables, gain, choice)
    return t_device + tau + t_server, e_device + e_upload + e_server


@merged_kernel
def fit(cuts: Records, choice: Choice) -> Choice:
    """The nearest choice that both memories hold: first the nearest cut whose least ratios fit, then lower ratios.

    Where no cut fits, the choice itself.
    """
    s, retained_device, retained_server, power, frequency_device, frequency_server = choice
    if fits(cuts[s], retained_device, retained_server):
        return choice
    for k in range(2 * cuts.shape[0]):
        near = s - (k + 1) // 2 if k % 2 == 1 else s + k // 2  # the cut itself, then one less, one more, ...
        if 0 <= near < cuts.shape[0] and min(cuts[near].retained_device_max, cuts[near].retained_server_max) > 0.0:
            cut = cuts[near]
            retained_device = min(retained_device, cut.retained_device_max)
            retained_server = min(retained_server, cut.retained_server_max)
            return Choice(near, retained_device, retained_server, power, frequency_device, frequency_server)
    return choice


@merged_kernel
def model_distortion(tables: Tables, s: int, retained_device: float, retained_server: float) -> float:
    """Distortion of the model cut at `s` and pruned to the two ratios, by the chosen quality (Sec. IV).

    Of a predictor it is the share of the accuracy that is lost.
    """
    hardware, quality, cuts, blocks = tables
    q, cut, bits = quality[0], cuts[s], hardware[0].parameter_bits
    rate_device = bits * retained_device * cut.prunable_device
    rate_server = bits * retained_server * cut.prunable_server
    last = blocks.shape[0]
    if q.kind == ACCURACY:
        lost: float = 1.0 - interpolate(cut.predicted, retained_device, retained_server)
        return lost
    if q.kind == dst.RATE_DISTORTION:
        return dst.rate_distortion_bound(q.log_distortion_zero, rate_device + rate_server, q.prunable)
    if q.kind == dst.PARALLEL_JOINT:
        return dst.parallel_distortion(rate_device + rate_server, blocks, 0, last)
    if q.kind == dst.PARALLEL:
        device = dst.parallel_distortion(rate_device, blocks, 0, s)
        return device + dst.parallel_distortion(rate_server, blocks, s, last)
    if q.kind == dst.MAGNITUDE:
        device = dst.magnitude_distortion(retained_device, cut.scale_device)
        return device + dst.magnitude_distortion(retained_server, cut.scale_server)
    if q.kind == dst.MAGNITUDE_THRESHOLD:
        device = dst.threshold_distortion(retained_device, blocks, 0, s)
        return device + dst.threshold_distortion(retained_server, blocks, s, last)
    device = dst.random_distortion(retained_device, cut.scale_device)
    return device + dst.random_distortion(retained_server, cut.scale_server)


@merged_kernel
def model_quality(tables: Tables, s: int, retained_device: float, retained_server: float) -> float:
    """Distortion normalised to a quality: 0 where nothing is kept, 1 where everything is.

    On the log scale ``ln(D_0 / D) / ln(D_0 / D_1)``, on the linear scale ``(D_0 - D) / (D_0 - D_1)`` with `D_0` the
    distortion of keeping nothing and `D_1` that of keeping everything.
    """
    q, cut = tables.quality[0], tables.cuts[s]
    if q.kind == ACCURACY:
        predicted: float = interpolate(cut.predicted, retained_device, retained_server)
        return predicted
    if q.kind == dst.RATE_DISTORTION and q.log_scale:  # the logarithm of eq. 41: the retained share of weights
        share: float = (retained_device * cut.prunable_device + retained_server * cut.prunable_server) / q.prunable
        return share
    value = model_distortion(tables, s, retained_device, retained_server)
    if q.log_scale:
        level: float = (q.log_distortion_zero - math.log(value)) / (q.log_distortion_zero - cut.log_distortion_full)
        return level
    zero, full = math.exp(q.log_distortion_zero), cut.distortion_full
    part: float = (zero - value) / (zero - full)
    return part


@kernel
def evaluate_rows(
    tables: Tables,
    task: tuple[float, float, float],
    chosen: NDArray[np.int64],
    controls: NDArray[np.float64],
    results: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    feasible: NDArray[np.bool_],
) -> None:
    """Quality, distortion, delay and energy of many decisions of one task, and whether both budgets are met.

    Parameters
    ----------
    task : tuple of float
        Gain, delay budget in s and energy budget in J.
    chosen : ndarray, shape (n,)
        Cuts.
    controls : ndarray, shape (n, 5)
        In the order of `coinfer_gym.laim.decision.CONTROLS`.
    results : tuple of four ndarray, shape (n,)
        Filled with quality, distortion, delay in s and energy in J.
    feasible : ndarray of bool, shape (n,)
        Filled.
    """
    gain, delay_budget, energy_budget = task
    qualities, distortions, delays, energies = results
    for i in range(chosen.shape[0]):
        s, device, server = chosen[i], controls[i, 0], controls[i, 1]
        choice = Choice(s, device, server, controls[i, 2], controls[i, 3], controls[i, 4])
        delays[i], energies[i] = spend(tables, gain, choice)
        qualities[i] = model_quality(tables, s, device, server)
        distortions[i] = model_distortion(tables, s, device, server)
        in_budgets = meets(delays[i], delay_budget) and meets(energies[i], energy_budget)
        feasible[i] = in_budgets and fits(tables.cuts[s], device, server)
