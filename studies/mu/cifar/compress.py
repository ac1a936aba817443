"""Compresses a network by a design: prunes it, cuts it, adds a codec, and tunes it in steps (Mu et al., Sec. III-B)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.layerwise.designs import sent_channels
from studies.mu.cifar.codec import Codec, CoInference, Noise, principal_components
from studies.mu.cifar.data import Images
from studies.mu.cifar.filters import prune_filters
from studies.mu.cifar.networks import Chain
from studies.mu.cifar.training import Recipe, tune


@dataclass(frozen=True)
class Design:
    """How a network is compressed."""

    cut: int  # units on the device, 0..number of units
    retained: tuple[float, ...]  # retained ratios of the network's groups, in (0, 1]
    # share of the channels or neurons at the cut that the encoder keeps, in (0, 1]. A share that keeps all means no
    # codec, and so do the two outer cuts, where no feature is sent.
    compression: float = 1.0
    snr_db: float | None = None  # ratio of signal to noise of the channel; no noise without it
    criterion: str = "l1"  # of pruning: l1 or geometric_median

    def __post_init__(self) -> None:
        if not 0.0 < self.compression <= 1.0:
            raise InvalidInputError("compression", self.compression, "Give a share in (0, 1].")


@dataclass(frozen=True)
class Tuning:
    """How a compressed network is tuned."""

    prune: Recipe  # of the pruned network, before it is cut
    codec: Recipe  # of everything end to end, with the codec and the noise in place


def compress(network: Chain, design: Design, images: Images, tuning: Tuning) -> CoInference:
    """Prune a network, tune it, cut it, add a codec, and tune everything end to end.

    A step that changes nothing is skipped with its tuning: without pruning, codec and noise a network stays unchanged.
    """
    units = len(network.units)
    inner = 0 < design.cut < units
    if not 0 <= design.cut <= units:
        raise InvalidInputError("cut", design.cut, f"{network.name} has the cuts 0 to {units}.")
    if design.snr_db is not None and not inner:
        raise InvalidInputError("snr_db", design.snr_db, f"No feature is sent at cut {design.cut}: leave it out.")
    pruned = prune_filters(network, design.retained, design.criterion)
    if _weights(pruned) < _weights(network):
        for _ in tune(pruned, images, tuning.prune):
            pass
    link = _link(pruned, design, images) if inner else None
    compressed = CoInference(pruned, design.cut, link)
    if link is not None:
        for _ in tune(compressed, images, tuning.codec):
            pass
    return compressed.eval()


def _weights(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def _link(network: Chain, design: Design, images: Images) -> nn.Module | None:
    channels, *area = CoInference(network, design.cut).sent_shape(images)
    sent = int(sent_channels(design.compression, channels))
    if sent == channels:
        return None if design.snr_db is None else Noise(design.snr_db)
    components, mean = principal_components(network, design.cut, images)
    return Codec(components, mean, sent, maps=bool(area), snr_db=design.snr_db)
