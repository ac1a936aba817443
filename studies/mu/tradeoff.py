"""Communication against local computation at every cut (Mu et al., Figs. 9 and 10, claim M6).

At each cut of eq. (7) every scheme has its fastest design that is accurate enough. The first cut has no computation on
the device and the last one no communication. CIA, which sets its cut elsewhere, learns anew for each.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from studies.drawing import legend_below, panels
from studies.figure import Pictures, Study
from studies.mu.schemes import DEVICES, LINKS, LOOKS, NETWORKS, OWN, choose_at, predictors_used, problem_at

DEVICE, LINK = "rpi3b", "4g"
METHODS = ("Neurosurgeon", "Prune_Partition", "2_Step Pruning", "FPGM", "BottleNet++", "CIA", OWN)
EVALUATIONS = 50_000
"""Designs that are looked at for each cut by the schemes that set ratios layer by layer."""

SAME = 1e-9


class Point(NamedTuple):
    """One scheme at one cut."""

    flops: float  # on the device
    bits: float  # that are sent
    delay: float  # of the whole task, in s


Points = dict[str, dict[str, dict[int, Point]]]
"""By network, scheme and cut; a cut is left out if no design of the scheme is accurate enough."""


def compute(
    networks: Sequence[str] = tuple(NETWORKS),
    methods: Sequence[str] = METHODS,
    evaluations: int = EVALUATIONS,
    seed: int = 0,
) -> Points:
    """Each scheme's fastest design at every inner cut of every network."""
    found: Points = {}
    for network in networks:
        problem = problem_at(network, DEVICE, LINKS[LINK], LINK)
        throughput = problem.flops_per_cycle_device * problem.frequency_device_max
        found[network] = {method: {} for method in methods}
        for cut in tqdm(problem.allowed_cuts, desc=network, unit="cut", disable=None):
            for method, points in found[network].items():
                row = choose_at(problem, method, cut, evaluations, seed)
                if row is not None:
                    outcome = problem.evaluate(row[None])
                    flops, bits = outcome.delay_device[0] * throughput, outcome.delay_upload[0] * problem.rate
                    points[cut] = Point(float(flops), float(bits), float(outcome.delay[0]))
    return found


def verdict(points: Points) -> dict[str, Any]:
    """What the points say about claim M6.

    ``measured`` gives shares of the other scheme's points at the same cuts: where the proposed scheme needs no more of
    both and less of one (``dominated``), less computation (``left``), and less communication (``below``).
    """
    holds, found = {}, []
    measured: dict[str, dict[str, Any]] = {}
    for network, parts in points.items():
        own = parts[OWN]
        pairs = {
            method: [(own[cut], point) for cut, point in others.items() if cut in own]
            for method, others in parts.items()
            if method != OWN
        }
        shares = {method: compare(of_method) for method, of_method in pairs.items()}
        every = compare(list(itertools.chain(*pairs.values())))
        holds[f"M6 ({NETWORKS[network]}): most points of other schemes lie right of and above its own"] = (
            every["dominated"] > 0.5
        )
        found.append(
            f"M6 ({NETWORKS[network]}): of {every['points']} points at the same cuts the proposed scheme's is left of "
            f"and below {every['dominated']:.0%}, left of {every['left']:.0%}, below {every['below']:.0%}, faster "
            f"than {every['faster']:.0%}; by scheme, left and below: "
            + ", ".join(f"{method} {part['dominated']:.0%}" for method, part in shares.items())
            + "."
        )
        measured[NETWORKS[network]] = {"all": every, **shares}
    used = predictors_used({network: problem_at(network, DEVICE, LINKS[LINK], LINK) for network in points})
    settings = {"device": DEVICES[DEVICE], "rate": LINKS[LINK], "predictors": used}
    return {"holds": holds, "found": found, "measured": measured, "settings": settings}


def compare(pairs: Sequence[tuple[Point, Point]]) -> dict[str, Any]:
    """Shares of pairs in which the first one needs less; all 0 if there are none."""
    if not pairs:
        return {"points": 0, "dominated": 0.0, "left": 0.0, "below": 0.0, "faster": 0.0}
    own, others = np.array(pairs).transpose(1, 0, 2)
    less, more = own < others * (1.0 - SAME), own > others * (1.0 + SAME)
    dominated = ~more[:, :2].any(axis=1) & less[:, :2].any(axis=1)
    means = (dominated, less[:, 0], less[:, 1], less[:, 2])
    return {"points": len(pairs)} | {
        name: float(part.mean()) for name, part in zip(("dominated", "left", "below", "faster"), means, strict=True)
    }


def table(points: Points) -> list[list[Any]]:
    """All points, the header first."""
    rows: list[list[Any]] = [["network", "scheme", "cut", "flops_device", "bits_sent", "delay"]]
    for network, parts in points.items():
        for method, cuts in parts.items():
            rows += [[network, method, cut, *point] for cut, point in cuts.items()]
    return rows


def draw(points: Points) -> Pictures:
    """A panel per network."""
    title = f"Every inner cut, {DEVICES[DEVICE]}, 4G (after Mu et al., Figs. 9, 10)"
    figure, axes = panels(title, (5.4 * len(points), 4.9), 1, len(points))
    for axis, (network, parts) in zip(axes[0], points.items(), strict=True):
        for method, cuts in parts.items():
            look = {"markersize": 5.5} | LOOKS[method] | {"linestyle": ""}
            if method == OWN:
                look |= {"markersize": 9.0, "markeredgecolor": "black", "markeredgewidth": 0.5, "zorder": 5}
            x, y = ([getattr(point, name) for point in cuts.values()] for name in ("flops", "bits"))
            axis.plot(np.array(x) / 1e6, np.array(y) / 1e3, label=method, **look)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_title(NETWORKS[network], fontsize=10)
        axis.set_xlabel("local computation (MFLOP)", fontsize=9)
    axes[0, 0].set_ylabel("communication (kbit)", fontsize=9)
    legend_below(figure, axes[0, 0], 3)
    return {"": figure}


STUDIES = (Study("layerwise_tradeoff", compute, table, verdict, draw),)
