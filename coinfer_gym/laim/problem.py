"""Problem P1 (Lyu et al., eq. 44): one task to cut, prune, clock and send within its budgets."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coinfer_gym.checks import is_number
from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.laim import distortion as dst
from coinfer_gym.laim.decision import (
    CONTROLS,
    Decision,
    Outcomes,
    Solution,
    check_controls,
    check_cut,
    check_decision,
)
from coinfer_gym.laim.outcome import CUT, QUALITIES, QUALITY, Tables, evaluate_rows, model_distortion
from coinfer_gym.laim.predictor import AccuracyPredictor
from coinfer_gym.laim.workload import Workload, prefix_sums, suffix_sums
from coinfer_gym.records import Records, record_type

MOST_BITS = 64
"""Widest parameter: the bounds fall by a factor of 2 per bit, and must stay within double precision."""

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
        Bits `b` per stored parameter, a whole number; `Workload.parameter_bits` is for scenarios to start from.
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
        Constant delay in s of a task that uses the server: its request, and the downlink of the result. At an inner cut
        every further pass (`Workload.steps`) takes one more.
    memory_bandwidth_device, memory_bandwidth_server : float
        Bytes per second that the memories deliver. Every retained weight of a block with FLOPs is read, as often as the
        block says and once more in each further pass; so are cached keys and values.
    memory_capacity_device, memory_capacity_server : float
        Bytes that the memories hold, of weights and of cached keys and values.
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
        upper = [1.0, 1.0, *(getattr(self, f"{name}_max") for name in CONTROLS[2:])]
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
        evaluate_rows(self.tables, task, cuts, rows, (quality, distortion, delay, energy), feasible)
        margins = np.stack([self.delay_budget - delay, self.energy_budget - energy], axis=-1)
        return Outcomes(quality, distortion, delay, energy, margins, feasible)


HARDWARE_NAMES = tuple(
    entry.name
    for entry in fields(Problem)
    if entry.type == "float" and entry.name not in ("gain", "delay_budget", "energy_budget")
)
HARDWARE = record_type(*HARDWARE_NAMES)
"""Constants of device, server and link, as compiled code reads them; field names and units of `Problem`."""


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
    blocks = dst.block_rows(prunable, rates)
    cuts = np.zeros(workload.cuts, CUT)
    cuts["upload_bits"] = workload.upload_bits
    cuts["round_trip"][:-1] = source.round_trip
    cuts["round_trip"][1:-1] *= 1.0 + workload.steps  # a token made by both sides goes back to the device
    for side, sums in (("device", prefix_sums), ("server", suffix_sums)):
        cuts[f"flops_{side}"] = sums([block.flops for block in workload.blocks])
        cuts[f"step_flops_{side}"] = sums([block.step_flops for block in workload.blocks])
        cuts[f"prunable_{side}"] = sums(prunable)
        cuts[f"scale_{side}"] = sums(prunable / rates)
        _fill_memory(cuts, side, source)
    if source.predictor is not None:
        cuts["predicted"] = source.predictor.quality
    tables = Tables(hardware, quality, cuts, blocks)
    for s in range(workload.cuts):
        full = model_distortion(tables, s, 1.0, 1.0)
        cuts["distortion_full"][s], cuts["log_distortion_full"][s] = full, math.log(full) if full > 0.0 else -math.inf
    return tables


def _fill_memory(cuts: Records, side: str, source: Any) -> None:
    """What a side's memory means for every cut: the highest clocks that it feeds, the highest ratio that it holds."""
    workload: Workload = source.workload
    cuts[f"frequency_{side}_fed"], cuts[f"retained_{side}_max"] = math.inf, 1.0
    cuts[f"step_frequency_{side}_fed"] = np.where(cuts[f"step_flops_{side}"] > 0.0, math.inf, 0.0)
    sums = prefix_sums if side == "device" else suffix_sums
    byte, least = source.parameter_bits / 8.0, getattr(source, f"retained_{side}_min")
    prunable = byte * cuts[f"prunable_{side}"]
    fixed = byte * sums([block.parameters - block.prunable for block in workload.blocks])
    fixed = fixed + sums([block.cache_bits for block in workload.blocks]) / 8.0
    if side == "server":
        fixed[1:-1] += byte * workload.tied  # the device needs them at its first block
    cuts[f"bytes_{side}"] = needed = fixed + least * prunable
    capacity, bandwidth = getattr(source, f"memory_capacity_{side}"), getattr(source, f"memory_bandwidth_{side}")
    if capacity < math.inf:
        with np.errstate(divide="ignore", invalid="ignore"):
            most = np.where(prunable > 0.0, np.clip((capacity - fixed) / prunable, -1.0, 1.0), 1.0)
        held = needed <= capacity * (1.0 + 1e-12)  # the least ratio fits in spite of rounding
        cuts[f"retained_{side}_max"] = np.where(held, np.maximum(most, least), -1.0)
    if bandwidth < math.inf:
        first = [block.reads * block.prunable * (block.flops > block.step_flops) for block in workload.blocks]
        steps = [workload.steps * block.prunable * (block.step_flops > 0.0) for block in workload.blocks]
        step_flops = cuts[f"step_flops_{side}"]
        for name, weights, flops in (("", first, cuts[f"flops_{side}"] - step_flops), ("step_", steps, step_flops)):
            read, cycles = byte * sums(weights), flops / getattr(source, f"flops_per_cycle_{side}")
            with np.errstate(divide="ignore", invalid="ignore"):
                fed = np.where(read > 0.0, cycles * bandwidth / read, cuts[f"{name}frequency_{side}_fed"])
            cuts[f"{name}frequency_{side}_fed"] = fed
        unpruned = sums([block.cache_read_bits for block in workload.blocks]) / 8.0
        lasts = slice(None, -1) if side == "server" else slice(-1, None)  # cuts at which this side has the last block
        unpruned[lasts] += byte * workload.tied * (1.0 + workload.steps)
        cuts[f"unpruned_delay_{side}"] = unpruned / bandwidth


def with_tables(problem: Problem, tables: Tables) -> Problem:
    """The problem, told its `tables` by one that has them: building them anew costs more than solving P1."""
    vars(problem)["tables"] = tables
    return problem


def check_problem(problem: object) -> None:
    """Check that something is P1, for solvers that know nothing else.

    Raises
    ------
    InvalidInputError
        If it is not.
    """
    if not isinstance(problem, Problem):
        remedy = (
            "This solves P1 of LAIM-v0: give env.unwrapped.problem(). For Layerwise-v0 call "
            "coinfer_gym.layerwise.optimum.solve_exact."
        )
        raise InvalidInputError("problem", type(problem).__name__, remedy)
