"""Measuring: every row is what its configuration says, nothing is measured twice, and a scenario comes out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import lock_folder, read_csv
from coinfer_gym.laim.predictor import load_predictor
from coinfer_gym.laim.workload import load_workload
from coinfer_gym.models import measure as measuring
from coinfer_gym.models import retrieval, squad
from coinfer_gym.models.load import load_model, load_tokenizer
from coinfer_gym.models.measure import (
    SHARED,
    Configuration,
    clustered_error,
    grid_design,
    main,
    measure,
    random_design,
)
from coinfer_gym.models.prune import METHODS, prune
from coinfer_gym.models.split import split
from coinfer_gym.models.tasks import Link, load_task
from tests.coinfer_gym.models.tiny import fit_few, word_tokenizer

WIDTH, INNER, TOKENS = 32, 64, 18
SMALL = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": INNER}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "what", "?", *(f"w{number}" for number in range(40))]
CONFIGURATION = ["cut", "retained_device", "retained_server", "method", "precision", "seed", "samples"]
OUTCOME = ["kept_device", "kept_server", "distortion", "payload_bits", "seconds"]
SQUAD_COLUMNS = [
    *CONFIGURATION,
    "f1",
    "f1_error",
    "exact_match",
    "exact_match_error",
    "f1_loss",
    "f1_loss_error",
    *OUTCOME,
]


def save_network(folder: Path, network_class: Any) -> str:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.BertConfig(**SMALL, vocab_size=len(WORDS), initializer_range=0.4)
        network_class(config).save_pretrained(folder)
    word_tokenizer(WORDS).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_network(tmp_path_factory.mktemp("span") / "network", transformers.BertForQuestionAnswering)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_network(tmp_path_factory.mktemp("encoder") / "network", transformers.BertModel)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve questions about four paragraphs, all of the same length."""
    rng = np.random.default_rng(0)
    paragraphs = []
    for number in range(4):
        words = [f"w{word}" for word in rng.integers(0, 40, 12)]
        asked = [
            {"id": f"{number}-{k}", "question": f"what {words[4 * k]} ?", "answers": [{"text": " ".join(words[k::])}]}
            for k in range(3)
        ]
        paragraphs.append({"context": " ".join(words), "qas": asked})
    path = tmp_path_factory.mktemp("data") / "squad.json"
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}))
    return path


def without_time(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{name: str(value) for name, value in row.items() if name != "seconds"} for row in rows]


def weights(blocks: int, whole: bool) -> int:
    """Prunable weights of some blocks; the last one takes the span head along."""
    return blocks * (4 * WIDTH**2 + 2 * WIDTH * INNER) + whole * 2 * WIDTH


def test_the_command_line_measures_fits_and_writes_a_scenario(
    network: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measuring, "GRID", {"magnitude": (0.5, 1.0), "random": (0.8, 1.0)})
    fit_few(monkeypatch, "DecisionTree", "Linear")
    folder = tmp_path / "tiny-squad"
    task = ["--model", network, "--task", "squad", "--data", str(data), "--output", str(folder)]
    assert main([*task, "--samples", "9", "--random", "8", "--methods", "magnitude"]) == 0
    assert "scenario.yaml" in capsys.readouterr().out
    rows = read_csv(folder / "measurements.csv")
    assert list(rows[0]) == SQUAD_COLUMNS
    assert len(rows) == 14  # 3 pairs at the inner cut, 1 at either end, the unpruned network, 8 drawn
    for row in rows:
        cut = int(row["cut"])
        for side, total in (("device", weights(cut, cut == 2)), ("server", weights(2 - cut, cut < 2))):
            ratio, kept = float(row[f"retained_{side}"]), float(row[f"kept_{side}"])
            assert kept == (round(round(ratio * total) / total, 6) if total else 1.0)
            assert total or ratio == 1.0
        assert row["samples"] == "9"
        assert 0.0 <= float(row["f1"]) <= 1.0
    workload = load_workload(folder / "workload.yaml")
    assert (workload.name, workload.cuts) == ("tiny-squad", 3)
    # Beside the activation: the mask, 16 bits a token, and the shapes of two inputs that stay on the device.
    for row in rows:
        if row["cut"] == "1":
            bits = workload.upload_bits[1] * {"fp32": 2, "fp16": 1, "int8": 0.5}[row["precision"]]
            assert int(row["payload_bits"]) == bits + 16 * TOKENS + 64
    assert workload.upload_bits[1] == 16 * TOKENS * WIDTH
    predictor = load_predictor(folder / "predictor-magnitude.json")
    unpruned = next(row for row in rows if row["retained_device"] == row["retained_server"] == "1.0")
    assert (predictor.metric, predictor.quality.shape[0]) == ("f1", 3)
    assert predictor.unpruned == float(unpruned["f1"]) > 0.0
    made_by = json.loads((folder / "measurements.json").read_text())
    assert (made_by["task"], made_by["rows"]) == ("squad", 14)
    assert "--random 8" in made_by["commands"][0]


def test_the_unpruned_network_scores_as_if_it_had_not_been_cut(network: str, data: Path, tmp_path: Path) -> None:
    configurations = [Configuration(cut, 1.0, 1.0, "magnitude", "fp32") for cut in range(3)]
    rows = measure("squad", network, data, configurations, tmp_path / "m.csv", samples=0)
    model, questions = load_model(network, head="question-answering"), squad.read_squad(data)

    def logits(inputs: dict[str, Any]) -> Any:
        with torch.no_grad():
            output = model(**inputs)
        return output.start_logits, output.end_logits

    windows = squad.make_windows(load_tokenizer(network), questions)
    scores = squad.score(squad.predict(logits, windows, questions), questions)
    assert len(rows) == 3
    for row in rows:
        assert row["f1"] == round(scores["f1"].mean(), 6) > 0.0
        assert row["exact_match"] == round(scores["exact_match"].mean(), 6)
        assert (row["kept_device"], row["kept_server"], row["distortion"]) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
def test_the_loss_of_f1_is_that_on_the_same_questions(
    network: str, data: Path, tmp_path: Path, arithmetic: str
) -> None:
    design = [Configuration(1, *pair, "magnitude", "fp32") for pair in ((1.0, 1.0), (0.3, 0.3))]
    given = {"samples": 0, "arithmetic": arithmetic}
    unpruned, pruned = reversed(measure("squad", network, data, design, tmp_path / "m.csv", **given))
    assert (unpruned["f1_loss"], unpruned["f1_loss_error"]) == (0.0, 0.0)
    assert pruned["f1_loss"] == pytest.approx(unpruned["f1"] - pruned["f1"], abs=2e-6)
    assert pruned["f1_loss"] != 0.0

    # Question by question, from networks that are pruned and rounded here.
    questions, f1 = squad.read_squad(data), []
    windows = squad.make_windows(load_tokenizer(network), questions)
    for ratio in (1.0, 0.3):
        model = load_model(network, head="question-answering")
        prune_split_in_place(model, ratio)
        model.to(getattr(torch, arithmetic))

        def logits(inputs: dict[str, Any], model: Any = model) -> Any:
            with torch.no_grad():
                output = model(**inputs)
            return output.start_logits, output.end_logits

        f1.append(squad.score(squad.predict(logits, windows, questions), questions)["f1"])
    groups = [each.context for each in questions]
    assert pruned["f1_loss_error"] == pytest.approx(clustered_error(f1[0] - f1[1], groups), abs=2e-6)


def prune_split_in_place(model: Any, ratio: float) -> None:
    """Each block by its share: the halves of a network of two blocks that is cut in the middle."""
    for block in (model.bert.encoder.layer[0], [model.bert.encoder.layer[1], model.qa_outputs]):
        prune(block, ratio)


def test_what_the_link_rounds_changes_and_the_answer_itself_is_not_rounded(
    network: str, data: Path, tmp_path: Path
) -> None:
    precisions = ("fp32", "fp16", "int8")
    configurations = [Configuration(cut, 1.0, 1.0, "magnitude", each) for cut in (0, 1, 2) for each in precisions]
    rows = measure("squad", network, data, configurations, tmp_path / "m.csv", samples=3)
    bits = {cut: [row["payload_bits"] for row in rows if row["cut"] == cut] for cut in (0, 1, 2)}
    assert len(set(bits[1])) == 3
    assert len(set(bits[0])) == len(set(bits[2])) == 1


def test_nothing_is_measured_twice(network: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    design = [Configuration(1, ratio, 1.0, "random", "fp16", 3) for ratio in (1.0, 0.9, 0.8, 0.7)]
    path = tmp_path / "m.csv"
    first = measure("squad", network, data, design[:2], path, samples=3)
    before, asked = read_csv(path), []
    honest = measuring._measure_group

    def noted(*arguments: Any) -> Any:
        asked.extend(arguments[-1])
        return honest(*arguments)

    monkeypatch.setattr(measuring, "_measure_group", noted)
    measure("squad", network, data, design, path, samples=3)
    assert sorted(each.retained_device for each in asked) == [0.7, 0.8]
    rows = read_csv(path)
    assert len(rows) == 4
    assert all(row in rows for row in before), "times included"
    again = measure("squad", network, data, design, path, samples=3)
    assert len(asked) == 2
    assert without_time(again) == without_time(rows)
    # Another number of samples is another measurement.
    more = measure("squad", network, data, design[:1], path, samples=5)
    assert [row["samples"] for row in without_time(more)] == ["5", *["3"] * 4]
    assert len(first) == 2


def test_results_do_not_depend_on_the_number_of_processes(
    network: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "two"
    options = ["--model", network, "--data", str(data), "--output", str(folder), "--samples", "3"]
    options += ["--random", "2", "--no-grid", "--methods", "random", "--jobs", "2"]
    # So few rows make no predictor, but they stay.
    assert main(options) == 0
    assert "No predictor will come of this: random pruning needs 10 groups" in capsys.readouterr().out
    assert not (folder / "scenario.yaml").exists()
    design = [Configuration(0, 1.0, 1.0, "random", "fp16"), *random_design(3, ["random"], 2)]
    alone = measure("squad", network, data, design, tmp_path / "one.csv", samples=3, jobs=1)
    assert without_time(read_csv(folder / "measurements.csv")) == without_time(alone)
    # A file of the same name, a network of the same folder: their rows are not mixed.
    other = tmp_path / data.name
    other.write_text(data.read_text().replace("what", "who"))
    assert main([*options, "--data", str(other)]) == 2
    assert "It holds measurements with data_sha256" in capsys.readouterr().err
    noted = folder / "measurements.json"
    noted.write_text(json.dumps(json.loads(noted.read_text()) | {"weights_sha256": "of another network"}))
    assert main(options) == 2
    assert "It holds measurements with weights_sha256 'of another network'" in capsys.readouterr().err
    assert main([*options, "--arithmetic", "bfloat16"]) == 2
    assert "It holds measurements with arithmetic 'float32'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "network_class"),
    [("squad", transformers.RobertaForQuestionAnswering), ("retrieval", transformers.RobertaModel)],
)
def test_texts_are_cut_to_the_positions_of_the_network(
    task: str, network_class: Any, data: Path, tmp_path: Path
) -> None:
    # RoBERTa counts positions from the entry after the padding's: this one takes 12 tokens, texts have more.
    config = transformers.RobertaConfig(**SMALL, vocab_size=len(WORDS), pad_token_id=0, max_position_embeddings=13)
    network_class(config).eval().save_pretrained(tmp_path / "roberta")
    word_tokenizer(WORDS).save_pretrained(tmp_path / "roberta")
    design = [Configuration(1, 1.0, 1.0, "magnitude", "fp32")]
    (row,) = measure(task, str(tmp_path / "roberta"), data, design, tmp_path / "m.csv", samples=4)
    assert row["payload_bits"] <= 12 * (32 * WIDTH + 16) + 64
    assert load_task(task, str(tmp_path / "roberta"), data, 4, 0).tokens == 12


def test_retrieval(encoder: str, data: Path, tmp_path: Path) -> None:
    design = [Configuration(1, *pair, "magnitude", "fp32") for pair in ((1.0, 1.0), (0.2, 0.2))]
    unpruned, pruned = reversed(measure("retrieval", encoder, data, design, tmp_path / "m.csv", samples=0))
    scores = ["reciprocal_rank", "reciprocal_rank_error", "recall_at_1", "recall_at_1_error"]
    assert list(read_csv(tmp_path / "m.csv")[0]) == [*CONFIGURATION, *scores, *OUTCOME]
    model, questions = load_model(encoder), squad.read_squad(data)
    found = retrieval.score(lambda inputs: model(**inputs).last_hidden_state, load_tokenizer(encoder), questions)
    assert unpruned["reciprocal_rank"] == pytest.approx(found["reciprocal_rank"].mean(), abs=2e-6)
    assert unpruned["recall_at_1"] == pytest.approx(found["recall_at_1"].mean(), abs=2e-6)
    assert pruned["distortion"] > 0.0
    # One text after the other: 4 paragraphs of 14 tokens, 12 questions of 5; each with its mask and two shapes.
    tokens = (4 * 14 + 12 * 5) / 16
    assert unpruned["payload_bits"] == round(tokens * (32 * WIDTH + 16) + 64)


def test_the_device_computes_once_for_all_its_servers(network: str, data: Path) -> None:
    halves = split(load_model(network, head="question-answering"), 1)
    calls: list[tuple[int, ...]] = []
    halves.device.register_forward_hook(
        lambda module, args, kwargs, output: calls.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    tokens = torch.tensor([[2, 6, 7, 3]])
    computed: dict[bytes, Any] = {}
    for shape in ((1, 4), (1, 4), (2, 2)):
        ids = tokens.view(shape)
        with torch.no_grad():
            for precision in ("fp32", "int8"):
                output = Link(halves, precision, computed)({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        assert output.start_logits.shape == shape
    assert calls == [(1, 4), (2, 2)]


def test_the_designs() -> None:
    grid, drawn = grid_design(7, METHODS), random_design(7, METHODS, 150)
    design = [*grid, *drawn]
    assert len(drawn) == 150
    assert len(design) >= 300
    assert len(set(design)) == len(design)
    assert (grid, drawn) == (grid_design(7, METHODS), random_design(7, METHODS, 150))
    assert drawn != random_design(7, METHODS, 150, seed=1)
    assert sum(each.retained_device == each.retained_server == 1.0 for each in grid) == 1
    for each in design:
        assert each.cut > 0 or each.retained_device == 1.0
        assert each.cut < 6 or each.retained_server == 1.0
        assert min(each.retained_device, each.retained_server) >= 0.05
    assert {each.cut for each in drawn} == set(range(7))
    assert {each.precision for each in drawn} == {"fp32", "fp16", "int8"}
    by_device: dict[Any, int] = {}
    for each in drawn:
        by_device[each.on_device] = by_device.get(each.on_device, 0) + 1
    assert set(by_device.values()) <= set(range(1, SHARED + 1))
    # The fewer are some of the more, so that a few can be measured again on more samples.
    assert set(random_design(7, METHODS, 21)) <= set(drawn)
    steep = random_design(7, METHODS, 40, ratios=(0.4, 0.6))
    assert {
        0.4 <= ratio <= 0.6 or ratio == 1.0 for each in steep for ratio in (each.retained_device, each.retained_server)
    } == {True}
    assert {each.method for each in (*grid_design(3, ["random"]), *random_design(3, ["random"], 9))} == {"random"}


def test_a_standard_error_by_hand() -> None:
    values = np.random.default_rng(0).random(9)
    alone = values.std(ddof=1) / 3
    assert clustered_error(values, list("abcdefghi")) == pytest.approx(alone)
    # Three that always agree tell no more than one.
    assert clustered_error(np.repeat(values, 3), [name for name in "abcdefghi" for _ in range(3)]) == pytest.approx(
        alone
    )


def test_an_unknown_task_is_refused(network: str, data: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"task: got 'squat'\. Did you mean 'squad'"):
        load_task("squat", network, data, 3, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--data": "no-such-file.json"}, "data: got 'no-such-file.json'. There is no such file"),
        ({"--ratios": ["0.5", "0.2"]}, "ratios: got [0.5, 0.2]. Give two shares from 0 to 1, the smaller one first"),
        ({"--samples": "-1"}, "samples: got -1. Give a whole number of at least 0"),
        ({"--jobs": "0"}, "jobs: got 0. Give a whole number of at least 1"),
        ({"--output": __file__}, "It is a file: give a folder"),
        ({"--seed": str(2**32)}, "seed: got 4294967296. Give a whole number from 0"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    change: dict[str, str | list[str]],
    message: str,
    network: str,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {"--model": network, "--data": str(data), "--output": str(tmp_path / "out"), "--samples": "3"} | change
    words = [[name, *([value] if isinstance(value, str) else value)] for name, value in given.items()]
    assert main([word for each in words for word in each]) == 2
    shown = capsys.readouterr().err.strip().splitlines()[-1]
    assert shown.startswith("coinfer_gym.models.measure: ")
    assert message in shown
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"time_s,throughput_mbps\n0,1\n",
        (",".join([*CONFIGURATION, "reciprocal_rank"]) + "\n1,0.5,0.5,random,fp16,0,3,0.4\n").encode(),
    ],
    ids=["another table", "another task"],
)
def test_a_file_of_something_else_is_kept(
    content: bytes, network: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "measurements.csv"
    path.write_bytes(content)
    assert main(["--model", network, "--data", str(data), "--output", str(tmp_path)]) == 2
    with lock_folder(tmp_path):
        assert main(["--model", network, "--data", str(data), "--output", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "There is no measurements.json of it: give another folder." in told
    assert "Another command works there" in told
    with pytest.raises(InvalidInputError, match=r"output: got .* The file holds no measurements of this command"):
        measure("squad", network, data, grid_design(3, METHODS), path, samples=3)
    assert path.read_bytes() == content
