"""Scenarios of LAIM-v0 (large AI model): all constants of its world in SI units, shipped or from your own YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from coinfer_gym.files import shipped_names
from coinfer_gym.laim.predictor import AccuracyPredictor, load_predictor
from coinfer_gym.laim.problem import Problem, Tables, build_tables, check_quality
from coinfer_gym.laim.workload import Workload, load_workload
from coinfer_gym.scenario import WorldScenario, check_bounds, number, read_extended, read_model

__all__ = ["Scenario", "load_scenario", "shipped_scenarios"]

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

    # the network and what its pruning costs
    workload_name: str = Field(description="shipped workload or path of a YAML file", alias="workload")
    input_bits: Annotated[float | None, number("S_0", "bit", "raw sample; default: the workload's", 1.0, 1e15)] = None
    parameter_bits: Annotated[float, number("b", "bit", "bits per stored parameter", 0.01, 64.0)] = 32.0
    quality: str = Field("rate_distortion", description="quality in the reward")
    norm: str = Field("l1", description="norm of the rate-distortion bound")
    quality_scale: str = Field("", description="log, linear, or empty for the default of the quality")
    predictor_name: str | None = Field(
        None, description="quality 'accuracy': shipped predictor or path of a JSON file", alias="predictor"
    )
    retained_device_min: Annotated[float, number("rho_min", "1", "least ratio on the device", 1e-6, 1.0)] = 0.05
    retained_server_min: Annotated[float, number("rho_min", "1", "least ratio on the server", 1e-6, 1.0)] = 0.05

    # the server, whose clock is chosen too
    frequency_server_min: Annotated[float, number("f_s,min", "Hz", "lowest clock of the server", 1.0, 1e15)]
    frequency_server_max: Annotated[float, number("f_s,max", "Hz", "highest clock of the server", 1.0, 1e15)]

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        check_quality(self)  # a workload or a predictor that cannot be read fails here, not at the first use
        check_bounds(self, "frequency_server")
        return self

    @cached_property
    def workload(self) -> Workload:
        """The network, fed with the scenario's raw sample."""
        workload = load_workload(self.workload_name)
        return workload if self.input_bits is None else workload.with_input_bits(self.input_bits)

    @property
    def cuts(self) -> int:
        """Number of cuts to choose from."""
        return self.workload.cuts

    @cached_property
    def predictor(self) -> AccuracyPredictor | None:
        """Accuracy predictor that quality ``"accuracy"`` uses; None if the scenario names none."""
        return None if self.predictor_name is None else load_predictor(self.predictor_name)

    @cached_property
    def tables(self) -> Tables:
        """The constants of P1 as compiled code reads them."""
        return build_tables(self)

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
        shared = {name: getattr(self, name) for name in _PROBLEM_FIELDS}
        problem = Problem(
            gain=gain,
            delay_budget=self.delay_budget if delay_budget is None else delay_budget,
            energy_budget=self.energy_budget if energy_budget is None else energy_budget,
            **shared,
        )
        vars(problem)["tables"] = self.tables  # the same constants: building them anew costs more than solving P1
        return problem


_PROBLEM_FIELDS = tuple(
    name for name in Problem.__dataclass_fields__ if name not in ("gain", "delay_budget", "energy_budget")
)


def load_scenario(source: str | Path | Mapping[str, Any], **overrides: Any) -> Scenario:
    """Load a scenario by the name of a shipped one, the path of a YAML file, or a mapping of its fields.

    Parameters
    ----------
    source : str, Path or mapping
        For example ``"bert-multimodal"`` or ``"my/world.yaml"``.
    **overrides
        Fields to change, by name. Changing ``workload`` also resets ``input_bits`` and ``predictor``, unless these are
        given too.

    Returns
    -------
    Scenario

    Raises
    ------
    InvalidInputError
        If there is no such scenario, a key is unknown, or a value is out of range.
    """
    if "workload" in overrides:  # raw sample and measurements belong to the network
        overrides = {"input_bits": None, "predictor": None} | overrides
    return read_model(Scenario, _ShippedFiles(), source, overrides)


def shipped_scenarios() -> list[str]:
    """Names of the scenarios in the package, sorted."""
    return _ShippedFiles().names()


class _ShippedFiles:
    """The scenarios of LAIM-v0, a file each."""

    def names(self) -> list[str]:
        return shipped_names(_FOLDER, ".yaml")

    def read(self, name: str) -> dict[str, Any]:
        return read_extended(_FOLDER / f"{name}.yaml", self, Scenario.file_fields)
