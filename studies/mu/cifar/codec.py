"""Encoder, noisy channel and decoder between the two parts of a cut network (Fig. 3 of Mu et al.)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from coinfer_gym.errors import InvalidInputError
from studies.mu.cifar.data import Images, scaled
from studies.mu.cifar.networks import Chain

PRINCIPAL_IMAGES = 512  # that the principal components are taken from
_LEAST_POWER = 1e-12


class Noise(nn.Module):
    """Channel with additive white Gaussian noise, drawn from torch's default generator, at a finite ratio in dB.

    Every image's feature is sent with mean power 1 a value. The receiver knows the power that was taken out, one number
    an image, and puts it back.
    """

    def __init__(self, snr_db: float) -> None:
        super().__init__()
        if not math.isfinite(snr_db):
            raise InvalidInputError("snr_db", snr_db, "Give a finite ratio in dB; none for a channel without noise.")
        self.deviation = 10.0 ** (-snr_db / 20.0)

    def forward(self, feature: Tensor) -> Tensor:
        """A feature of shape ``(images, ...)`` as it arrives."""
        power = feature.float().square().flatten(1).mean(dim=1).clamp_min(_LEAST_POWER)
        amplitude = power.sqrt().reshape(-1, *[1] * (feature.dim() - 1))
        received: Tensor = (feature / amplitude + self.deviation * torch.randn_like(feature)) * amplitude
        return received


class Codec(nn.Module):
    """Linear encoder of the device, and decoder of the server with ReLU; of `sent` channels or neurons.

    On maps both are convolutions of one pixel, on vectors fully connected layers. `components` are orthonormal
    directions in the space of channels, one a row, the most important first, and `mean` is that of the feature.
    """

    def __init__(self, components: Tensor, mean: Tensor, sent: int, *, maps: bool, snr_db: float | None = None) -> None:
        super().__init__()
        channels = len(mean)
        if not 1 <= sent <= channels:
            raise InvalidInputError("sent", sent, f"Give 1 to {channels} channels.")
        # Tuning is short, so it starts from the best linear pair for the mean square error: from random weights the
        # server would first have to learn to read features that it has never seen.
        directions = components[:sent]
        self.encoder = _layer(directions, -directions @ mean, maps)
        self.noise = nn.Identity() if snr_db is None else Noise(snr_db)
        self.decoder = nn.Sequential(_layer(directions.T, mean, maps), nn.ReLU())

    def forward(self, feature: Tensor) -> Tensor:
        """The feature as the server decodes it, in its own shape."""
        decoded: Tensor = self.decoder(self.noise(self.encoder(feature)))
        return decoded


def _layer(weight: Tensor, bias: Tensor, maps: bool) -> nn.Module:
    outputs, inputs = weight.shape
    layer = (
        nn.Conv2d(inputs, outputs, 1, device="meta") if maps else nn.Linear(inputs, outputs, device="meta")
    )  # no first weights are drawn
    layer.weight = nn.Parameter((weight[:, :, None, None] if maps else weight).clone())
    layer.bias = nn.Parameter(bias.clone())
    return layer


class CoInference(nn.Module):
    """A network whose first `cut` units are on the device, with a `Codec` or a `Noise` as the link, if any."""

    def __init__(self, network: Chain, cut: int, link: nn.Module | None = None) -> None:
        super().__init__()
        self.network = network
        self.cut = cut
        self.link = nn.Identity() if link is None else link

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of scaled images."""
        feature = self.network.run(images, 0, self.cut)
        return self.network.run(self.link(feature), self.cut, len(self.network.units))

    @torch.inference_mode()
    def sent_shape(self, images: Images) -> tuple[int, ...]:
        """Shape of the feature sent for one image, channels first; empty if the whole network is on the device."""
        if self.cut == len(self.network.units):
            return ()
        self.eval()
        feature = self.network.run(scaled(images.pixels[:1]), 0, self.cut)
        return tuple((self.link.encoder(feature) if isinstance(self.link, Codec) else feature).shape[1:])


@torch.no_grad()
def principal_components(network: Chain, cut: int, images: Images) -> tuple[Tensor, Tensor]:
    """Principal directions of the feature at a cut over its channels, one a row, the largest first, and its mean."""
    network.eval()
    count = min(PRINCIPAL_IMAGES, len(images.labels))
    chosen = torch.arange(count) * len(images.labels) // count
    feature = network.run(scaled(images.pixels[chosen]), 0, cut)
    rows = feature.movedim(1, -1).flatten(0, -2)
    mean = rows.mean(dim=0)
    centred = (rows - mean).double()
    components = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1).T
    return components.float(), mean
