"""Reading CIFAR-10, and a training that is the same whether or not it was interrupted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("PIL.Image")

from coinfer_gym import InvalidInputError  # noqa: E402
from studies.mu.cifar import training  # noqa: E402
from studies.mu.cifar.data import (  # noqa: E402
    MEAN,
    TEST,
    TRAIN,
    Images,
    augmented,
    data_folder,
    read_cifar10,
    scaled,
)
from studies.mu.cifar.networks import make_network  # noqa: E402
from studies.mu.cifar.training import Recipe, accuracy, load_network, train, tune  # noqa: E402
from tests.studies.made import write_cifar  # noqa: E402

RECIPE = Recipe(updates=6, batch=8, learning_rate=0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen images of two classes, bright and dark, as both archives."""
    path = tmp_path_factory.mktemp("cifar")
    generator = np.random.default_rng(0)
    labels = np.arange(16) % 2
    noise = generator.integers(0, 100, (16, 32, 32, 3))
    for name in (TRAIN, TEST):
        write_cifar(path / name, (noise + 150 * labels[:, None, None, None]).astype(np.uint8), labels)
    return path


def test_images_are_read_in_colour_with_their_classes(folder: Path) -> None:
    images = read_cifar10(folder / TRAIN)
    assert images.pixels.shape == (16, 3, 32, 32)
    assert images.labels.tolist() == [0, 1] * 8
    means = images.pixels.float().mean(dim=(1, 2, 3))
    assert (means[1::2] > means[::2] + 100.0).all()
    some = read_cifar10(folder / TRAIN, 8)
    assert torch.equal(some.pixels, images.pixels[::2])
    with pytest.raises(InvalidInputError, match="holds 16 images"):
        read_cifar10(folder / TRAIN, 17)


def test_scaled_pixels_have_the_means_of_the_set() -> None:
    grey = torch.tensor([round(255 * mean) for mean in MEAN], dtype=torch.uint8)
    np.testing.assert_allclose(scaled(grey[None, :, None, None].expand(2, 3, 32, 32)), 0.0, atol=0.01)


def test_augmented_images_are_shifts_and_mirrors_of_their_own() -> None:
    pixels = torch.arange(1024, dtype=torch.int64).reshape(1, 1, 32, 32).expand(40, 3, 32, 32) + 1
    moved = augmented(pixels, np.random.default_rng(0))
    mirrored = 0
    for each in moved:
        inner = each[0, 4:28, 4:28]
        steps = set((inner[:, 1:] - inner[:, :-1]).flatten().tolist())
        assert steps in ({1}, {-1})
        mirrored += steps == {-1}
        top, left = divmod(int(inner.min()) - 1, 32)
        assert 0 <= top <= 8
        assert 0 <= left <= 8
        assert torch.equal(each[0], each[2])
    assert 8 < mirrored < 32


def test_an_interrupted_training_ends_as_an_unbroken_one(folder: Path, tmp_path: Path, monkeypatch) -> None:
    whole = train("alexnet", folder, tmp_path / "whole", RECIPE, threads=1)
    assert whole["accuracy"] == accuracy(load_network(tmp_path / "whole"), read_cifar10(folder / TEST))

    class Interrupted(Exception):
        pass

    original = training.tune

    def breaking(*arguments):
        for update, loss in enumerate(original(*arguments)):
            if update == 3:
                raise Interrupted
            yield loss

    monkeypatch.setattr(training, "tune", breaking)
    with pytest.raises(Interrupted):
        train("alexnet", folder, tmp_path / "broken", RECIPE, threads=1)
    monkeypatch.setattr(training, "tune", original)
    train("alexnet", folder, tmp_path / "broken", RECIPE, threads=1)
    for name in ("model.safetensors", "training.json"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "broken" / "progress.safetensors").exists()
    with pytest.raises(InvalidInputError, match="another folder"):
        train("alexnet", folder, tmp_path / "whole", Recipe(updates=7, batch=8), threads=1)


def test_tuning_lowers_the_loss_and_leaves_global_random_state_alone(folder: Path) -> None:
    network, images = make_network("alexnet", seed=1), read_cifar10(folder / TRAIN)
    before = torch.random.get_rng_state()
    losses = list(tune(network, images, Recipe(updates=12, batch=16, learning_rate=0.02)))
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def test_damaged_trainings_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="trains the network"):
        load_network(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    (tmp_path / "training.json").write_text(json.dumps({"network": "alexnet"}))
    with pytest.raises(InvalidInputError, match="damaged"):
        load_network(tmp_path)
    with pytest.raises(InvalidInputError, match="alexnet"):
        make_network("alexnett")


@pytest.mark.skipif(not (data_folder() / TEST).is_file(), reason="needs cifar10_eval.npz in COINFER_DATA")
def test_the_real_images() -> None:
    images = read_cifar10(data_folder() / TEST, 500)
    assert isinstance(images, Images)
    assert np.bincount(images.labels.numpy(), minlength=10).min() > 20
    assert float(scaled(images.pixels).mean()) == pytest.approx(0.0, abs=0.05)
