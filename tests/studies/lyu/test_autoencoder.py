"""The auto-encoders: their form, their training, their data, and the constants of Theorem III.1 by brute force."""

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.prune import METHODS, prune
from coinfer_gym.models.split import split
from studies.lyu.autoencoder import (
    WIDTHS,
    Training,
    layer_bound,
    make_autoencoder,
    normalize,
    read_cifar10_grey,
    theorem_constant,
    train,
)
from tests.studies.made import write_cifar


def inputs(count: int, pixels: int) -> Any:
    return normalize(torch.rand(count, pixels, generator=torch.Generator().manual_seed(3)))


def tiny(seed: int = 0, scale: float = 1.0) -> nn.Sequential:
    """Three layers of 6, 4 and 6 outputs."""
    generator = torch.Generator().manual_seed(seed)
    blocks = []
    for width, outputs in itertools.pairwise((6, 6, 4, 6)):
        layer = nn.Linear(width, outputs, bias=False)
        nn.init.normal_(layer.weight, 0.0, scale, generator=generator)
        blocks.append(nn.Sequential(layer, nn.ReLU()))
    return nn.Sequential(*blocks)


@pytest.mark.parametrize(("name", "layers"), [("FCDNN-8", 8), ("FCDNN-16", 16)])
def test_the_form_is_symmetric_and_every_layer_a_block(name: str, layers: int) -> None:
    network = make_autoencoder(name, 64)
    shapes = [tuple(weight.shape) for weight in network.parameters()]
    assert len(network) == len(shapes) == layers
    assert shapes == [shape[::-1] for shape in reversed(shapes)]
    assert shapes[0][1] == shapes[-1][0] == 64
    assert min(map(min, shapes)) == WIDTHS[name][-1]
    images = inputs(5, 64)
    for cut in (0, layers // 2, layers):
        halves = split(network, cut)
        assert torch.equal(halves.server(halves.device(images)), network(images))
    assert prune(network, 0.5).kept == round(0.5 * sum(weight.numel() for weight in network.parameters()))


def test_training_learns_and_is_the_same_again_whatever_the_global_generator() -> None:
    images = inputs(96, 64)
    states = []
    for shift in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(shift)
            before = torch.random.get_rng_state()
            network = make_autoencoder("FCDNN-8", 64)
            losses = train(network, images, Training(epochs=4))
            assert torch.equal(torch.random.get_rng_state(), before)
        assert len(losses) == 4
        assert losses[-1] < 0.5 * losses[0]
        states.append(torch.cat([weight.detach().flatten() for weight in network.parameters()]))
    assert torch.equal(*states)
    other = make_autoencoder("FCDNN-8", 64, seed=1)
    assert not torch.equal(next(other.parameters()), next(make_autoencoder("FCDNN-8", 64).parameters()))


def test_cifar10_is_read_in_grey_and_spread_over_the_file(tmp_path: Path) -> None:
    levels = np.array([10, 80, 160, 240], np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (4, 32, 32, 3)).copy()
    images[:, 16:] //= 2  # the lower half is half as bright
    path = write_cifar(tmp_path / "some.npz", images)
    found = read_cifar10_grey(path, 2)
    assert found.shape == (2, 1024)
    torch.testing.assert_close(torch.linalg.vector_norm(found, dim=1), torch.ones(2))
    np.testing.assert_allclose(found[:, 0] / found[:, -1], 2.0, rtol=0.1)
    every = read_cifar10_grey(path, 4)
    assert torch.equal(found, every[::2])


def test_bad_data_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="COINFER_DATA"):
        read_cifar10_grey(tmp_path / "none.npz", 1)
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", pixels=np.zeros(3))
    np.savez(
        tmp_path / "broken.npz", jpeg=np.zeros(9, np.uint8), offsets=np.array([0, 9]), labels=np.zeros(1, np.uint8)
    )
    for name in ("text", "other", "broken"):
        with pytest.raises(InvalidInputError, match="not CIFAR-10 as JPEG"):
            read_cifar10_grey(tmp_path / f"{name}.npz", 1)
    small = write_cifar(tmp_path / "small.npz", np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(InvalidInputError, match="not 32 x 32"):
        read_cifar10_grey(small, 1)
    with pytest.raises(InvalidInputError, match="holds 2 images"):
        read_cifar10_grey(small, 3)


def test_constant_is_the_largest_product_of_all_other_layers() -> None:
    norms = [float(np.sqrt((weight.detach().numpy() ** 2).sum())) for weight in tiny().parameters()]
    expected = max(np.prod([norm for i, norm in enumerate(norms) if i != left_out]) for left_out in range(3))
    assert theorem_constant(tiny()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(2))
def test_bounds_hold_for_any_input_and_one_is_below_the_other(method: str, seed: int) -> None:
    images = torch.randn(200, 6, generator=torch.Generator().manual_seed(seed))
    images = normalize(images)
    for ratio in (0.0, 0.2, 0.5, 0.8, 0.95):
        network, pruned = tiny(seed), copy.deepcopy(tiny(seed))
        distortion = prune(pruned, ratio, method=method, seed=seed).distortion
        with torch.no_grad():
            moved = float(torch.linalg.vector_norm(pruned(images) - network(images), dim=1).max())
        spectral, frobenius = (layer_bound(network, pruned, norm) for norm in ("spectral", "frobenius"))
        assert moved <= spectral * (1.0 + 1e-6)
        assert spectral <= frobenius * (1.0 + 1e-6)
        assert frobenius <= theorem_constant(network) * distortion * (1.0 + 1e-6)


def test_bounds_are_met_by_a_chain_of_single_weights() -> None:
    """With one weight a layer every inequality of the derivation is an equation."""
    network, pruned = (nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(2))) for _ in range(2))
    for chain, values in ((network, (3.0, 2.0)), (pruned, (0.0, 2.0))):
        for layer, value in zip(chain, values, strict=True):
            nn.init.constant_(layer.weight, value)
    assert layer_bound(network, pruned) == pytest.approx(6.0)
    one = torch.ones(1, 1)
    assert float((network(one) - pruned(one)).detach().abs()) == pytest.approx(6.0)
    # The parameters moved by 3 only: without its constant the parameter distortion bounds nothing.
    assert theorem_constant(network) * 3.0 == pytest.approx(9.0)
