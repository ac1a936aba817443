"""What differs between environments wherever policies are compared; each environment describes itself in a `Family`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from baselines.journal import digest
from baselines.policy import Policy
from coinfer_gym import load_scenario, load_workload, shipped_scenarios
from coinfer_gym.cell.scenario import load_cell_scenario, shipped_cell_scenarios
from coinfer_gym.envs.reward import STEEPNESS, STEEPNESS_ACCURACY
from coinfer_gym.layerwise.scenario import (
    LayerwiseScenario,
    load_layerwise_scenario,
    shipped_layerwise_scenarios,
)
from coinfer_gym.scenario import WorldScenario

__all__ = [
    "COLUMNS",
    "DECISION",
    "FAMILIES",
    "Column",
    "Columns",
    "Family",
    "columns",
    "digest_scenario",
    "digest_shipped",
    "family_of",
    "scenario_of",
]

FAMILIES = {
    "laim": "baselines.laim",
    "layerwise": "baselines.layerwise.family",
    "cell": "baselines.cell.family",
}
"""Module that holds the `FAMILY` of each kind of scenario. A new environment adds one line here."""

Columns = Mapping[str, NDArray[Any]]
"""Decisions, an array of equal length per key of ``info``."""


class Column(NamedTuple):
    """How a number is shown: its title, its format, and the factor that brings it to the unit of the title."""

    title: str
    form: str
    factor: float = 1.0


COLUMNS = {
    "delivered": Column("delivered quality", "z.4f"),
    "on_time": Column("on time %", "z.1f", 100.0),
    "dropped": Column("dropped %", "z.2f", 100.0),
    "delay_s": Column("delay ms", "z.1f", 1e3),
    "service_s": Column("service ms", "z.1f", 1e3),
    "energy_j": Column("energy mJ", "z.2f", 1e3),
    "violated": Column("violated %", "z.1f", 100.0),
    "return": Column("return", "z.4f"),
    "decision_us": Column("decision us", ",.0f"),
}
"""How the metrics are shown that every environment has, see `baselines.rollout.metrics`."""

DECISION = {
    "time_s": Column("time s", "8.2f"),
    "device": Column("device", "6.0f"),
    "gain_db": Column("gain dB", "8.1f"),
    "queue_length": Column("waiting", "8.0f"),
    "delay_budget_s": Column("left s", "8.3f"),
    "band": Column("band %", "7.1f", 100.0),
    "server": Column("server %", "8.1f", 100.0),
    "cut": Column("cut", "5.0f"),
    "retained_device": Column("kept device", "11.3f"),
    "retained_server": Column("kept server", "11.3f"),
    "sent_values": Column("sent", "7.0f"),
    "accuracy": Column("accuracy", "9.4f"),
    "power_w": Column("power mW", "9.1f", 1e3),
    "delay_s": Column("delay s", "8.3f"),
    "energy_j": Column("energy mJ", "10.2f", 1e3),
    "quality": Column("quality", "8.3f"),
}
"""How `agents.play` shows what ``info`` has of a decision; each environment has some of it."""


def columns(known: Mapping[str, Column], *names: str, **own: Column) -> dict[str, Column]:
    """Some known columns in this order, and those of an environment's own."""
    return {name: own.get(name) or known[name] for name in names}


@dataclass(frozen=True)
class Family:
    """What one environment brings to a comparison.

    Attributes
    ----------
    metrics : mapping of str to Column
        What is measured in a world, and how it is shown; a comparison is about the first metric.
    policies : mapping of str to type
        Its policies by the names that configuration files use.
    references : mapping of str to dict
        Policies to compare an agent with, by label: name and options as in a configuration file.
    measure : callable
        Its own metrics, from the scenario and the decisions of an episode.
    reference : str
        Label of what an agent is compared with right after its training.
    act : callable
        Actions of that reference for the tasks at hand in a native vector environment.
    bounds : callable, optional
        See `quality_bounds`; None where no solver finds them, and the bounds are 0 and 1.
    keeps_budgets : bool
        Whether the wrappers ``BudgetShareAction`` and ``KeepBudgets`` work in it.
    decision : mapping of str to Column
        What is printed of a decision, by key of ``info``.
    """

    metrics: Mapping[str, Column]
    policies: Mapping[str, type[Policy]]
    references: Mapping[str, dict[str, Any]]
    measure: Callable[[Any, Columns], dict[str, float]]
    reference: str
    act: Callable[[Any], NDArray[np.float32]]
    bounds: Callable[[gym.Env[Any, Any]], tuple[float, float]] | None
    keeps_budgets: bool
    decision: Mapping[str, Column]

    def quality_bounds(self, env: gym.Env[Any, Any]) -> tuple[float, float]:
        """Bounds of what knowing the future could deliver per task in the running episode; the lower is attainable."""
        return (0.0, 1.0) if self.bounds is None else self.bounds(env)


def scenario_of(env: Any) -> Any:
    """Scenario of an environment or of the lanes of a vector environment, wrapped or not."""
    inner = env.unwrapped
    return inner.scenario if hasattr(inner, "scenario") else inner.envs[0].unwrapped.scenario


def family_of(scenario: Any) -> Family:
    """The family that a scenario belongs to."""
    family: Family = importlib.import_module(FAMILIES[scenario.family]).FAMILY
    return family


def digest_scenario(scenario: Any, learned: bool = False) -> str:
    """Digest of a world with its network and predictor; of what was `learned` there also with prices and scales.

    Prices, the form of the reward and the scale of actions count in no result of a policy that does not learn from
    them, but for the return. Fields at their defaults are left out, so that a new field leaves the digest as it was.
    """
    left_out = {"description", *WorldScenario.file_fields}
    fields = scenario.model_dump(mode="json", by_alias=True, exclude=left_out, exclude_defaults=True)
    kept = {key: value for key, value in fields.items() if learned or not key.startswith("weight_")}
    if "kinds" in kept:  # each has a network of its own
        kept["kinds"] = [digest_scenario(kind, learned) for kind in scenario.members]
    network = (scenario.workload if hasattr(scenario, "workload") else scenario.network).to_dict()
    predictor = [] if scenario.predictor is None else [scenario.predictor.to_dict() | {"description": ""}]
    form: list[Any] = [STEEPNESS] if learned else []
    if learned and isinstance(scenario, LayerwiseScenario):
        form += [STEEPNESS_ACCURACY, scenario.action_scale.tolist()]
    return digest([kept, network | {"description": ""}, *predictor, *form])


def digest_shipped(names: Iterable[str]) -> dict[str, str]:
    """Digests of shipped scenarios, and of workloads that are no scenario's name, by name."""
    load: dict[str, Any] = dict.fromkeys(shipped_layerwise_scenarios(), load_layerwise_scenario)
    load |= dict.fromkeys(shipped_scenarios(), load_scenario)
    load |= dict.fromkeys(shipped_cell_scenarios(), load_cell_scenario)
    return {
        name: digest_scenario(load[name](name)) if name in load else digest(load_workload(name).to_dict())
        for name in names
    }
