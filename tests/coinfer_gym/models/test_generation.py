"""Workloads of decoders that generate, against real passes with real values and closed forms."""

from typing import Any

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from coinfer_gym import Workload
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.build import workload_from_config, workload_from_model

PROMPT, NEW = 7, 5
SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "num_key_value_heads": 2,
    "vocab_size": 500,
}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**SMALL),
    "llama-tied": lambda: transformers.LlamaConfig(**SMALL, tie_word_embeddings=True),
    "qwen2": lambda: transformers.Qwen2Config(**SMALL),
    "gpt2": lambda: transformers.GPT2Config(n_embd=24, n_layer=3, n_head=2, vocab_size=500),
}


def generated(config: Any, **options: Any) -> Workload:
    return workload_from_config(config, **({"prompt_tokens": PROMPT, "new_tokens": NEW} | options))


def really_generate(config: Any) -> tuple[int, list[int], Any]:
    """FLOPs of the first pass and of all steps, values kept by a layer after each step, of a run with real values."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    cache, flops, kept = transformers.DynamicCache(), [], []
    tokens = torch.arange(3, 3 + PROMPT)[None]
    for _ in range(NEW):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            output = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        flops.append(counter.get_total_flops())
        kept.append(cache.layers[1].keys.numel() + cache.layers[1].values.numel())
        tokens = output.logits[:, -1:].argmax(-1)
    return flops[0], flops[1:], kept


@pytest.mark.parametrize("kind", CONFIGS)
def test_counts_are_those_of_real_passes(kind: str) -> None:
    config = CONFIGS[kind]()
    workload = generated(config, bits=4)
    first, steps, kept = really_generate(config)
    block = workload.blocks[1]
    assert workload.flops == first + sum(steps)
    assert sum(each.step_flops for each in workload.blocks) == sum(steps)
    assert workload.steps == NEW - 1
    assert block.cache_bits == 16 * kept[-1]
    assert block.cache_read_bits == 16 * sum(kept[1:])
    assert block.activation_bits == 16 * 24 * (PROMPT + NEW - 1)  # the last token is not read any more
    assert workload.input_bits == 16 * PROMPT
    assert (workload.parameter_bits, workload.value_bits) == (4, 16)


def test_groups_of_heads_share_keys_and_values() -> None:
    shared, own = (generated(transformers.LlamaConfig(**SMALL | {"num_key_value_heads": heads})) for heads in (2, 4))
    tokens = PROMPT + NEW - 1
    assert shared.blocks[0].cache_bits == 16 * tokens * 2 * 2 * 6  # keys and values of 2 heads of width 6
    assert own.blocks[0].cache_bits == 2 * shared.blocks[0].cache_bits
    linear = 24 * 24 * 2 + 24 * 12 * 2 + 3 * 24 * 40  # queries and output; keys and values; the three of a gated layer
    contexts = range(PROMPT + 1, PROMPT + NEW)
    assert shared.blocks[0].step_flops == sum(2 * linear + 4 * 24 * context for context in contexts)
    assert shared.blocks[0].prunable - 24 * 12 * 2 == own.blocks[0].prunable - 24 * 24 * 2


def test_tied_embeddings_are_stored_once_and_not_pruned() -> None:
    tied, own = generated(CONFIGS["llama-tied"]()), generated(CONFIGS["llama"]())
    table = 500 * 24
    assert (tied.tied, own.tied) == (table, 0)
    assert own.parameters - tied.parameters == table
    assert own.blocks[-1].prunable - tied.blocks[-1].prunable == table
    assert own.flops == tied.flops


def test_one_new_token_takes_one_pass() -> None:
    workload = generated(CONFIGS["llama"](), new_tokens=1)
    assert workload.steps == 0
    assert {block.step_flops for block in workload.blocks} == {0}
    assert {block.cache_read_bits for block in workload.blocks} == {0}
    assert workload.blocks[0].cache_bits == 16 * PROMPT * 24


def test_a_model_with_weights_gives_what_its_configuration_gives() -> None:
    config = CONFIGS["llama"]()
    model = transformers.AutoModelForCausalLM.from_config(config)
    found, expected = workload_from_model(model, prompt_tokens=PROMPT, new_tokens=NEW), generated(config)
    for field in ("flops", "step_flops", "cache_bits", "cache_read_bits", "activation_bits", "prunable"):
        assert [getattr(b, field) for b in found.blocks] == [getattr(b, field) for b in expected.blocks], field


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (lambda: transformers.LlamaConfig(**SMALL), {"new_tokens": None}, "new_tokens"),
        (lambda: transformers.LlamaConfig(**SMALL), {"prompt_tokens": 0}, "prompt_tokens"),
        (lambda: transformers.LlamaConfig(**SMALL), {"bits": 65}, "parameter_bits"),
        (lambda: transformers.LlamaConfig(**SMALL, max_position_embeddings=PROMPT + NEW - 2), {}, "at most"),
        (lambda: transformers.LlamaConfig(**SMALL), {"auto_class": transformers.AutoModel}, "language head"),
        (lambda: transformers.BertConfig(), {}, "keeps no keys"),
        (
            lambda: transformers.T5Config(d_model=24, d_kv=12, d_ff=40, num_layers=2, num_heads=2, vocab_size=500),
            {"auto_class": transformers.AutoModelForSeq2SeqLM},
            "language head",
        ),
        (lambda: transformers.MixtralConfig(**SMALL, num_local_experts=4), {}, "experts"),
        (
            lambda: transformers.MambaConfig(hidden_size=16, num_hidden_layers=2, vocab_size=50, state_size=4),
            {},
            "keeps no keys and values",
        ),
    ],
)
def test_what_does_not_generate_is_refused(config: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        generated(config(), **options)
