"""Policies against load: the value of foresight as tasks come faster, and the distance to the clairvoyant bound.

The mean arrival rate of the shipped scenario is swept twice: with its bursts, whose two rates are scaled by a common
factor, and with Poisson arrivals. Rules with parameters were tuned in the default queue and keep these parameters
everywhere, as tuning at every load would take hours. So a part of their loss far from that rate is due to the tuning.

All policies meet the same worlds, so that differences are paired. A policy is *surely* better than another if the 95 %
interval of their mean difference lies above 0. With many loads a few such verdicts are due to chance.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from baselines.bootstrap import Estimate, paired_bootstrap
from baselines.compare import ROOT, compare, load_config
from baselines.output import BLACK, BLUE, GREEN, GRID, ORANGE, PURPLE, VERMILION
from coinfer_gym import InvalidInputError, load_scenario
from coinfer_gym.files import lock_folder, read_json
from coinfer_gym.world import mean_arrival_rate
from studies.agents.bounds import clairvoyant_bounds
from studies.drawing import legend_below, log_ticks, panels
from studies.figure import Pictures, Study, require

SCENARIO = "bert-multimodal"
RATES = (0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 4.0, 5.0)
"""Mean arrival rates in 1/s, about the scenario's 2.5."""

WORLDS, TASKS = 40, 200
TUNED = dict.fromkeys(("mmpp", "poisson"), ROOT / "configs/tuned/queueing.json")
"""Tuned options by kind of arrivals: those of the default queue."""

POLICIES = {
    "myopic exact": (BLUE, "o", "-"),
    "slowdown": (ORANGE, "v", ":"),  # the same as the myopic optimum while its cap does not bind
    "queue budget": (PURPLE, "s", "-"),
    "predictive control": (VERMILION, "D", "-"),
    "stochastic DP": (GREEN, "^", "-"),
}
"""Colour, marker and line by policy."""

BEST, MYOPIC = "stochastic DP", "myopic exact"
SERIES = (*POLICIES, "clairvoyant", "clairvoyant bound")
"""Series of a `Sweep`: the policies, the result of the clairvoyant, and its upper bound."""

ROUNDING = 1e-9
"""How far rounding may lift a policy above the bound."""

_UNTUNED = {MYOPIC: {"policy": "myopic_exact"}, BEST: {"policy": "stochastic_dp"}}
_TITLES = {"mmpp": "bursts of tasks", "poisson": "Poisson arrivals"}


class Sweep(NamedTuple):
    """One kind of arrivals at some mean rates."""

    rates: NDArray[np.float64]  # shape (rates,): in 1/s
    # shape (series, worlds, rates): delivered quality per task, in the order of `SERIES`
    delivered: NDArray[np.float64]


def settings(arrivals: str, rate: float, tasks: int) -> dict[str, Any]:
    """Keyword arguments of the environment at a mean rate."""
    env: dict[str, Any] = {"scenario": SCENARIO, "tasks": tasks, "arrivals": arrivals}
    if arrivals == "poisson":
        return env | {"arrival_rate": rate}
    scenario = load_scenario(SCENARIO, arrivals=arrivals)
    factor = rate / mean_arrival_rate(scenario)
    return env | {"arrival_rate": factor * scenario.arrival_rate, "burst_rate": factor * scenario.burst_rate}


def tuned_policies(
    path: Path, labels: Iterable[str] = POLICIES, untuned: Mapping[str, dict[str, Any]] = _UNTUNED
) -> dict[str, dict[str, Any]]:
    """Policies by label as a configuration names them, with the options that a tuning has found."""
    require([path], f"python -m baselines.tune configs/tune/{path.stem}.yaml --publish")
    rules = read_json(path, "tuned")["rules"]
    policies = {}
    for label in labels:
        if label not in untuned and label not in rules:
            raise InvalidInputError("tuned", str(path), f"It holds no options for {label!r}.")
        policies[label] = untuned.get(label) or {"policy": rules[label]["policy"], **rules[label]["options"]}
    return policies


def compute(
    rates: Sequence[float] = RATES,
    worlds: int = WORLDS,
    tasks: int = TASKS,
    seed: int = 0,
    jobs: int | None = None,
    work: Path = Path("runs/figures/load"),
) -> dict[str, Sweep]:
    """Play all policies at all rates, and bound each episode, for every kind of arrivals.

    `seed` is that of the first world. It takes one process per core unless `jobs` says otherwise. The folder `work`
    keeps finished worlds, so that an interrupted run can go on.
    """
    processes, sweeps = jobs or os.cpu_count() or 1, {}
    with lock_folder(work):
        for arrivals, file in tqdm(TUNED.items(), unit="kind of arrivals", disable=None):
            common = {"worlds": worlds, "seed": seed, "policies": tuned_policies(file)}
            parts = []
            for rate in rates:
                title = f"{SCENARIO}, {arrivals}, {rate:g} tasks per second"
                config = load_config({"title": title, "env": settings(arrivals, rate, tasks), **common})
                played = compare(config, work, processes).only(["delivered"]).values[:, :, 0]
                parts.append(np.concatenate([played, clairvoyant_bounds(config, work, processes)]))
            sweeps[arrivals] = Sweep(np.array(rates, dtype=np.float64), np.stack(parts, axis=-1))
    return sweeps


def estimates(swept: Sweep, reference: str) -> tuple[Estimate, Estimate]:
    """Mean delivered quality of shape (series, rates), and its difference to one series in the same worlds."""
    estimate, difference = paired_bootstrap(swept.delivered, SERIES.index(reference))
    return estimate, cast("Estimate", difference)


def verdict(sweeps: Mapping[str, Sweep]) -> dict[str, Any]:
    """What the sweeps say."""
    above: list[dict[str, Any]] = []
    beaten: list[dict[str, Any]] = []
    unpaid: list[dict[str, Any]] = []
    measured = {}
    for arrivals, swept in sweeps.items():
        played, bound = swept.delivered[: len(POLICIES)], swept.delivered[-1]
        excess = played - bound
        for i, label in enumerate(POLICIES):
            worst = excess[i].max(axis=0)
            above += [
                {"arrivals": arrivals, "rate": float(rate), "policy": label, "excess": float(worst[k])}
                for k, rate in enumerate(swept.rates)
                if worst[k] > ROUNDING
            ]
        mean, lead = estimates(swept, BEST)
        for i, label in enumerate(POLICIES):
            others = [_lead(arrivals, swept, label, lead, i, k) for k in range(len(swept.rates))]
            beaten += [entry for entry in others if entry["low"] > 0.0]
            unpaid += [entry for entry in others if label == MYOPIC and entry["high"] >= 0.0]
        share = mean.mean / mean.mean[-1]
        measured[arrivals] = {
            "rates": swept.rates.tolist(),
            "bound": mean.mean[-1].tolist(),
            "largest_gap_of_bounds": float((mean.mean[-1] - mean.mean[-2]).max()),
            "share_of_bound": {label: share[i].tolist() for i, label in enumerate(POLICIES)},
            "largest_excess_over_bound": float(excess.max()),
            "loads_where_surely_beaten_by_stochastic_dp": {
                label: int((lead.high[i] < 0.0).sum()) for i, label in enumerate(POLICIES) if label != BEST
            },
        }
    exceptions = {
        "no policy exceeds the clairvoyant bound in any world": above,
        "no rule is surely better than stochastic DP at any load": beaten,
        "stochastic DP is surely better than the myopic optimum at every load": unpaid,
    }
    holds = {part: not found for part, found in exceptions.items()}
    return {
        "holds": holds,
        "exceptions": exceptions,
        "measured": measured,
        "claim": "foresight pays under load, and no policy exceeds the clairvoyant bound",
        "policies": {arrivals: tuned_policies(path) for arrivals, path in TUNED.items()},
        "settings": {"scenario": SCENARIO},
    }


def _lead(arrivals: str, swept: Sweep, label: str, lead: Estimate, i: int, k: int) -> dict[str, Any]:
    """Lead of a policy over stochastic DP at one load."""
    numbers = {name: float(part[i, k]) for name, part in lead._asdict().items()}
    return {"arrivals": arrivals, "rate": float(swept.rates[k]), "policy": label, **numbers}


def table(sweeps: Mapping[str, Sweep]) -> list[list[Any]]:
    """The picture's data: the header, and a row per kind of arrivals, rate and series."""
    names = [f"{what}{part}" for what in ("", "less_bound_", "less_stochastic_dp_") for part in Estimate._fields]
    rows: list[list[Any]] = [["arrivals", "rate", "series", *names, "share_of_bound"]]
    for arrivals, swept in sweeps.items():
        (mean, to_bound), (_, to_best) = estimates(swept, SERIES[-1]), estimates(swept, BEST)
        for k, rate in enumerate(swept.rates):
            for i, label in enumerate(SERIES):
                numbers = [part[i, k] for estimate in (mean, to_bound, to_best) for part in estimate]
                numbers.append(mean.mean[i, k] / mean.mean[-1, k])
                rows.append([arrivals, f"{rate:g}", label, *(f"{number:.6f}" for number in numbers)])
    return rows


def draw(sweeps: Mapping[str, Sweep]) -> Pictures:
    """Delivered quality above, its distance to the clairvoyant bound below."""
    worlds = next(iter(sweeps.values())).delivered.shape[1]
    title = f"Quality against load, {SCENARIO}, {worlds} worlds, 95 % intervals"
    figure, axes = panels(title, (9.0, 7.0), 2, len(sweeps), {"wspace": 0.06}, sharex=True, sharey="row")
    for column, (arrivals, swept) in enumerate(sweeps.items()):
        _panels(axes[:, column], swept)
        axes[0, column].set_title(_TITLES[arrivals], fontsize=10)
        axes[1, column].set_xlabel("mean arrival rate (1/s)")
    axes[0, 0].set_ylabel("delivered quality per task (1)")
    axes[1, 0].set_ylabel("delivered quality relative to the bound (1)")
    legend_below(figure, axes[0, 0], 4)
    return {"": figure}


def _panels(axes: Any, swept: Sweep) -> None:
    """Both panels of one kind of arrivals."""
    mean, to_bound = estimates(swept, SERIES[-1])
    for axis, estimate in zip(axes, (mean, to_bound), strict=True):
        best = estimate.mean[: len(POLICIES)].max(axis=0)
        shade = {"color": GRID, "alpha": 0.5, "linewidth": 0, "label": "left by the best policy"}
        axis.fill_between(swept.rates, best, estimate.mean[-1], **shade)
        axis.plot(swept.rates, estimate.mean[-1], color=BLACK, linestyle="--", linewidth=1.2, label=SERIES[-1])
        for i, (name, (colour, marker, line)) in enumerate(POLICIES.items()):
            axis.fill_between(swept.rates, estimate.low[i], estimate.high[i], color=colour, alpha=0.15, linewidth=0)
            axis.plot(swept.rates, estimate.mean[i], line, color=colour, marker=marker, markersize=4, label=name)
        log_ticks(axis, swept.rates.tolist())


STUDIES = (Study("load", compute, table, verdict, draw),)
