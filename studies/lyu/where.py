"""Where cutting pays: the best of all cuts over uplink rate, size of the device's chip and budget, for each network.

The device's chip is that of a phone, larger or smaller by a factor: work per cycle, memory bandwidth and power grow
together, so that an operation takes the same energy. The server is one card for one user. The energy budget lies
between what device and server take alone, and so does the delay budget, times a factor. Memory is as large as it takes,
but where a network's name says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from baselines.output import ORANGE
from coinfer_gym import Decision, Problem, load_scenario, solve_exact_batch
from coinfer_gym.records import Records
from studies.drawing import INFEASIBLE, ON_DEVICE, legend_below, panels
from studies.figure import Floats, Ints, Pictures, Study
from studies.lyu.problems import ALIKE, KINDS, judge_map

SCENARIO = "phone-llama-2026"
NETWORKS: dict[str, dict[str, Any]] = {
    "MPNet-base, photo": {"workload": "mpnet-base", "input_bits": 3.072e5, "parameter_bits": 8},
    "ViT-L, image": {"workload": "vit-large-336", "input_bits": 2.3e5, "parameter_bits": 8},
    "Llama 1 G": {"workload": "llama-1b"},
    "Llama 3 G": {"workload": "llama-3b"},
    "Llama 8 G": {"workload": "llama-8b"},
    "Llama 8 G, phone with 2 GB": {"workload": "llama-8b", "memory_capacity_device": 2e9},
    "Llama 8 G, 16 bit": {"workload": "llama-8b", "parameter_bits": 16},
}
"""What each network changes in the scenario."""

RATES = (1e6, 1e9)  # bit/s
SIZES = (1.0 / 16.0, 4.0)  # of the device's chip; a phone's is 1
SHAPE = (31, 25)
"""Rates and sizes of a map."""

BUDGETS = (0.5, 1.0, 2.0)
"""Delay budgets, relative to the geometric mean of what device and server take alone."""

TRIPS = (0.004, 0.03)
"""Round trips in s: within a building, and over a mobile network."""

_USUAL = 1e8  # bit/s; at which the server alone is timed for the budgets


class Map(NamedTuple):
    """One map, shape ``(sizes, rates)``."""

    rates: Floats  # bit/s
    sizes: Floats
    delay_budget: float  # s
    energy_budget: float  # J
    cut: Ints  # best cut; -1 if none is feasible
    kind: Ints  # index of `KINDS`
    lead: Floats  # quality of the best cut over that of the better end
    # retained ratios of the best cut
    retained_device: Floats
    retained_server: Floats


Key = tuple[str, float, float]
"""Network, round trip and relative delay budget of a map."""


def compute(
    networks: Sequence[str] = tuple(NETWORKS), shape: tuple[int, int] = SHAPE, budgets: Sequence[float] = BUDGETS
) -> dict[Key, Map]:
    """Solve P1 over the maps, exactly; `shape` is the number of rates and of sizes."""
    rates, sizes = np.geomspace(*RATES, shape[0]), np.geomspace(*SIZES, shape[1])
    maps: dict[Key, Map] = {}
    for network in networks:
        for trip in TRIPS:
            phone = problem_of(network, trip)
            delay, energy = middle(phone)
            asked = np.array(budgets)[:, None] * delay
            rows = [
                [_solve(of_size(phone, size), rates, asked, energy, cut) for size in sizes]
                for cut in (None, 0, phone.workload.cuts - 1)
            ]
            best, server, device = (np.stack(part, axis=1) for part in rows)  # shape (budgets, sizes, rates)
            for k, budget in enumerate(budgets):
                cut = np.where(best[k]["reason"] == 0, best[k]["cut"], -1)
                kind, lead = judge(*(_quality(part[k]) for part in (best, server, device)))
                ratios = (best[k]["retained_device"], best[k]["retained_server"])
                maps[network, trip, budget] = Map(rates, sizes, float(asked[k, 0]), energy, cut, kind, lead, *ratios)
    return maps


def problem_of(network: str, trip: float) -> Problem:
    """P1 of a network on the phone, at full power, with as much memory as it takes or as its entry names."""
    changes = {"memory_capacity_device": None, "memory_capacity_server": None, "rate_max": None, "round_trip": trip}
    scenario = load_scenario(SCENARIO, **(changes | NETWORKS[network]))
    return replace(scenario.problem(1.0), power_min=scenario.power_max)


def of_size(problem: Problem, size: float) -> Problem:
    """The same problem with a device's chip of another size and the same efficiency."""
    names = ("flops_per_cycle_device", "kappa_device", "static_power_device", "memory_bandwidth_device")
    return replace(problem, **{name: size * getattr(problem, name) for name in names})


def gain_of(problem: Problem, rate: Floats | float) -> Any:
    """Channel gain at which full power gives a rate in bit/s."""
    noise = problem.noise_density * problem.bandwidth * problem.snr_gap
    return np.expm1(rate / problem.bandwidth * math.log(2.0)) * noise / problem.power_max


def middle(phone: Problem) -> tuple[float, float]:
    """Geometric means of what device and server take alone, at full clocks and unpruned: s and J."""
    full = (phone.power_max, phone.frequency_device_max, phone.frequency_server_max)
    gain = float(gain_of(phone, _USUAL))
    usual = replace(phone, gain=gain, memory_capacity_device=math.inf, memory_capacity_server=math.inf)
    ends = [usual.evaluate(Decision(cut, 1.0, 1.0, *full)) for cut in (0, phone.workload.cuts - 1)]
    return math.sqrt(ends[0].delay * ends[1].delay), math.sqrt(ends[0].energy * ends[1].energy)


def _solve(problem: Problem, rates: Floats, delays: Floats, energy: float, cut: int | None) -> Records:
    return solve_exact_batch(problem, gain_of(problem, rates), delays, energy, cut)


def _quality(rows: Records) -> Floats:
    quality: Floats = np.where(rows["reason"] == 0, rows["quality"], -1.0)
    return quality


def judge(best: Floats, server: Floats, device: Floats) -> tuple[Ints, Floats]:
    """Which of `KINDS` each point is, and by how much the best cut leads the better end; -1 is infeasible."""
    ends = np.maximum(server, device)
    kind = judge_map(best, server, device, ALIKE, ends)
    return kind, np.maximum(best, 0.0) - np.maximum(ends, 0.0)


def verdict(maps: Mapping[Key, Map]) -> dict[str, Any]:
    """Where an inner cut is better than both ends by more than `ALIKE`, and by how much."""
    found: list[str] = []
    share: dict[tuple[str, float], float] = {}
    for (network, trip, _), each in maps.items():
        inner = each.kind == KINDS.index("inner")
        shares = {kind: float((each.kind == k).mean()) for k, kind in enumerate(KINDS)}
        share[network, trip] = share.get((network, trip), 0.0) + shares["inner"] / len({key[2] for key in maps})
        median = float(np.median(each.lead[inner])) if inner.any() else 0.0
        slowest = float(each.rates[inner.any(axis=0)].min()) / 1e6 if inner.any() else math.inf
        others = ", ".join(f"{kind} {shares[kind]:.0%}" for kind in KINDS if kind != "inner")
        ratios = (
            np.median(of[inner]) if inner.any() else math.nan for of in (each.retained_device, each.retained_server)
        )
        kept = " and ".join(f"{ratio:.2f}" for ratio in ratios)
        told = (
            f"pays on {shares['inner']:.0%} of the map, from {slowest:.3g} Mbit/s, by at most {each.lead.max():.3f}; "
            f"in the middle by {median:.3f}, with retained ratios {kept}"
        )
        found.append(
            f"{network}, round trip {trip:g} s, {each.delay_budget:.3g} s and {each.energy_budget:.3g} J: an inner cut "
            f"{told if inner.any() else 'never pays'}; {others}"
        )
    near, far = min(TRIPS), max(TRIPS)
    names = dict.fromkeys(network for network, _, _ in maps)
    return {
        "holds": {
            "near the server an inner cut pays somewhere, for every network": all(
                share[name, near] > 0.0 for name in names
            ),
            "a round trip of a mobile network halves where it pays, for every language model": all(
                share[name, far] <= 0.5 * share[name, near] for name in names if name.startswith("Llama")
            ),
        },
        "found": found,
        "share_of_inner": {f"{network}, {trip:g} s": value for (network, trip), value in share.items()},
        "limits": {"alike": ALIKE},
    }


def table(maps: Mapping[Key, Map]) -> list[list[Any]]:
    """All points, the header first."""
    rows: list[list[Any]] = [["network", "round_trip_s", "delay_budget_s", "size", "rate", "kind", "cut", "lead"]]
    rows[0] += ["retained_device", "retained_server"]
    for (network, trip, _), each in maps.items():
        for i, j in np.ndindex(each.kind.shape):
            cut = int(each.cut[i, j])
            point = (float(each.sizes[i]), float(each.rates[j]), KINDS[each.kind[i, j]], cut if cut >= 0 else "")
            values = (each.lead, each.retained_device, each.retained_server)
            rows.append([network, trip, each.delay_budget, *point, *(float(value[i, j]) for value in values)])
    return rows


def draw(maps: Mapping[Key, Map]) -> Pictures:
    """A row per network; columns by round trip and delay budget."""
    from matplotlib.colors import ListedColormap

    networks = list(dict.fromkeys(key[0] for key in maps))
    columns = list(dict.fromkeys(key[1:] for key in maps))
    title = "Where cutting pays: the best cut by uplink rate and size of the device's chip (a phone's is 1)"
    size = (1.6 + 2.0 * len(columns), 1.2 + 1.75 * len(networks))
    figure, axes = panels(title, size, len(networks), len(columns), sharex=True, sharey=True)
    flat, image = ListedColormap([ORANGE, ON_DEVICE, "#dddddd"]), None
    for row, network in zip(axes, networks, strict=True):
        for axis, column in zip(row, columns, strict=True):
            each = maps[network, *column]
            axis.patch.set(**INFEASIBLE)  # seen where nothing is feasible
            ends = {KINDS.index(name): k for k, name in enumerate(("on_server", "on_device", "unpruned"))}
            colour = np.vectorize(lambda kind, ends=ends: ends.get(kind, -1))(each.kind)
            mesh = {"shading": "nearest", "rasterized": True}
            x, y = each.rates / 1e6, each.sizes
            axis.pcolormesh(x, y, np.ma.masked_less(colour, 0), cmap=flat, vmin=-0.5, vmax=2.5, **mesh)
            inner = np.ma.masked_where(each.kind != KINDS.index("inner"), each.lead)
            image = axis.pcolormesh(x, y, inner, cmap="viridis", vmin=0.0, vmax=0.4, **mesh)
            axis.set(xscale="log", yscale="log")
            axis.grid(visible=False)
            axis.set_title(f"{each.delay_budget:.2g} s, {each.energy_budget:.2g} J", fontsize=7.5)
        row[0].set_ylabel(f"{network}\nchip size", fontsize=8)
    for axis, (trip, budget) in zip(axes[-1], columns, strict=True):
        axis.set_xlabel(f"uplink rate (Mbit/s)\nround trip {1e3 * trip:g} ms, budget x {budget:g}", fontsize=7.5)
    bar = figure.colorbar(image, ax=axes, pad=0.01, extend="max", shrink=0.6)
    bar.set_label("inner cut: lead over the better end", fontsize=8)
    colours = {"server": ORANGE, "device": ON_DEVICE, "an end runs it unpruned": "#dddddd"}
    looks = {label: {"facecolor": colour} for label, colour in colours.items()}
    legend_below(figure, {**looks, "infeasible": INFEASIBLE}, 4)
    return {"": figure}


STUDIES = (Study("where", compute, table, verdict, draw),)
