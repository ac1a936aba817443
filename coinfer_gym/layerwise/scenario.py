"""Scenarios of Layerwise-v0: a network, a device (Table II), a link (Table III) and the world around them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from coinfer_gym.files import read_yaml
from coinfer_gym.layerwise.network import Network, load_network
from coinfer_gym.layerwise.predictor import RegressionPredictor, load_regression_predictor
from coinfer_gym.layerwise.problem import HARDWARE_NAMES, LayerwiseProblem
from coinfer_gym.layerwise.spaces import build_scale
from coinfer_gym.records import Records
from coinfer_gym.scenario import WorldScenario, number, read_model

NETWORKS = ("alexnet", "regnet")
DEVICES = ("rpi3b", "rpi4b", "tk1")
"""Raspberry Pi 3B+, Raspberry Pi 4B, NVIDIA Jetson TK1 (Table II)."""
LINKS = ("3g", "4g", "5g", "wifi")
"""Table III."""
DEVICES_TODAY = ("phone", "orin")
"""A phone and a Jetson Orin Nano of today; they have the server `SERVER_TODAY`."""
SERVER_TODAY = "l4"
LINKS_TODAY = ("5gtoday", "wifi6")
"""5G and Wi-Fi 6 as they are measured today; these go with the devices of today."""


class LayerwiseScenario(WorldScenario):
    """All constants of a world of Layerwise-v0. Every field is also a keyword of ``gym.make``."""

    family: ClassVar[str] = "layerwise"
    file_fields: ClassVar[tuple[str, ...]] = ("network", "predictor", *WorldScenario.file_fields)

    # the network and its accuracy
    network_name: str = Field(description="shipped network or path of a YAML file", alias="network")
    predictor_name: str = Field(description="shipped accuracy predictor or path of a JSON file", alias="predictor")
    accuracy_loss: Annotated[float, number("", "1", "largest allowed loss of predicted accuracy", 0.0, 1.0)] = 0.02
    retained_min: Annotated[float, number("rho_min", "1", "least retained ratio of a group", 1e-6, 1.0)] = 0.1
    input_value_bits: Annotated[float, number("", "bit", "size of an image value", 0.01, 64.0)] = 32.0
    feature_value_bits: Annotated[float, number("", "bit", "size of a feature value", 0.01, 64.0)] = 32.0

    frequency_server: Annotated[float, number("f_s", "Hz", "clock of the server", 1.0, 1e15)]

    # the reward
    weight_accuracy: Annotated[float, number("w_A", "1", "highest penalty of a low accuracy", 0.0, 1e3)] = 0.25

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        _ = self.predictor  # a network or a predictor that cannot be read fails here, not at the first use
        return self

    @classmethod
    def shipped(cls) -> list[str]:
        """Names of the shipped scenarios, sorted."""
        worlds = ((DEVICES, LINKS), (DEVICES_TODAY, LINKS_TODAY))
        return sorted("-".join(parts) for world in worlds for parts in itertools.product(NETWORKS, *world))

    @classmethod
    def read_shipped(cls, name: str) -> dict[str, Any]:
        """Fields of a scenario, composed of a base, a network, a device with its server, and a link."""
        content: dict[str, Any] = {"name": name}
        _, device, _ = parts = name.split("-")
        for part in ("base", *([SERVER_TODAY] if device in DEVICES_TODAY else []), *parts):
            content |= read_yaml(resources.files("coinfer_gym.layerwise").joinpath("parts", f"{part}.yaml"), "scenario")
        return content

    @cached_property
    def network(self) -> Network:
        """Layers and cuts of the network."""
        return load_network(self.network_name)

    @property
    def cuts(self) -> int:
        """Number of cuts to choose from."""
        return self.network.cuts

    @cached_property
    def action_scale(self) -> Records:
        """Cuts on the scale of actions, see `coinfer_gym.layerwise.spaces.build_scale`."""
        return build_scale(self.problem(10.0 ** (0.1 * self.mean_gain_db)))

    @property
    def cut_components(self) -> NDArray[np.float64]:
        """Component of an action that stands for each cut, shape (cuts,)."""
        middles: NDArray[np.float64] = self.action_scale["middle"][np.argsort(self.action_scale["cut"])]
        return middles

    @cached_property
    def predictor(self) -> RegressionPredictor:
        """Predictor of the accuracy of designs."""
        return load_regression_predictor(self.predictor_name, [group.name for group in self.network.groups])

    @property
    def accuracy_min(self) -> float:
        """Predicted accuracy that a task must reach."""
        return max(0.0, self.predictor.unpruned - self.accuracy_loss)

    def problem(
        self, gain: float, delay_budget: float | None = None, energy_budget: float | None = None
    ) -> LayerwiseProblem:
        """The latency problem of one task, by its power gain; budgets (s, J) default to the scenario's."""
        return LayerwiseProblem(
            network=self.network,
            predictor=self.predictor,
            gain=gain,
            delay_budget=self.delay_budget if delay_budget is None else delay_budget,
            energy_budget=self.energy_budget if energy_budget is None else energy_budget,
            accuracy_min=self.accuracy_min,
            **{name: getattr(self, name) for name in HARDWARE_NAMES},
        )


def load_layerwise_scenario(source: str | Path | Mapping[str, Any], /, **overrides: Any) -> LayerwiseScenario:
    """Load a scenario of Layerwise-v0 by name, path of a YAML file, or a mapping of its fields.

    Parameters
    ----------
    source : str, Path or mapping
        Shipped scenarios are called ``network-device-link``, for example ``"alexnet-rpi4b-4g"``, see `NETWORKS`,
        `DEVICES` and `LINKS`, or `DEVICES_TODAY` and `LINKS_TODAY`. A file may extend one of them.
    **overrides
        Fields to override, by name.

    Raises
    ------
    InvalidInputError
        If there is no such scenario, a key is unknown, or a value is out of range.
    """
    return read_model(LayerwiseScenario, source, overrides)


def shipped_layerwise_scenarios() -> list[str]:
    """Names of the shipped scenarios, sorted."""
    return LayerwiseScenario.shipped()
