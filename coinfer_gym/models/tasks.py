"""What a cut network is measured at: answers to questions, paragraphs found, summaries, texts predicted."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models import retrieval, squad, summaries
from coinfer_gym.models.blocks import fewest_tokens, most_tokens
from coinfer_gym.models.inputs import check_choice
from coinfer_gym.models.link import pack, payload_bits, unpack
from coinfer_gym.models.load import load_model, load_tokenizer
from coinfer_gym.models.split import Activations, Halves

Metrics = dict[str, np.ndarray]
Network = TypeVar("Network", bound=torch.nn.Module)

ARITHMETIC = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Types in which a network may compute; it is always pruned in its own."""

ARTICLE_TOKENS = 128
"""Perplexity is that of so many tokens at the start of each article, or of all where there are fewer."""


class Link:
    """A cut network as one function of its inputs, with the link between the halves.

    What the device has `computed`, by input, is filled here, and given to networks with the same device half. `bits`
    lists the payload of every sample that was sent.
    """

    def __init__(self, halves: Halves, precision: str, computed: dict[bytes, Activations]) -> None:
        self.halves = halves
        self.precision = precision
        self.bits: list[int] = []
        self._computed = computed

    def __call__(self, inputs: dict[str, Tensor]) -> Any:
        """Output of the server half."""
        tokens = inputs["input_ids"]
        key = repr(tuple(tokens.shape)).encode() + tokens.numpy().tobytes()
        if key not in self._computed:
            self._computed[key] = self.halves.device(**inputs)
        message = pack(self._computed[key], self.precision)
        self.bits.append(payload_bits(message))
        return self.halves.server(unpack(message))


class Task(Protocol):
    """What a network is measured at."""

    model: PreTrainedModel  # the network, whole
    groups: Sequence[str]  # what each sample is about: samples of the same group are not independent
    tokens: int  # mean length of a sample, for the workload

    def measure(self, link: Link) -> Metrics:
        """Metrics, one entry a sample, the main one first."""


class SquadTask:
    """Answers to questions: F1 and exact match."""

    def __init__(self, model_name: str, data: Path, samples: int, seed: int, arithmetic: str) -> None:
        self.model = load_model(model_name, head="question-answering")
        self.questions = _subset(squad.read_squad(data), samples, seed)
        self.groups: Sequence[str] = [question.context for question in self.questions]
        self.windows = squad.make_windows(load_tokenizer(model_name), self.questions, most_tokens(self.model))
        self.tokens = round(float(np.mean([len(window.tokens) for window in self.windows])))
        self.arithmetic = arithmetic

    def measure(self, link: Link) -> Metrics:
        """F1 and exact match of every question, and how much of the whole network's F1 is lost.

        The error of the loss is that of a difference on the same questions.
        """
        found = self._score(link)
        return {**found, "f1_loss": self._unpruned - found["f1"]}

    @functools.cached_property
    def _unpruned(self) -> np.ndarray:
        """F1 of the whole network, by question."""
        whole = compute_in(self.arithmetic, self.model)
        return self._score(lambda inputs: whole(**inputs))["f1"]

    def _score(self, network: Callable[[dict[str, Tensor]], Any]) -> Metrics:
        def logits(inputs: dict[str, Tensor]) -> squad.Logits:
            output = network(inputs)
            return output.start_logits, output.end_logits

        return squad.score(squad.predict(logits, self.windows, self.questions), self.questions)


class RetrievalTask:
    """Each question's own paragraph among all: recall at 1 and reciprocal rank."""

    def __init__(self, model_name: str, data: Path, samples: int, seed: int, arithmetic: str) -> None:
        self.model = load_model(model_name)
        self.tokenizer = load_tokenizer(model_name)
        self.questions = _subset(squad.read_squad(data), samples, seed)
        self.groups: Sequence[str] = [question.context for question in self.questions]
        texts, _ = retrieval.paragraphs(self.questions)
        self.longest = fewest_tokens(retrieval.MOST_TOKENS, self.model)
        self.tokens = mean_tokens(self.tokenizer, texts, self.longest)

    def measure(self, link: Link) -> Metrics:
        """Reciprocal rank and recall at 1 of every question; the texts go over the link one at a time."""
        return retrieval.score(
            lambda inputs: link(inputs).last_hidden_state, self.tokenizer, self.questions, self.longest
        )


class SummariesTask:
    """Summaries of articles: ROUGE, the mean of 1, 2 and L first."""

    def __init__(self, model_name: str, data: Path, samples: int, seed: int, arithmetic: str) -> None:
        self.model = load_model(model_name, head="seq2seq-lm")
        self.tokenizer = load_tokenizer(model_name)
        self.articles = _subset(summaries.read_articles(data), samples, seed)
        self.groups: Sequence[str] = [article.key for article in self.articles]
        texts = [each.article for each in self.articles]
        self.tokens = mean_tokens(self.tokenizer, texts, most_tokens(self.model))

    def measure(self, link: Link) -> Metrics:
        """ROUGE of every summary."""
        texts = summaries.summarise(link.halves, self.tokenizer, self.articles, precision=link.precision)
        return summaries.score(texts, self.articles)


class PerplexityTask:
    """Articles that a decoder predicts token by token: perplexity.

    The log-perplexity of an article is the mean over its tokens after the first of ``-ln p``, where `p` is what the
    network gives the token after those before it. Perplexity is its exponential.
    """

    def __init__(self, model_name: str, data: Path, samples: int, seed: int, arithmetic: str) -> None:
        self.model = load_model(model_name, head="causal-lm")
        tokenizer = load_tokenizer(model_name)
        articles = _subset(summaries.read_articles(data), samples, seed)
        self.groups: Sequence[str] = [article.key for article in articles]
        texts = [article.article for article in articles]
        longest = fewest_tokens(ARTICLE_TOKENS, self.model)
        encoded = tokenizer(texts, truncation=True, max_length=longest)["input_ids"]
        for article, tokens in zip(articles, encoded, strict=True):
            if len(tokens) < 2:
                raise InvalidInputError(f"data: article {article.key}", article.article, "Give at least two tokens.")
        self.encoded = [torch.tensor([tokens]) for tokens in encoded]
        self.tokens = mean_tokens(tokenizer, texts, longest)
        whole = compute_in(arithmetic, self.model)
        with torch.inference_mode():
            self.unpruned = self._log_perplexity(lambda inputs: whole(**inputs, use_cache=False))

    def measure(self, link: Link) -> Metrics:
        """Inverse of each article's perplexity, its log-perplexity, and the rise of that over the whole network's.

        The error of the rise is that of a difference on the same articles.
        """
        found = self._log_perplexity(link)
        return {
            "inverse_perplexity": np.exp(-found),
            "log_perplexity": found,
            "log_perplexity_rise": found - self.unpruned,
        }

    def _log_perplexity(self, network: Callable[[dict[str, Tensor]], Any]) -> np.ndarray:
        """Log-perplexity of every article, in nats."""
        values = []
        for tokens in self.encoded:
            logits = network({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}).logits
            values.append(float(torch.nn.functional.cross_entropy(logits[0, :-1].float(), tokens[0, 1:])))
        return np.array(values)


TASKS: dict[str, Callable[[str, Path, int, int, str], Task]] = {
    "squad": SquadTask,
    "retrieval": RetrievalTask,
    "summaries": SummariesTask,
    "perplexity": PerplexityTask,
}
"""Tasks by name: made from a network's name, the data, the number of samples (0 takes all), a seed and a key of
`ARITHMETIC`."""

METRICS = {
    "squad": "f1",
    "retrieval": "reciprocal_rank",
    "summaries": "rouge",
    "perplexity": "inverse_perplexity",
}
"""Main metric of each task, which is predicted."""


def compute_in(arithmetic: str, network: Network) -> Network:
    """Return the network itself where it computes in this type already, else a copy that does."""
    dtype = ARITHMETIC[arithmetic]
    given = next((each.dtype for each in network.parameters() if each.is_floating_point()), dtype)
    return network if given == dtype else copy.deepcopy(network).to(dtype)


def mean_tokens(tokenizer: Any, texts: Sequence[str], most: int | None) -> int:
    """Mean length of texts as a network takes them: of each at most so many tokens."""
    encoded = tokenizer(list(texts), truncation=most is not None, max_length=most)["input_ids"]
    return round(float(np.mean([len(tokens) for tokens in encoded])))


@functools.cache
def load_task(
    task_name: str, model_name: str, data: Path, samples: int, seed: int, arithmetic: str = "float32"
) -> Task:
    """Task by its name, once a process; the arguments are those of `measure`."""
    check_choice("task", task_name, TASKS)
    check_choice("arithmetic", arithmetic, ARITHMETIC)
    return TASKS[task_name](model_name, data, samples, seed, arithmetic)


def _subset(items: Sequence[Any], samples: int, seed: int) -> list[Any]:
    """A fixed random subset in the order of the data, or all of it."""
    if samples == 0 or samples >= len(items):
        return list(items)
    chosen = np.random.default_rng(seed).choice(len(items), samples, replace=False)
    return [items[number] for number in sorted(chosen)]
