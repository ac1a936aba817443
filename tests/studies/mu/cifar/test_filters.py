"""Pruned filters: the smaller network against the whole one with the removed channels set to 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from coinfer_gym.errors import InvalidInputError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from studies.mu.cifar.filters import prune_filters  # noqa: E402
from studies.mu.cifar.networks import GROUPS, make_network  # noqa: E402

RETAINED = {"alexnet": (0.5, 0.3, 0.25, 0.61, 0.4, 0.2, 0.7), "regnet": (0.5, 0.6, 0.4, 0.7)}
CRITERIA = ("l1", "geometric_median")


def network(name: str) -> Any:
    """Untrained, but with statistics and biases in its norms, which a removed channel must not leave behind."""
    made = make_network(name).eval()
    generator = torch.Generator().manual_seed(1)
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.bias.data, layer.running_mean):
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
            for tensor in (layer.weight.data, layer.running_var):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return made


def reference_scores(weight: Any, criterion: str) -> np.ndarray:
    """Scores by numpy in 64 bits, one filter a row."""
    rows = weight.detach().double().numpy().reshape(len(weight), -1)
    if criterion == "l1":
        return np.abs(rows).sum(axis=1)
    return cdist(rows, rows).sum(axis=1)


def highest(scores: np.ndarray, count: int) -> list[int]:
    return sorted(np.argsort(-scores)[:count].tolist())


def keep_only(module: Any, kept: list[int]) -> None:
    """Set all other channels of what a module puts out to 0."""

    def mask(_module: Any, _inputs: Any, output: Any) -> Any:
        masked = torch.zeros_like(output)
        masked[:, kept] = output[:, kept]
        return masked

    module.register_forward_hook(mask)


def mask_alexnet(whole: Any, criterion: str) -> None:
    for group, ratio in zip(GROUPS["alexnet"], RETAINED["alexnet"], strict=True):
        unit = whole.units[group.name]
        layer = next(layer for layer in unit if isinstance(layer, nn.Conv2d | nn.Linear))
        keep_only(unit, highest(reference_scores(layer.weight, criterion), round(ratio * group.channels)))


def mask_regnet(whole: Any, criterion: str) -> None:
    def scores(layer: Any) -> np.ndarray:
        return reference_scores(layer.convolution.weight, criterion)

    for stage, (depth, kept) in enumerate(zip((1, 2, 7, 12), (16, 32, 64, 288), strict=True), start=1):
        blocks = [whole.units[f"stage{stage}_{block}"] for block in range(1, depth + 1)]
        first = whole.units["stem"] if stage == 1 else blocks[0].shortcut
        residual = highest(sum((scores(block.layer[2]) for block in blocks), scores(first)), kept)
        if stage == 1:
            keep_only(first, residual)
        for block in blocks:
            both = scores(block.layer[0]) + scores(block.layer[1])
            groups = highest(np.add.reduceat(both, np.arange(0, len(both), 16)), kept // 16)
            inner = [16 * group + place for group in groups for place in range(16)]
            keep_only(block.layer[0], inner)
            keep_only(block.layer[1], inner)
            keep_only(block, residual)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("name", RETAINED)
def test_smaller_network_computes_what_the_masked_one_does(name: str, criterion: str) -> None:
    whole = network(name)
    pruned = prune_filters(whole, RETAINED[name], criterion)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        before, found = whole(images), pruned(images)
        (mask_alexnet if name == "alexnet" else mask_regnet)(whole, criterion)
        expected = whole(images)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(found, before, rtol=1e-2, atol=1e-2)


def test_flops_fall_with_the_product_of_kept_channels() -> None:
    images = torch.zeros(1, 3, 32, 32)

    def flops(network: Any, unit: str) -> int:
        place = list(network.units).index(unit)
        with torch.inference_mode():
            feature = network.run(images, 0, place)
            with FlopCounterMode(display=False) as counter:
                network.run(feature, place, place + 1)
        return counter.get_total_flops()

    alexnet = prune_filters(network("alexnet"), (0.5, 0.25, 1.0, 1.0, 0.5, 0.125, 1.0))
    assert flops(alexnet, "conv2") == 2 * 8 * 8 * 9 * 32 * 48
    assert flops(alexnet, "fc1") == 2 * (128 * 2 * 2) * 128
    regnet = prune_filters(network("regnet"), (1.0, 1.0, 0.5, 1.0))  # 5 of 10 groups
    last_of_stage3 = 2 * 4 * 4 * (80 * 80 + 9 * 16 * 80 + 80 * 80)
    assert flops(regnet, "stage3_7") == last_of_stage3
    assert regnet.units["stage3_7"].layer[1].convolution.groups == 5


@pytest.mark.parametrize("name", RETAINED)
def test_everything_kept_changes_nothing_and_draws_nothing(name: str) -> None:
    whole = network(name)
    state = torch.random.get_rng_state()
    pruned = prune_filters(whole, (1.0,) * len(GROUPS[name]))
    prune_filters(whole, RETAINED[name])
    assert torch.equal(torch.random.get_rng_state(), state)
    expected = whole.state_dict()
    assert pruned.state_dict().keys() == expected.keys()
    for key, value in pruned.state_dict().items():
        assert torch.equal(value, expected[key]), key
    assert all(weight.requires_grad for weight in pruned.parameters())


def test_bad_ratios_are_refused() -> None:
    alexnet = make_network("alexnet")
    for retained, word in (
        ((1.0, 1.0), "7 ratios"),
        ((1.0,) * 5 + (0.0, 1.0), "fc1"),
        ((1.0,) * 5 + (1.1, 1.0), "fc1"),
    ):
        with pytest.raises(InvalidInputError, match=word):
            prune_filters(alexnet, retained)
    with pytest.raises(InvalidInputError, match="criterion"):
        prune_filters(alexnet, (1.0,) * 7, "l2")
