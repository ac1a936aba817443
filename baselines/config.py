"""Configuration files of comparisons, read and checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
from pydantic import Field

from baselines.checks import Checked, check_model, naming
from baselines.registry import check_environment, find_policy
from baselines.rules import LAIM
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import paths_from, read_yaml

__all__ = ["DATA", "TUNING_OFFSET", "CompareConfig", "PolicyConfig", "expand_data", "load_comparisons", "load_config"]

DATA = "COINFER_DATA"
"""Environment variable that names the folder of recorded data."""

TUNING_OFFSET = 10_000_000
"""Seeds of the worlds that options are searched on, relative to those that policies are compared on."""

TRAIN, VALIDATION = range(10**9), range(10**9, 2 * 10**9)
"""Seeds of the worlds that agents train on, and of those that they are chosen on."""

TEST = range(2 * 10**9, 2 * 10**9 + 100)
"""Seeds of the worlds that every policy of `baselines.suite` is scored on."""

_DATA_FOLDER = "../shared/data"


class PolicyConfig(pydantic.BaseModel):
    """A policy by name; every other key is an option of it."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)

    policy: str
    worlds: int | None = Field(default=None, ge=1)
    """Number of worlds to play, the first ones, for a policy that is too slow to play all."""

    @property
    def options(self) -> dict[str, Any]:
        """The other keys."""
        return dict(self.model_extra or {})

    @pydantic.model_serializer
    def _as_given(self) -> dict[str, Any]:
        worlds = {} if self.worlds is None else {"worlds": self.worlds}
        return {"policy": self.policy, **worlds, **self.options}


class CompareConfig(Checked):
    """A configuration of a comparison; `load_config` reads and checks one."""

    title: str = "Comparison"
    environment: str = LAIM
    env: dict[str, Any] = Field(default_factory=dict)
    worlds: int = Field(ge=1, le=TUNING_OFFSET)
    seed: int = Field(0, ge=0)
    reference: str | None = None
    policies: dict[str, PolicyConfig] = Field(default_factory=dict)

    @property
    def keywords(self) -> dict[str, Any]:
        """Keyword arguments of the environment, with the folder of recorded data filled in."""
        return expand_data(self.env)

    def seeds(self, label: str) -> range:
        """Seeds of the worlds that a policy plays."""
        entry = self.policies.get(label)
        worlds = self.worlds if entry is None or entry.worlds is None else min(entry.worlds, self.worlds)
        return range(self.seed, self.seed + worlds)


def expand_data(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of an environment with the folder of recorded data filled in, if its file is there."""
    found = dict(keywords)
    for key, value in keywords.items():
        if isinstance(value, str) and f"${{{DATA}}}" in value:
            found[key] = value.replace(f"${{{DATA}}}", os.environ.get(DATA, _DATA_FOLDER))
            if not os.path.exists(found[key]):
                remedy = f"There is no such file: set the environment variable {DATA} to the folder of recorded data."
                raise InvalidInputError(key, found[key], remedy)
    return found


def load_config(source: str | Path | Mapping[str, Any], trust: Sequence[str] = ()) -> CompareConfig:
    """Read and check a configuration.

    Parameters
    ----------
    source : str, Path or mapping
        Path of a YAML file, or its content.
    trust : sequence of str
        Modules of your own that policies may come from.

    Raises
    ------
    InvalidInputError
        If a part of it cannot be used.
    """
    config = check_model(CompareConfig, source, "config")
    check_environment(config.environment, trust)
    for label, entry in config.policies.items():
        with naming(f"policies: {label}"):
            _check_path(entry)
            find_policy(entry.policy, trust)
    expand_data(config.env)
    return config


def load_comparisons(source: str | Path, trust: Sequence[str] = ()) -> dict[str, CompareConfig]:
    """Read and check a file of one comparison, which has the name "", or of several by name.

    A file of several holds them under ``comparisons``; keys beside it are defaults for all of them.

    Raises
    ------
    InvalidInputError
        If a part of it cannot be used.
    """
    common = paths_from(read_yaml(Path(source), "config"), os.path.dirname(source))
    if "comparisons" not in common:
        return {"": load_config(source, trust)}
    several = common.pop("comparisons")
    if not isinstance(several, Mapping) or not several or not all(isinstance(own, Mapping) for own in several.values()):
        raise InvalidInputError("config: comparisons", several, "Give a mapping from a name to its settings.")
    for name in several:
        if not str(name).replace("-", "").replace("_", "").isalnum():
            raise InvalidInputError("config: comparisons", name, "Use letters, digits, - and _ to name the folder.")
    return {str(name): load_config({**common, **own}, trust) for name, own in several.items()}


def _check_path(entry: PolicyConfig) -> None:
    """Raise `InvalidInputError` if a policy is to be loaded from where nothing is."""
    path = entry.options.get("path")
    if isinstance(path, str) and not os.path.exists(path):
        raise InvalidInputError(
            f"policy {entry.policy!r}: path",
            path,
            "No agent is there. Train it first: 'make bench' trains the one in runs/bench/agent, "
            "'python -m agents.train --help' shows how to train others.",
        )
