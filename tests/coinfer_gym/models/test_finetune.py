"""Fine-tuning: it learns, it draws the same for the same seed, and an interruption leaves no trace."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors import SafetensorError

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import lock_folder, read_csv
from coinfer_gym.models import finetune as finetuning
from coinfer_gym.models.finetune import Recipe, finetune, main, mask_padding, span_loss
from coinfer_gym.models.load import load_model, load_tokenizer
from coinfer_gym.models.squad import Question, collate, make_windows, predict, score
from tests.coinfer_gym.models.tiny import word_tokenizer, write_squad

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "who", "?", *(f"w{number}" for number in range(20))]
RECIPE = Recipe(epochs=3, batch=4, learning_rate=3e-3)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network") / "bert"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=len(WORDS))).save_pretrained(folder)
    word_tokenizer(WORDS).save_pretrained(folder)
    return folder


def ask(count: int) -> list[Question]:
    """Who w3? The word itself, in paragraphs of different lengths."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        words = [f"w{word}" for word in rng.permutation(20)[: rng.integers(5, 9)]]
        found.append(Question(str(number), f"who {words[2]} ?", " ".join(words), (words[2],)))
    return found


QUESTIONS = ask(10)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squad(tmp_path_factory.mktemp("data") / "squad.json", QUESTIONS)


def start(network: Path) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return load_model(network, head="question-answering", untrained_head=True)


def training(model: Any, network: Path, recipe: Recipe = RECIPE, progress: Path | None = None) -> Any:
    windows = make_windows(load_tokenizer(network), QUESTIONS)
    return finetune(model, windows, QUESTIONS, WORDS.index("[PAD]"), recipe, progress)


def same(first: Any, second: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_loss_is_that_of_the_probability_of_any_answer() -> None:
    generator = torch.Generator().manual_seed(0)
    starts, ends = (torch.randn(2, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    starts[1, 5:] = ends[1, 5:] = -torch.inf
    spans = [[(0, 1), (0, 2), (4, 4)], [(3, 3)]]
    expected = 0.0
    for row, answers in enumerate(spans):
        first = [math.exp(value) for value in starts[row].tolist()]
        last = [math.exp(value) for value in ends[row].tolist()]
        chance = sum(first[a] / sum(first) * last[b] / sum(last) for a, b in answers)
        expected -= math.log(chance) / len(spans)
    assert float(span_loss(starts, ends, spans)) == pytest.approx(expected, rel=1e-12)
    # All spans that there are: the answer is certain.
    everything = [list(itertools.product(range(7), range(7))), list(itertools.product(range(5), range(5)))]
    assert float(span_loss(starts, ends, everything)) == pytest.approx(0.0, abs=1e-12)


def test_padding_changes_neither_loss_nor_gradient(network: Path) -> None:
    model = start(network)
    windows = make_windows(load_tokenizer(network), QUESTIONS)
    short, long = sorted(windows, key=lambda window: len(window.tokens))[:: len(windows) - 1]
    assert len(short.tokens) < len(long.tokens)

    def loss_of(batch: list[Any]) -> Any:
        inputs = collate(batch, 0)
        return span_loss(*mask_padding(model(**inputs), inputs), [[(5, 6)]] * len(batch))

    gradients = []
    for loss in (loss_of([short, long]), (loss_of([short]) + loss_of([long])) / 2):
        model.zero_grad()
        loss.backward()
        gradients.append((float(loss.detach()), model.qa_outputs.weight.grad.clone()))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-5)
    assert torch.allclose(gradients[0][1], gradients[1][1], atol=1e-6)


def test_it_learns(network: Path) -> None:
    model = start(network)
    recipe = Recipe(epochs=20, batch=4, learning_rate=5e-3)
    rows = list(training(model, network, recipe))
    updates = len(rows)
    assert [row["update"] for row in rows] == list(range(updates))
    assert updates == 20 * 3
    by_epoch = [np.mean([row["loss"] for row in rows if row["epoch"] == epoch]) for epoch in (0, 19)]
    assert by_epoch[1] < by_epoch[0] / 2
    assert not model.training
    # The rate rises over a tenth of the updates, and falls to nothing.
    rates = [row["learning_rate"] for row in rows]
    assert max(rates) == pytest.approx(5e-3)
    assert rates[:7] == sorted(rates[:7])
    assert rates[6:] == sorted(rates[6:], reverse=True)
    assert rates[0] == pytest.approx(5e-3 * 10 / updates)
    assert 0.0 < rates[-1] == pytest.approx(5e-3 / updates * 10 / 9)

    def logits(inputs: dict[str, Any]) -> Any:
        with torch.no_grad():
            output = model(**inputs)
        return output.start_logits, output.end_logits

    answers = predict(logits, make_windows(load_tokenizer(network), QUESTIONS), QUESTIONS)
    assert score(answers, QUESTIONS)["f1"].mean() > 0.5


def test_without_dropout_nothing_of_the_network_is_random(network: Path) -> None:
    first, other = (next(training(start(network), network, replace(RECIPE, dropout=drop))) for drop in (True, False))
    model = start(network)
    windows = make_windows(load_tokenizer(network), QUESTIONS)
    batch = next(iter(finetuning._shuffled(windows, range(10), 4, np.random.default_rng([0, 0]))))
    inputs = collate([windows[number] for number in batch], 0)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**inputs)
    spans = [finetuning.answer_spans(windows[number], QUESTIONS[number]) for number in batch]
    assert other["loss"] == pytest.approx(float(span_loss(*mask_padding(output, inputs), spans)), rel=1e-6)
    assert first["loss"] != other["loss"]


def test_a_network_of_16_bits_is_trained_in_32(network: Path) -> None:
    model, other = start(network).bfloat16(), start(network).bfloat16().float()
    recipe = Recipe(epochs=1, batch=4, learning_rate=1e-4)
    assert list(training(model, network, recipe)) == list(training(other, network, recipe))
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert same(model, other)


def test_a_seed_gives_the_same_weights_and_leaves_the_global_generators_alone(network: Path) -> None:
    torch_before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (start(network) for _ in range(3))
    rows = list(training(first, network))
    assert torch.equal(torch_before, torch.random.get_rng_state())
    np.testing.assert_array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002
    torch.rand(3)  # whatever the generator's state is
    assert list(training(again, network)) == rows
    assert same(first, again)
    assert not same(first, start(network))
    assert [row["loss"] for row in training(other, network, Recipe(3, 4, 3e-3, seed=1))] != [
        row["loss"] for row in rows
    ]


@pytest.mark.parametrize("keep", [2, 3])
def test_an_interrupted_training_equals_an_unbroken_one(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    monkeypatch.setattr(finetuning, "KEEP", keep)
    unbroken, broken, resumed = (start(network) for _ in range(3))
    rows = list(training(unbroken, network))
    progress = tmp_path / "folder" / "progress.safetensors"
    updates = training(broken, network, progress=progress)
    before = list(itertools.islice(updates, 5))
    kept = 5 // keep * keep  # what the file knows: in the middle of an epoch of 3 updates, or at its end
    assert before == rows[:5]
    updates.close()
    assert list(training(resumed, network, progress=progress)) == rows[kept:]
    assert same(unbroken, resumed)
    assert not same(unbroken, broken)


def test_a_damaged_progress_file_is_refused(network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetuning, "KEEP", 2)
    progress = tmp_path / "progress.safetensors"
    list(training(start(network), network, Recipe(epochs=1, batch=8), progress))
    whole = progress.read_bytes()
    wider = transformers.BertForQuestionAnswering(
        transformers.BertConfig(**{**SMALL, "intermediate_size": 32}, vocab_size=len(WORDS))
    )
    for content, model in ((b"", None), (whole[:99], None), (whole[:-9], None), (b"x" * 99, None), (whole, wider)):
        progress.write_bytes(content)
        with pytest.raises(InvalidInputError, match=r"progress: got '.*'\. The file is damaged or of another network"):
            next(training(model or start(network), network, progress=progress))


def test_windows_without_an_answer_are_left_out_and_some_must_remain(network: Path) -> None:
    windows = make_windows(load_tokenizer(network), QUESTIONS)
    lost = [Question(each.key, each.question, each.context, ("nothing",)) for each in QUESTIONS]
    mixed = [*QUESTIONS[:3], *lost[3:]]
    assert len(list(finetune(start(network), windows, mixed, 0, Recipe(epochs=1, batch=1)))) == 3
    with pytest.raises(InvalidInputError, match=r"data: got '10 windows'\. None holds an answer"):
        next(finetune(start(network), windows, lost, 0, RECIPE))


def test_the_command_line(network: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "tuned"
    options = ["--model", str(network), "--data", str(data), "--output", str(folder), "--threads", "1"]
    recipe = ["--epochs", "2", "--batch", "4", "--learning-rate", "3e-3"]
    assert main([*options, *recipe]) == 0
    assert f"wrote {folder}" in capsys.readouterr().out
    tuned = load_model(folder, head="question-answering")
    assert not same(tuned, load_model(network, head="question-answering", untrained_head=True))
    assert load_tokenizer(folder)("who w3 ?")["input_ids"] == [2, 4, 9, 5, 3]
    rows = read_csv(folder / "log.csv")
    assert list(rows[0]) == ["epoch", "update", "loss", "learning_rate", "seconds"]
    assert [row["update"] for row in rows] == list(map(str, range(6)))
    made_by = json.loads((folder / "finetune.json").read_text())
    expected = {"questions": 10, "windows": 10, "epochs": 2, "batch": 4, "learning_rate": 3e-3, "seed": 0, "threads": 1}
    assert {name: made_by[name] for name in expected} == expected
    assert made_by["data"] == data.name
    assert not (folder / "progress.safetensors").exists()

    log = (folder / "log.csv").read_bytes()
    assert main([*options, *recipe]) == 0
    assert "nothing is done again" in capsys.readouterr().out
    assert (folder / "log.csv").read_bytes() == log

    assert main([*options, "--epochs", "3"]) == 2
    assert "It holds a training with epochs 2: give another folder" in capsys.readouterr().err
    other = tmp_path / "other.json"
    other.write_text(data.read_text())
    assert main([*options, "--data", str(other), *recipe]) == 2
    assert f"It holds a training with data {data.name!r}: give another folder" in capsys.readouterr().err
    other = tmp_path / "other" / data.name
    other.parent.mkdir()
    other.write_text(data.read_text().replace("who", "what"))
    assert main([*options, "--data", str(other), *recipe]) == 2
    assert "It holds a training with data_sha256" in capsys.readouterr().err
    (folder / "finetune.json").write_text("{}")
    assert main([*options, *recipe]) == 2
    assert "The file is damaged, remove it" in capsys.readouterr().err


def test_a_killed_or_full_command_goes_on_and_leaves_the_files_of_an_unbroken_one(
    network: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def options(name: str) -> list[str]:
        given = {"--model": network, "--data": data, "--output": tmp_path / name, "--epochs": 2, "--batch": 4}
        return [str(word) for pair in given.items() for word in pair]

    def end(*_arguments: Any, **_options: Any) -> None:
        raise error

    def log(name: str) -> list[dict[str, str]]:
        return [row | {"seconds": ""} for row in read_csv(tmp_path / name / "log.csv")]

    monkeypatch.setattr(finetuning, "KEEP", 2)
    assert main(options("whole")) == 0
    save = finetuning.save_progress
    error: BaseException = KeyboardInterrupt()
    monkeypatch.setattr(finetuning, "save_progress", lambda *arguments: (save(*arguments), end()))
    assert main(options("broken")) == 130
    monkeypatch.setattr(finetuning, "save_progress", save)
    error = SafetensorError("No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(transformers.PreTrainedModel, "save_pretrained", end)
        assert main(options("broken")) == 2
    assert "The network cannot be written there: No space left" in capsys.readouterr().err
    with lock_folder(tmp_path / "broken"):
        assert main(options("broken")) == 2
    assert "Another command works there" in capsys.readouterr().err
    assert main(options("broken")) == 0
    assert log("broken") == log("whole")
    assert same(*(load_model(tmp_path / name, head="question-answering") for name in ("broken", "whole")))
    assert "nothing is done again" not in capsys.readouterr().out


def test_a_16_bit_checkpoint_is_trained_in_32_bits(network: Path, data: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    load_model(network).to(torch.bfloat16).save_pretrained(half)
    load_tokenizer(network).save_pretrained(half)
    given = {"--model": half, "--data": data, "--output": tmp_path / "tuned", "--epochs": 1}
    assert main([str(word) for pair in given.items() for word in pair]) == 0
    assert load_model(tmp_path / "tuned", head="question-answering").dtype == torch.float32


def test_a_network_from_elsewhere_is_not_overwritten(
    network: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", str(network), "--data", str(data), "--output", str(network)]) == 2
    assert "It holds a network from elsewhere" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"learning_rate": "1"}, {"weight_decay": None}, {"seed": 0.5}, {"epochs": True}])
def test_a_recipe_takes_numbers_only(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(change))):
        Recipe(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--seed": "-1"}, "seed: got -1. Give a whole number from 0"),
        ({"--data": "no-such-file.json"}, "data: got 'no-such-file.json'. There is no such file"),
        ({"--epochs": "0"}, "epochs: got 0. Give a whole number of at least 1"),
        ({"--learning-rate": "nan"}, "learning_rate: got nan. Give a finite number"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    change: dict[str, str],
    message: str,
    network: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {"--model": str(network), "--data": str(data), "--output": str(tmp_path / "out")} | change
    assert main([word for pair in given.items() for word in pair]) == 2
    shown = capsys.readouterr().err.strip().splitlines()[-1]
    assert shown.startswith("coinfer_gym.models.finetune: ")
    assert message in shown
    assert not (tmp_path / "out").exists()
