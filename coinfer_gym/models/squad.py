"""SQuAD v1.1: questions from its JSON, features for a span head, answers from its logits, and the official scores."""

from __future__ import annotations

import json
import math
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.inputs import read_data, text_of

_MOST_TOKENS, _STRIDE = 384, 128
_MOST_ANSWER_TOKENS = 30

Logits = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Question:
    """One question about a paragraph; what the annotators answered are pieces of the context."""

    key: str
    question: str
    context: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Window:
    """A question and as much of its paragraph as a network takes at once."""

    owner: int  # number of the question
    tokens: tuple[int, ...]
    types: tuple[int, ...] | None  # 0 in the question, 1 in the paragraph; None where the network needs none
    offsets: tuple[tuple[int, int], ...]  # each token's first character in the paragraph and the one after its last


def read_squad(path: str | Path) -> list[Question]:
    """Questions of a file in the format of SQuAD v1.1.

    Parameters
    ----------
    path : str or Path
        JSON, or gzip of it.

    Returns
    -------
    list of Question
        In the order of the file.

    Raises
    ------
    InvalidInputError
        If there is no such file, or it has another format.
    """
    questions = read_data(
        path, _parse, "give SQuAD v1.1 as JSON, or gzip of it.", "The file is not in the format of SQuAD v1.1"
    )
    for each in questions:
        if not each.answers:
            raise InvalidInputError(f"data: question {each.key}: answers", [], "SQuAD v1.1 answers every question.")
    if not questions:
        raise InvalidInputError("data", str(path), "The file holds no question.")
    return questions


def _parse(raw: bytes) -> list[Question]:
    return [
        Question(
            text_of(qa, "id"),
            text_of(qa, "question"),
            text_of(paragraph, "context"),
            tuple(text_of(each, "text") for each in qa["answers"]),
        )
        for article in json.loads(raw)["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]


def normalize_answer(text: str) -> str:
    """Lower case without punctuation, articles and surplus blanks, as the official scores compare answers."""
    bare = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def f1(prediction: str, answers: Iterable[str]) -> float:
    """Largest F1 of shared words over the answers, in [0, 1]."""
    return max(_f1(normalize_answer(prediction).split(), normalize_answer(answer).split()) for answer in answers)


def exact_match(prediction: str, answers: Iterable[str]) -> float:
    """1 where the normalised prediction is one of the answers, else 0."""
    return float(normalize_answer(prediction) in map(normalize_answer, answers))


def score(predictions: Sequence[str], questions: Sequence[Question]) -> dict[str, np.ndarray]:
    """Official scores in [0, 1] of one prediction a question: ``f1``, of shared words, and ``exact_match``."""
    pairs = list(zip(predictions, questions, strict=True))
    return {
        measure.__name__: np.array([measure(prediction, question.answers) for prediction, question in pairs])
        for measure in (f1, exact_match)
    }


def make_windows(tokenizer: Any, questions: Sequence[Question], most_tokens: int | None = None) -> list[Window]:
    """Tokenise questions with their paragraphs, long paragraphs in windows that share 128 tokens of the paragraph.

    There is at least one window a question, of at most 384 tokens, or as many as the network takes, `most_tokens`, if
    that is less. The tokenizer must give offsets.
    """
    longest = min(_MOST_TOKENS, tokenizer.model_max_length, most_tokens or _MOST_TOKENS)
    typed = "token_type_ids" in tokenizer.model_input_names
    encoded = tokenizer(
        [each.question.strip() for each in questions],
        [each.context for each in questions],
        truncation="only_second",
        max_length=longest,
        stride=min(_STRIDE, longest // 3),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    windows = []
    for number, owner in enumerate(encoded["overflow_to_sample_mapping"]):
        sides = encoded.sequence_ids(number)
        offsets = encoded["offset_mapping"][number]
        windows.append(
            Window(
                owner,
                tuple(encoded["input_ids"][number]),
                tuple(1 if side == 1 else 0 for side in sides) if typed else None,
                tuple(tuple(pair) if side == 1 else (0, 0) for pair, side in zip(offsets, sides, strict=True)),
            )
        )
    return windows


def answer_spans(window: Window, question: Question) -> list[tuple[int, int]]:
    """Spans of tokens, both ends included, that hold an answer, wherever in the window it occurs.

    The data set marks one occurrence of each answer; where a paragraph repeats the words, which one was meant is not
    always known, so all count.
    """
    starts = {first: token for token, (first, last) in enumerate(window.offsets) if last > first}
    ends = {last: token for token, (first, last) in enumerate(window.offsets) if last > first}
    spans = set()
    for answer in set(question.answers):
        # Looking ahead finds occurrences that overlap, too.
        for match in re.finditer(f"(?={re.escape(answer)})", question.context):
            first, last = match.start(), match.start() + len(answer)
            if first in starts and last in ends:
                spans.add((starts[first], ends[last]))
    return sorted(spans)


def collate(windows: Sequence[Window], padding: int) -> dict[str, Tensor]:
    """Inputs of a network for a batch of windows, padded to the longest."""
    longest = max(len(window.tokens) for window in windows)

    def pad(rows: Iterable[Sequence[int]], value: int) -> Tensor:
        return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])

    inputs = {
        "input_ids": pad((window.tokens for window in windows), padding),
        "attention_mask": pad(([1] * len(window.tokens) for window in windows), 0),
    }
    types = [window.types for window in windows if window.types is not None]
    return {**inputs, "token_type_ids": pad(types, 0)} if types else inputs


def predict(
    network: Callable[[dict[str, Tensor]], Logits], windows: Sequence[Window], questions: Sequence[Question]
) -> list[str]:
    """Answers of a network: the best span of each question over its windows, which come one at a time.

    The network gives the logits of first and last tokens, each of shape (1, tokens). An answer is a piece of its
    paragraph of at most 30 tokens.
    """
    best: list[tuple[float, str]] = [(-math.inf, "")] * len(questions)
    for window in windows:
        starts, ends = network(collate([window], 0))
        worth, first, last = best_span(starts[0], ends[0], window)
        if worth > best[window.owner][0]:
            begin, end = window.offsets[first][0], window.offsets[last][1]
            best[window.owner] = worth, questions[window.owner].context[begin:end]
    return [text for _, text in best]


def best_span(starts: Tensor, ends: Tensor, window: Window) -> tuple[float, int, int]:
    """Largest sum of two logits over the spans of the paragraph that are not too long, with its first and last token.

    The logits of the window's tokens have shape (tokens,).
    """
    outside = torch.tensor([last <= first for first, last in window.offsets])
    start, end = (logits.float().masked_fill(outside, -torch.inf) for logits in (starts, ends))
    # For each first token the best last token of those that may follow it.
    reach = torch.nn.functional.pad(end, (0, _MOST_ANSWER_TOKENS - 1), value=-torch.inf)
    after, length = reach.unfold(0, _MOST_ANSWER_TOKENS, 1).max(-1)
    worth, first = (start + after).max(0)
    return float(worth), int(first), int(first + length[first])


def _f1(prediction: Sequence[str], answer: Sequence[str]) -> float:
    shared = sum((Counter(prediction) & Counter(answer)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(prediction), shared / len(answer)
    return 2.0 * precision * recall / (precision + recall)
