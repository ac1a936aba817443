"""Train an agent: ``python -m agents.train --algo sac``. The folder of the run can be resumed, also after a kill."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym

from agents.runs import RunConfig, check_folder, read_config, read_config_file
from baselines.arguments import key_and_value, yaml_value
from coinfer_gym.command import command
from coinfer_gym.errors import InvalidInputError

__all__ = ["main", "resumed_config"]

_MERGED = ("env_kwargs", "train_kwargs", "hyperparams")
_REAL = ("max_minutes", "violations")
_PROLONGING = ("max_minutes", "hyperparams: n_timesteps")


@command("agents.train")
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = vars(_parser().parse_args(given))
    resume, overwrite, config_file = (options.pop(name) for name in ("resume", "overwrite", "config"))
    asked = {name: value for name, value in options.items() if value is not None}
    asked |= {name: dict(asked[name]) for name in _MERGED if name in asked}
    if config_file:
        asked = _merge(read_config_file(config_file).model_dump(exclude_unset=True), asked)
    config = read_config(asked, config_file or "command line")
    if resume:
        config = resumed_config(config, asked)
    elif not overwrite:
        check_folder(config)  # before torch is imported, which takes seconds
    gym.make(config.env, **config.env_kwargs).close()  # tells a wrong keyword before torch is imported
    from agents.training import train

    train(config, given, resume, overwrite)
    return 0


def resumed_config(config: RunConfig, asked: Mapping[str, Any]) -> RunConfig:
    """The run in the folder of `config`, longer if the options `asked` for say so; no other option may differ."""
    own = read_config_file(config.folder / "config.yaml").resolve()
    if config.algo != own.algo and "algo" in asked:
        raise _differs("algo", config.algo, own.algo)
    asked = {**asked, "out": config.folder.as_posix()}
    if "conf_file" in asked:
        named = {"hyperparams": {}, "wrapper": None} | asked
        file = own.model_copy(update={name: named[name] for name in ("conf_file", "hyperparams", "wrapper")}).resolve()
        chosen = dict(file.hyperparams)
        if "n_timesteps" not in {*asked, *asked.get("hyperparams", {})}:
            del chosen["n_timesteps"]  # the file's own number does not undo what the run was prolonged to
        asked |= {"conf_file": "none", "hyperparams": chosen, "wrapper": file.wrapper}
    new = read_config(_merge(own.model_dump(), asked), "--resume").resolve()
    before, after = _flat(own), _flat(new)
    for name in sorted({*before, *after} - {*_PROLONGING, "out"}):
        if before.get(name) != after.get(name):
            raise _differs(name, after.get(name), before.get(name))
    steps = "hyperparams: n_timesteps"
    if after[steps] < before[steps]:
        remedy = f"The run trains for {before[steps]}: give more."
        raise InvalidInputError("--resume: n_timesteps", after[steps], remedy)
    return new


def _flat(config: RunConfig) -> dict[str, Any]:
    """Options of a run by name, each hyperparameter on its own."""
    hyperparams = {f"hyperparams: {name}": value for name, value in config.hyperparams.items()}
    return config.model_dump(exclude={"hyperparams"}) | hyperparams


def _differs(name: str, value: Any, own: Any) -> InvalidInputError:
    remedy = f"The run has {own!r}: leave the option out, or train anew in another --out."
    return InvalidInputError(f"--resume: {name}", value, remedy)


def _merge(base: dict[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `asked` over those of `base`; a mapping replaces single keys."""
    merged = {name: base.get(name, {}) | asked[name] for name in _MERGED if name in asked}
    return base | dict(asked) | merged


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m agents.train", description="Train an agent. --resume continues a run, also after it was killed."
    )
    parser.add_argument(
        "--config", help="YAML file with any of the options below by name; the command line overrides it"
    )
    for name, field in RunConfig.model_fields.items():
        text = " ".join((field.description or "").replace("`", "").split())
        if name in _MERGED:
            kind: dict[str, Any] = {"nargs": "+", "action": "extend", "type": key_and_value, "metavar": "KEY=VALUE"}
        elif name == "wrapper":
            kind = {"nargs": "*", "type": yaml_value, "metavar": "NAME"}
        else:
            kind = {"type": str if isinstance(field.default, str) else float if name in _REAL else int}
            if field.default not in ("", None):
                text = f"{text.removesuffix('.')} (default: {field.default})."
        parser.add_argument(f"--{name.replace('_', '-')}", help=text, **kind)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in --out: --n-timesteps and --max-minutes may prolong it and are recorded; any other "
        "option that differs from the run's is an error",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    return parser


if __name__ == "__main__":
    sys.exit(main())
