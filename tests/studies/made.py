"""Makes a figure for a test and reads its files back, and writes images as an archive of CIFAR-10."""

import io
import json

import numpy as np

from coinfer_gym.files import read_csv
from studies.figure import PUBLISHED


def make_and_read(study, folder, pictures=("",), **options):
    """Verdict and rows of a figure, after a look at its files."""
    holds = study.make(folder, **options)
    names = {f"{study.name}.csv", f"{study.name}.json", *(f"{study.name}{suffix}.png" for suffix in pictures)}
    assert {path.name for path in folder.iterdir()} == names
    for suffix in pictures:
        assert (folder / f"{study.name}{suffix}.png").read_bytes().startswith(b"\x89PNG")
    summary = json.loads((folder / f"{study.name}.json").read_text(encoding="utf-8"), parse_constant=lambda _: 1 / 0)
    assert summary["holds"] == holds
    return summary, read_csv(folder / f"{study.name}.csv")


def read_published(name):
    """Verdict and rows of a published figure."""
    files = [PUBLISHED / f"{name}.{kind}" for kind in ("json", "csv")]
    return json.loads(files[0].read_text(encoding="utf-8")), read_csv(files[1])


def failures(judged):
    """Statements that do not hold."""
    return [statement for statement, holds in judged["holds"].items() if not holds]


def write_cifar(path, images, labels=None):
    """Write images of shape (n, rows, columns, 3) as an archive of JPEG files."""
    from PIL import Image

    files = []
    for pixels in images:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=95)
        files.append(file.getvalue())
    labels = np.arange(len(files)) % 10 if labels is None else labels
    content = np.frombuffer(b"".join(files), np.uint8)
    np.savez(path, jpeg=content, offsets=np.cumsum([0, *map(len, files)]), labels=labels.astype(np.uint8))
    return path
