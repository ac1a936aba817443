"""Delay against the rate of the link, for all schemes (Mu et al., Figs. 7 and 8, claims M4 and M5).

Beside the curves stands what every scheme reaches on every device and link of Tables II and III.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from baselines.layerwise.rivals import fpgm_predictor
from baselines.output import render, style
from studies.figure import finish_axis, number_text, write_figure
from studies.mu.schemes import (
    DEVICES,
    LINKS,
    LOOKS,
    METHODS,
    NETWORKS,
    OWN,
    Choice,
    Floats,
    Store,
    predictors_used,
    problem_at,
    range_text,
    ratio_range,
)

RATES = tuple(float(rate) for rate in np.geomspace(1e4, 1e8, 9))
SLOW = "CIA"
"""The scheme that learns anew for every problem, about 20 s each: it stands at fewer points."""

SLOW_RATES = RATES[::4]
SLOW_LINKS = ("4g",)
CURVES = tuple((network, device) for network in NETWORKS for device in ("rpi3b", "tk1"))
SAME = 0.01
"""Relative difference of delays that counts as a tie: what a search may miss of its optimum."""

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


def make(
    folder: Path,
    *,
    rates: Sequence[float] = RATES,
    methods: Sequence[str] = METHODS,
    slow_rates: Sequence[float] = SLOW_RATES,
    slow_links: Sequence[str] = SLOW_LINKS,
    curves: Sequence[tuple[str, str]] = CURVES,
    devices: Sequence[str] = tuple(DEVICES),
    work: Path = Path("runs/figures/layerwise"),
    seed: int = 0,
) -> dict[str, bool]:
    """Compute and write ``layerwise_rates.{csv,json,png}``.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    rates : sequence of float
        Rates of the curves, bit/s.
    methods : sequence of str
        Schemes, `OWN` among them.
    slow_rates, slow_links : sequence
        Where `SLOW` is run.
    curves : sequence of (str, str)
        Networks and devices of the curves.
    devices : sequence of str
        Of the table.
    work : Path
        Folder of choices already made: it goes on where it was interrupted.

    Returns
    -------
    dict of str to bool
        Whether each part of the claims holds.
    """
    store = Store(work / "choices.json")
    networks = list(dict.fromkeys(network for network, _ in curves))
    over_rates = compute(store, rates, methods, slow_rates, curves, seed)
    over_links = compute_links(store, methods, slow_links, networks, devices, seed)
    judged = verdict(over_rates, over_links, rates)
    problems = {network: problem_at(network, devices[0], LINKS["4g"]) for network in networks}
    settings = {
        "rates": list(rates),
        "CIA": {"rates": list(slow_rates), "links": list(slow_links)},
        "predictors": predictors_used(problems),
        "predictor of FPGM": {
            network: "its own" if fpgm_predictor(problem) else "that of all other schemes"
            for network, problem in problems.items()
        },
        "seed": seed,
    }
    summary = {
        "claims": [CLAIMS[network] for network in networks],
        **judged,
        "limits": {"same": SAME},
        "settings": settings,
    }
    write_figure(folder, "layerwise_rates", table(over_rates, over_links, rates), summary, draw(over_rates, rates))
    holds: dict[str, bool] = judged["holds"]
    return holds


def compute(
    store: Store,
    rates: Sequence[float],
    methods: Sequence[str],
    slow_rates: Sequence[float],
    curves: Sequence[tuple[str, str]] = CURVES,
    seed: int = 0,
) -> Curves:
    """What every scheme chooses at every rate."""
    found: Curves = {curve: {method: [] for method in methods} for curve in curves}
    with tqdm(total=len(curves) * len(rates) * len(methods), desc="rates", unit="choice", disable=None) as bar:
        for (network, device), parts in found.items():
            for rate in rates:
                problem = problem_at(network, device, rate)
                for method, choices in parts.items():
                    skipped = method == SLOW and rate not in slow_rates
                    choices.append(None if skipped else store.choose(problem, method, seed))
                    bar.update()
    return found


def compute_links(
    store: Store,
    methods: Sequence[str],
    slow_links: Sequence[str],
    networks: Sequence[str],
    devices: Sequence[str],
    seed: int = 0,
) -> Links:
    """What every scheme chooses on every device over every link of Tables II and III."""
    found: Links = {}
    places = [(network, device, link) for network in networks for device in devices for link in LINKS]
    for network, device, link in tqdm(places, desc="links", unit="scenario", disable=None):
        problem = problem_at(network, device, LINKS[link], link)
        found[network, device, link] = {
            method: None if method == SLOW and link not in slow_links else store.choose(problem, method, seed)
            for method in methods
        }
    return found


def delays(choices: Sequence[Choice | None]) -> Floats:
    """Delays in s, NaN where nothing was chosen."""
    return np.array([math.nan if choice is None else choice.delay for choice in choices])


def verdict(curves: Curves, links: Links, rates: Sequence[float]) -> dict[str, Any]:
    """What the choices say about claims M4 and M5.

    The paper's schemes never send the image but for All_Server, which then wins at high rates; here all may, and the
    proposed one is then the same as All_Server.

    Returns
    -------
    dict
        ``holds``; ``found``, in words; ``measured``, the ratios by rate beside the ranges of the paper.
    """
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
    return {"holds": holds, "found": found, "measured": measured | {"scenarios": in_links}}


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


def table(curves: Curves, links: Links, rates: Sequence[float]) -> list[list[Any]]:
    """All choices, the header first: those of the rates, then those of the links."""
    columns = ["network", "device", "link", "rate", "scheme", "delay", "cut", "accuracy", "evaluations", "seconds"]
    rows: list[list[Any]] = [columns]

    def row(choice: Choice) -> list[Any]:
        numbers = (number_text(value) for value in (choice.delay, choice.accuracy))
        delay, accuracy = numbers
        return [delay, choice.cut, accuracy, choice.evaluations, f"{choice.seconds:.3g}"]

    for (network, device), parts in curves.items():
        for method, choices in parts.items():
            for rate, choice in zip(rates, choices, strict=True):
                if choice is not None:
                    rows.append([network, device, "", number_text(rate), method, *row(choice)])
    for (network, device, link), by_method in links.items():
        for method, one in by_method.items():
            if one is not None:
                rows.append([network, device, link, number_text(LINKS[link]), method, *row(one)])
    return rows


def draw(curves: Curves, rates: Sequence[float]) -> dict[str, bytes]:
    """Delays above, how far the proposed scheme is ahead below; a column per network and device.

    Returns
    -------
    dict of str to bytes
        Files by name.
    """
    from matplotlib.figure import Figure

    at = np.array(rates) / 1e6
    with style():
        figure = Figure(figsize=(3.9 * len(curves) + 0.6, 6.6))
        figure.set_layout_engine("constrained", hspace=0.04)
        axes = figure.subplots(2, len(curves), squeeze=False, sharex=True, height_ratios=(2.2, 1.0))
        for column, ((network, device), parts) in enumerate(curves.items()):
            upper, lower = axes[:, column]
            for method, choices in parts.items():
                values = delays(choices)
                there = ~np.isnan(values)
                # The proposed one below all others, wide: what lies on it is as fast.
                wide = {"linewidth": 4.0, "alpha": 0.45, "markersize": 7.0} if method == OWN else {"linewidth": 1.2}
                upper.plot(at[there], 1e3 * values[there], label=method, **{"markersize": 4.0} | LOOKS[method] | wide)
            part = judge({method: delays(choices) for method, choices in parts.items()}, rates)
            lower.plot(at, part["second"], color=LOOKS[OWN]["color"], marker="o", markersize=4, label="second best")
            lower.plot(at, part["worst"], color="#888888", marker="s", markersize=4, label="worst")
            lower.axhline(1.0, color="#888888", linewidth=0.8, zorder=1)
            for axis in (upper, lower):
                axis.set_xscale("log")
                axis.set_yscale("log")
                finish_axis(axis)
            upper.set_title(f"{NETWORKS[network]}, {DEVICES[device]}", fontsize=10)
            lower.set_xlabel("rate (Mbit/s)", fontsize=9)
        axes[0, 0].set_ylabel("delay (ms)", fontsize=9)
        axes[1, 0].set_ylabel("delay / that of\nthe proposed scheme", fontsize=9)
        axes[1, 0].legend(frameon=False, fontsize=8)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
        figure.suptitle("Delay against the rate (after Mu et al., Figs. 7 and 8)", fontsize=11)
        return {"layerwise_rates.png": render(figure)}
