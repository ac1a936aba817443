"""The latency problem of Mu et al.: one task to cut, prune, compress, clock and send, and its solutions.

The objective is their eq. 6, ratios and compression are those of eq. 8 and eq. 9. The cuts of eq. 7, with computation
on both sides, are a choice of the problem (`LayerwiseProblem.cuts`).
Compiled code takes designs as rows of whole channels, see `coinfer_gym.layerwise.designs`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from coinfer_gym import physics
from coinfer_gym._compile import kernel, merged_kernel
from coinfer_gym.budgets import BUDGET_TOLERANCE, meets
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.layerwise.designs import (
    FREQUENCY,
    POWER,
    SENT,
    check_designs,
    kept_before,
    make_designs,
    ratios_of,
)
from coinfer_gym.layerwise.network import Network, NetworkTables
from coinfer_gym.layerwise.predictor import RegressionPredictor, feature_names, write_features
from coinfer_gym.layerwise.trees import TreeTables, predict_row
from coinfer_gym.records import Record, Records, record_type


@dataclass(frozen=True)
class LayerwiseDecision:
    """What is chosen for one task.

    Ratios and compression stand for whole numbers of channels: what builds the same network yields the same, and
    solutions have the shares that are really kept and sent.

    Attributes
    ----------
    cut : int
        Blocks on the device, from 0 (the image is sent) to N (nothing is sent).
    retained : tuple of float
        Retained ratio of each group, in (0, 1].
    compression : float
        Share of the feature's channels or neurons that the encoder sends, in (0, 1]; 1 means no encoder.
    power : float
        Transmit power in W.
    frequency : float
        Clock of the device in Hz.
    """

    cut: int
    retained: tuple[float, ...]
    compression: float
    power: float
    frequency: float


@dataclass(frozen=True)
class LayerwiseSolution(LayerwiseDecision):
    """A decision, its delay, energy and accuracy, and a bound of the least delay.

    Attributes
    ----------
    delay, energy : float
        Total delay in s and energy in J.
    accuracy : float
        Predicted accuracy: the share of images that are classified correctly.
    feasible : bool
        Whether accuracy, delay and energy meet the problem's limits.
    delay_bound : float
        Proven lower bound of the delay of all designs that meet accuracy and energy, in s: infinite if there are none,
        NaN from solvers that prove nothing.
    gap : float
        Share of `delay` that a faster design could save at most; NaN without a proof.
    nodes : int
        Boxes of designs that branch and bound has examined.
    """

    delay: float
    energy: float
    accuracy: float
    feasible: bool
    delay_bound: float = math.nan
    gap: float = math.nan
    nodes: int = 0


@dataclass(frozen=True)
class Outcomes:
    """What many designs yield: arrays of shape (n,), delays in s and energies in J.

    `accuracy` is the predicted share of images that are classified correctly; `feasible` says whether accuracy, delay
    and energy meet the problem's limits, up to `coinfer_gym.budgets.BUDGET_TOLERANCE`.
    """

    delay_device: NDArray[np.float64]
    delay_upload: NDArray[np.float64]
    delay_server: NDArray[np.float64]
    energy_device: NDArray[np.float64]
    energy_upload: NDArray[np.float64]
    energy_server: NDArray[np.float64]
    sent_values: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    feasible: NDArray[np.bool_]

    @property
    def delay(self) -> NDArray[np.float64]:
        """Total delay (eq. 2)."""
        return self.delay_device + self.delay_upload + self.delay_server

    @property
    def energy(self) -> NDArray[np.float64]:
        """Total energy."""
        return self.energy_device + self.energy_upload + self.energy_server


_OUTCOMES = tuple(each.name for each in fields(Outcomes))


@dataclass(frozen=True)
class LayerwiseProblem:
    """Least delay of one task: ``min T(c, S, P, p, f)`` with accuracy at least `accuracy_min` and energy at most E0.

    A design is a row ``cut, channels kept of each of G groups, channels sent, power, clock``; `row` and `decision`
    convert it, and `coinfer_gym.layerwise.designs.make_designs` makes it of ratios.

    Attributes
    ----------
    network : Network
    predictor : RegressionPredictor
        Trained for the same network.
    gain : float
        Channel power gain.
    delay_budget, energy_budget : float
        T0 in s and E0 in J; infinite for no budget, as in the paper.
    accuracy_min : float
        Least predicted accuracy.
    flops_per_cycle_device, ..., retained_min : float
        Device, server and link, see `coinfer_gym.layerwise.scenario.LayerwiseScenario`.
    snr_db : float, optional
        Signal-to-noise ratio in dB for a predictor that includes channel noise.
    cuts : tuple of (int, int), optional
        First and last cut that solvers may choose, all of them where None; ``(1, N - 1)`` is eq. 7. Any cut can be
        evaluated.

    Raises
    ------
    InvalidInputError
        If a number is out of range, the network does not have the cuts, or the predictor belongs to another network.
    """

    network: Network
    predictor: RegressionPredictor
    gain: float
    delay_budget: float
    energy_budget: float
    accuracy_min: float
    flops_per_cycle_device: float
    flops_per_cycle_server: float
    frequency_device_min: float
    frequency_device_max: float
    frequency_server: float
    pue_device: float
    pue_server: float
    kappa_device: float
    kappa_server: float
    bandwidth: float
    noise_density: float
    power_min: float
    power_max: float
    input_value_bits: float
    feature_value_bits: float
    retained_min: float
    snr_db: float | None = None
    cuts: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in (*HARDWARE_NAMES, "delay_budget", "energy_budget"):
            value = getattr(self, name)
            if not value > 0.0:
                raise InvalidInputError(name, value, "Give a positive number.")
        if not self.gain >= 0.0:
            raise InvalidInputError("gain", self.gain, "Give a power gain of at least 0.")
        last = self.network.cuts - 1
        if self.cuts is not None and not 0 <= self.cuts[0] <= self.cuts[1] <= last:
            raise InvalidInputError("cuts", self.cuts, f"Give a first and a last one of 0 to {last}.")
        noisy = self.snr_db is not None
        wanted = feature_names([group.name for group in self.network.groups], noisy)
        if self.predictor.features != wanted:
            remedy = f"Network {self.network.name!r} {'with' if noisy else 'without'} noise has {wanted}."
            field = f"predictor {self.predictor.name!r}: features"
            raise InvalidInputError(field, list(self.predictor.features), remedy)

    @cached_property
    def hardware(self) -> Records:
        """Device, server and link as compiled code reads them, shape (1,)."""
        record = np.zeros(1, HARDWARE)
        for name in HARDWARE_NAMES:
            record[name] = getattr(self, name)
        return record

    @property
    def allowed_cuts(self) -> range:
        """The cuts that solvers may choose."""
        first, last = self.cuts or (0, self.network.cuts - 1)
        return range(first, last + 1)

    @property
    def rate(self) -> float:
        """Uplink rate at full power in bit/s (eq. 1)."""
        return physics.transmission_rate(self.power_max, self.gain, self.bandwidth, self.noise_density)

    def row(self, decision: LayerwiseDecision) -> NDArray[np.float64]:
        """The design that a decision stands for, shape (G + 4,)."""
        try:
            ends = (decision.compression, decision.power, decision.frequency)
            ratios = np.array([decision.cut, *decision.retained, *ends], np.float64)
        except (AttributeError, TypeError, ValueError) as error:
            remedy = "Give a LayerwiseDecision or a solution; problem.decision(row) makes one."
            raise InvalidInputError("decision", decision, remedy) from error
        row: NDArray[np.float64] = make_designs(self.network, ratios[None])[0]
        return row

    def decision(self, row: NDArray[np.float64]) -> LayerwiseDecision:
        """The decision of a design, with the shares of channels that it keeps and sends."""
        designs = np.array(row, np.float64, ndmin=2)
        check_designs(self.network, designs)
        cut, *retained, compression, power, frequency = ratios_of(self.network, designs)[0].tolist()
        return LayerwiseDecision(int(cut), tuple(retained), compression, power, frequency)

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Least and largest ratios of a design, shape (G + 4,), see `coinfer_gym.layerwise.designs.make_designs`."""
        groups = self.network.groups
        share = 1.0 / max(group.channels for group in groups)
        lower = [0.0, *[self.retained_min] * len(groups), share, self.power_min, self.frequency_device_min]
        upper = [self.network.cuts - 1.0, *[1.0] * (len(groups) + 1), self.power_max, self.frequency_device_max]
        return np.array(lower), np.array(upper)

    @overload
    def evaluate(self, decision: LayerwiseDecision) -> LayerwiseSolution: ...

    @overload
    def evaluate(self, decision: NDArray[np.float64]) -> Outcomes: ...

    def evaluate(self, decision: Any) -> LayerwiseSolution | Outcomes:
        """What designs yield, whether or not they meet the limits: one decision, or rows of many designs.

        Parameters
        ----------
        decision : LayerwiseDecision, or ndarray of shape (n, G + 4)

        Returns
        -------
        LayerwiseSolution or Outcomes

        Raises
        ------
        InvalidInputError
            If a cut is outside ``0..N``, a ratio or the compression outside (0, 1], a row is not a design, or the
            power or the clock is not positive.
        """
        if not isinstance(decision, LayerwiseDecision):
            return self._evaluate_rows(np.ascontiguousarray(decision, np.float64))
        row = self.row(decision)
        outcome = self._evaluate_rows(row[None])
        given = vars(self.decision(row))
        found = {name: getattr(outcome, name).item() for name in ("delay", "energy", "accuracy", "feasible")}
        return LayerwiseSolution(**given, **found)

    def _evaluate_rows(self, designs: NDArray[np.float64]) -> Outcomes:
        check_designs(self.network, designs)
        count = len(designs)
        outcomes, feasible = np.empty((count, len(_OUTCOMES) - 1)), np.empty(count, np.bool_)
        _evaluate_rows(
            self.network.tables,
            self.predictor.tables,
            self.hardware,
            designs,
            self.gain,
            0.0 if self.snr_db is None else self.snr_db,
            (self.delay_budget, self.energy_budget, self.accuracy_min),
            np.empty((count, len(self.predictor.features))),
            outcomes,
            feasible,
        )
        return Outcomes(**dict(zip(_OUTCOMES, (*outcomes.T, feasible), strict=True)))


HARDWARE_NAMES = tuple(
    entry.name
    for entry in fields(LayerwiseProblem)
    if entry.type == "float" and entry.name not in ("gain", "delay_budget", "energy_budget", "accuracy_min")
)
HARDWARE = record_type(*HARDWARE_NAMES)
"""Constants of device, server and link, as compiled code reads them; field names and units of `LayerwiseProblem`."""


class Load(NamedTuple):
    """Load of a design: FLOPs of device and server, and the number and bits of the values that are sent."""

    flops_device: float
    flops_server: float
    values: float
    bits: float


@merged_kernel
def codec_flops(kept: float, sent: float, area: float, vector: int) -> tuple[float, float]:
    """FLOPs of an encoder and its decoder by Table I: convolutions of 1 x 1, or fully connected layers, and a ReLU.

    Mu et al. leave them out as negligible, but beside a strongly pruned network they are not.
    """
    if vector:
        return (2.0 * kept - 1.0) * sent, (2.0 * sent - 1.0) * kept + kept
    return 2.0 * area * (kept + 1.0) * sent, 2.0 * area * (sent + 1.0) * kept + area * kept


@merged_kernel
def load_of(network: NetworkTables, hardware: Records, designs: NDArray[np.float64], i: int) -> Load:
    """Load of the design in row `i`."""
    h, c = hardware[0], int(designs[i, 0])
    cut, pairs, last = network.cuts[c], network.pairs, network.cuts.shape[0] - 1
    on_device, in_all = 0.0, 0.0
    for p in range(pairs.shape[0]):
        product = kept_before(designs, i, pairs[p, 0]) * kept_before(designs, i, pairs[p, 1])
        on_device += network.prefix[c, p] * product
        in_all += network.prefix[last, p] * product
    on_server = in_all - on_device if c < last else 0.0
    kept, sent = kept_before(designs, i, cut.group), designs[i, SENT]
    if sent < kept:
        encoder, decoder = codec_flops(kept, sent, cut.area, cut.vector)
        on_device += encoder
        on_server += decoder
    values = cut.area * sent
    return Load(on_device, on_server, values, values * (h.feature_value_bits if c > 0 else h.input_value_bits))


@merged_kernel
def cost_device(h: Record, flops: float, frequency: float) -> tuple[float, float]:
    """Delay and energy of the device."""
    delay = physics.compute_delay(1.0, flops, frequency, h.flops_per_cycle_device)
    return delay, physics.compute_energy(1.0, flops, frequency, h.flops_per_cycle_device, h.pue_device, h.kappa_device)


@merged_kernel
def cost_upload(h: Record, gain: float, bits: float, power: float) -> tuple[float, float]:
    """Delay and energy of the upload; both are 0 if nothing is sent."""
    if bits == 0.0:
        return 0.0, 0.0
    delay = physics.upload_delay(bits, physics.transmission_rate(power, gain, h.bandwidth, h.noise_density))
    return delay, physics.energy_at(power, delay)


@merged_kernel
def cost_server(h: Record, flops: float) -> tuple[float, float]:
    """Delay and energy of the server."""
    f, c = h.frequency_server, h.flops_per_cycle_server
    return physics.compute_delay(1.0, flops, f, c), physics.compute_energy(
        1.0, flops, f, c, h.pue_server, h.kappa_server
    )


@merged_kernel
def evaluate(
    network: NetworkTables, hardware: Records, designs: NDArray[np.float64], i: int, gain: float
) -> tuple[float, float, float, float, float, float, float]:
    """Delays ``t_d, tau, t_s`` in s, energies ``e_d, e_tx, e_s`` in J, and values sent of the design in row `i`.

    Mu et al., eq. 2 (the sum of the delays), eq. 3 (device), eq. 4 (server) and eq. 5 (upload).
    """
    h, load = hardware[0], load_of(network, hardware, designs, i)
    delay_device, energy_device = cost_device(h, load.flops_device, designs[i, FREQUENCY])
    delay_upload, energy_upload = cost_upload(h, gain, load.bits, designs[i, POWER])
    delay_server, energy_server = cost_server(h, load.flops_server)
    return delay_device, delay_upload, delay_server, energy_device, energy_upload, energy_server, load.values


@kernel
def _evaluate_rows(
    network: NetworkTables,
    predictor: TreeTables,
    hardware: Records,
    designs: NDArray[np.float64],
    gain: float,
    snr_db: float,
    limits: tuple[float, float, float],
    features: NDArray[np.float64],
    outcomes: NDArray[np.float64],
    feasible: NDArray[np.bool_],
) -> None:
    """Write the first fields of `Outcomes` of every design to its row of `outcomes`, and whether it meets the limits.

    These are T0, E0 and the least accuracy.
    """
    for i in range(designs.shape[0]):
        row = evaluate(network, hardware, designs, i, gain)
        for k in range(7):
            outcomes[i, k] = row[k]
        write_features(network, designs, i, snr_db, features)
        accuracy = predict_row(predictor, features, i)
        outcomes[i, 7] = accuracy
        in_time, affordable = meets(row[0] + row[1] + row[2], limits[0]), meets(row[3] + row[4] + row[5], limits[1])
        feasible[i] = in_time and affordable and accuracy >= limits[2] - BUDGET_TOLERANCE
