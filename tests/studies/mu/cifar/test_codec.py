"""Encoder, noisy channel and decoder between the parts of a cut network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from coinfer_gym.errors import InvalidInputError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from studies.mu.cifar.codec import Codec, CoInference, Noise, principal_components  # noqa: E402
from studies.mu.cifar.data import Images, scaled  # noqa: E402
from studies.mu.cifar.networks import make_network  # noqa: E402


def images(count: int) -> Any:
    pixels = np.random.default_rng(3).integers(256, size=(count, 3, 32, 32), dtype=np.uint8)
    return Images(torch.from_numpy(pixels), torch.arange(count) % 10)


@pytest.mark.parametrize(("name", "cut"), [("alexnet", 1), ("alexnet", 9), ("regnet", 3), ("regnet", 24)])
def test_codec_is_the_best_linear_pair(name: str, cut: int) -> None:
    network, batch = make_network(name).eval(), images(24)
    components, mean = principal_components(network, cut, batch)
    with torch.inference_mode():
        feature = network.run(scaled(batch.pixels), 0, cut)
        maps = feature.dim() == 4
        channels = feature.shape[1]
        whole = Codec(components, mean, channels, maps=maps)(feature)
        torch.testing.assert_close(whole, feature, rtol=1e-3, atol=1e-4)  # all components lose nothing
        sent = max(1, channels // 8)
        codec = Codec(components, mean, sent, maps=maps)
        encoded = codec.encoder(feature)
        linear = codec.decoder[0](encoded)
    assert encoded.shape == (24, sent, *feature.shape[2:])
    # Eckart and Young: what is lost are the smaller singular values.
    rows = feature.movedim(1, -1).reshape(-1, channels).double().numpy()
    lost = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)[sent:]
    error = float((linear - feature).double().square().sum())
    assert error == pytest.approx(float((lost**2).sum()), rel=1e-3, abs=1e-3)


def test_noise_has_the_power_that_its_ratio_says() -> None:
    generator = torch.Generator().manual_seed(4)
    feature = torch.rand(3, 16, 64, 64, generator=generator) * torch.tensor([0.1, 1.0, 20.0]).reshape(3, 1, 1, 1)
    for snr_db in (0.0, 7.0, 30.0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            noise = Noise(snr_db)(feature) - feature
        signal, power = (each.square().mean(dim=(1, 2, 3)) for each in (feature, noise))
        ratio = 10.0 * torch.log10(signal / power)  # of every image alike, whatever its power
        torch.testing.assert_close(ratio, torch.full((3,), snr_db), rtol=0.0, atol=0.1)
    dark = torch.zeros(1, 8)
    assert torch.isfinite(Noise(0.0)(dark)).all()


def test_noise_of_a_codec_is_on_what_is_sent() -> None:
    components, mean = torch.eye(6), torch.full((6,), 5.0)
    feature = 5.0 + torch.rand(4000, 6, generator=torch.Generator().manual_seed(6))
    codec = Codec(components, mean, 2, maps=False, snr_db=10.0)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(7)
        decoded = codec(feature)
    assert torch.equal(decoded[:, 2:], mean[2:].expand(4000, 4))  # never sent: no signal, no noise
    noise = (decoded - feature)[:, :2].square().mean()
    signal = (feature - mean)[:, :2].square().mean()
    assert float(10 * torch.log10(signal / noise)) == pytest.approx(10.0, abs=0.3)


def test_cut_alone_changes_nothing() -> None:
    network, batch = make_network("alexnet").eval(), images(2)
    with torch.inference_mode():
        expected = network(scaled(batch.pixels))
        for cut in range(12):
            assert torch.equal(CoInference(network, cut)(scaled(batch.pixels)), expected)
    shapes = [CoInference(network, cut).sent_shape(batch) for cut in (0, 1, 8, 9, 11)]
    assert shapes == [(3, 32, 32), (64, 16, 16), (256, 2, 2), (1024,), ()]


def test_bad_values_are_refused() -> None:
    for sent in (0, 4):
        with pytest.raises(InvalidInputError, match="sent"):
            Codec(torch.eye(3), torch.zeros(3), sent, maps=True)
    for snr_db in (math.inf, math.nan):
        with pytest.raises(InvalidInputError, match="snr_db"):
            Noise(snr_db)
