"""Scenarios of LAIM-v0 (large AI model): all constants of its world in SI units, shipped or from your own YAML file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import shipped_names
from coinfer_gym.laim.outcome import Tables
from coinfer_gym.laim.predictor import AccuracyPredictor, load_predictor
from coinfer_gym.laim.problem import UNLIMITED, Problem, build_tables, check_quality, with_tables
from coinfer_gym.laim.spaces import component_of_cut
from coinfer_gym.laim.workload import Workload, load_workload
from coinfer_gym.scenario import WorldScenario, check_bounds, number, read_extended, read_model

_FOLDER = resources.files("coinfer_gym.laim") / "scenarios"


class Scenario(WorldScenario):
    """All constants of a world of LAIM-v0. Every field is also a keyword of ``gym.make``.

    Raises
    ------
    InvalidInputError
        Through `load_scenario`: if a key is unknown or a value is out of range.
    """

    family: ClassVar[str] = "laim"
    file_fields: ClassVar[tuple[str, ...]] = ("workload", "predictor", *WorldScenario.file_fields)
    belonging: ClassVar[Mapping[str, tuple[str, ...]]] = {"workload": ("input_bits", "predictor")}

    # the network and what its pruning costs
    workload_name: str = Field(description="shipped workload or path of a YAML file", alias="workload")
    input_bits: Annotated[
        float | None, number("S_0", "bit", "size of the raw sample; default: the workload's", 1.0, 1e15)
    ] = None
    value_bits: Annotated[
        int | None, number("b_a", "bit", "size of an activation value; default: the workload's", 1, 64)
    ] = None
    parameter_bits: Annotated[
        int | None, number("b", "bit", "size of a stored parameter, a whole number; default: the workload's", 1, 64)
    ] = None
    quality: str = Field("rate_distortion", description="quality in the reward")
    norm: str = Field("l1", description="norm of the rate-distortion bound")
    quality_scale: str = Field("", description="log, linear, or empty for the default of the quality")
    predictor_name: str | None = Field(
        None, description="quality 'accuracy': shipped predictor or path of a JSON file", alias="predictor"
    )
    retained_device_min: Annotated[float, number("rho_min", "1", "least retained ratio of the device", 1e-6, 1.0)] = (
        0.05
    )
    retained_server_min: Annotated[float, number("rho_min", "1", "least retained ratio of the server", 1e-6, 1.0)] = (
        0.05
    )

    sparsity_gain: Annotated[
        float, number("gamma", "1", "share of the FLOPs and reads of zeros that is saved", 0.0, 1.0)
    ] = 1.0

    # the radio beside the power that it radiates, and the network behind it; by default as in the paper
    amplifier_efficiency: Annotated[
        float, number("eps", "1", "radiated power relative to the amplifier's", 1e-6, 1.0)
    ] = 1.0
    circuit_power: Annotated[float, number("P_c", "W", "power of the radio's circuits while it sends", 0.0, 1e6)] = 0.0
    waiting_power_device: Annotated[
        float, number("P_wait", "W", "power of the device from the upload to the result", 0.0, 1e6)
    ] = 0.0
    rate_max: Annotated[float | None, number("r_max", "bit/s", "highest rate; none: no limit", 1e-3, 1e15)] = None
    snr_gap: Annotated[float, number("Gamma", "1", "factor of additional SNR that real codes need", 1.0, 1e9)] = 1.0
    round_trip: Annotated[float, number("", "s", "delay of the request and of the result's downlink", 0.0, 1e6)] = 0.0

    # static power and memories of both sides; by default as in the paper
    static_power_device: Annotated[
        float, number("P_d", "W", "static power of the device while it computes", 0.0, 1e6)
    ] = 0.0
    static_power_server: Annotated[
        float, number("P_s", "W", "static power of the server while it computes", 0.0, 1e6)
    ] = 0.0
    memory_bandwidth_device: Annotated[
        float | None, number("W_d", "byte/s", "bandwidth for weights; none: no limit", 1.0, 1e18)
    ] = None
    memory_bandwidth_server: Annotated[
        float | None, number("W_s", "byte/s", "bandwidth for weights; none: no limit", 1.0, 1e18)
    ] = None
    memory_capacity_device: Annotated[
        float | None, number("C_d", "byte", "memory for weights; none: no limit", 1.0, 1e18)
    ] = None
    memory_capacity_server: Annotated[
        float | None, number("C_s", "byte", "memory for weights; none: no limit", 1.0, 1e18)
    ] = None

    # the server, whose clock is chosen too
    frequency_server_min: Annotated[float, number("f_s,min", "Hz", "lowest clock of the server", 1.0, 1e15)]
    frequency_server_max: Annotated[float, number("f_s,max", "Hz", "highest clock of the server", 1.0, 1e15)]

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        check_quality(self)  # a workload or a predictor that cannot be read fails here, not at the first use
        check_bounds(self, "frequency_server")
        _check_memory(self)
        return self

    @classmethod
    def shipped(cls) -> list[str]:
        """Names of the shipped scenarios of this class, sorted."""
        return shipped_names(_FOLDER, ".yaml")

    @classmethod
    def read_shipped(cls, name: str) -> dict[str, Any]:
        """Fields of a shipped scenario, as its file and those that it extends give them."""
        return read_extended(_FOLDER / f"{name}.yaml", cls)

    @cached_property
    def workload(self) -> Workload:
        """The network, fed with the scenario's raw sample."""
        workload = load_workload(self.workload_name)
        if self.input_bits is not None:
            workload = workload.with_input_bits(self.input_bits)
        return workload if self.value_bits is None else workload.with_value_bits(self.value_bits)

    @property
    def cuts(self) -> int:
        """Number of cuts to choose from."""
        return self.workload.cuts

    @property
    def cut_components(self) -> NDArray[np.float64]:
        """Component of an action that stands for each cut, shape (cuts,)."""
        return np.array([component_of_cut(cut, self.cuts) for cut in range(self.cuts)])

    @cached_property
    def predictor(self) -> AccuracyPredictor | None:
        """Accuracy predictor that quality ``"accuracy"`` uses; None if the scenario names none."""
        return None if self.predictor_name is None else load_predictor(self.predictor_name)

    @cached_property
    def tables(self) -> Tables:
        """The constants of P1 as compiled code reads them."""
        return build_tables(SimpleNamespace(**self.constants))

    @property
    def constants(self) -> dict[str, Any]:
        """The fields of `Problem` that a task does not change."""
        values = {name: getattr(self, name) for name in _PROBLEM_FIELDS}
        values["parameter_bits"] = self.parameter_bits or self.workload.parameter_bits
        return values | {name: math.inf for name in UNLIMITED if values[name] is None}

    def problem(self, gain: float, delay_budget: float | None = None, energy_budget: float | None = None) -> Problem:
        """Problem P1 (Lyu et al., eq. 44) of one task in this world.

        Parameters
        ----------
        gain : float
            Channel power gain.
        delay_budget, energy_budget : float, optional
            Budgets in s and J; by default those of the scenario.

        Returns
        -------
        Problem
        """
        problem = Problem(
            gain=gain,
            delay_budget=self.delay_budget if delay_budget is None else delay_budget,
            energy_budget=self.energy_budget if energy_budget is None else energy_budget,
            **self.constants,
        )
        return with_tables(problem, self.tables)  # the same constants


def _check_memory(scenario: Scenario) -> None:
    """Raise `InvalidInputError` if no cut fits both memories, with what would do for one of them."""
    cuts = scenario.tables.cuts
    held = {side: cuts[f"retained_{side}_max"] > 0.0 for side in ("device", "server")}
    if (held["device"] & held["server"]).any():
        return
    device, server = cuts["bytes_device"][held["server"]].min(), cuts["bytes_server"][held["device"]].min()
    given = (scenario.memory_capacity_device, scenario.memory_capacity_server)
    remedy = (
        "No cut fits both memories with its least ratios. "
        f"Give memory_capacity_device {math.ceil(device)} bytes, or memory_capacity_server {math.ceil(server)}."
    )
    raise InvalidInputError("memory_capacity_device or memory_capacity_server", given, remedy)


_PROBLEM_FIELDS = tuple(
    name for name in Problem.__dataclass_fields__ if name not in ("gain", "delay_budget", "energy_budget")
)


def load_scenario(source: str | Path | Mapping[str, Any], /, **overrides: Any) -> Scenario:
    """Load a scenario by the name of a shipped one, the path of a YAML file, or a mapping of its fields.

    Parameters
    ----------
    source : str, Path or mapping
        For example ``"bert-multimodal"`` or ``"my/world.yaml"``.
    **overrides
        Fields to change, by name. Changing ``workload`` also resets ``input_bits`` and ``predictor``, unless these are
        given too; so it does in a file that extends another.

    Returns
    -------
    Scenario

    Raises
    ------
    InvalidInputError
        If there is no such scenario, a key is unknown, or a value is out of range.
    """
    return read_model(Scenario, source, overrides)


def shipped_scenarios() -> list[str]:
    """Names of the scenarios in the package, sorted."""
    return Scenario.shipped()
