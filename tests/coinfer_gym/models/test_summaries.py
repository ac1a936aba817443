"""Summaries: a cut encoder-decoder writes what the whole one writes, and ROUGE is what it is by hand."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.prune import prune_split
from coinfer_gym.models.split import split
from coinfer_gym.models.summaries import Article, read_articles, score, summarise, write_tokens
from tests.coinfer_gym.models.tiny import word_tokenizer

DATA = Path(os.environ.get("COINFER_DATA", Path(__file__).parents[3].parent / "shared" / "data"))
SAMPLE = DATA / "cnn_dailymail_sample.jsonl.gz"
WORDS = ["<s>", "<pad>", "</s>", "<unk>", *(f"w{number}" for number in range(196))]
BLOCKS, POSITIONS, TOKENS = 3, 64, 12
ROW = {"id": "1", "article": "w1 w2", "highlights": "w1", "split": "eval"}
OPTIONS = {"max_length": TOKENS + 1, "num_beams": 1, "do_sample": False}


def bart(kind: str = "BartForConditionalGeneration", *, tied: bool = False) -> Any:
    config = transformers.BartConfig(
        vocab_size=len(WORDS),
        d_model=24,
        encoder_layers=BLOCKS,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=40,
        decoder_ffn_dim=40,
        max_position_embeddings=POSITIONS,
        init_std=0.5,  # so that what is written depends on what is read
        tie_word_embeddings=tied,  # a head of random weights that is the embedding's echoes the last token
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return getattr(transformers, kind)(config).eval()


def tokenizer() -> Any:
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return word_tokenizer(WORDS, **special)


def inputs(seed: int, tokens: int = 20) -> dict[str, Any]:
    ids = np.random.default_rng(seed).integers(4, len(WORDS), (1, tokens))
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.ones(1, tokens, dtype=torch.long)}


@pytest.mark.parametrize("cut", [0, 2, BLOCKS])
def test_a_cut_network_writes_what_the_whole_one_writes(cut: int) -> None:
    model = bart()
    halves = split(model, cut)
    written = set()
    for seed in range(4):
        whole = model.generate(**inputs(seed, 20 + seed), **OPTIONS)
        assert torch.equal(write_tokens(halves, inputs(seed, 20 + seed), most_tokens=TOKENS), whole)
        written.add(tuple(whole[0].tolist()))
    assert len(written) == 4
    assert max(map(len, written)) == TOKENS + 1


def test_what_the_checkpoint_asks_for_holds() -> None:
    model = bart(tied=True)
    model.generation_config.update(no_repeat_ngram_size=2, num_beams=4, early_stopping=True, forced_bos_token_id=0)
    whole = model.generate(**inputs(0), **OPTIONS)
    assert whole[0, 1] == 0
    assert torch.equal(write_tokens(split(model, 2), inputs(0), most_tokens=TOKENS), whole)


def test_the_server_reads_nothing_but_what_the_link_brought() -> None:
    model = bart()
    halves = split(model, 2)
    received = []
    halves.server.register_forward_pre_hook(lambda _module, arguments: received.append(arguments[0]))
    with torch.no_grad():
        sent = halves.device(**inputs(0), decoder_input_ids=inputs(0)["input_ids"][:, :1])["hidden_state"]
    write_tokens(halves, inputs(0), precision="int8", most_tokens=TOKENS)
    # The encoder runs once, on a hidden state of at most 255 levels.
    assert len(received) == 1
    assert "input_ids" not in received[0]
    scale = sent.abs().max() / 127
    assert torch.allclose(received[0]["hidden_state"], (sent / scale).round() * scale, atol=1e-5)


@pytest.mark.parametrize("cut", [0, 2, BLOCKS])
def test_the_link_rounds_hidden_states_and_no_tokens(cut: int) -> None:
    model = bart()
    halves = split(model, cut)
    same = [
        torch.equal(
            write_tokens(halves, inputs(seed), precision="int8", most_tokens=TOKENS),
            model.generate(**inputs(seed), **OPTIONS),
        )
        for seed in range(4)
    ]
    assert all(same) == (cut in (0, BLOCKS))


@pytest.mark.parametrize("cut", [0, 1, BLOCKS])
@torch.no_grad()
def test_pruned_halves_write_the_likeliest_token_at_every_step(cut: int) -> None:
    device, server = halves = prune_split(bart(), cut, 0.8, 0.6).halves
    found = write_tokens(halves, inputs(0), most_tokens=TOKENS)
    tokens = found[:, :1]
    # The last token is the end, whatever is likeliest.
    while tokens.shape[1] < found.shape[1] - 1:
        likeliest = server(device(**inputs(0), decoder_input_ids=tokens)).logits[:, -1:].argmax(-1)
        tokens = torch.cat([tokens, likeliest], dim=1)
    assert torch.equal(tokens, found[:, :-1])
    assert not torch.equal(found, bart().generate(**inputs(0), **OPTIONS))


def test_articles_become_text() -> None:
    model, words = bart(), tokenizer()
    long = " ".join(WORDS[4:])
    articles = [Article("1", "w1 w2 w3", "w1"), Article("2", long, "w2")]
    found = summarise(split(model, 1), words, articles, most_tokens=TOKENS)
    for text, each in zip(found, articles, strict=True):
        # No more than the network has positions for.
        encoded = words(" ".join(each.article.split()[:POSITIONS]), return_tensors="pt")
        whole = model.generate(encoded["input_ids"], attention_mask=encoded["attention_mask"], **OPTIONS)
        assert text == words.decode(whole[0], skip_special_tokens=True).strip()
        assert "<" not in text


def test_networks_that_do_not_write_text_from_text_are_refused() -> None:
    gpt2 = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=24, n_layer=2, n_head=2, vocab_size=100))
    for halves in (
        split(bart("BartModel"), 1),
        split(gpt2.eval(), 1),
        split(nn.Sequential(nn.Linear(2, 2)), 0),
    ):
        with pytest.raises(InvalidInputError, match="Cut an encoder-decoder that writes text"):
            summarise(halves, tokenizer(), [Article("1", "w1", "w1")])


def test_rouge_by_hand() -> None:
    articles = [Article(str(number), "", text) for number, text in enumerate(["the cat sat . on a mat .", "a b", "a"])]
    found = score(["The cats ran on the mat", "b a", ""], articles)
    # Stems the, cat, ran, on, the, mat against the, cat, sat, on, a, mat: 4 shared words, 1 pair, 4 in the same order.
    assert found["rouge1"] == pytest.approx([4 / 6, 1.0, 0.0])
    assert found["rouge2"] == pytest.approx([1 / 5, 0.0, 0.0])
    assert found["rougeL"] == pytest.approx([4 / 6, 1 / 2, 0.0])
    assert found["rouge"] == pytest.approx([(4 / 6 + 1 / 5 + 4 / 6) / 3, 1 / 2, 0.0])


def test_rouge_needs_one_summary_an_article() -> None:
    with pytest.raises(ValueError, match="zip"):
        score(["a"], [])


@pytest.mark.parametrize("name", ["some.jsonl", "some.jsonl.gz"])
def test_articles_of_the_evaluation_are_read(tmp_path: Path, name: str) -> None:
    # A separator of lines by Unicode's rules is an ordinary sign in JSON.
    rows = [ROW | {"article": "one\u2028line"}, ROW | {"id": "2", "split": "train"}]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    file = tmp_path / name
    file.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    assert read_articles(file) == [Article("1", "one\u2028line", "w1")]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.jsonl", b"", "holds no article"),
        ("x.jsonl", json.dumps(ROW | {"split": "train"}).encode(), "holds no article of the split 'eval'"),
        ("x.jsonl", b"id,article\n1,a\n", "JSONDecodeError"),
        ("x.jsonl", json.dumps({"id": "1", "article": "a", "split": "eval"}).encode(), "KeyError: 'highlights'"),
        ("x.jsonl", json.dumps(ROW | {"article": 3}).encode(), "article 3 is not text"),
        ("x.jsonl", b"\xff\xfe", "UnicodeDecodeError"),
    ],
)
def test_files_in_another_format_are_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InvalidInputError, match=words) as caught:
        read_articles(file)
    assert caught.value.field == "data"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="There is no such file"):
        read_articles(tmp_path / "none.jsonl.gz")


@pytest.mark.skipif(not SAMPLE.is_file(), reason="needs cnn_dailymail_sample.jsonl.gz in COINFER_DATA")
def test_the_real_sample() -> None:
    articles = read_articles(SAMPLE)
    assert len(articles) == 50
    found = summarise(split(bart(), 1), tokenizer(), articles[:2], precision="fp16", most_tokens=TOKENS)
    rouge = score([*found, articles[2].highlights], articles[:3])
    assert rouge["rouge"].shape == (3,)
    assert rouge["rouge"][2] == 1.0
