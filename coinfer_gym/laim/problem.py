"""Problem P1 (Lyu et al., eq. 44): one task to cut, prune, clock and send within its budgets, and its solutions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coinfer_gym import physics
from coinfer_gym._compile import kernel
from coinfer_gym.budgets import meets
from coinfer_gym.checks import is_number
from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.laim import distortion as dst
from coinfer_gym.laim.predictor import LEVELS, AccuracyPredictor, interpolate
from coinfer_gym.laim.stages import fits, link_gain, run_device, run_server, send
from coinfer_gym.laim.workload import Workload, prefix_sums, suffix_sums
from coinfer_gym.records import Records, record_type

ACCURACY = len(dst.QUALITIES)

QUALITIES = {**dst.QUALITIES, "accuracy": ACCURACY}
"""Name of each quality and its code in compiled functions: the formulas of Sec. IV, and an accuracy predictor."""

MOST_BITS = 64
"""Widest parameter: the bounds fall by a factor of 2 per bit, and must stay within double precision."""


QUALITY = record_type("log_distortion_zero", "prunable", kind=np.int64, log_scale=np.int64)
"""Which quality is meant, and its constants that hold for every cut."""

CUT = record_type(
    "flops_device",
    "flops_server",
    "upload_bits",
    "round_trip",
    "prunable_device",
    "prunable_server",
    "scale_device",
    "scale_server",
    "distortion_full",
    "frequency_device_fed",
    "frequency_server_fed",
    "retained_device_max",
    "retained_server_max",
    "bytes_device",
    "bytes_server",
    predicted=(np.float64, (LEVELS, LEVELS)),
)
"""One cut: sums over its two sides, and what follows from them.

`scale` is ``sum N_j / lambda_j`` over prunable weights, `distortion_full` the distortion with all ratios 1, `predicted`
the predictor's table, if there is a predictor. `round_trip` is 0 at the last cut. `frequency_*_fed` is the highest
clock in Hz that the memory keeps fed with weights, `retained_*_max` the highest ratio that the memory holds (below the
least ratio where it cannot hold that), `bytes_*` what the least ratio takes.
"""


class Tables(NamedTuple):
    """The constants of a problem as compiled code reads them; gain and budgets are separate.

    Attributes
    ----------
    hardware : ndarray of `HARDWARE`, shape (1,)
    quality : ndarray of `QUALITY`, shape (1,)
    cuts : ndarray of `CUT`, shape (J + 1,)
    blocks : ndarray of float64, shape (J, 2)
        Prunable weights and Laplacian rate of each block.
    """

    hardware: Records
    quality: Records
    cuts: Records
    blocks: NDArray[np.float64]


@dataclass(frozen=True)
class Decision:
    """What is chosen for a task: the cut and the five controls of P1, in SI units.

    A side without work (the device at cut 0, link and server at cut J) has ratio 1, clock 0 and power 0.

    Attributes
    ----------
    cut : int
        Blocks ``1..cut`` run on the device.
    retained_device, retained_server : float
        Retained ratios `rho_d`, `rho_s` in (0, 1].
    power : float
        Transmit power `p` in W.
    frequency_device, frequency_server : float
        Clock frequencies `f_d`, `f_s` in Hz.
    """

    cut: int
    retained_device: float
    retained_server: float
    power: float
    frequency_device: float
    frequency_server: float


CONTROLS = ("retained_device", "retained_server", "power", "frequency_device", "frequency_server")
"""The five controls of P1, in the order of an array of them."""


class Choice(NamedTuple):
    """A `Decision` as compiled code takes it."""

    cut: int
    retained_device: float
    retained_server: float
    power: float
    frequency_device: float
    frequency_server: float


def as_tuple(decision: Decision) -> Choice:
    """A decision as compiled code takes it."""
    return Choice(
        int(decision.cut),
        float(decision.retained_device),
        float(decision.retained_server),
        float(decision.power),
        float(decision.frequency_device),
        float(decision.frequency_server),
    )


@dataclass(frozen=True)
class Solution(Decision):
    """A decision, its results, and a bound on how far it is from the optimum.

    Attributes
    ----------
    delay, energy : float
        `T` in s and `E` in J (eqs. 10, 11).
    quality : float
        In [0, 1], 1 for the unpruned model.
    distortion : float
        The distortion behind the quality, in units of the weights' norm.
    feasible : bool
        Whether both budgets are met and both memories hold what is retained.
    reason : str
        Empty if feasible. Otherwise the budget that no decision can meet: ``"time"``, ``"energy"``, or
        ``"time and energy"`` (not both together). The decision then meets one budget and exceeds the other by as little
        as possible. ``"memory"`` if even the least ratios do not fit at any cut; the cut is then the one that lacks
        least. An iterative solver that stopped early also reports it here.
    delay_needed, energy_needed : float
        If infeasible, the smallest delay budget that can be met with this energy budget, and the smallest energy budget
        that can be met with this delay budget; infinite if there is none. NaN if feasible, and from solvers that do not
        compute them.
    memory_device_needed, memory_server_needed : float
        If the reason is ``"memory"``, the bytes that each side must hold at this cut with its least ratio; else NaN.
    gap : float
        Proven bound on how far the optimum can exceed `quality`; NaN if the solver proves none.
    history : tuple of Solution
        Iterates of an iterative solver, first to last.
    """

    delay: float
    energy: float
    quality: float
    distortion: float
    feasible: bool
    reason: str = ""
    delay_needed: float = math.nan
    energy_needed: float = math.nan
    memory_device_needed: float = math.nan
    memory_server_needed: float = math.nan
    gap: float = math.nan
    history: tuple[Solution, ...] = field(default=(), repr=False)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Results of an array of decisions, row by row.

    Attributes
    ----------
    quality, distortion : ndarray, shape (...)
        As in `Solution`.
    delay, energy : ndarray, shape (...)
        `T` in s and `E` in J.
    margins : ndarray, shape (..., 2)
        What is left of the delay budget in s and of the energy budget in J; negative where it is exceeded.
    feasible : ndarray of bool, shape (...)
        Whether both budgets are met and both memories hold what is retained, within
        `coinfer_gym.budgets.BUDGET_TOLERANCE`.
    """

    quality: NDArray[np.float64]
    distortion: NDArray[np.float64]
    delay: NDArray[np.float64]
    energy: NDArray[np.float64]
    margins: NDArray[np.float64]
    feasible: NDArray[np.bool_]


UNLIMITED = (
    "rate_max",
    "memory_bandwidth_device",
    "memory_bandwidth_server",
    "memory_capacity_device",
    "memory_capacity_server",
)
"""Constants of `Problem` that may be infinite: there is no limit."""

_MAY_BE_ZERO = (
    "power_min",
    "frequency_device_min",
    "frequency_server_min",
    "static_power_device",
    "static_power_server",
    "waiting_power_device",
    "circuit_power",
    "round_trip",
    "sparsity_gain",
)


@dataclass(frozen=True)
class Problem:
    """Problem P1 of one task: maximise quality over cut and controls under the budgets; frozen, SI units.

    A raised lower bound restricts the problem: ``power_min=power_max`` fixes the power, ``retained_server_min=1``
    prunes the device only.

    Attributes
    ----------
    workload : Workload
        The network.
    gain : float
        Channel power gain `g`, positive.
    delay_budget, energy_budget : float
        `T0` in s and `E0` in J.
    bandwidth, noise_density : float
        `B` in Hz and `N0` in W/Hz.
    power_max, power_min : float
        Bounds of the transmit power in W.
    flops_per_cycle_device, flops_per_cycle_server : float
        `c_d`, `c_s`.
    frequency_device_max, frequency_server_max, frequency_device_min, frequency_server_min : float
        Bounds of the clocks in Hz.
    pue_device, pue_server : float
        Power usage effectiveness `eta_d`, `eta_s`, at least 1.
    kappa_device, kappa_server : float
        Power coefficients of the chips in W/Hz^3.
    retained_device_min, retained_server_min : float
        Smallest retained ratios, in (0, 1].
    parameter_bits : float
        Bits `b` per stored parameter, a whole number.
    static_power_device, static_power_server : float
        Power in W that a side draws while it computes, whatever its clock. The defaults of this and all further
        constants are the paper's model.
    waiting_power_device : float
        Power in W that the device draws from the start of the upload to the result.
    circuit_power : float
        Power in W of the radio's circuits while it sends.
    amplifier_efficiency : float
        Transmit power over the power that the amplifier draws for it, in (0, 1].
    rate_max : float
        Highest rate of the link in bit/s.
    snr_gap : float
        Factor, at least 1, by which the link needs more SNR than an ideal code; the gain is divided by it.
    round_trip : float
        Constant delay in s of a task that uses the server: its request, and the downlink of the result.
    memory_bandwidth_device, memory_bandwidth_server : float
        Bytes per second that the memories deliver. Every retained weight of a block with FLOPs is read, as often as the
        block says.
    memory_capacity_device, memory_capacity_server : float
        Bytes that the memories hold.
    sparsity_gain : float
        `gamma` in [0, 1]: of the FLOPs and reads of zeros, the share that is saved.
    quality : str
        One of `QUALITIES`.
    norm : {"l1", "l2"}
        Norm of the rate-distortion bound.
    quality_scale : {"", "log", "linear"}
        ``""`` uses the default of the quality: log for the bounds, linear for the others.
    predictor : AccuracyPredictor, optional
        Required by quality ``"accuracy"``. Give the one that was measured on this workload; only its number of cuts is
        checked.

    Raises
    ------
    InvalidInputError
        If a value is out of its range.
    """

    workload: Workload
    gain: float
    delay_budget: float
    energy_budget: float
    bandwidth: float
    noise_density: float
    power_max: float
    flops_per_cycle_device: float
    flops_per_cycle_server: float
    frequency_device_max: float
    frequency_server_max: float
    pue_device: float
    pue_server: float
    kappa_device: float
    kappa_server: float
    power_min: float = 0.0
    frequency_device_min: float = 0.0
    frequency_server_min: float = 0.0
    retained_device_min: float = 0.01
    retained_server_min: float = 0.01
    parameter_bits: float = 32.0
    static_power_device: float = 0.0
    static_power_server: float = 0.0
    waiting_power_device: float = 0.0
    circuit_power: float = 0.0
    amplifier_efficiency: float = 1.0
    rate_max: float = math.inf
    snr_gap: float = 1.0
    round_trip: float = 0.0
    memory_bandwidth_device: float = math.inf
    memory_bandwidth_server: float = math.inf
    memory_capacity_device: float = math.inf
    memory_capacity_server: float = math.inf
    sparsity_gain: float = 1.0
    quality: str = "rate_distortion"
    norm: str = "l1"
    quality_scale: str = ""
    predictor: AccuracyPredictor | None = None

    def __post_init__(self) -> None:
        for name in ("gain", *HARDWARE_NAMES):
            value = getattr(self, name)
            if not is_number(value):
                raise InvalidInputError(name, value, "Give a number.")
            if name in UNLIMITED and value == math.inf:
                continue
            if not math.isfinite(value) or value < 0.0 or (value == 0.0 and name not in _MAY_BE_ZERO):
                least = "at least 0" if name in _MAY_BE_ZERO else "above 0"
                raise InvalidInputError(name, value, f"Give a finite number {least}.")
        for name in ("delay_budget", "energy_budget"):
            value = getattr(self, name)
            if not is_number(value) or math.isnan(value):
                raise InvalidInputError(name, value, "Give a number.")
        for name in ("pue_device", "pue_server"):
            if getattr(self, name) < 1.0:
                raise InvalidInputError(name, getattr(self, name), "Give a power usage effectiveness of at least 1.")
        if self.snr_gap < 1.0:
            raise InvalidInputError("snr_gap", self.snr_gap, "Give a factor of at least 1.")
        if self.parameter_bits > MOST_BITS or self.parameter_bits % 1.0:
            remedy = f"Give a whole number of bits, at most {MOST_BITS}."
            raise InvalidInputError("parameter_bits", self.parameter_bits, remedy)
        for name in ("retained_device_min", "retained_server_min", "amplifier_efficiency", "sparsity_gain"):
            if getattr(self, name) > 1.0:
                raise InvalidInputError(name, getattr(self, name), "Give a share of at most 1.")
        for name in ("power", "frequency_device", "frequency_server"):
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            if low > high:
                raise InvalidInputError(f"{name}_min", low, f"It must not exceed {name}_max, {high}.")
        check_quality(self)

    @cached_property
    def tables(self) -> Tables:
        """The constants as compiled code reads them."""
        return build_tables(self)

    def bounds(self, cut: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper bounds of the five controls, each of shape (5,), in the order of `CONTROLS`.

        With a `cut`, the upper bounds of the ratios are what the memories hold there; they are below the lower ones
        where even the least ratios do not fit.
        """
        lower = [getattr(self, f"{name}_min") for name in CONTROLS]
        upper = [getattr(self, f"{name}_max", 1.0) for name in CONTROLS]
        if cut is not None:
            row = self.tables.cuts[check_cut(cut, self.workload)]
            upper[:2] = row["retained_device_max"], row["retained_server_max"]
        return np.array(lower, np.float64), np.array(upper, np.float64)

    @overload
    def evaluate(self, decision: Decision) -> Solution: ...

    @overload
    def evaluate(self, decision: ArrayLike, cut: ArrayLike) -> Outcomes: ...

    def evaluate(self, decision: Any, cut: Any = None) -> Solution | Outcomes:
        """Results of one `Decision` or of an array of decisions, whether or not they meet the budgets.

        Parameters
        ----------
        decision : Decision, or array_like with shape (..., 5)
            One decision, or the controls of many in the order of `CONTROLS`.
        cut : int or array_like, shape (...)
            Cut of all rows, or one per row. Only with an array.

        Returns
        -------
        Solution or Outcomes
            For a `Decision`, a `Solution` with its delay, energy, quality and distortion, and whether it is feasible.
            For an array, arrays of these and of what is left of each budget.

        Raises
        ------
        InvalidInputError
            If the cut is outside ``0..J``, a ratio is outside (0, 1], or a clock or the power is negative.

        Examples
        --------
        Your own optimizer can solve P1 at a given `cut` with this method and ``lower, upper = problem.bounds(cut)``.
        With SciPy:

        >>> limits = NonlinearConstraint(lambda x: problem.evaluate(x.T, cut).margins.T, 0.0, np.inf)
        >>> loss = lambda x: -problem.evaluate(x.T, cut).quality
        >>> differential_evolution(loss, Bounds(lower, upper), constraints=limits, vectorized=True, polish=False)

        With cma, with step sizes equal to the ranges. The penalty is the relative excess over each budget:

        >>> budgets = [problem.delay_budget, problem.energy_budget]
        >>> loss = lambda x: (o := problem.evaluate(x, cut)).quality * -1 - (o.margins / budgets).clip(max=0).sum(-1)
        >>> cma.fmin2(loss, upper, 0.3, {"bounds": [lower, upper], "CMA_stds": upper - lower})

        With pymoo, in a subclass of ``Problem(n_var=5, n_obj=1, n_ieq_constr=2, xl=lower, xu=upper)``:

        >>> def _evaluate(self, x, out, *args, **kwargs):
        ...     outcomes = problem.evaluate(x, cut)
        ...     out["F"], out["G"] = -outcomes.quality, -outcomes.margins
        """
        if isinstance(decision, Decision):
            s = check_decision(decision, self.workload)
            row = [getattr(decision, name) for name in CONTROLS]
            outcomes = self._evaluate_rows(np.array([row], np.float64), np.array([s]))
            results = {name: value.item() for name, value in vars(outcomes).items() if name != "margins"}
            return Solution(s, *row, **results)
        rows, cuts = check_controls(decision, cut, self.workload)
        outcomes = self._evaluate_rows(rows.reshape(-1, len(CONTROLS)), cuts.ravel())
        shape = rows.shape[:-1]
        return Outcomes(**{name: value.reshape(shape + value.shape[1:]) for name, value in vars(outcomes).items()})

    def _evaluate_rows(self, rows: NDArray[np.float64], cuts: NDArray[np.int64]) -> Outcomes:
        count = len(rows)
        quality, distortion, delay, energy = np.empty((4, count))
        feasible = np.empty(count, np.bool_)
        task = (self.gain, self.delay_budget, self.energy_budget)
        t = self.tables
        evaluate_rows(
            t.hardware, t.quality, t.cuts, t.blocks, task, cuts, rows, (quality, distortion, delay, energy), feasible
        )
        margins = np.stack([self.delay_budget - delay, self.energy_budget - energy], axis=-1)
        return Outcomes(quality, distortion, delay, energy, margins, feasible)


HARDWARE_NAMES = tuple(
    entry.name
    for entry in fields(Problem)
    if entry.type == "float" and entry.name not in ("gain", "delay_budget", "energy_budget")
)
HARDWARE = record_type(*HARDWARE_NAMES)
"""Constants of device, server and link, as compiled code reads them; field names and units of `Problem`."""


def check_cut(cut: Any, workload: Workload) -> int:
    """The cut, if the workload has it.

    Raises
    ------
    InvalidInputError
        If it is not a whole number in ``0..J``.
    """
    if not is_number(cut) or not 0 <= cut < workload.cuts or int(cut) != cut:
        raise InvalidInputError("cut", cut, f"{workload.name!r} has the cuts 0 to {workload.cuts - 1}.")
    return int(cut)


def check_decision(decision: Decision, workload: Workload) -> int:
    """Check a decision and return its cut; the bounds of a problem are not checked.

    Raises
    ------
    InvalidInputError
        If the workload has no such cut, a ratio is outside (0, 1], or a clock or the power is negative or not a number.
    """
    for name in CONTROLS:
        _check_control(name, getattr(decision, name))
    return check_cut(decision.cut, workload)


def check_controls(
    controls: ArrayLike, cut: ArrayLike, workload: Workload
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Controls and cuts of many decisions as arrays of shapes (..., 5) and (...); errors as in `check_decision`."""
    try:
        rows = np.array(controls, np.float64, order="C")
        cuts = np.broadcast_to(np.asarray(cut, np.float64), rows.shape[:-1])
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            "decision", controls, "Give a Decision, or controls and cuts of matching shapes."
        ) from error
    if rows.shape[-1:] != (len(CONTROLS),):
        raise InvalidInputError("decision", rows.shape, f"Give rows of the {len(CONTROLS)} controls.")
    ends = rows.reshape(-1, len(CONTROLS))
    for k, name in enumerate(CONTROLS):
        for value in (ends[:, k].min(initial=1.0), ends[:, k].max(initial=1.0)):
            _check_control(name, float(value))
    for value in np.unique(cuts):
        check_cut(value, workload)
    return rows, cuts.astype(np.int64)


def _check_control(name: str, value: Any) -> None:
    if name.startswith("retained"):
        if not (is_number(value) and 0.0 < value <= 1.0):
            raise InvalidInputError(name, value, "Give a retained ratio in (0, 1].")
    elif not (is_number(value) and 0.0 <= value < math.inf):
        raise InvalidInputError(name, value, "Give a finite number of at least 0, in SI units.")


def check_quality(source: Any) -> None:
    """Check the quality, norm, scale and predictor of a problem or a scenario.

    Raises
    ------
    InvalidInputError
        If quality, norm and scale do not go together, or the predictor does not fit the workload.
    """
    quality, norm, scale = source.quality, source.norm, source.quality_scale
    predictor: AccuracyPredictor | None = source.predictor
    workload: Workload = source.workload
    if quality not in QUALITIES:
        raise InvalidInputError("quality", quality, nearest(quality, QUALITIES))
    if norm not in ("l1", "l2") or (norm == "l2" and quality != "rate_distortion"):
        raise InvalidInputError("norm", norm, "Give 'l1', or 'l2' with quality 'rate_distortion'.")
    if scale not in ("", "log", "linear") or (scale == "log" and quality not in dst.BOUNDS):
        raise InvalidInputError("quality_scale", scale, f"Give 'linear', or 'log' with one of {', '.join(dst.BOUNDS)}.")
    if quality == "accuracy" and predictor is None:
        raise InvalidInputError(
            "predictor",
            None,
            "Quality 'accuracy' needs measurements of the network: use scenario 'minilm-squad', or measure your own "
            "network with python -m coinfer_gym.models.measure.",
        )
    if predictor is not None and len(predictor.quality) != workload.cuts:
        raise InvalidInputError(
            "predictor",
            predictor.name,
            f"It knows {len(predictor.quality)} cuts, workload {workload.name!r} has {workload.cuts}: give the "
            "predictor of this network.",
        )


def build_tables(source: Any) -> Tables:
    """Tables of anything that has the attributes of `Problem` (a problem, a scenario)."""
    workload: Workload = source.workload
    prunable = np.array([block.prunable for block in workload.blocks], dtype=np.float64)
    rates = workload.laplacian_rates
    hardware = np.zeros(1, HARDWARE)
    for name in HARDWARE_NAMES:
        hardware[name] = getattr(source, name)
    quality = np.zeros(1, QUALITY)
    quality["kind"] = QUALITIES[source.quality]
    quality["log_scale"] = (source.quality_scale or ("log" if source.quality in dst.BOUNDS else "linear")) == "log"
    quality["prunable"] = prunable.sum()
    if source.quality == "rate_distortion":
        quality["log_distortion_zero"] = dst.log_distortion_zero(prunable, rates, source.norm)
    else:
        quality["log_distortion_zero"] = math.log((prunable / rates).sum())
    blocks = np.stack([prunable, rates], axis=1)
    cuts = np.zeros(workload.cuts, CUT)
    cuts["upload_bits"] = workload.upload_bits
    cuts["round_trip"][:-1] = source.round_trip
    for side, sums in (("device", prefix_sums), ("server", suffix_sums)):
        cuts[f"flops_{side}"] = sums([block.flops for block in workload.blocks])
        cuts[f"prunable_{side}"] = sums(prunable)
        cuts[f"scale_{side}"] = sums(prunable / rates)
        _fill_memory(cuts, side, source)
    if source.predictor is not None:
        cuts["predicted"] = source.predictor.quality
    for s in range(workload.cuts):
        cuts["distortion_full"][s] = model_distortion(hardware, quality, cuts, blocks, s, 1.0, 1.0)
    return Tables(hardware, quality, cuts, blocks)


def _fill_memory(cuts: Records, side: str, source: Any) -> None:
    """What a side's memory means for every cut: the highest clock that it feeds, the highest ratio that it holds."""
    workload: Workload = source.workload
    cuts[f"frequency_{side}_fed"], cuts[f"retained_{side}_max"] = math.inf, 1.0
    sums = prefix_sums if side == "device" else suffix_sums
    byte, least = source.parameter_bits / 8.0, getattr(source, f"retained_{side}_min")
    prunable = byte * cuts[f"prunable_{side}"]
    fixed = byte * sums([block.parameters - block.prunable for block in workload.blocks])
    cuts[f"bytes_{side}"] = needed = fixed + least * prunable
    capacity, bandwidth = getattr(source, f"memory_capacity_{side}"), getattr(source, f"memory_bandwidth_{side}")
    if capacity < math.inf:
        with np.errstate(divide="ignore", invalid="ignore"):
            most = np.where(prunable > 0.0, np.clip((capacity - fixed) / prunable, -1.0, 1.0), 1.0)
        held = needed <= capacity * (1.0 + 1e-12)  # the least ratio fits in spite of rounding
        cuts[f"retained_{side}_max"] = np.where(held, np.maximum(most, least), -1.0)
    if bandwidth < math.inf:
        read = byte * sums([block.reads * block.prunable * (block.flops > 0.0) for block in workload.blocks])
        cycles = cuts[f"flops_{side}"] / getattr(source, f"flops_per_cycle_{side}")
        with np.errstate(divide="ignore", invalid="ignore"):
            cuts[f"frequency_{side}_fed"] = np.where(read > 0.0, cycles * bandwidth / read, math.inf)


@kernel
def evaluate(
    hardware: Records,
    cuts: Records,
    s: int,
    gain: float,
    retained_device: float,
    retained_server: float,
    power: float,
    frequency_device: float,
    frequency_server: float,
) -> tuple[float, float, float, float, float, float]:
    """Delays ``t_d, tau, t_s`` in s and energies ``e_d, e_tx, e_s`` in J of a decision.

    Lyu et al., eq. 2 (rate), eqs. 4 and 5 (device), eqs. 6 and 7 (upload), eqs. 8 and 9 (server), and the terms of
    `coinfer_gym.laim.stages`. To the upload count the round trip, and all that the device draws for radio and waiting.
    """
    h, cut = hardware[0], cuts[s]
    share_device = physics.executed_share(retained_device, h.sparsity_gain)
    share_server = physics.executed_share(retained_server, h.sparsity_gain)
    delay_device, energy_device = run_device(h, cut, share_device, frequency_device)
    delay_server, energy_server = run_server(h, cut, share_server, frequency_server)
    delay_upload, energy_upload = 0.0, 0.0
    if cut.upload_bits > 0.0:
        rate = physics.transmission_rate(power, link_gain(h, gain), h.bandwidth, h.noise_density)
        delay_upload, energy_upload = send(h, cut, power, rate)
    delay_upload += cut.round_trip
    energy_upload += physics.energy_at(h.waiting_power_device, delay_upload + delay_server)
    return delay_device, delay_upload, delay_server, energy_device, energy_upload, energy_server


@kernel
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


@kernel
def model_distortion(
    hardware: Records,
    quality: Records,
    cuts: Records,
    blocks: NDArray[np.float64],
    s: int,
    retained_device: float,
    retained_server: float,
) -> float:
    """Distortion of the model cut at `s` and pruned to the two ratios, by the chosen quality (Sec. IV).

    Of a predictor it is the share of the accuracy that is lost.
    """
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


@kernel
def model_quality(
    hardware: Records,
    quality: Records,
    cuts: Records,
    blocks: NDArray[np.float64],
    s: int,
    retained_device: float,
    retained_server: float,
) -> float:
    """Distortion normalised to a quality: 0 where nothing is kept, 1 where everything is.

    On the log scale ``ln(D_0 / D) / ln(D_0 / D_1)``, on the linear scale ``(D_0 - D) / (D_0 - D_1)`` with `D_0` the
    distortion of keeping nothing and `D_1` that of keeping everything.
    """
    q, cut = quality[0], cuts[s]
    if q.kind == ACCURACY:
        predicted: float = interpolate(cut.predicted, retained_device, retained_server)
        return predicted
    if q.kind == dst.RATE_DISTORTION and q.log_scale:  # the logarithm of eq. 41: the retained share of weights
        share: float = (retained_device * cut.prunable_device + retained_server * cut.prunable_server) / q.prunable
        return share
    value = model_distortion(hardware, quality, cuts, blocks, s, retained_device, retained_server)
    if q.log_scale:
        level: float = (q.log_distortion_zero - math.log(value)) / (
            q.log_distortion_zero - math.log(cut.distortion_full)
        )
        return level
    zero, full = math.exp(q.log_distortion_zero), cut.distortion_full
    part: float = (zero - value) / (zero - full)
    return part


@kernel
def evaluate_rows(
    hardware: Records,
    quality: Records,
    cuts: Records,
    blocks: NDArray[np.float64],
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
        In the order of `CONTROLS`.
    results : tuple of four ndarray, shape (n,)
        Filled with quality, distortion, delay in s and energy in J.
    feasible : ndarray of bool, shape (n,)
        Filled.
    """
    gain, delay_budget, energy_budget = task
    qualities, distortions, delays, energies = results
    for i in range(chosen.shape[0]):
        s, device, server, power = chosen[i], controls[i, 0], controls[i, 1], controls[i, 2]
        t_device, tau, t_server, e_device, e_upload, e_server = evaluate(
            hardware, cuts, s, gain, device, server, power, controls[i, 3], controls[i, 4]
        )
        qualities[i] = model_quality(hardware, quality, cuts, blocks, s, device, server)
        distortions[i] = model_distortion(hardware, quality, cuts, blocks, s, device, server)
        delays[i], energies[i] = t_device + tau + t_server, e_device + e_upload + e_server
        in_budgets = meets(delays[i], delay_budget) and meets(energies[i], energy_budget)
        feasible[i] = in_budgets and fits(cuts[s], device, server)
