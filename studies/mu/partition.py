"""Partition alone on three devices and four links, nothing pruned (Mu et al., Fig. 6, claim M3).

The paper does not print its AlexNet. Two are compared: the one that is trained here, for images of 32 x 32, and
torchvision's, for images of 224 x 224. The ratios of the paper's text follow from the layers of the second.

By eq. 7 of Mu et al. a partition computes something on both sides. A further scheme may also choose one of the ends: to
send the image itself, or to stay on the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from baselines.layerwise.designs import ParametersGenerator, select_best
from baselines.output import BLACK, BLUE, GREEN, ORANGE, VERMILION
from coinfer_gym.layerwise.network import Block, Group, Layer, Network, load_network
from studies.drawing import legend_below, panels
from studies.figure import Pictures, Study
from studies.mu.schemes import ALL, DEVICES, LINK_TITLES, LINKS, problem_at, range_text, ratio_range, without_accuracy

SCHEMES = {
    "All_Local": slice(-1, None),
    "All_Server": slice(0, 1),
    "Partition": slice(1, -1),
    "Partition or an end": slice(None),
}
"""Cuts that each scheme has."""

AGREES = 0.2
"""Relative difference from a printed ratio that counts as the same: those are rounded, and read off bars."""

PAPER = {
    "rpi3b, 3G: over both": (2.0, 3.7),
    "rpi3b, other links: over All_Local": (8.5, 9.7),
    "rpi4b, other links: over both": (1.2, 6.4),
    "tk1: over All_Server": (13.0, 35.0),
}
"""Least and largest ratio of the paper's text."""

_COLOURS = {"All_Local": ORANGE, "All_Server": BLUE, "Partition": VERMILION, "Partition or an end": GREEN}
_TEXT = {"trained": "32 x 32, trained here", "paper": "224 x 224, as in torchvision"}


class Times(NamedTuple):
    """What the schemes take on one device over one link."""

    delays: dict[str, float]  # in s, by scheme
    cuts: dict[str, int]  # by scheme


Key = tuple[str, str, str]
"""Network, device, link."""


def imagenet_alexnet() -> Network:
    """AlexNet as torchvision has it, for images of 224 x 224 and ten classes, unpruned as here."""
    channels = {"conv1": 64, "conv2": 192, "conv3": 384, "conv4": 256, "conv5": 256, "fc1": 4096, "fc2": 4096}

    def convolution(name: str, inputs: str | int, side: int, kernel: int) -> Block:
        layers = (Layer("conv", inputs, name, side, side, kernel), Layer("relu", name, name, side, side))
        return Block(name, layers, name, side**2)

    def pooling(name: str, of: str, side: int) -> Block:
        return Block(name, (Layer("maxpool", of, of, side, side, 3),), of, side**2)

    def dense(name: str, inputs: str, area: int = 1) -> Block:
        layers = (
            Layer("dropout", inputs, inputs, area, 1),
            Layer("fc", inputs, name, area=area),
            Layer("relu", name, name),
        )
        return Block(name, layers, name, 1, vector=True)

    return Network(
        "alexnet-224",
        tuple(Group(name, count) for name, count in channels.items()),
        (
            convolution("conv1", 3, 55, 11),
            pooling("pool1", "conv1", 27),
            convolution("conv2", "conv1", 27, 5),
            pooling("pool2", "conv2", 13),
            convolution("conv3", "conv2", 13, 3),
            convolution("conv4", "conv3", 13, 3),
            convolution("conv5", "conv4", 13, 3),
            pooling("pool5", "conv5", 6),
            dense("fc1", "conv5", 36),
            dense("fc2", "fc1"),
            Block("fc3", (Layer("fc", "fc2", 10),), 10, 1, vector=True),
        ),
        3 * 224 * 224,
    )


def compute() -> dict[Key, Times]:
    """Delays of the schemes, of both networks on every device and link."""
    networks = {"trained": load_network("alexnet"), "paper": imagenet_alexnet()}
    times = {}
    for name, network in networks.items():
        for device in DEVICES:
            for link, rate in LINKS.items():
                problem = without_accuracy(problem_at("alexnet", device, rate, link, ALL), network)
                unpruned = ParametersGenerator(problem).unpruned()
                rows = {scheme: select_best(problem, unpruned[cuts].copy()) for scheme, cuts in SCHEMES.items()}
                delays = {scheme: problem.evaluate(problem.decision(row)).delay for scheme, row in rows.items()}
                times[name, device, link] = Times(delays, {scheme: int(row[0]) for scheme, row in rows.items()})
    return times


def verdict(times: Mapping[Key, Times]) -> dict[str, Any]:
    """What the times say about claim M3."""
    holds: dict[str, bool] = {}
    found, measured = [], {}
    for name in dict.fromkeys(key[0] for key in times):
        ranges = ratios(times, name)
        title = f"M3 (AlexNet {_TEXT[name]})"
        for part, values in ranges.items():
            device, said = part.split(":")[0].split(",")[0], PAPER[part]
            holds[f"{title}: {part.replace(device, DEVICES[device])}, as in the paper"] = all(
                abs(here / there - 1.0) <= AGREES for here, there in zip(values, said, strict=True)
            )
            found.append(f"{title}: {part}: {range_text(values)}; paper {range_text(said)}.")
        parts = {(device, link): each for (network, device, link), each in times.items() if network == name}
        holds[f"{title}: {DEVICES['tk1']}, All_Local is the fastest on every link"] = all(
            each.delays["All_Local"] <= min(each.delays.values()) * (1.0 + 1e-12)
            for (device, _), each in parts.items()
            if device == "tk1"
        )
        holds[f"{title}: {DEVICES['rpi4b']}, Partition is faster than both on every link"] = all(
            each.delays["Partition"] < min(each.delays["All_Local"], each.delays["All_Server"])
            for (device, _), each in parts.items()
            if device == "rpi4b"
        )
        cuts = {f"{device}, {link}": each.cuts["Partition"] for (device, link), each in parts.items()}
        image = [place for place, each in parts.items() if each.cuts["Partition or an end"] == 0]
        found.append(f"{title}: cuts of Partition: {cuts}; sending the image is faster on {image}.")
        measured[name] = {
            part: {"least": values[0], "largest": values[1], "paper": PAPER[part]} for part, values in ranges.items()
        } | {"cuts": cuts}
    about = {"limits": {"agrees": AGREES}, "settings": {"rates": LINKS}}
    return {"holds": holds, "found": found, "measured": measured, **about}


def ratios(times: Mapping[Key, Times], name: str) -> dict[str, list[float]]:
    """Least and largest ratio of each statement of the paper, of one network."""

    def over(schemes: tuple[str, ...], device: str, links: tuple[str, ...]) -> list[float]:
        parts = [times[name, device, link].delays for link in links]
        return [part[scheme] / part["Partition"] for scheme in schemes for part in parts]

    both, (first, *rest) = ("All_Local", "All_Server"), LINKS
    found = {
        "rpi3b, 3G: over both": over(both, "rpi3b", (first,)),
        "rpi3b, other links: over All_Local": over(both[:1], "rpi3b", tuple(rest)),
        "rpi4b, other links: over both": over(both, "rpi4b", tuple(rest)),
        "tk1: over All_Server": over(both[1:], "tk1", tuple(LINKS)),
    }
    return {part: ratio_range(values) for part, values in found.items()}


def table(times: Mapping[Key, Times]) -> list[list[Any]]:
    """All delays, the header first."""
    rows: list[list[Any]] = [["network", "device", "link", "scheme", "cut", "delay"]]
    for (name, device, link), each in times.items():
        for scheme, delay in each.delays.items():
            rows.append([_TEXT[name], device, link, scheme, each.cuts[scheme], delay])
    return rows


def draw(times: Mapping[Key, Times]) -> Pictures:
    """A row of panels per network, a column per device; delays on a logarithmic scale."""
    names = list(dict.fromkeys(key[0] for key in times))
    title = "AlexNet, partition alone (after Mu et al., Fig. 6)"
    size = (11.0, 3.2 * len(names) + 0.8)
    figure, axes = panels(title, size, len(names), len(DEVICES), {"hspace": 0.05}, sharex=True, sharey="col")
    for name, row in zip(names, axes, strict=True):
        for axis, device in zip(row, DEVICES, strict=True):
            for place, scheme in enumerate(SCHEMES):
                heights = [1e3 * times[name, device, link].delays[scheme] for link in LINKS]
                at = [number + 0.21 * (place - 1.5) for number in range(len(LINKS))]
                bars = axis.bar(at, heights, 0.19, color=_COLOURS[scheme], label=scheme, zorder=2)
                axis.bar_label(
                    bars,
                    fmt=lambda ms: f"{ms:,.0f}" if ms >= 100.0 else f"{ms:.3g}",
                    fontsize=6.5,
                    padding=1,
                    rotation=90,
                    color=BLACK,
                )
            axis.set_yscale("log")
            axis.margins(y=0.18)
            axis.set_xticks(range(len(LINKS)), [LINK_TITLES[link] for link in LINKS])
        row[0].set_ylabel(f"AlexNet\n{_TEXT[name]}\n\ndelay (ms)", fontsize=9)
    for axis, device_title in zip(axes[0], DEVICES.values(), strict=True):
        axis.set_title(device_title, fontsize=10)
    legend_below(figure, axes[0, 0], 4)
    return {"": figure}


STUDIES = (Study("layerwise_partition", compute, table, verdict, draw),)
