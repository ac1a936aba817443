"""Compression in steps: which of them a design goes through, and what comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coinfer_gym.errors import InvalidInputError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from studies.mu.cifar import compress as module  # noqa: E402
from studies.mu.cifar.codec import Codec, Noise  # noqa: E402
from studies.mu.cifar.compress import Design, Tuning, compress  # noqa: E402
from studies.mu.cifar.data import Images, scaled  # noqa: E402
from studies.mu.cifar.networks import make_network  # noqa: E402
from studies.mu.cifar.training import Recipe  # noqa: E402

WHOLE = (1.0,) * 7
PRUNED = (0.25,) * 7
TUNING = Tuning(Recipe(updates=3, batch=4, learning_rate=0.01), Recipe(updates=2, batch=4, learning_rate=0.01))


def images() -> Any:
    pixels = np.random.default_rng(3).integers(256, size=(12, 3, 32, 32), dtype=np.uint8)
    return Images(torch.from_numpy(pixels), torch.arange(12) % 10)


@pytest.mark.parametrize(
    ("design", "updates", "link"),
    [
        (Design(3, WHOLE), [], torch.nn.Identity),
        (Design(3, PRUNED), [3], torch.nn.Identity),
        (Design(3, WHOLE, 0.5), [2], Codec),
        (Design(3, PRUNED, 0.5), [3, 2], Codec),
        (Design(3, PRUNED, 0.999), [3], torch.nn.Identity),  # 48 channels of 48
        (Design(3, WHOLE, 1.0, 10.0), [2], Noise),
        (Design(0, PRUNED, 0.5), [3], torch.nn.Identity),
        (Design(11, WHOLE, 0.5), [], torch.nn.Identity),
    ],
)
def test_steps_that_change_nothing_fall_away(
    design: Design, updates: list[int], link: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, tuned = make_network("alexnet").eval(), []
    real = module.tune

    def spy(*arguments: Any) -> Any:
        tuned.append(arguments[2].updates)
        return real(*arguments)

    monkeypatch.setattr(module, "tune", spy)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    compressed = compress(network, design, images(), TUNING)
    assert tuned == updates
    assert type(compressed.link) is link
    assert not compressed.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    if not updates:
        batch = scaled(images().pixels)
        with torch.inference_mode():
            assert torch.equal(compressed(batch), network(batch))


def test_whole_compressed_network_is_tuned_end_to_end() -> None:
    network, design = make_network("alexnet").eval(), Design(3, PRUNED, 0.5)
    still = Tuning(TUNING.prune, Recipe(updates=1, batch=4, learning_rate=0.0))
    moved = Tuning(TUNING.prune, Recipe(updates=1, batch=4, learning_rate=0.1))
    before = dict(compress(network, design, images(), still).named_parameters())
    after = dict(compress(network, design, images(), moved).named_parameters())
    for part in ("network.units.conv1", "network.units.fc3", "link.encoder", "link.decoder"):
        names = [name for name in before if name.startswith(part)]
        assert names
        assert any(not torch.equal(before[name], after[name]) for name in names), part


def test_sent_channels_are_those_of_the_pruned_feature() -> None:
    network = make_network("alexnet").eval()
    assert compress(network, Design(3, PRUNED, 0.5), images(), TUNING).sent_shape(images()) == (24, 8, 8)
    assert compress(network, Design(9, WHOLE, 0.0005), images(), TUNING).sent_shape(images()) == (1,)


def test_bad_designs_are_refused() -> None:
    network = make_network("alexnet").eval()
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(InvalidInputError, match="compression"):
            Design(1, WHOLE, share)
    for design, word in ((Design(12, WHOLE), "cut"), (Design(0, WHOLE, 1.0, 5.0), "snr_db")):
        with pytest.raises(InvalidInputError, match=word):
            compress(network, design, images(), TUNING)
