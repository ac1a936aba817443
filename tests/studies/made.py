"""Makes a figure for a test, and reads its files back."""

import csv
import json


def make_and_read(study, folder, pictures=("",), **options):
    """Verdict and rows of a figure, after a look at its files."""
    holds = study.make(folder, **options)
    names = {f"{study.name}.csv", f"{study.name}.json", *(f"{study.name}{suffix}.png" for suffix in pictures)}
    assert {path.name for path in folder.iterdir()} == names
    for suffix in pictures:
        assert (folder / f"{study.name}{suffix}.png").read_bytes().startswith(b"\x89PNG")
    summary = json.loads((folder / f"{study.name}.json").read_text(encoding="utf-8"), parse_constant=lambda _: 1 / 0)
    assert summary["holds"] == holds
    return summary, list(csv.DictReader((folder / f"{study.name}.csv").read_text(encoding="utf-8").splitlines()))


def failures(judged):
    """Statements that do not hold."""
    return [statement for statement, holds in judged["holds"].items() if not holds]
