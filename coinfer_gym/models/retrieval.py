"""Retrieval on SQuAD: a sentence encoder, whole or cut, finds the paragraph that a question is about.

A text's embedding is that of all-MiniLM-L6-v2: the last hidden states averaged over the tokens that are no padding,
scaled to length 1; texts are cut to its 256 tokens. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.squad import Question

MOST_TOKENS = 256
"""Of a text at most so many tokens count."""

Encode = Callable[[dict[str, Tensor]], Tensor]


def paragraphs(questions: Sequence[Question]) -> tuple[list[str], np.ndarray]:
    """Paragraphs that questions are about, each once and in order, and the number of each question's own one."""
    numbers: dict[str, int] = {}
    owners = [numbers.setdefault(each.context, len(numbers)) for each in questions]
    return list(numbers), np.array(owners)


@torch.no_grad()
def embed(encode: Encode, tokenizer: Any, texts: Sequence[str], most_tokens: int | None = MOST_TOKENS) -> Tensor:
    """Embeddings of texts, rows of length 1, one text at a time as a link would carry them.

    Parameters
    ----------
    encode : callable
        From tokenised inputs, a dict of tensors of shape (1, tokens), to the last hidden states, of shape
        (1, tokens, width): a network, or the halves of a cut one with the link between.
    tokenizer : PreTrainedTokenizer
        That of the network.
    texts : sequence of str
        What is embedded.
    most_tokens : int, optional
        Of each text at most so many tokens count.

    Raises
    ------
    InvalidInputError
        If the hidden states are not finite.
    """
    rows = []
    for text in texts:
        inputs = dict(tokenizer(text, truncation=True, max_length=most_tokens, return_tensors="pt"))
        rows.append(_pool(encode(inputs), inputs["attention_mask"])[0].float())
    embeddings = torch.stack(rows)
    if not embeddings.isfinite().all():
        raise InvalidInputError("encode", "hidden states that are not finite", "Give a network with finite values.")
    return embeddings


def rank(similarity: np.ndarray, owners: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of every question, from similarities of shape (questions, paragraphs) and each question's own paragraph.

    ``reciprocal_rank`` is 1 over the rank of its own paragraph; its mean over questions is the MRR. ``recall_at_1`` is
    1 where its own paragraph is the most similar one, else 0.

    Paragraphs that are just as similar as the own one count as if their order were drawn: both scores are its
    expectations. So a network that embeds every text alike, as one without weights does, is at chance.
    """
    own = similarity[np.arange(len(owners)), owners][:, None]
    better = (similarity > own).sum(1)
    level = (similarity == own).sum(1)
    # The mean of 1 / rank over the ranks from better + 1 to better + level.
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, similarity.shape[1] + 1))])
    return {
        "reciprocal_rank": (harmonic[better + level] - harmonic[better]) / level,
        "recall_at_1": np.where(better == 0, 1.0 / level, 0.0),
    }


def score(
    encode: Encode, tokenizer: Any, questions: Sequence[Question], most_tokens: int | None = MOST_TOKENS
) -> dict[str, np.ndarray]:
    """Find each question's own paragraph among those of all the questions, by the cosine of their embeddings."""
    texts, owners = paragraphs(questions)
    found = embed(encode, tokenizer, texts, most_tokens)
    asked = embed(encode, tokenizer, [each.question.strip() for each in questions], most_tokens)
    return rank((asked @ found.T).numpy(), owners)


def _pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens that are no padding, of length 1; shape (batch, width)."""
    weights = mask[..., None].to(hidden.dtype)
    # The number of tokens cancels out: the sum has the direction of the mean.
    return torch.nn.functional.normalize((hidden * weights).sum(1), dim=-1)
