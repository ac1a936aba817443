"""Scenarios: all constants of a world in SI units, checked, shipped or from your own YAML file."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, TypeVar

import pydantic
from pydantic import Field, model_validator

from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.files import read_yaml

__all__ = [
    "Shipped",
    "Range",
    "WorldScenario",
    "check_bounds",
    "number",
    "read_extended",
    "read_model",
]


def number(
    symbol: str,
    unit: str,
    text: str,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
) -> Any:
    """Field of a number. Its symbol, unit, meaning and range are used in checks, errors and the documentation."""
    return Field(description=text, ge=low, gt=above, le=high, json_schema_extra={"symbol": symbol, "unit": unit})


Range = tuple[float, float]

_Model = TypeVar("_Model", bound="WorldScenario")


class WorldScenario(pydantic.BaseModel, ABC):
    """Constants that every environment has: device, server, link, channel, arrivals, battery and reward."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    family: ClassVar[str]
    """Name of the environment family that this scenario is for."""
    file_fields: ClassVar[tuple[str, ...]] = ("channel_trace", "arrival_trace")
    """Keys whose value can be the path of a file."""

    name: str = Field(description="name of the scenario")
    description: str = Field("", description="what the scenario represents")

    # the link
    bandwidth: Annotated[float, number("B", "Hz", "uplink bandwidth", above=0)]
    noise_density: Annotated[float, number("N0", "W/Hz", "noise power density at the receiver", above=0)]
    power_min: Annotated[float, number("P_min", "W", "lowest transmit power", above=0)]
    power_max: Annotated[float, number("P_max", "W", "highest transmit power", above=0)]

    # device and server
    flops_per_cycle_device: Annotated[float, number("c_d", "FLOP/cycle", "device's throughput", above=0)]
    flops_per_cycle_server: Annotated[float, number("c_s", "FLOP/cycle", "server's throughput", above=0)]
    frequency_device_min: Annotated[float, number("f_d,min", "Hz", "lowest clock of the device", above=0)]
    frequency_device_max: Annotated[float, number("f_d,max", "Hz", "highest clock of the device", above=0)]
    pue_device: Annotated[float, number("eta_d", "1", "power usage effectiveness of the device", low=1)] = 1.0
    pue_server: Annotated[float, number("eta_s", "1", "power usage effectiveness of the server", low=1)] = 1.5
    kappa_device: Annotated[float, number("kappa_d", "W/Hz^3", "power coefficient of the device", above=0)]
    kappa_server: Annotated[float, number("kappa_s", "W/Hz^3", "power coefficient of the server", above=0)]

    # budgets of a task, fixed or drawn once per episode
    delay_budget: Annotated[float, number("T0", "s", "delay budget of a task", above=0)]
    energy_budget: Annotated[float, number("E0", "J", "energy budget of a task", above=0)]
    delay_budget_range: Range | None = Field(None, description="T0 drawn log-uniformly per episode, in s")
    energy_budget_range: Range | None = Field(None, description="E0 drawn log-uniformly per episode, in J")

    # the channel
    channel: Literal["fading", "constant", "trace"] = Field("fading", description="how the gain changes")
    reference_gain_db: Annotated[float, number("g0", "dB", "gain at 1 m", low=-200, high=0)] = -40.0
    path_loss_exponent: Annotated[float, number("alpha", "1", "path-loss exponent", low=0, high=8)] = 3.0
    distance: Annotated[float, number("d", "m", "distance between device and server", low=1)] = 100.0
    block_duration: Annotated[float, number("dt", "s", "coherence block of constant gain", above=0)] = 0.1
    shadowing_db: Annotated[float, number("sigma", "dB", "deviation of log-normal shadowing", low=0, high=30)] = 0.0
    shadowing_time: Annotated[float, number("T_s", "s", "time until its correlation falls to 1/e", above=0)] = 10.0
    rician_factor: Annotated[float, number("K", "1", "line-of-sight to scattered power; 0 is Rayleigh", low=0)] = 0.0
    doppler: Annotated[float, number("f_D", "Hz", "Doppler spread; 0 freezes the fading", low=0)] = 1.0
    channel_trace: str | None = Field(None, description="CSV with time_s and gain_db, snr_db or throughput_mbps")
    csi_delay: Annotated[float, number("", "s", "age of the observed gain", low=0)] = 0.0
    csi_noise_db: Annotated[float, number("", "dB", "standard error of the observed gain", low=0, high=30)] = 0.0

    # tasks and their queue
    arrivals: Literal["one_at_a_time", "poisson", "mmpp", "periodic", "trace"] = Field(
        "poisson", description="how tasks arrive; one_at_a_time: a task is always waiting"
    )
    arrival_rate: Annotated[float, number("", "1/s", "mean arrival rate; of mmpp in the calm state", above=0)] = 1.0
    burst_rate: Annotated[float, number("", "1/s", "mmpp: arrival rate in a burst", above=0)] = 1.0
    calm_duration: Annotated[float, number("", "s", "mmpp: mean duration of the calm state", above=0)] = 10.0
    burst_duration: Annotated[float, number("", "s", "mmpp: mean duration of a burst", above=0)] = 10.0
    arrival_trace: str | None = Field(None, description="CSV with time_s, one row per arrival")
    tasks: int = Field(200, ge=1, le=100_000, description="tasks of an episode")
    queue_capacity: int = Field(10, ge=1, le=64, description="tasks that can wait; further ones are lost")
    patience: Annotated[float, number("", "T0", "age at which a task in service is abandoned", low=1, high=100)] = 2.0

    intensity_time: Annotated[
        float, number("", "s", "time constant of the observed estimate of the arrival rate", above=0)
    ] = 4.0

    # the battery of the device
    battery_capacity: Annotated[float | None, number("", "J", "battery; none: mains power", above=0)] = None
    battery_initial: Annotated[float, number("", "1", "charge at reset, as a share", low=0, high=1)] = 1.0
    harvest_power: Annotated[float, number("", "W", "power that recharges the battery", low=0)] = 0.0

    # the reward
    weight_delay: Annotated[float, number("w_T", "1", "price of a relative excess in delay", low=0)] = 1.0
    weight_energy: Annotated[float, number("w_E", "1", "price of a relative excess in energy", low=0)] = 1.0
    weight_drop: Annotated[float, number("w_drop", "1", "price of a task that is lost", low=0)] = 1.0

    @model_validator(mode="after")
    def _check_world(self) -> Self:
        check_bounds(self, "power")
        check_bounds(self, "frequency_device")
        for name in ("delay_budget_range", "energy_budget_range"):
            pair = getattr(self, name)
            if pair is not None and not 0.0 < pair[0] <= pair[1]:
                raise InvalidInputError(name, pair, "Give [low, high] with 0 < low <= high.")
        for switch, path in (("channel", "channel_trace"), ("arrivals", "arrival_trace")):
            if getattr(self, switch) == "trace" and getattr(self, path) is None:
                raise InvalidInputError(path, None, f"{switch} is 'trace': give the path of a CSV file.")
        return self

    @property
    @abstractmethod
    def cuts(self) -> int:
        """Number of cuts to choose from."""

    def __eq__(self, other: object) -> bool:
        """Whether both are of one class and set the same values."""
        return (
            isinstance(other, WorldScenario) and type(self) is type(other) and self.model_dump() == other.model_dump()
        )

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    @property
    def noise_power(self) -> float:
        """Noise power ``N0 B`` in W."""
        return self.noise_density * self.bandwidth

    @property
    def mean_gain_db(self) -> float:
        """Gain of the path alone in dB."""
        return self.reference_gain_db - 10.0 * self.path_loss_exponent * math.log10(self.distance)


def check_bounds(scenario: WorldScenario, name: str) -> None:
    """Check that the field ``{name}_min`` does not exceed ``{name}_max``.

    Raises
    ------
    InvalidInputError
        If it does.
    """
    low, high = getattr(scenario, f"{name}_min"), getattr(scenario, f"{name}_max")
    if low > high:
        raise InvalidInputError(f"{name}_min", low, f"It must not exceed {name}_max, {high}.")


class Shipped(Protocol):
    """The shipped scenarios of one class."""

    def names(self) -> list[str]:
        """Names of the scenarios, sorted."""
        ...

    def read(self, name: str) -> dict[str, Any]:
        """Fields of one scenario."""
        ...


def read_model(
    model: type[_Model], shipped: Shipped, source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any]
) -> _Model:
    """Load a scenario of any class by the name of a shipped one, the path of a YAML file, or a mapping of its fields.

    Parameters
    ----------
    model : type
        `WorldScenario` or a class derived from it.
    shipped : Shipped
        The shipped scenarios of this class.
    source : str, Path or mapping
    overrides : mapping
        Fields to change, by name.

    Returns
    -------
    model

    Raises
    ------
    InvalidInputError
        If there is no such scenario, a key is unknown, or a value is out of range.
    """
    if isinstance(source, Mapping):
        origin, data = "scenario", dict(source)
    else:
        origin, data = _read(str(source), shipped, model.file_fields)
    data |= overrides
    fields = {info.alias or name: name for name, info in model.model_fields.items()}
    for key in data:
        if key not in fields:
            raise InvalidInputError(f"{origin}: key", key, nearest(str(key), fields))
    for key, value in data.items():
        if isinstance(value, bool):  # no field is one; YAML makes them of on, off, yes and no
            raise InvalidInputError(f"{origin}: {key}", value, "Give a number or a word.")
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, InvalidInputError):
            raise cause from error
        name = ".".join(str(part) for part in first["loc"])
        value = None if first["type"] == "missing" else first["input"]
        raise InvalidInputError(f"{origin}: {name}", value, f"{first['msg']}.") from error


def _read(source: str, shipped: Shipped, file_fields: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """Name for errors and content of a scenario. Paths in a file are relative to its folder."""
    origin = f"scenario {source!r}"
    if source in shipped.names():
        return origin, shipped.read(source)
    if not source.endswith((".yaml", ".yml")):
        hint = nearest(source, shipped.names())
        raise InvalidInputError("scenario", source, f"{hint} A file of your own ends in .yaml.")
    data = read_extended(Path(source), source, shipped)
    for key in file_fields:
        value = data.get(key)
        if isinstance(value, str) and value.endswith((".yaml", ".yml", ".csv", ".json")):
            data[key] = str(Path(source).parent / value)  # an absolute path stays as it is
    return origin, data


def read_extended(path: Traversable, source: str, shipped: Shipped) -> dict[str, Any]:
    """Fields of a YAML file, together with those of the shipped scenario that it extends."""
    data = read_yaml(path, "scenario")
    if "extends" not in data:
        return data
    base = data.pop("extends")
    if base not in shipped.names():
        raise InvalidInputError(f"scenario {source!r}: extends", base, nearest(str(base), shipped.names()))
    return shipped.read(base) | data
