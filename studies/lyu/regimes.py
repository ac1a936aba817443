"""Which cut is best over channel gain and delay budget, for multimodal and text-only prompts (claim L10 as a map)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from baselines.output import BLACK, ORANGE
from coinfer_gym import solve_exact_batch
from coinfer_gym.physics import from_db
from studies.drawing import INFEASIBLE, ON_DEVICE, label_columns, legend_below, panels
from studies.figure import Floats, Ints, Pictures, Study
from studies.lyu import problems
from studies.lyu.problems import KINDS, PROMPTS, QUALITY_TITLES, TOLERANCE, base_problem

NETWORK = "MPNet"
NAMES = ("rate_distortion", "magnitude_pruning")
GAINS_DB = (-130.0, -85.0)
DELAYS = (0.02, 3.0)  # s
SHAPE = (61, 49)
"""Gains and delay budgets of a map."""

_TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_STAR: dict[str, Any] = {"marker": "*", "color": "white", "markeredgecolor": BLACK, "markersize": 11, "linestyle": ""}


class Regimes(NamedTuple):
    """Best cut and quality over a map of shape ``(delays, gains)``."""

    # the axes, in dB and s
    gain_db: Floats
    delay_budget: Floats
    cut: Ints  # best cut; -1 if none is feasible
    # quality of the best cut and of both ends, NaN where infeasible
    quality: Floats
    on_server: Floats
    on_device: Floats


Key = tuple[str, str]
"""Prompt and quality of a map."""


def compute(names: Sequence[str] = NAMES, shape: tuple[int, int] = SHAPE) -> dict[Key, Regimes]:
    """Solve P1 over the maps, exactly; `shape` is the number of gains and of delay budgets."""
    gain_db, delays = np.linspace(*GAINS_DB, shape[0]), np.geomspace(*DELAYS, shape[1])
    gains, budgets = from_db(gain_db), delays[:, None]
    maps: dict[Key, Regimes] = {}
    for prompt in PROMPTS:
        for name in names:
            problem = base_problem(NETWORK, name, prompt)
            best, server, device = (
                solve_exact_batch(problem, gain=gains, delay_budget=budgets, cut=cut)
                for cut in (None, 0, problem.workload.cuts - 1)
            )
            cut = np.where(best["reason"] == 0, best["cut"], -1)
            values = (problems.feasible_values(problem, rows)[0] for rows in (best, server, device))
            maps[prompt, name] = Regimes(gain_db, delays, cut, *values)
    return maps


def kinds(regimes: Regimes) -> Ints:
    """Which of `KINDS` each point of a map is: an end unless an inner cut is better by more than rounding."""
    parts = (regimes.quality, regimes.on_server, regimes.on_device)
    best, server, device = (np.nan_to_num(part, nan=-1.0) for part in parts)
    return problems.judge_map(best, server, device, TOLERANCE, best)


def verdict(maps: Mapping[Key, Regimes]) -> dict[str, Any]:
    """What the maps say about claim L10."""
    measured = {key: _measure(regimes) for key, regimes in maps.items()}
    names = dict.fromkeys(name for _, name in maps)
    shares = {key: part["share_of_pruned"] for key, part in measured.items()}
    more = {name: shares["multimodal", name]["inner"] - shares["text", name]["inner"] for name in names}
    holds = {
        "L10 (map): multimodal prompts have a region where an inner cut beats both ends": all(
            shares["multimodal", name]["inner"] > 0.0 for name in names
        ),
        "L10 (map): that region is smaller for text-only prompts": all(value > 0.0 for value in more.values()),
    }
    by_title = {f"{prompt}, {QUALITY_TITLES[name]}": part for (prompt, name), part in measured.items()}
    base = base_problem(NETWORK, "rate_distortion")
    return {
        "holds": holds,
        "found": [f"{title}: {_describe(part)}" for title, part in by_title.items()],
        "measured": by_title,
        "limits": {"quality": TOLERANCE},
        "settings": {
            "network": NETWORK,
            "prompts": problems.prompt_bits(NETWORK),
            "gain_db": GAINS_DB,
            "delay_budget": DELAYS,
            "energy_budget": base.energy_budget,
            "shape": next(iter(maps.values())).cut.shape[::-1],
        },
    }


def _measure(regimes: Regimes) -> dict[str, Any]:
    """Shares of a map by kind, those of its feasible and pruned part, and the cuts that are best there."""
    kind = kinds(regimes)
    pruned = (kind != KINDS.index("infeasible")) & (kind != KINDS.index("unpruned"))
    inner = kind == KINDS.index("inner")
    ends = np.fmax(regimes.on_server, regimes.on_device)
    lead = (regimes.quality - np.nan_to_num(ends, nan=0.0))[inner]
    cuts, counts = np.unique(regimes.cut[pruned], return_counts=True)
    total = max(int(pruned.sum()), 1)
    return {
        "share_of_map": {name: float((kind == k).mean()) for k, name in enumerate(KINDS)},
        "share_of_pruned": {
            name: float((kind == KINDS.index(name)).sum() / total) for name in ("on_server", "inner", "on_device")
        },
        "points_by_best_cut": {str(cut): int(count) for cut, count in zip(cuts, counts, strict=True)},
        "largest_lead_of_inner": float(lead.max(initial=0.0)),
    }


def _describe(part: Mapping[str, Any]) -> str:
    """Shares of a map, in words."""
    share = part["share_of_pruned"]
    return (
        f"where the model must be pruned, an inner cut is best on {share['inner']:.1%} of the map, the server on "
        f"{share['on_server']:.1%}, the device on {share['on_device']:.1%}; an inner cut leads both ends by up to "
        f"{part['largest_lead_of_inner']:.3f}; points by best cut: {part['points_by_best_cut']}."
    )


def table(maps: Mapping[Key, Regimes]) -> list[list[Any]]:
    """All points, the header first."""
    columns = ("cut", "quality", "on_server", "on_device")
    rows: list[list[Any]] = [["prompt", "quality_name", "gain_db", "delay_budget", *columns]]
    for key, regimes in maps.items():
        for i, j in np.ndindex(regimes.cut.shape):
            cut, *values = (getattr(regimes, name)[i, j] for name in columns)
            rows.append([*key, regimes.gain_db[j], regimes.delay_budget[i], cut if cut >= 0 else "", *values])
    return rows


def draw(maps: Mapping[Key, Regimes]) -> Pictures:
    """A row of maps per prompt, a column per quality."""
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm, ListedColormap

    names = list(dict.fromkeys(name for _, name in maps))
    problem = base_problem(NETWORK, names[0])
    last = problem.workload.cuts - 1
    inner = colormaps["viridis"](np.linspace(0.25, 1.0, last - 1))
    colours = ListedColormap([ORANGE, *inner, ON_DEVICE])
    scale = BoundaryNorm(np.arange(-0.5, last + 1.0), last + 1)
    title = f"{NETWORK}: which cut is best, at {problem.energy_budget:g} J"
    size = (1.4 + 4.0 * len(names), 7.4)
    figure, axes = panels(title, size, len(PROMPTS), len(names), sharex=True, sharey=True)
    image: Any = None
    for prompt, row in zip(PROMPTS, axes, strict=True):
        for axis, name in zip(row, names, strict=True):
            image = _panel(axis, maps[prompt, name], colours, scale)
            axis.plot(10.0 * math.log10(problem.gain), problem.delay_budget, **_STAR)
        row[0].set_ylabel(f"{prompt} prompt\ndelay budget (s)")
    label_columns(axes, [QUALITY_TITLES[name] for name in names], "channel gain (dB)")
    bar = figure.colorbar(image, ax=axes, ticks=range(last + 1), pad=0.02)
    labels = ["0, on the server", *(str(cut) for cut in range(1, last)), f"{last}, on the device"]
    bar.ax.set_yticklabels(labels, fontsize=8.5)
    bar.set_label("best cut, blocks on the device")
    looks = {
        "infeasible": INFEASIBLE,
        "above: unpruned (several cuts tie, fastest shown)": {"color": BLACK, "linewidth": 1.3},
        "the scenario": _STAR,
    }
    legend_below(figure, looks, 3)
    return {"": figure}


def _panel(axis: Any, regimes: Regimes, colours: Any, scale: Any) -> Any:
    """One map; the colours of its cuts are returned as an image for the colour bar."""
    x, y = regimes.gain_db, regimes.delay_budget
    axis.patch.set(**INFEASIBLE)  # seen where no cut covers it
    cut = np.ma.masked_less(regimes.cut, 0)
    image = axis.pcolormesh(x, y, cut, cmap=colours, norm=scale, shading="nearest", rasterized=True)
    unpruned = (kinds(regimes) == KINDS.index("unpruned")).astype(float)
    if 0.0 < unpruned.mean() < 1.0:
        axis.contour(x, y, unpruned, levels=[0.5], colors=BLACK, linewidths=1.3)
    axis.grid(visible=False)
    axis.spines[:].set_visible(True)
    axis.set_yscale("log")
    axis.set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    axis.set_yticks([], minor=True)
    return image


STUDIES = (Study("regimes", compute, table, verdict, draw),)
