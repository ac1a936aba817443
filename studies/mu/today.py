"""Does splitting still pay? Proven optima between device and server against the ends, then and now.

An optimum between the ends computes something on both sides (the cuts of eq. (7)). At the ends the device or the server
is alone, and may prune too: the ends are proven optima of their cut.

Mu et al. leave out the round trip of a message. For the links of today it is known and added to what sends something.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

from tqdm import tqdm

from baselines.output import BLUE, GREY, VERMILION
from coinfer_gym.laim.scenario import load_scenario
from coinfer_gym.layerwise.optimum import solve_exact
from coinfer_gym.layerwise.scenario import DEVICES_TODAY, LINKS_TODAY
from studies.drawing import legend_below, panels
from studies.figure import Pictures, Study
from studies.mu.schemes import DEVICES, LINK_TITLES, LINKS, NETWORKS, predictors_used, problem_at, range_text

RATES = LINKS | dict(zip(LINKS_TODAY, (19.9e6, 600e6), strict=True))
"""Mean uplink rate of each link in bit/s."""

LAIM = dict(zip(LINKS_TODAY, ("phone-5g-2026", "phone-llama-2026"), strict=True))
"""Scenarios of LAIM-v0 that have the round trip of each link of today."""

TITLES = DEVICES | LINK_TITLES
TITLES |= {"phone": "phone", "orin": "Jetson Orin Nano", "5gtoday": "5G today", "wifi6": "Wi-Fi 6"}
WORLDS = {"Tables II and III": (tuple(DEVICES), tuple(LINKS)), "today": (DEVICES_TODAY, LINKS_TODAY)}
PAYS = 1.01
"""How many times as long the better end must take for splitting to pay."""

Key = tuple[str, str, str]
"""Network, device, link."""


class Ends(NamedTuple):
    """Proven optima of one scenario, delays in s."""

    device: float  # the device alone
    server: float  # the server alone
    between: float
    bound: float  # no accurate design between them is faster
    cut: int  # of the optimum between them
    round_trip: float  # of a message that is sent, in s; 0 if it is not known

    def gain(self, round_trip: float = 0.0) -> float:
        """How many times as long the better end takes as the optimum between them, with some round trip in s."""
        return min(self.device, self.server + round_trip) / (self.between + round_trip)


def compute(
    networks: Sequence[str] = tuple(NETWORKS), worlds: Sequence[str] = tuple(WORLDS), tolerance: float = 1e-3
) -> dict[Key, Ends]:
    """Solve every scenario of some worlds three times: at both ends, and between them."""
    keys = [key for world in worlds for key in product(networks, *WORLDS[world])]
    found = {}
    for network, device, link in tqdm(keys, desc="today", unit="scenario", disable=None):
        between = problem_at(network, device, RATES[link], link)
        last = between.network.cuts - 1
        alone = [solve_exact(replace(between, cuts=(cut, cut)), tolerance=tolerance) for cut in (last, 0)]
        best = solve_exact(between, tolerance=tolerance)
        device_alone, server_alone = (each.delay for each in alone)
        round_trip = load_scenario(LAIM[link]).round_trip if link in LAIM else 0.0
        found[network, device, link] = Ends(
            device_alone, server_alone, best.delay, best.delay_bound, best.cut, round_trip
        )
    return found


def verdict(found: Mapping[Key, Ends]) -> dict[str, Any]:
    """Where an optimum between the ends is faster than both."""
    holds: dict[str, bool] = {}
    sentences, measured = list[str](), dict[str, dict[str, dict[str, float]]]()
    for network, (world, (devices, _)) in product(dict.fromkeys(key[0] for key in found), WORLDS.items()):
        parts = {key: ends for key, ends in found.items() if key[0] == network and key[1] in devices}
        if not parts:
            continue
        gains = {key: ends.gain() for key, ends in parts.items()}
        pays = [key for key, gain in gains.items() if gain >= PAYS]
        title = f"{NETWORKS[network]}, {world}"
        holds[f"{title}: splitting pays in some scenario"] = bool(pays)
        where = [f"{TITLES[device]} over {TITLES[link]}" for _, device, link in pays]
        alone = sum(ends.device <= ends.server for ends in parts.values())
        sentences.append(
            f"{title}: splitting pays in {len(pays)} of {len(parts)} scenarios ({', '.join(where) or 'none'}). "
            f"The better end, which is the device {alone} times, takes {range_text(gains.values())} "
            "as long as the optimum between the ends."
        )
        measured[title] = {"gain": {"-".join(key): gain for key, gain in gains.items()}}
        if all(ends.round_trip for ends in parts.values()):
            later = {key: ends.gain(ends.round_trip) for key, ends in parts.items()}
            holds[f"{title}, with the round trip: splitting pays in some scenario"] = max(later.values()) >= PAYS
            sentences.append(f"{title}, with the round trip: {range_text(later.values())}.")
            measured[title]["gain with the round trip"] = {"-".join(key): gain for key, gain in later.items()}
    problems = {key[0]: problem_at(*key[:2], RATES[key[2]], key[2]) for key in found}
    settings = {
        "rates": RATES,
        "devices and links": {name: [*devices, *links] for name, (devices, links) in WORLDS.items()},
    }
    about = {"limits": {"pays": PAYS}, "settings": settings | {"predictors": predictors_used(problems)}}
    return {"holds": holds, "found": sentences, "measured": measured, **about}


def table(found: Mapping[Key, Ends]) -> list[list[Any]]:
    """All scenarios, the header first."""
    alone = ("device_alone", "server_alone", *Ends._fields[2:])
    rows: list[list[Any]] = [["network", "device", "link", "rate", *alone, "gain"]]
    return rows + [[*key, RATES[key[2]], *ends, ends.gain()] for key, ends in found.items()]


def draw(found: Mapping[Key, Ends]) -> Pictures:
    """How much longer the better end takes, a panel per network; the worlds of today stand on the right."""
    networks = list(dict.fromkeys(key[0] for key in found))
    title = "How many times as long the better of device and server alone takes as the best cut between them"
    figure, axes = panels(title, (12.4, 3.2 * len(networks) + 0.8), len(networks), 1)
    for axis, network in zip(axes[:, 0], networks, strict=True):
        parts = {key: ends for key, ends in found.items() if key[0] == network}
        for place, (key, ends) in enumerate(parts.items()):
            colour = VERMILION if key[1] in DEVICES_TODAY else BLUE
            axis.plot([place, place], [1.0, ends.gain()], color=colour, linewidth=1.2, zorder=2)
            axis.plot(place, ends.gain(), marker="o", color=colour, markersize=6, zorder=3)
        axis.axhline(1.0, color=GREY, linewidth=0.9, zorder=1)
        axis.set_yscale("log")
        axis.set_title(NETWORKS[network], fontsize=10)
        axis.set_ylabel("better end / between", fontsize=9)
        labels = ["\n".join((*TITLES[device].rsplit(" ", 1), TITLES[link])) for _, device, link in parts]
        axis.set_xticks(range(len(parts)), labels, fontsize=6.5)
    colours = zip(WORLDS, (BLUE, VERMILION), strict=True)
    legend_below(figure, {label: {"color": colour, "marker": "o"} for label, colour in colours}, 2)
    return {"": figure}


STUDIES = (Study("layerwise_today", compute, table, verdict, draw),)
