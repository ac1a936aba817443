"""Delay against the rate of the link, for all schemes (Mu et al., Figs. 7 and 8, claims M4 and M5).

The table also has the delay of every scheme on every device and link of Tables II and III.
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
from studies.mu.schemes import (
    ALL,
    DEVICES,
    LINKS,
    LOOKS,
    METHODS,
    NETWORKS,
    OWN,
    Choice,
    Store,
    line_look,
    predictors_used,
    problem_at,
    range_text,
    ratio_range,
)

RATES = tuple(float(rate) for rate in np.geomspace(1e4, 1e8, 9))
SLOW = "CIA"
"""The scheme that learns anew for every problem, which takes about 20 s: it is run at fewer points."""

SLOW_RATES = RATES[::4]
SLOW_LINKS = ("4g",)
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

Curves = dict[tuple[str, str], dict[str, list[Choice | None]]]
"""By network and device, by scheme, one for each rate; None where a slow scheme was not run."""

Links = dict[tuple[str, str, str], dict[str, Choice | None]]
"""By network, device and link."""


class Data(NamedTuple):
    """What every scheme chooses."""

    rates: tuple[float, ...]  # of the curves, in bit/s
    # choices at these rates, and on every device and link of Tables II and III
    curves: Curves
    links: Links


def compute(
    rates: Sequence[float] = RATES,
    methods: Sequence[str] = METHODS,
    slow_rates: Sequence[float] = SLOW_RATES,
    slow_links: Sequence[str] = SLOW_LINKS,
    curves: Sequence[tuple[str, str]] = CURVES,
    devices: Sequence[str] = tuple(DEVICES),
    work: Path = Path("runs/figures/layerwise"),
    seed: int = 0,
) -> Data:
    """What every scheme chooses; the folder `work` keeps finished choices, so that an interrupted run can go on."""
    store = Store(work / "choices.json")
    networks = list(dict.fromkeys(network for network, _ in curves))
    over_rates: Curves = {curve: {method: [] for method in methods} for curve in curves}
    with tqdm(total=len(curves) * len(rates) * len(methods), desc="rates", unit="choice", disable=None) as bar:
        for (network, device), parts in over_rates.items():
            for rate in rates:
                problem = problem_at(network, device, rate, cuts=ALL)
                for method, choices in parts.items():
                    skipped = method == SLOW and rate not in slow_rates
                    choices.append(None if skipped else store.choose(problem, method, seed))
                    bar.update()
    links: Links = {}
    for network, device, link in tqdm(list(product(networks, devices, LINKS)), desc="links", disable=None):
        problem = problem_at(network, device, LINKS[link], link, ALL)
        links[network, device, link] = {
            method: None if method == SLOW and link not in slow_links else store.choose(problem, method, seed)
            for method in methods
        }
    return Data(tuple(rates), over_rates, links)


def delays(choices: Sequence[Choice | None]) -> Floats:
    """Delays in s, NaN where nothing was chosen."""
    return np.array([math.nan if choice is None else choice.delay for choice in choices])


def verdict(data: Data) -> dict[str, Any]:
    """What the choices say about claims M4 and M5; unlike in the paper, every scheme may send the image."""
    rates, curves, links = data
    holds: dict[str, bool] = {}
    found, measured = [], {}
    for (network, device), parts in curves.items():
        title = f"{CLAIMS[network]} ({NETWORKS[network]}, {DEVICES[device]})"
        part = judge({method: delays(choices) for method, choices in parts.items()}, rates)
        on_server = [rate for rate, choice in zip(rates, parts[OWN], strict=True) if choice and choice.cut == 0]
        paper = PAPER[network, device]
        holds[f"{title}: no scheme is faster than the proposed one at any rate"] = min(part["second"]) >= 1.0 - SAME
        inner = [ratio for ratio, choice in zip(part["second"], parts[OWN], strict=True) if choice and choice.cut > 0]
        lead, most = ratio_range(inner), ratio_range(part["worst"])
        holds[f"{title}: it leads the second best by the paper's least, wherever it does not send the image"] = (
            bool(inner) and lead[0] >= paper["second"][0]
        )
        holds[f"{title}: it leads the worst by the paper's least at every rate"] = most[0] >= paper["worst"][0]
        if device == "rpi3b":
            holds[f"{title}: All_Server is the fastest at the highest rate"] = "All_Server" in part["fastest"][-1]
        found += [
            f"{title}: over the second best {range_text(ratio_range(part['second']))} over all rates, "
            f"{range_text(lead)} where the image is not sent; paper {range_text(paper['second'])}.",
            f"{title}: over the worst {range_text(most)}; paper {range_text(paper['worst'])}.",
            f"{title}: the proposed scheme sends the image at {[rate / 1e6 for rate in on_server]} Mbit/s.",
        ]
        measured[title] = part | {"paper": paper, "sends_the_image_at": on_server}
    in_links: dict[str, Any] = {}
    for (network, device, link), choices in links.items():
        part = judge({method: delays([choice]) for method, choice in choices.items()}, [LINKS[link]])
        in_links[f"{network}, {device}, {link}"] = {name: values[0] for name, values in part.items()}
    for network in dict.fromkeys(key[0] for key in links):
        seconds = [part["second"] for name, part in in_links.items() if name.startswith(network)]
        holds[f"{CLAIMS[network]} ({NETWORKS[network]}, Tables II and III): no scheme is faster in any scenario"] = (
            min(seconds) >= 1.0 - SAME
        )
        found.append(
            f"{NETWORKS[network]}, Tables II and III: over the second best {range_text(ratio_range(seconds))}."
        )
    problems = {network: problem_at(network, device, LINKS["4g"]) for network, device, _ in data.links}
    used = {network: fpgm_predictor(problem) for network, problem in problems.items()}
    settings = {
        "rates": data.rates,
        "predictors": predictors_used(problems),
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
    columns = ["network", "device", "link", "rate", "scheme", "delay", "cut", "accuracy", "evaluations", "seconds"]
    rows: list[list[Any]] = [columns]
    rates, curves, links = data

    for (network, device), parts in curves.items():
        for method, choices in parts.items():
            for rate, choice in zip(rates, choices, strict=True):
                if choice is not None:
                    rows.append([network, device, "", rate, method, *choice[:-1]])
    for (network, device, link), by_method in links.items():
        for method, one in by_method.items():
            if one is not None:
                rows.append([network, device, link, LINKS[link], method, *one[:-1]])
    return rows


def draw(data: Data) -> Pictures:
    """Delays above, the lead of the proposed scheme below; a column per network and device."""
    at = np.array(data.rates) / 1e6
    title = "Delay against the rate (after Mu et al., Figs. 7 and 8)"
    size, count = (3.9 * len(data.curves) + 0.6, 6.6), len(data.curves)
    figure, axes = panels(title, size, 2, count, {"hspace": 0.04}, sharex=True, height_ratios=(2.2, 1.0))
    for (upper, lower), ((network, device), parts) in zip(axes.T, data.curves.items(), strict=True):
        values = {method: delays(choices) for method, choices in parts.items()}
        for method, of_method in values.items():
            there = ~np.isnan(of_method)
            upper.plot(at[there], 1e3 * of_method[there], label=method, **line_look(method))
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
    return {"": figure}


STUDIES = (Study("layerwise_rates", compute, table, verdict, draw),)
