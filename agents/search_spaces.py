"""Search spaces of hyperparameters, as the file of a study gives them to Optuna."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import Field

from baselines.checks import NUMBER, Checked, check_model
from coinfer_gym.errors import InvalidInputError

__all__ = ["Space", "read_spaces"]


_End = Annotated[int | float, NUMBER, Field(ge=-1e15, le=1e15)]


class _Interval(Checked):
    """Numbers from `low` to `high`, whole ones where both are."""

    low: _End
    high: _End
    log: bool = False
    schedule: Literal["lin"] | None = None

    def distribution(self) -> BaseDistribution:
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, self.log)
        return FloatDistribution(self.low, self.high, self.log)


class _Choices(Checked):
    """Values of any kind; Optuna knows them by their JSON."""

    choices: list[Any] = Field(min_length=1)
    schedule: Literal["lin"] | None = None

    def distribution(self) -> BaseDistribution:
        return CategoricalDistribution([json.dumps(choice) for choice in self.choices])


@dataclass(frozen=True)
class Space:
    """Where a hyperparameter is searched: names down to it, Optuna's distribution, what stands before a number."""

    path: tuple[str, ...]
    distribution: BaseDistribution
    schedule: str | None

    @property
    def name(self) -> str:
        """The path as one word."""
        return ".".join(self.path)

    @property
    def ends(self) -> list[Any]:
        """Outermost values as Optuna knows them, or all of a list."""
        found: Any = self.distribution
        return list(found.choices) if isinstance(found, CategoricalDistribution) else [found.low, found.high]

    def value(self, drawn: Any) -> Any:
        """Value of the hyperparameter for one that Optuna drew; three digits of a real number are enough."""
        if isinstance(self.distribution, CategoricalDistribution):
            drawn = json.loads(drawn)
        elif isinstance(drawn, float):
            drawn = float(f"{drawn:.3g}")
        return f"{self.schedule}_{drawn}" if self.schedule else drawn


def read_spaces(search: Mapping[str, Any], origin: str, path: tuple[str, ...] = ()) -> Iterator[Space]:
    """Spaces of a nested mapping: of a name to ``{low, high, log, schedule}``, to ``{choices}``, or to such a mapping.

    `InvalidInputError` is raised if a space has an unknown key, or is none.
    """
    for name, given in search.items():
        here = (*path, str(name))
        field = f"{origin}: search: {'.'.join(here)}"
        if not isinstance(given, Mapping) or not given:
            raise InvalidInputError(field, given, "Give {low: ..., high: ...} or {choices: [...]}.")
        if not {*_Choices.model_fields, *_Interval.model_fields} & given.keys():
            yield from read_spaces(given, origin, here)
            continue
        space = check_model(_Choices, given, field) if "choices" in given else check_model(_Interval, given, field)
        try:
            distribution = space.distribution()
        except (ValueError, TypeError) as error:
            raise InvalidInputError(field, dict(given), str(error)) from error
        yield Space(here, distribution, space.schedule)
