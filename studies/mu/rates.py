"""Delay against the rate of the link, for all schemes (Mu et al., Figs. 7 and 8, claims M4 and M5).

The schemes have the cuts of eq. (7), and in a variant all of them. The table also has the delay of every scheme on
every device and link of Tables II and III.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from baselines.layerwise.rivals import fpgm_predictor
from studies.drawing import legend_below, panels
from studies.figure import Floats, Pictures, Study
from studies.mu import schemes
from studies.mu.schemes import ALL, DEVICES, EQ_7, LINKS, LOOKS, METHODS, NETWORKS, OWN, Choice, problem_at, range_text

RATES = tuple(float(rate) for rate in np.geomspace(1e4, 1e8, 9))
CURVES = tuple((network, device) for network in NETWORKS for device in ("rpi3b", "tk1"))
SAME = 0.01
"""Relative difference of delays that counts as a tie: a search may miss its optimum by so much."""

PAPER: dict[tuple[str, str], dict[str, tuple[float, float]]] = {
    ("alexnet", "rpi3b"): {"second": (1.1, 2.2), "worst": (14.5, 198.0)},
    ("alexnet", "tk1"): {"second": (1.1, 3.1), "worst": (51.2, math.inf)},
    ("regnet", "rpi3b"): {"second": (1.1, 2.7), "worst": (46.4, 141.0)},
    ("regnet", "tk1"): {"second": (1.1, 3.2), "worst": (47.4, 1e5)},
}
"""Least and largest ratio over the second best and over the worst; an infinite end is not legible."""

CLAIMS = {"alexnet": "M4", "regnet": "M5"}

Curves = dict[tuple[str, str, str], dict[str, list[Choice]]]
"""By network, device and cuts, by scheme, one for each rate."""

Links = dict[tuple[str, str, str], dict[str, Choice]]
"""By network, device and link, with the cuts of eq. (7)."""


class Data(NamedTuple):
    """What every scheme chooses."""

    rates: tuple[float, ...]  # of the curves, in bit/s
    # choices at these rates, and on every device and link of Tables II and III
    curves: Curves
    links: Links


def compute(
    rates: Sequence[float] = RATES,
    methods: Sequence[str] = METHODS,
    curves: Sequence[tuple[str, str]] = CURVES,
    devices: Sequence[str] = tuple(DEVICES),
    work: Path = Path("runs/figures/layerwise"),
    seed: int = 0,
) -> Data:
    """What every scheme chooses; the folder `work` keeps finished choices, so that an interrupted run can go on."""
    store = schemes.Store(work / "choices.json")
    over_rates: Curves = {
        (*curve, cuts): {method: [] for method in methods} for cuts in (EQ_7, ALL) for curve in curves
    }
    with tqdm(total=len(over_rates) * len(rates) * len(methods), desc="rates", unit="choice", disable=None) as bar:
        for (network, device, cuts), parts in over_rates.items():
            for rate in rates:
                problem = problem_at(network, device, rate, cuts=cuts)
                for method, choices in parts.items():
                    choices.append(store.choose(problem, method, seed))
                    bar.update()
    links: Links = {}
    networks = list(dict.fromkeys(network for network, _ in curves))
    for network, device, link in tqdm(list(product(networks, devices, LINKS)), desc="links", disable=None):
        problem = problem_at(network, device, LINKS[link], link)
        links[network, device, link] = {method: store.choose(problem, method, seed) for method in methods}
    return Data(tuple(rates), over_rates, links)


def delays(choices: Sequence[Choice]) -> Floats:
    """Delays in s."""
    return np.array([choice.delay for choice in choices])


def verdict(data: Data) -> dict[str, Any]:
    """What the choices say about claims M4 and M5.

    On the Raspberry Pi the paper lets All_Server be the fastest at the highest rates, and speaks of all others.
    """
    rates, curves, links = data
    holds: dict[str, bool] = {}
    found, measured = [], {}
    for (network, device, cuts), parts in curves.items():
        title = f"{CLAIMS[network]} ({NETWORKS[network]}, {DEVICES[device]}, {cuts})"
        part = judge({method: delays(choices) for method, choices in parts.items()}, rates)
        paper = PAPER[network, device]
        server = [k for k in range(len(rates)) if device == "rpi3b" and "All_Server" in part["fastest"][k]]
        second, worst = ([r for k, r in enumerate(part[each]) if k not in server] for each in ("second", "worst"))
        where = "at any rate" if device != "rpi3b" else "at any rate at which All_Server is not the fastest"
        holds[f"{title}: no scheme is faster than the proposed one {where}"] = min(second, default=0.0) >= 1.0 - SAME
        holds[f"{title}: there it leads the second best by the paper's least"] = (
            min(second, default=0.0) >= paper["second"][0]
        )
        holds[f"{title}: there it leads the worst by the paper's least"] = min(worst, default=0.0) >= paper["worst"][0]
        if device == "rpi3b":
            holds[f"{title}: All_Server is the fastest at the highest rate"] = len(rates) - 1 in server
        fastest = [f"{rate / 1e6:.3g}: {', '.join(part['fastest'][k])}" for k, rate in enumerate(rates)]
        found += [
            f"{title}: there over the second best {range_text(second)}; paper {range_text(paper['second'])}.",
            f"{title}: there over the worst {range_text(worst)}; paper {range_text(paper['worst'])}.",
            f"{title}: the fastest, by Mbit/s: {'; '.join(fastest)}.",
        ]
        chosen = {method: [choice.cut for choice in choices] for method, choices in parts.items()}
        measured[title] = part | {"paper": paper, "server_is_fastest_at": [rates[k] for k in server], "cuts": chosen}
    in_links: dict[str, Any] = {}
    for (network, device, link), choices in links.items():
        part = judge({method: delays([choice]) for method, choice in choices.items()}, [LINKS[link]])
        in_links[f"{network}, {device}, {link}"] = {name: values[0] for name, values in part.items()}
    for network in dict.fromkeys(key[0] for key in links):
        seconds = [part["second"] for name, part in in_links.items() if name.startswith(network)]
        title = f"{CLAIMS[network]} ({NETWORKS[network]}, Tables II and III, {EQ_7})"
        holds[f"{title}: no scheme is faster in any scenario"] = min(seconds) >= 1.0 - SAME
        found.append(f"{title}: over the second best {range_text(seconds)}.")
    problems = {network: problem_at(network, device, LINKS["4g"]) for network, device, _ in data.links}
    used = {network: fpgm_predictor(problem) for network, problem in problems.items()}
    settings = {
        "rates": data.rates,
        "predictors": schemes.predictors_used(problems),
        "predictor of FPGM": {k: "its own" if own else "that of all other schemes" for k, own in used.items()},
    }
    about = {"limits": {"same": SAME}, "settings": settings}
    return {"holds": holds, "found": found, "measured": measured | {"scenarios": in_links}, **about}


def judge(parts: Mapping[str, Floats], rates: Sequence[float]) -> dict[str, list[Any]]:
    """By rate: how much faster the proposed scheme is than the second best and than the worst, and who is fastest."""
    others = np.array([values for method, values in parts.items() if method != OWN])
    own = parts[OWN]
    best = np.fmin(np.nanmin(others, axis=0), own)
    fastest = [
        [method for method, values in parts.items() if values[k] <= best[k] * (1.0 + SAME)] for k in range(len(rates))
    ]
    return {
        "second": (np.nanmin(others, axis=0) / own).tolist(),
        "worst": (np.nanmax(others, axis=0) / own).tolist(),
        "fastest": fastest,
    }


def table(data: Data) -> list[list[Any]]:
    """All choices, the header first: those of the rates, then those of the links."""
    rows: list[list[Any]] = [["network", "device", "link", "cuts", "rate", "scheme", *Choice._fields[:-1]]]
    rates, curves, links = data

    for (network, device, cuts), parts in curves.items():
        for method, choices in parts.items():
            for rate, choice in zip(rates, choices, strict=True):
                rows.append([network, device, "", cuts, rate, method, *choice[:-1]])
    for (network, device, link), by_method in links.items():
        for method, one in by_method.items():
            rows.append([network, device, link, EQ_7, LINKS[link], method, *one[:-1]])
    return rows


def draw(data: Data) -> Pictures:
    """Delays above, the lead of the proposed scheme below; a column per network and device, a picture per cuts."""
    return {suffix: _draw(data, cuts) for suffix, cuts in {"": EQ_7, "_all_cuts": ALL}.items()}


def _draw(data: Data, cuts: str) -> Any:
    at = np.array(data.rates) / 1e6
    title = f"Delay against the rate, {cuts} (after Mu et al., Figs. 7 and 8)"
    curves = {key[:2]: parts for key, parts in data.curves.items() if key[2] == cuts}
    size, count = (3.9 * len(curves) + 0.6, 6.6), len(curves)
    figure, axes = panels(title, size, 2, count, {"hspace": 0.04}, sharex=True, height_ratios=(2.2, 1.0))
    for (upper, lower), ((network, device), parts) in zip(axes.T, curves.items(), strict=True):
        values = {method: delays(choices) for method, choices in parts.items()}
        for method, of_method in values.items():
            upper.plot(at, 1e3 * of_method, label=method, **schemes.line_look(method))
        part = judge(values, data.rates)
        lower.plot(at, part["second"], color=LOOKS[OWN]["color"], marker="o", markersize=4, label="second best")
        lower.plot(at, part["worst"], color="#888888", marker="s", markersize=4, label="worst")
        lower.axhline(1.0, color="#888888", linewidth=0.8, zorder=1)
        for axis in (upper, lower):
            axis.set_xscale("log")
            axis.set_yscale("log")
        upper.set_title(f"{NETWORKS[network]}, {DEVICES[device]}", fontsize=10)
        lower.set_xlabel("rate (Mbit/s)", fontsize=9)
    axes[0, 0].set_ylabel("delay (ms)", fontsize=9)
    axes[1, 0].set_ylabel("delay / that of\nthe proposed scheme", fontsize=9)
    axes[1, 0].legend(frameon=False, fontsize=8)
    legend_below(figure, axes[0, 0], 5)
    return figure


STUDIES = (Study("layerwise_rates", compute, table, verdict, draw),)
