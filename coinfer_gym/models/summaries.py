"""Summaries of CNN/DailyMail articles by an encoder-decoder with a cut encoder, and their ROUGE scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rouge_score.rouge_scorer import RougeScorer
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models import blocks
from coinfer_gym.models.inputs import read_data, text_of
from coinfer_gym.models.link import pack, unpack
from coinfer_gym.models.split import Halves

_MEASURES = ("rouge1", "rouge2", "rougeL")


@dataclass(frozen=True)
class Article:
    """An article and its reference summary: in the sample one line, its bullets joined by `` . ``."""

    key: str
    article: str
    highlights: str


def read_articles(path: str | Path) -> list[Article]:
    """Articles of a file of JSON lines with ``id``, ``article``, ``highlights``, and ``"split": "eval"``.

    The file may be gzipped. Articles of another split are left out.

    Raises
    ------
    InvalidInputError
        If there is no such file, it has another format, or no such article.
    """
    articles = read_data(
        path,
        _parse,
        "give CNN/DailyMail as JSON lines, or gzip.",
        "Each line must be JSON with id, article, highlights and split",
    )
    if not articles:
        raise InvalidInputError("data", str(path), "The file holds no article of the split 'eval'.")
    return articles


def _parse(raw: bytes) -> list[Article]:
    # Not splitlines, which also breaks lines at signs that JSON leaves in its strings.
    rows = [json.loads(line) for line in raw.decode("utf-8").split("\n") if line.strip()]
    keys = ("id", "article", "highlights")
    return [Article(*(text_of(row, key) for key in keys)) for row in rows if text_of(row, "split") == "eval"]


@torch.no_grad()
def write_tokens(
    halves: Halves, inputs: dict[str, Tensor], *, precision: str = "fp32", most_tokens: int = 142
) -> Tensor:
    """Tokens of the summary of one article, the likeliest at every step (greedy decoding), of shape (1, tokens).

    The device runs the first blocks of the encoder, its activation goes over the link as bytes, the server runs the
    rest of the encoder once and then the decoder token by token, from nothing but what it received. Where the cut
    leaves nothing to the server, the device decodes as well and sends the tokens, which the link does not round. In
    fp32 the tokens are those of ``generate`` of the uncut network, with its start token.

    Parameters
    ----------
    halves : Halves
        Of a cut encoder-decoder that writes text.
    inputs : dict of Tensor
        ``input_ids`` and ``attention_mask`` of one article, of shape (1, tokens).
    precision : {"fp32", "fp16", "int8"}
        Of the link, as in `coinfer_gym.models.link.pack`.
    most_tokens : int
        The summary ends here at the latest; what else the checkpoint asks for (a least length, no repetitions) holds.

    Raises
    ------
    InvalidInputError
        If the network does not write text from text, or the precision is unknown.
    """
    half = _decoding(halves)
    network: Any = half.network
    # Of an encoder-decoder the start token is the decoder's, and it counts.
    options = {"max_length": most_tokens + 1, "num_beams": 1, "do_sample": False, "use_cache": True}
    if half is halves.device:
        sent = {"tokens": network.generate(**inputs, **options)}
        return unpack(pack(sent, precision))["tokens"]
    # The halves ask for an input of the decoder; the encoder's output does not depend on it.
    sent = halves.device(**inputs, decoder_input_ids=inputs["input_ids"][:, :1])
    received = unpack(pack(sent, precision))
    hidden = halves.server(received).encoder_last_hidden_state
    tokens: Tensor = network.generate(
        encoder_outputs=BaseModelOutput(hidden), attention_mask=received["attention_mask"], **options
    )
    return tokens


def summarise(
    halves: Halves,
    tokenizer: Any,
    articles: Sequence[Article],
    *,
    precision: str = "fp32",
    most_tokens: int = 142,
) -> list[str]:
    """Summaries of articles by a cut network, one article at a time as the link would carry them.

    The arguments are those of `write_tokens`; 142 is the most that BART was given for this data set. Of an article at
    most as many tokens count as the network has positions.
    """
    longest = blocks.most_tokens(_decoding(halves).network)
    summaries = []
    for each in articles:
        encoded = tokenizer(each.article, truncation=True, max_length=longest, return_tensors="pt")
        inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")}
        tokens = write_tokens(halves, inputs, precision=precision, most_tokens=most_tokens)
        summaries.append(tokenizer.decode(tokens[0], skip_special_tokens=True).strip())
    return summaries


def score(predictions: Sequence[str], articles: Sequence[Article]) -> dict[str, np.ndarray]:
    """F-measures of ROUGE in [0, 1] of one summary an article against its highlights.

    ``rouge1`` is of shared words, ``rouge2`` of shared pairs of neighbouring words, ``rougeL`` of the longest common
    subsequence of words, and ``rouge`` the mean of the three.

    By the package ``rouge-score`` with Porter's stems; only letters and digits count. ROUGE-L takes a summary as one
    sequence of words: the highlights come on one line, which does not tell the bullets from sentences. Published
    figures for this data set mostly join the best subsequences of single sentences (ROUGE-Lsum), which gives more.
    """
    scorer = RougeScorer(_MEASURES, use_stemmer=True)
    pairs = zip(predictions, articles, strict=True)
    results = [scorer.score(each.highlights, prediction) for prediction, each in pairs]
    found = {measure: np.array([result[measure].fmeasure for result in results]) for measure in _MEASURES}
    return {"rouge": np.mean([*found.values()], axis=0), **found}


def _decoding(halves: Halves) -> Any:
    """Half that has the decoder: the server's, if anything is left to the server."""
    half = next((half for half in halves[::-1] if isinstance(getattr(half, "network", None), PreTrainedModel)), None)
    network: Any = getattr(half, "network", None)
    if network is None or not network.config.is_encoder_decoder or not network.can_generate():
        raise InvalidInputError(
            "halves", type(network).__name__, "Cut an encoder-decoder that writes text, such as BART (seq2seq-lm)."
        )
    return half
