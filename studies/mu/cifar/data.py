"""CIFAR-10 from archives of JPEG files: reading, and the batches that networks are trained on."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from coinfer_gym.errors import InvalidInputError

DATA = "COINFER_DATA"  # environment variable that names the folder of recorded data
DEFAULT_DATA = "../shared/data"
TRAIN, TEST = "cifar10_train.npz", "cifar10_eval.npz"
SIDE = 32
CLASSES = 10
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the training images, by colour
_SHIFT = 4  # pixels that a training image is moved at most


@dataclass(frozen=True)
class Images:
    """Images with their classes."""

    pixels: Tensor  # uint8, shape (images, 3, 32, 32)
    labels: Tensor  # int64, shape (images,)

    def __getitem__(self, chosen: slice | Tensor) -> Images:
        return Images(self.pixels[chosen], self.labels[chosen])


def data_folder() -> Path:
    """Folder of recorded data: what ``COINFER_DATA`` names, else ``../shared/data``."""
    return Path(os.environ.get(DATA, DEFAULT_DATA))


def read_cifar10(path: Path, count: int | None = None) -> Images:
    """Images and classes of an archive, in colour: all, or `count` evenly spread over the file."""
    pixels, labels = read_jpegs(path, "RGB", count)
    return Images(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels.astype(np.int64)))


def read_jpegs(path: Path, mode: str, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels of all images of an archive, or of `count` evenly spread over it, as it may be sorted by class.

    The NumPy archive holds ``jpeg``, the files one after the other, ``offsets``, shape (n+1,), where each begins, and
    ``labels``, shape (n,). `mode` is ``RGB``, or ``L`` for grey by the luma of ITU-R 601.
    """
    if not path.is_file():
        raise InvalidInputError("data", str(path), f"There is no such file: let {DATA} name the folder of {TRAIN}.")
    try:
        from PIL import Image
    except ImportError as error:
        raise InvalidInputError("data", str(path), "Its JPEG images need Pillow: pip install pillow") from error
    try:
        with np.load(path, allow_pickle=False) as archive:
            content, offsets, labels = archive["jpeg"], archive["offsets"], archive["labels"]
        images = len(offsets) - 1
        count = images if count is None else count
        if not 1 <= count <= images:
            raise InvalidInputError("count", count, f"{path.name} holds {images} images.")
        numbers = np.arange(count) * images // count
        rows = []
        for number in numbers:
            with Image.open(io.BytesIO(content[offsets[number] : offsets[number + 1]].tobytes())) as image:
                rows.append(np.asarray(image.convert(mode)))
            if rows[-1].shape[:2] != (SIDE, SIDE):
                raise InvalidInputError("data", str(path), f"Image {number} is not 32 x 32.")
        return np.stack(rows), labels[numbers]
    except InvalidInputError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, OSError, zipfile.BadZipFile) as error:
        raise InvalidInputError(
            "data", str(path), f"The file is not CIFAR-10 as JPEG with offsets: {type(error).__name__}: {error}"
        ) from error


def scaled(pixels: Tensor) -> Tensor:
    """Pixels as a network takes them: mean 0 and deviation 1 by colour, channels last in memory."""
    mean, deviation = torch.tensor(MEAN)[:, None, None], torch.tensor(DEVIATION)[:, None, None]
    return ((pixels.float() / 255.0 - mean) / deviation).contiguous(memory_format=torch.channels_last)


def augmented(pixels: Tensor, generator: np.random.Generator) -> Tensor:
    """Images moved by up to 4 pixels over black borders, half of them mirrored."""
    images = len(pixels)
    corner = torch.from_numpy(generator.integers(2 * _SHIFT + 1, size=(2, images, 1)))
    mirrored = torch.from_numpy(generator.random((images, 1)) < 0.5)
    rows = corner[0] + torch.arange(SIDE)
    columns = corner[1] + torch.where(mirrored, torch.arange(SIDE).flip(0), torch.arange(SIDE))
    padded = pad(pixels, (_SHIFT,) * 4)
    image, colour = torch.arange(images)[:, None, None, None], torch.arange(pixels.shape[1])[:, None, None]
    return padded[image, colour, rows[:, None, :, None], columns[:, None, None, :]]
