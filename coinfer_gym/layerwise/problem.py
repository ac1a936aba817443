"""The latency problem of Mu et al. (eqs. 6-9) for one task: what a decision costs and whether it is accurate enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.budgets import BUDGET_TOLERANCE, meets
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.layerwise.delay import HARDWARE, HARDWARE_NAMES, OUTCOME_NAMES, calculate
from coinfer_gym.layerwise.network import Network
from coinfer_gym.layerwise.predictor import RegressionPredictor, feature_names, write_features
from coinfer_gym.layerwise.trees import predict_row

__all__ = ["LayerwiseDecision", "LayerwiseProblem", "LayerwiseSolution", "Outcomes"]


@dataclass(frozen=True)
class LayerwiseDecision:
    """How one task is run.

    Attributes
    ----------
    cut : int
        Blocks on the device, from 0 (the image is sent) to N (nothing is sent).
    retained : tuple of float
        Retained ratio of each group in (0, 1].
    compression : float
        Share of the feature's channels or neurons that the encoder sends, in (0, 1]; 1 is without an encoder.
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
    """A decision and what it yields.

    Attributes
    ----------
    delay, energy : float
        Of the whole task, in s and J.
    accuracy : float
        Predicted share of images that are classified rightly.
    feasible : bool
        Whether accuracy, delay and energy meet the problem's limits.
    """

    delay: float
    energy: float
    accuracy: float
    feasible: bool


@dataclass(frozen=True)
class Outcomes:
    """What many designs yield; arrays of shape (n,), delays in s and energies in J."""

    delay_device: NDArray[np.float64]
    delay_upload: NDArray[np.float64]
    delay_server: NDArray[np.float64]
    energy_device: NDArray[np.float64]
    energy_upload: NDArray[np.float64]
    energy_server: NDArray[np.float64]
    sent_values: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def delay(self) -> NDArray[np.float64]:
        """Total delay (eq. 2)."""
        return self.delay_device + self.delay_upload + self.delay_server

    @property
    def energy(self) -> NDArray[np.float64]:
        """Total energy."""
        return self.energy_device + self.energy_upload + self.energy_server


@dataclass(frozen=True)
class LayerwiseProblem:
    """Least delay of one task: ``min T(c, S, P, p, f)`` with accuracy at least `accuracy_min` and energy at most E0.

    Attributes
    ----------
    network : Network
    predictor : RegressionPredictor
        Of the same network.
    gain : float
        Channel power gain.
    delay_budget, energy_budget : float
        T0 in s and E0 in J; infinite where there is none, as in the paper.
    accuracy_min : float
        Least predicted accuracy.
    snr_db : float, optional
        Ratio of signal to noise at which a predictor of a noisy channel is read.
    flops_per_cycle_device, ..., retained_min : float
        Device, server and link, see `coinfer_gym.layerwise.scenario.LayerwiseScenario`.

    Raises
    ------
    InvalidInputError
        If a number is out of range or the predictor is of another network.
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

    def __post_init__(self) -> None:
        for name in (*HARDWARE_NAMES, "delay_budget", "energy_budget"):
            value = getattr(self, name)
            if not value > 0.0:
                raise InvalidInputError(name, value, "Give a positive number.")
        if not self.gain >= 0.0:
            raise InvalidInputError("gain", self.gain, "Give a power gain of at least 0.")
        wanted = feature_names([group.name for group in self.network.groups], noisy=self.snr_db is not None)
        if self.predictor.features != wanted:
            raise InvalidInputError(
                f"predictor {self.predictor.name!r}: features",
                list(self.predictor.features),
                f"Network {self.network.name!r} {'with' if self.snr_db is not None else 'without'} noise has {wanted}.",
            )

    @cached_property
    def hardware(self) -> NDArray[np.void]:
        """Device, server and link as compiled code reads them, shape (1,)."""
        record = np.zeros(1, HARDWARE)
        for name in HARDWARE_NAMES:
            record[name] = getattr(self, name)
        return record

    @property
    def rate(self) -> float:
        """Uplink rate at full power in bit/s (eq. 1)."""
        snr = self.power_max * self.gain / (self.noise_density * self.bandwidth)
        return self.bandwidth * math.log1p(snr) / math.log(2.0)

    def row(self, decision: LayerwiseDecision) -> NDArray[np.float64]:
        """A decision as a row of designs, see `coinfer_gym.layerwise.delay`."""
        ends = (decision.compression, decision.power, decision.frequency)
        return np.array([decision.cut, *decision.retained, *ends], np.float64)

    def decision(self, row: NDArray[np.float64]) -> LayerwiseDecision:
        """The decision of a row."""
        cut, *retained, compression, power, frequency = np.asarray(row, np.float64).tolist()
        return LayerwiseDecision(int(cut), tuple(retained), compression, power, frequency)

    def evaluate(self, decision: LayerwiseDecision) -> LayerwiseSolution:
        """What a decision yields, whether or not it meets the limits.

        Raises
        ------
        InvalidInputError
            If the cut is outside ``0..N``, a ratio or the compression outside (0, 1], or a clock or the power is
            not positive.
        """
        outcome = self.evaluate_rows(self.row(decision)[None])
        delay, energy, accuracy = (float(each[0]) for each in (outcome.delay, outcome.energy, outcome.accuracy))
        given = {each.name: getattr(decision, each.name) for each in fields(LayerwiseDecision)}
        feasible = bool(self.meets_limits(outcome)[0])
        return LayerwiseSolution(**given, delay=delay, energy=energy, accuracy=accuracy, feasible=feasible)

    def evaluate_rows(self, rows: NDArray[np.float64]) -> Outcomes:
        """What many designs yield.

        Parameters
        ----------
        rows : ndarray, shape (n, G + 4)

        Raises
        ------
        InvalidInputError
            As `evaluate`.
        """
        designs = np.ascontiguousarray(rows, np.float64)
        self.check_rows(designs)
        count, groups = len(designs), len(self.network.groups)
        outcomes = np.empty((count, len(OUTCOME_NAMES) + 1))
        features = np.empty((count, len(self.predictor.features)))
        evaluate_rows(
            self.network.tables,
            self.predictor.tables,
            self.hardware,
            designs,
            self.gain,
            0.0 if self.snr_db is None else self.snr_db,
            np.empty((count, groups + 1)),
            features,
            outcomes,
        )
        return Outcomes(*outcomes.T)

    def meets_limits(self, outcomes: Outcomes) -> NDArray[np.bool_]:
        """Whether designs meet accuracy, delay and energy, up to `coinfer_gym.budgets.BUDGET_TOLERANCE`."""
        return (
            (outcomes.accuracy >= self.accuracy_min - BUDGET_TOLERANCE)
            & np.array([meets(delay, self.delay_budget) for delay in outcomes.delay], np.bool_)
            & np.array([meets(energy, self.energy_budget) for energy in outcomes.energy], np.bool_)
        )

    def check_rows(self, rows: NDArray[np.float64]) -> None:
        """Raise `InvalidInputError` unless the rows are designs of the network, see `evaluate_rows`."""
        names: Sequence[str] = [
            "cut",
            *(f"retained of {group.name}" for group in self.network.groups),
            "compression",
            "power",
            "frequency",
        ]
        if rows.ndim != 2 or rows.shape[1] != len(names):
            raise InvalidInputError("decision", rows.shape, f"Give {', '.join(names)}.")
        high = np.array([self.network.cuts - 1, *[1.0] * (len(names) - 3), math.inf, math.inf])
        bad = ~((rows > 0.0) & (rows <= high))
        bad[:, 0] = ~((rows[:, 0] >= 0.0) & (rows[:, 0] <= high[0]) & (rows[:, 0] == np.floor(rows[:, 0])))
        if bad.any():
            row, column = np.argwhere(bad)[0]
            end = "a positive number" if column >= len(names) - 2 else "a share in (0, 1]"
            remedy = f"Give a whole number in 0..{self.network.cuts - 1}." if column == 0 else f"Give {end}."
            raise InvalidInputError(names[column], float(rows[row, column]), remedy)


@kernel
def evaluate_rows(
    network: Any,
    predictor: Any,
    hardware: Any,
    designs: Any,
    gain: float,
    snr_db: float,
    widths: Any,
    features: Any,
    outcomes: Any,
) -> None:
    """Write `coinfer_gym.layerwise.delay.OUTCOME_NAMES` and the accuracy of every design to its row of `outcomes`."""
    for i in range(designs.shape[0]):
        row = calculate(network, hardware, designs, i, widths, gain)
        for k in range(7):
            outcomes[i, k] = row[k]
        write_features(designs, i, row[6], snr_db, features)
        outcomes[i, 7] = predict_row(predictor, features, i)
