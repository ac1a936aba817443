"""Scenarios of Cell-v0: a world of LAIM-v0 whose band and server several devices share, of one kind or of several."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.files import shipped_names
from coinfer_gym.laim.scenario import Scenario, load_scenario, shipped_scenarios
from coinfer_gym.scenario import Range, number, read_extended, read_model

SHARED = (
    "bandwidth",
    "noise_density",
    "flops_per_cycle_server",
    "frequency_server_min",
    "frequency_server_max",
    "pue_server",
    "kappa_server",
    "static_power_server",
    "memory_bandwidth_server",
    "memory_capacity_server",
    "queue_capacity",
)
"""Fields that belong to the cell: no kind of device has its own."""

_FOLDER = resources.files("coinfer_gym.cell") / "scenarios"


class CellScenario(Scenario):
    """All constants of a cell. Every field is also a keyword of ``gym.make``.

    Its fields are those of LAIM-v0, with the band and the server that the devices share, and those of the cell.

    Raises
    ------
    InvalidInputError
        Through `load_cell_scenario`: if a key is unknown or a value is out of range.
    """

    family: ClassVar[str] = "cell"
    belonging: ClassVar[Mapping[str, tuple[str, ...]]] = {**Scenario.belonging, "distance": ("distance_range",)}

    devices: Annotated[int, number("K", "1", "devices of the cell", 1, 64)] = 4
    distance_range: Range | None = Field(
        None, description="distance of each device, drawn uniformly over the ring's area per episode, in m"
    )
    share_min: Annotated[float, number("", "1", "least share of band and server that a device takes", 1e-3, 1.0)] = 0.02
    kinds: tuple[dict[str, Any], ...] = Field(
        (), description="kinds of device: each a mapping with `scenario`, a world of LAIM-v0, and fields that differ"
    )

    @model_validator(mode="after")
    def _check_cell(self) -> Self:
        if len(self.kinds) > self.devices:
            raise InvalidInputError("devices", self.devices, f"Give one device per kind at least: {len(self.kinds)}.")
        for place, given in enumerate(self.kinds):
            if "distance" in given and self.distance_range is not None:
                remedy = "The cell draws all distances from distance_range: change that, or give distance_range=None."
                raise InvalidInputError(f"kinds[{place}]: distance", given["distance"], remedy)
        for kind in self.members:  # a kind that cannot be read fails here, not at the first use
            if kind.channel == "trace" and self.distance_range is not None:
                remedy = "A recorded channel has its own distance: leave distance_range out, or give channel='fading'."
                raise InvalidInputError("distance_range", self.distance_range, remedy)
            if kind.tables.cuts["unpruned_delay_server"].any():
                remedy = "It keeps values at the server that each share would have to read again. Give another network."
                raise InvalidInputError(f"workload of {kind.name}", kind.workload_name, remedy)
        return self

    @classmethod
    def shipped(cls) -> list[str]:
        """Names of the cells, and of the worlds of LAIM-v0 that they may extend, sorted."""
        return sorted([*shipped_cell_scenarios(), *Scenario.shipped()])

    @classmethod
    def read_shipped(cls, name: str) -> dict[str, Any]:
        """Fields of a shipped cell or world of LAIM-v0."""
        if name in Scenario.shipped():
            return Scenario.read_shipped(name)
        return read_extended(_FOLDER / f"{name}.yaml", cls)

    @cached_property
    def members(self) -> tuple[Scenario, ...]:
        """The world of LAIM-v0 of each kind of device, with all of the band and the server; one without kinds.

        The devices take them in turn: device `k` is of kind ``k % len(members)``.
        """
        own = {key: value for key, value in self.model_dump(by_alias=True).items() if key not in _CELL_FIELDS}
        if not self.kinds:
            return (load_scenario(own),)
        shared = {key: own[key] for key in SHARED}
        return tuple(_load_kind(place, dict(kind), own, shared) for place, kind in enumerate(self.kinds))


_CELL_FIELDS = tuple(name for name in CellScenario.model_fields if name not in Scenario.model_fields)
_KIND_KEYS = {info.alias or name for name, info in Scenario.model_fields.items()} | {"scenario"}


def _load_kind(place: int, given: dict[str, Any], own: dict[str, Any], shared: dict[str, Any]) -> Scenario:
    """One kind of device: a world of its own, or that of the cell, with what it changes."""
    for key in given:
        if key in SHARED or key in _CELL_FIELDS:
            raise InvalidInputError(f"kinds[{place}]: {key}", given[key], "All devices share it: give it to the cell.")
        if key not in _KIND_KEYS:
            remedy = (
                f"A kind has the fields, and the six components of an action, of LAIM-v0. {nearest(key, _KIND_KEYS)}"
            )
            raise InvalidInputError(f"kinds[{place}]: key", key, remedy)
    source = given.pop("scenario", own)
    if source is own:
        given.setdefault("name", f"{own['name']}, kinds[{place}]")
    elif source not in shipped_scenarios() and not str(source).endswith((".yaml", ".yml")):
        remedy = (
            "Give a world of LAIM-v0: a cell is no device, and other worlds have actions of another size. "
            f"{nearest(str(source), shipped_scenarios())}"
        )
        raise InvalidInputError(f"kinds[{place}]: scenario", source, remedy)
    try:
        return load_scenario(source, **given, **shared)
    except InvalidInputError as error:
        field = error.field.removeprefix("scenario: ")
        raise InvalidInputError(f"kinds[{place}]: {field}", error.value, error.remedy) from error


def load_cell_scenario(source: str | Path | Mapping[str, Any], /, **overrides: Any) -> CellScenario:
    """Load a scenario of Cell-v0 by name, path of a YAML file, or a mapping of its fields.

    Parameters
    ----------
    source : str, Path or mapping
        For example ``"cell-4"``. A world of LAIM-v0, as ``"bert-battery"``, is a cell of `devices` of its devices,
        unless its network is a language model that generates, as ``llama-8b``.
    **overrides
        Fields to change, by name.

    Raises
    ------
    InvalidInputError
        If there is no such scenario, a key is unknown, or a value is out of range.
    """
    return read_model(CellScenario, source, overrides)


def shipped_cell_scenarios() -> list[str]:
    """Names of the cells in the package, sorted."""
    return shipped_names(_FOLDER, ".yaml")
