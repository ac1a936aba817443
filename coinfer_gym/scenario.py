"""Scenarios: all constants of a world in SI units, checked, shipped or from your own YAML file."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, cast, get_args, get_origin

import gymnasium as gym
import numpy as np
import pydantic
from gymnasium.envs.registration import load_env_creator
from numpy.typing import NDArray
from pydantic import Field, model_validator

from coinfer_gym.checks import is_number
from coinfer_gym.errors import InvalidInputError, UnknownKeywordError, nearest
from coinfer_gym.files import is_path, paths_from, read_yaml


def number(symbol: str, unit: str, text: str, low: float, high: float) -> Any:
    """Field of a number. Its symbol, unit, meaning and range are used in checks, errors and the documentation."""
    return Field(description=text, ge=low, le=high, json_schema_extra={"symbol": symbol, "unit": unit})


Range = tuple[float, float]
"""Ends of a range that a budget is drawn from."""

_TRACES = {"channel": ("channel_trace", "channel_trace_column"), "arrivals": ("arrival_trace",)}
"""Fields that are read only where ``channel`` or ``arrivals`` is ``"trace"``."""

_MOST_PHASES = 1e6
"""Changes between the calm state and the burst in an episode, on average: more of them take seconds to draw."""

_DEEPEST = 32
"""Files that can extend one another in a chain."""

_PAGE = "https://coinfer-gym.github.io/coinfer-gym/scenarios/"

_Model = TypeVar("_Model", bound="WorldScenario")


class WorldScenario(pydantic.BaseModel, ABC):
    """Constants that every environment has: device, server, link, channel, arrivals, battery and reward."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    family: ClassVar[str]
    """Name of the environment family that this scenario is for."""
    file_fields: ClassVar[tuple[str, ...]] = ("channel_trace", "arrival_trace")
    """Keys whose value can be the path of a file."""
    belonging: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Keys that belong to the value of another key: a change of that one resets them, unless they are given too."""

    name: str = Field(description="name of the scenario")
    description: str = Field("", description="what the scenario represents")

    # the link
    bandwidth: Annotated[float, number("B", "Hz", "uplink bandwidth", 1.0, 1e12)]
    noise_density: Annotated[float, number("N0", "W/Hz", "noise power density at the receiver", 1e-30, 1.0)]
    power_min: Annotated[float, number("P_min", "W", "lowest transmit power", 1e-9, 1e6)]
    power_max: Annotated[float, number("P_max", "W", "highest transmit power", 1e-9, 1e6)]

    # device and server
    flops_per_cycle_device: Annotated[float, number("c_d", "FLOP/cycle", "throughput of the device", 1e-6, 1e15)]
    flops_per_cycle_server: Annotated[float, number("c_s", "FLOP/cycle", "throughput of the server", 1e-6, 1e15)]
    frequency_device_min: Annotated[float, number("f_d,min", "Hz", "lowest clock of the device", 1.0, 1e15)]
    frequency_device_max: Annotated[float, number("f_d,max", "Hz", "highest clock of the device", 1.0, 1e15)]
    pue_device: Annotated[float, number("eta_d", "1", "power usage effectiveness of the device", 1.0, 100.0)] = 1.0
    pue_server: Annotated[float, number("eta_s", "1", "power usage effectiveness of the server", 1.0, 100.0)] = 1.5
    kappa_device: Annotated[float, number("kappa_d", "W/Hz^3", "power coefficient of the device", 1e-40, 1.0)]
    kappa_server: Annotated[float, number("kappa_s", "W/Hz^3", "power coefficient of the server", 1e-40, 1.0)]

    # budgets of a task, fixed or drawn once per episode
    delay_budget: Annotated[float, number("T0", "s", "delay budget of a task", 1e-6, 1e5)]
    energy_budget: Annotated[float, number("E0", "J", "energy budget of a task", 1e-12, 1e12)]
    delay_budget_range: Range | None = Field(None, description="T0 drawn log-uniformly per episode, in s")
    energy_budget_range: Range | None = Field(None, description="E0 drawn log-uniformly per episode, in J")

    # the channel
    channel: Literal["fading", "constant", "trace"] = Field("fading", description="how the gain changes")
    reference_gain_db: Annotated[float, number("g0", "dB", "gain at 1 m", -200.0, 0.0)] = -40.0
    path_loss_exponent: Annotated[float, number("alpha", "1", "path-loss exponent", 0.0, 8.0)] = 3.0
    distance: Annotated[float, number("d", "m", "distance between device and server", 1.0, 1e9)] = 100.0
    block_duration: Annotated[
        float, number("dt", "s", "length of a coherence block, in which the gain is constant", 1e-6, 1e6)
    ] = 0.1
    shadowing_db: Annotated[float, number("sigma", "dB", "standard deviation of log-normal shadowing", 0.0, 30.0)] = 0.0
    shadowing_time: Annotated[float, number("T_s", "s", "time until its correlation falls to 1/e", 1e-6, 1e9)] = 10.0
    rician_factor: Annotated[
        float, number("K", "1", "line-of-sight relative to scattered power; 0: Rayleigh", 0.0, 1e6)
    ] = 0.0
    doppler: Annotated[float, number("f_D", "Hz", "Doppler spread; 0 freezes the fading", 0.0, 1e6)] = 1.0
    channel_trace: str | None = Field(None, description="CSV with time_s and gain_db, snr_db or throughput_mbps")
    channel_trace_column: Literal["gain_db", "snr_db", "throughput_mbps"] | None = Field(
        None, description="column that is read; default: the first of these three that the file has"
    )
    csi_delay: Annotated[float, number("", "s", "age of the observed gain", 0.0, 1e6)] = 0.0
    csi_noise_db: Annotated[float, number("", "dB", "standard error of the observed gain", 0.0, 30.0)] = 0.0

    # tasks and their queue
    arrivals: Literal["one_at_a_time", "poisson", "mmpp", "periodic", "trace"] = Field(
        "poisson", description="how tasks arrive; one_at_a_time: a task is always waiting"
    )
    arrival_rate: Annotated[float, number("", "1/s", "mean arrival rate; for mmpp, in the calm state", 1e-6, 1e9)] = 1.0
    burst_rate: Annotated[float, number("", "1/s", "mmpp: arrival rate in a burst", 1e-6, 1e9)] = 1.0
    calm_duration: Annotated[float, number("", "s", "mmpp: mean duration of the calm state", 1e-6, 1e9)] = 10.0
    burst_duration: Annotated[float, number("", "s", "mmpp: mean duration of a burst", 1e-6, 1e9)] = 10.0
    arrival_trace: str | None = Field(None, description="CSV with time_s, one row per arrival")
    tasks: Annotated[int, number("", "1", "tasks of an episode", 1, 100_000)] = 200
    queue_capacity: Annotated[int, number("", "1", "tasks that can wait; further ones are lost", 1, 64)] = 10
    patience: Annotated[float, number("", "T0", "age at which a task in service is abandoned", 1.0, 100.0)] = 2.0

    intensity_time: Annotated[
        float, number("", "s", "time constant of the observed estimate of the arrival rate", 1e-6, 1e9)
    ] = 4.0

    # the battery of the device
    battery_capacity: Annotated[
        float | None, number("", "J", "capacity of the battery; none: mains power", 1e-9, 1e12)
    ] = None
    battery_initial: Annotated[float, number("", "1", "charge at reset, as a share", 0.0, 1.0)] = 1.0
    harvest_power: Annotated[float, number("", "W", "power that recharges the battery", 0.0, 1e9)] = 0.0

    # the reward
    weight_delay: Annotated[float, number("w_T", "1", "highest penalty of a delay over its budget", 0.0, 1e3)] = 0.25
    weight_energy: Annotated[float, number("w_E", "1", "highest penalty of an energy over its budget", 0.0, 1e3)] = 0.25
    weight_drop: Annotated[float, number("w_drop", "1", "penalty of a task that is lost", 0.0, 1e3)] = 0.25

    @model_validator(mode="after")
    def _check_world(self) -> Self:
        check_bounds(self, "power")
        check_bounds(self, "frequency_device")
        for name in (name for name in type(self).model_fields if name.endswith("_range")):
            low, high = _limits(type(self), name)
            pair = getattr(self, name)
            if pair is not None and not low <= pair[0] <= pair[1] <= high:
                raise InvalidInputError(name, pair, _remedy(type(self), name))
        for switch, names in _TRACES.items():
            for name in names:
                if getattr(self, switch) != "trace" and getattr(self, name) is not None:
                    remedy = f"It is read only with {switch}='trace': add that, or leave {name} out."
                    raise InvalidInputError(name, getattr(self, name), remedy)
            if getattr(self, switch) == "trace" and getattr(self, names[0]) is None:
                raise InvalidInputError(names[0], None, f"{switch} is 'trace': give the path of a CSV file.")
        self._check_phases()
        return self

    def _check_phases(self) -> None:
        """Refuse bursts that come and go so fast that drawing them would not end."""
        tasks_of_cycle = self.calm_duration * self.arrival_rate + self.burst_duration * self.burst_rate
        if self.arrivals == "mmpp" and 2.0 * self.tasks > _MOST_PHASES * tasks_of_cycle:
            name = "calm_duration" if self.calm_duration <= self.burst_duration else "burst_duration"
            remedy = (
                f"Calm and burst bring {tasks_of_cycle:.3g} tasks on average, too few to draw {self.tasks}: at least "
                f"{2.0 * self.tasks / _MOST_PHASES:.3g} are needed. Raise the durations (s) or the rates (1/s)."
            )
            raise InvalidInputError(name, getattr(self, name), remedy)

    @classmethod
    @abstractmethod
    def shipped(cls) -> list[str]:
        """Names of the shipped scenarios of this class, sorted."""

    @classmethod
    @abstractmethod
    def read_shipped(cls, name: str) -> dict[str, Any]:
        """Fields of a shipped scenario."""

    @property
    @abstractmethod
    def cuts(self) -> int:
        """Number of cuts to choose from."""

    @property
    @abstractmethod
    def cut_components(self) -> NDArray[np.float64]:
        """Component of an action that stands for each cut, shape (cuts,)."""

    def __eq__(self, other: object) -> bool:
        """Whether both are of one class and set the same values."""
        return (
            isinstance(other, WorldScenario) and type(self) is type(other) and self.model_dump() == other.model_dump()
        )

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    @property
    def mean_gain_db(self) -> float:
        """Gain of the path alone in dB."""
        return self.reference_gain_db - 10.0 * self.path_loss_exponent * math.log10(self.distance)


def check_bounds(scenario: WorldScenario, name: str) -> None:
    """Raise InvalidInputError if the field ``{name}_min`` exceeds ``{name}_max``."""
    low, high = getattr(scenario, f"{name}_min"), getattr(scenario, f"{name}_max")
    if low > high:
        raise InvalidInputError(f"{name}_min", low, f"It must not exceed {name}_max, {high}.")


def read_model(model: type[_Model], source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any]) -> _Model:
    """Scenario of any class from a shipped name, the path of a YAML file, or a mapping of fields, with overrides.

    Raises
    ------
    InvalidInputError
        If there is no such scenario, a key is unknown, or a value is out of range.
    """
    origin, data = _read(source, model)
    fields = _fields(model)
    for key in data:
        if key not in fields:
            raise InvalidInputError(f"{origin}: key", key, _hint(key, fields))
    for key in overrides:
        if key not in fields:
            raise UnknownKeywordError(key, _KEYWORDS.get(key) or _hint(key, fields))
    data = _merge(data, overrides, model)
    for key, value in data.items():
        if key in model.file_fields and isinstance(value, os.PathLike):
            data[key] = value = _path_text(value)
        numbers = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
        if _is_numeric(model, fields[key]) and not all(map(is_number, numbers)):  # pydantic takes True and "5" for some
            raise InvalidInputError(f"{origin}: {key}", value, _remedy(model, fields[key]))
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, InvalidInputError):
            raise cause from error
        key = str(first["loc"][0])
        value = None if first["type"] == "missing" else data[key]
        raise InvalidInputError(f"{origin}: {key}", value, _remedy(model, fields[key], value)) from error


_KEYWORDS = {
    "max_episode_steps": "An episode ends with its tasks: give tasks=..., or make_vec(..., vectorization_mode='sync')."
}
"""What to give instead of keywords that other environments know."""


def _fields(model: type[WorldScenario]) -> dict[str, str]:
    """Names of the fields, by the keys that users give."""
    return {info.alias or name: name for name, info in model.model_fields.items()}


def _hint(key: object, fields: Mapping[str, str]) -> str:
    home = _home(lambda model: key in _fields(model))
    return f"{f'It is a field of {home}.' if home else nearest(str(key), fields)} All fields: {_PAGE}"


def _hint_name(name: str, model: type[WorldScenario]) -> str:
    home = _home(lambda other: name in other.shipped())
    return f"It is a scenario of {home}." if home else nearest(name, model.shipped())


def _home(has: Callable[[type[WorldScenario]], bool]) -> str:
    """Id of the first environment whose class of scenarios has something; empty where none has."""
    for name, spec in gym.registry.items():
        if name.startswith("coinfer_gym/") and isinstance(spec.entry_point, str):
            setup = getattr(load_env_creator(spec.entry_point), "setup", None)
            if setup is not None and has(setup.model):
                return name
    return ""


def _is_numeric(model: type[WorldScenario], name: str) -> bool:
    return model.model_fields[name.removesuffix("_range")].json_schema_extra is not None


def _limits(model: type[WorldScenario], name: str) -> tuple[float, float]:
    """Least and largest value of a field of a number, or of both ends of a range."""
    limits = model.model_fields[name.removesuffix("_range")].metadata
    least = next(limit.ge for limit in limits if hasattr(limit, "ge"))
    largest = next(limit.le for limit in limits if hasattr(limit, "le"))
    return least, largest


def _remedy(model: type[WorldScenario], name: str, value: object = None) -> str:
    """What a field can be, for errors."""
    info = model.model_fields[name]
    if _is_numeric(model, name):
        low, high = _limits(model, name)
        unit = cast(dict[str, str], model.model_fields[name.removesuffix("_range")].json_schema_extra)["unit"]
        span = f"from {low:g} to {high:g}{'' if unit == '1' else f' {unit}'}"
        if name.endswith("_range"):
            return f"Give [low, high] with low <= high, both {span}."
        return f"Give a {'whole ' if int in (info.annotation, *get_args(info.annotation)) else ''}number {span}."
    literals = [choice for part in (info.annotation, *get_args(info.annotation)) for choice in get_args(part)]
    choices = [choice for choice in literals if isinstance(choice, str)]
    if choices:
        return nearest(str(value), choices)
    return f"Give a list of {info.description}." if get_origin(info.annotation) is tuple else "Give text."


def _read(source: object, model: type[WorldScenario]) -> tuple[str, dict[str, Any]]:
    """Name for errors and fields of a scenario."""
    if isinstance(source, Mapping):
        return "scenario", dict(source)
    if isinstance(source, WorldScenario):
        remedy = "Give its fields, which env.spec can write: scenario=scenario.model_dump(mode='json', by_alias=True)."
        raise InvalidInputError("scenario", f"a {type(source).__name__}", remedy)
    if not isinstance(source, (str, os.PathLike)):
        raise InvalidInputError("scenario", source, "Give a name, the path of a YAML file, or a mapping of fields.")
    origin = f"scenario {os.fspath(source)!r}"
    if source in model.shipped():
        return origin, model.read_shipped(str(source))
    if not is_path(source):
        remedy = f"{_hint_name(str(source), model)} A file of your own has a suffix, as my.yaml."
        raise InvalidInputError("scenario", source, remedy)
    return origin, read_extended(Path(source), model)


def read_extended(path: Traversable, model: type[WorldScenario], within: tuple[str, ...] = ()) -> dict[str, Any]:
    """Fields of a YAML file over those of the scenario that it extends; paths in a file count from its folder.

    `model` knows the shipped scenarios and the keys whose value can be a path, `within` has the files that extend this
    one.

    Raises
    ------
    InvalidInputError
        If a file cannot be read, or the files extend one another in a circle.
    """
    data, folder = read_yaml(path, "scenario"), os.path.dirname(str(path))
    for key in model.file_fields:
        value = data.get(key)
        if isinstance(value, str) and (key.endswith("_trace") or is_path(value)):
            data[key] = os.path.join(folder, value)  # an absolute path stays as it is
    data |= {key: paths_from(value, folder) for key, value in data.items() if isinstance(value, list)}
    if "extends" not in data:
        return data
    base, field = data.pop("extends"), f"scenario {str(path)!r}: extends"
    if base in model.shipped():
        return _merge(model.read_shipped(base), data, model)
    if not (isinstance(base, str) and is_path(base)):
        raise InvalidInputError(field, base, f"{_hint_name(str(base), model)} Or give the path of a file.")
    file, within = os.path.join(folder, base), (*within, os.path.realpath(str(path)))
    if os.path.realpath(file) in within or len(within) == _DEEPEST:
        raise InvalidInputError(field, base, f"The files extend one another in a circle, or more than {_DEEPEST} deep.")
    return _merge(read_extended(Path(file), model, within), data, model)


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any], model: type[WorldScenario]) -> dict[str, Any]:
    """Fields with changes, without those of the base that belong to a value of before, as the file of a trace."""
    merged = {**base, **changes}
    reset = [names for switch, names in _TRACES.items() if str(changes.get(switch, "trace")) != "trace"]
    reset += [names for key, names in model.belonging.items() if key in changes]
    for name in (name for names in reset for name in names):
        if name in base and name not in changes:
            del merged[name]
    return merged


def _path_text(path: os.PathLike[str]) -> str:
    """A path as text that is not taken for the name of something shipped."""
    text = os.fspath(path)
    return text if is_path(text) else os.path.join(os.curdir, text)
