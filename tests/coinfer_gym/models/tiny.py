"""Tiny tokenizers and SQuAD files for the tests of real networks."""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from coinfer_gym.models import regress
from coinfer_gym.models.squad import Question

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def word_tokenizer(words: list[str], **special: Any) -> Any:
    """Tokenizer that splits at spaces and knows these words."""
    given = special or {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    numbers = {word: number for number, word in enumerate(words)}
    made = Tokenizer(models.WordLevel(numbers, unk_token=given["unk_token"]))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if "[CLS]" in words:
        ends = [(word, words.index(word)) for word in ("[CLS]", "[SEP]")]
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
        )
        given = SPECIAL | {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, **given)


def fit_few(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Have cross-validation compare only these regressors, and once; its scores have tests of their own."""
    makers = {name: regress.DEFAULTS[name] for name in names}
    patch.setattr(regress, "REPEATS", 1)
    patch.setattr(regress, "compare_regressors", partial(regress.compare_regressors, makers=makers))


def write_squad(path: Path, questions: Iterable[Question]) -> Path:
    """File of SQuAD v1.1 with these questions."""
    paragraphs = [
        {
            "context": each.context,
            "qas": [{"id": each.key, "question": each.question, "answers": [{"text": text} for text in each.answers]}],
        }
        for each in questions
    ]
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}))
    return path
