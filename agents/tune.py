"""Tune hyperparameters by Optuna: ``python -m agents.tune configs/agents/tune/ppo.yaml``; a killed study goes on.

A study says what a trial trains, and which hyperparameters are searched in which space::

    title: PPO in the default queue
    run:                                    # fields of `agents.runs.RunConfig`, the same for all trials
      algo: ppo
      env_kwargs: {scenario: bert-multimodal}
      wrapper: [BudgetShareAction]
      n_timesteps: 600000
      eval_freq: 60000
    trials: 40                              # finished ones, those before an interruption included
    seeds: 1                                # runs per trial, of which the mean counts
    search:                                 # instead of the values of the run's hyperparameters
      learning_rate: {low: 3.0e-4, high: 3.0e-3, log: true, schedule: lin}     # a line from there to 0
      n_epochs: {low: 2, high: 8}           # whole numbers where both ends are
      gamma: {choices: [0.9, 0.95, 0.99]}
      policy_kwargs:
        net_arch: {choices: [[64, 64], [256, 256]]}

A trial is worth the quality that its best agent delivers in the held-out worlds on which `agents.train` chooses an
agent, too. It is pruned where it falls behind the median of the trials before it. All trials train with the same seeds,
which no sweep and no comparison uses.

The folder of the study holds ``study.jsonl``, Optuna's journal; ``trials.csv`` with all finished trials; and
``best.yml``, the hyperparameters of the best one in the form of ``configs/agents``. The same command goes on where it
was interrupted, and a larger ``--trials`` prolongs a study.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import joblib
import numba
import optuna
import torch
import yaml
from joblib.externals.loky.process_executor import TerminatedWorkerError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field
from stable_baselines3.common.callbacks import BaseCallback
from tqdm import tqdm

from agents.callbacks import EvaluationCallback, WarmupCallback
from agents.held_out import SELECTION_SEED
from agents.hyperparameters import ACTIVATIONS, Hyperparameters, parse_hyperparameters
from agents.runs import RunConfig, build_env, build_model, read_config
from agents.search_spaces import Space, read_spaces
from baselines.checks import NUMBER, Checked, check_model
from baselines.output import git_revision
from coinfer_gym.checks import check_whole
from coinfer_gym.command import command
from coinfer_gym.errors import InvalidInputError, nearest
from coinfer_gym.files import csv_text, lock_folder, write_bytes, write_text
from coinfer_gym.parallel import run_parallel

__all__ = ["StudyConfig", "load_study", "main", "tune"]

FIRST_SEED = 20_000_000
"""Least seed that a trial trains with: beyond those of sweeps and of the worlds on which rules are tuned."""

_STRIDE = 10_000  # between the seeds of a trial; more than lanes
_OF_A_TRIAL = ("algo", "env", "env_kwargs", "train_kwargs", "wrapper", "conf_file", "hyperparams", "n_timesteps")
_OF_THE_RUN = (*_OF_A_TRIAL, "eval_freq", "eval_lanes")
_STARTUP_TRIALS = 8  # before any is pruned
_WARMUP = 1 / 3  # of a trial, in which it is not pruned
_SHOWN = 10
_JOURNAL = "study.jsonl"
_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, AssertionError)  # what Optuna's reader stumbles over


class StudyConfig(Checked):
    """What the file of a study says; `load_study` reads and checks one, and resolves the hyperparameters of its run."""

    title: str
    run: dict[str, Any]
    trials: Annotated[int, NUMBER] = Field(ge=1, le=100_000)
    seeds: Annotated[int, NUMBER] = Field(1, ge=1, le=100)
    search: dict[str, Any] = Field(min_length=1)

    @property
    def spaces(self) -> list[Space]:
        """Spaces of all hyperparameters that are searched."""
        return list(read_spaces(self.search, "study"))

    def hyperparams(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Hyperparameters that are searched, nested as in the file, for values that Optuna drew."""
        found: dict[str, Any] = {}
        for space in self.spaces:
            if space.name in drawn:
                inner = found
                for name in space.path[:-1]:
                    inner = inner.setdefault(name, {})
                inner[space.path[-1]] = space.value(drawn[space.name])
        return found

    def trial_run(self, drawn: Mapping[str, Any], seed: int = FIRST_SEED) -> RunConfig:
        """One run of the trial of these values."""
        hyperparams = _merge(self.run["hyperparams"], self.hyperparams(drawn))
        return read_config(self.run | {"hyperparams": hyperparams, "seed": seed}, "trial")


def load_study(path: str | Path) -> StudyConfig:
    """Read and check the file of a study; `InvalidInputError` names what is unknown or cannot be used."""
    config = check_model(StudyConfig, path, str(path))
    for name in config.run:
        if name not in _OF_THE_RUN:
            raise InvalidInputError(f"{path}: run: key", name, nearest(str(name), _OF_THE_RUN))
    base = read_config(config.run, f"{path}: run").resolve().model_dump(include=set(_OF_THE_RUN))
    config = config.model_copy(update={"run": base})
    for space in read_spaces(config.search, str(path)):
        for end in space.ends:
            hyperparams = _merge(base["hyperparams"], config.hyperparams({space.name: end}))
            parse_hyperparameters(hyperparams, base["algo"], f"{path}: search")
    return config


def _merge(base: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Values of one nested mapping over those of another."""
    merged = dict(base)
    for name, value in above.items():
        inner = merged.get(name)
        merged[name] = _merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def tune(config: StudyConfig, folder: Path, jobs: int = 1) -> list[FrozenTrial]:
    """Bring a study to its number of trials, `jobs` at a time; returns all finished ones in their order.

    Raises
    ------
    InvalidInputError
        If the environment or a hyperparameter cannot be used, another command works in the folder, or it holds another
        study or a damaged one.
    """
    build_env(config.trial_run({}), 1).close()
    with lock_folder(folder):
        _mend(folder / _JOURNAL)
        study = _open_study(config, folder)
        for trial in study.get_trials(states=(TrialState.RUNNING,)):  # whoever was at it was killed
            study.tell(trial.number, state=TrialState.FAIL)
        before = len(_finished(study))
        _write_results(config, study, folder)
        calls = [(config, folder, number) for number in range(before, config.trials)]
        bar = tqdm(total=config.trials, initial=before, desc="trials", unit="trial", disable=None)
        with bar, joblib.parallel_config("loky", inner_max_num_threads=1):
            for line in run_parallel(_run_trial, calls, jobs):
                _write_results(config, study, folder)
                tqdm.write(line)
                bar.update()
        return _finished(study)


def _open_study(config: StudyConfig, folder: Path) -> optuna.Study:
    """The study of a folder, or a new one; `InvalidInputError` if another one is there, or its journal is damaged."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = folder / _JOURNAL
    wanted = config.model_dump(mode="json", exclude={"title", "trials"})
    try:
        storage = JournalStorage(JournalFileBackend(str(journal)))
        make = optuna.load_study if storage.get_all_studies() else partial(optuna.create_study, direction="maximize")
        study = make(storage=storage, study_name="tune")
        stored = study.user_attrs.get("config", wanted)
        study.get_trials()
    except _DAMAGE as error:
        raise _damaged(journal, error) from error
    different = [name for name in wanted if stored.get(name) != wanted[name]]
    if different:
        remedy = f"The file now says {wanted[different[0]]!r}. Give another --out, or delete the folder."
        raise InvalidInputError(f"{folder}: {different[0]}", stored.get(different[0]), remedy)
    if "config" not in study.user_attrs:
        study.set_user_attr("revision", git_revision())
        study.set_user_attr("config", wanted)
    return study


def _mend(journal: Path) -> None:
    """Cut off a line that a kill left unfinished: the next one would be appended to it."""
    content = journal.read_bytes() if journal.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    try:
        for line in whole.splitlines():  # Optuna passes over a last one that it cannot read, and stumbles over it later
            json.loads(line)
    except ValueError as error:
        raise _damaged(journal, error) from error
    if whole != content:
        write_bytes(journal, whole)


def _damaged(journal: Path, error: Exception) -> InvalidInputError:
    remedy = f"It is damaged ({error}): delete the folder to begin anew, or give another --out."
    return InvalidInputError("journal", str(journal), remedy)


def _run_trial(config: StudyConfig, folder: Path, number: int) -> str:
    """Run the next trial of a study; returns what became of it.

    The sampler draws by the number of trials finished before, so that an interruption changes nothing.
    """
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    study = _open_study(config, folder)
    base = config.trial_run({})
    evaluations = math.ceil(base.load_hyperparameters().n_timesteps / base.eval_freq)
    study.sampler = optuna.samplers.TPESampler(seed=number)
    study.pruner = optuna.pruners.MedianPruner(_STARTUP_TRIALS, math.ceil(_WARMUP * evaluations))
    trial = study.ask({space.name: space.distribution for space in config.spaces})
    runs = [config.trial_run(trial.params, FIRST_SEED + _STRIDE * k) for k in range(config.seeds)]
    try:
        values = [_train(run, trial, k * evaluations) for k, run in enumerate(runs)]
    except optuna.TrialPruned:
        done = study.tell(trial, state=TrialState.PRUNED)
    else:
        done = study.tell(trial, sum(values) / len(values))
    return _line(config, done)


def _train(run: RunConfig, trial: optuna.Trial, first: int) -> float:
    """Quality that the best agent of one run delivers; its evaluations are reported from step `first` on."""
    hyperparameters = run.load_hyperparameters()
    model = build_model(run, hyperparameters)
    delivered: list[float] = []

    def report(timesteps: int, score: dict[str, float]) -> None:
        delivered.append(score["delivered"])
        if timesteps < hyperparameters.n_timesteps:
            trial.report(delivered[-1], first + len(delivered))
            if trial.should_prune():
                raise optuna.TrialPruned

    watch = EvaluationCallback(build_env(run, run.eval_lanes), run.eval_freq, report, last=0)
    callbacks: list[BaseCallback] = [watch]
    if hyperparameters.warmup:
        callbacks.append(WarmupCallback(run.algo, hyperparameters.warmup))
    try:
        model.learn(hyperparameters.n_timesteps, callbacks)
        watch.evaluate()
    except ValueError as error:  # networks diverged: torch draws from no such distribution, nor is NaN an action
        trial.set_user_attr("error", str(error))
        raise optuna.TrialPruned from error
    return max(delivered)


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def _best(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Trials that came to their end, the best first."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    return sorted(complete, key=lambda trial: -(trial.value or 0.0))


def _state(trial: FrozenTrial) -> str:
    """``complete``, ``pruned`` or ``failed``; Optuna counts a trial whose networks diverged among the pruned ones."""
    return "failed" if "error" in trial.user_attrs else trial.state.name.lower()


def _seconds(trial: FrozenTrial) -> float:
    return trial.duration.total_seconds() if trial.duration else 0.0


def _write_results(config: StudyConfig, study: optuna.Study, folder: Path) -> None:
    """Write ``trials.csv`` and, once there is one, the best trial."""
    trials = _finished(study)
    rows: list[tuple[Any, ...]] = [("number", "state", "value", "params", "seconds")]
    for trial in trials:
        value = "" if trial.value is None else trial.value
        params = json.dumps(config.hyperparams(trial.params))
        rows.append((trial.number, _state(trial), value, params, f"{_seconds(trial):.1f}"))
    write_text(folder / "trials.csv", csv_text(rows))
    for best in _best(trials)[:1]:
        write_text(folder / "best.yml", _zoo_text(config, best, len(trials), study.user_attrs["revision"]))


def _zoo_text(config: StudyConfig, best: FrozenTrial, trials: int, revision: str | None) -> str:
    """Hyperparameters of a trial as a file of RL Baselines3 Zoo."""
    run = config.trial_run(best.params)
    plain = _zoo_form(run.load_hyperparameters())
    head = [
        f"# {config.title}: trial {best.number}, the best of {trials}, delivers {best.value:.4f} of quality",
        f"# in {run.eval_lanes} held-out worlds of {json.dumps(run.env_kwargs)} (seeds from {SELECTION_SEED}; mean of "
        f"{config.seeds} training seed{'s' * (config.seeds > 1)} from {FIRST_SEED}).",
        f"# Made by python -m agents.tune at revision {revision}.",
    ]
    return "\n".join(head) + "\n" + yaml.safe_dump({run.env: plain}, sort_keys=False, width=120)


def _zoo_form(hyperparameters: Hyperparameters) -> dict[str, Any]:
    """Plain values; the Zoo knows an activation function only within the string ``"dict(...)"``."""
    plain = hyperparameters.plain()
    parts = []
    for name, value in plain["policy_kwargs"].items():
        text = f"nn.{ACTIVATIONS[value].__name__}" if name == "activation_fn" else repr(value)
        parts.append(f"{name}={text}")
    return plain | {"policy_kwargs": f"dict({', '.join(parts)})"}


def _line(config: StudyConfig, trial: FrozenTrial) -> str:
    """A trial as a line of the table."""
    value = "" if trial.value is None else f"{trial.value:.4f}"
    params = ", ".join(f"{space.name}={space.value(trial.params[space.name])}" for space in config.spaces)
    reason = f"  ({' '.join(trial.user_attrs['error'].split())[:60]})" if "error" in trial.user_attrs else ""
    return f"{trial.number:>6}  {_state(trial):8} {value:>8} {_seconds(trial):>7.1f} s  {params}{reason}"


def _table(config: StudyConfig, trials: Sequence[FrozenTrial]) -> str:
    """The best trials, and how many of which kind there are."""
    states = [_state(trial) for trial in trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed"))
    head = f"{' trial'}  {'state':8} {'quality':>8} {'time':>9}  hyperparameters"
    return "\n".join(["", head, *(_line(config, trial) for trial in _best(trials)[:_SHOWN]), counts])


@command("agents.tune", "interrupted; the same command goes on where it stopped")
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser("python -m agents.tune", description="Search hyperparameters with Optuna.")
    parser.add_argument("config", help="YAML file, such as configs/agents/tune/ppo.yaml")
    parser.add_argument("--out", type=Path, help="folder of the study (default: runs/tune/NAME OF THE CONFIG)")
    parser.add_argument("--trials", type=int, help="number of finished trials to reach (default: that of the file)")
    parser.add_argument(
        "--jobs", type=int, default=1, help="trials to run at the same time (default: 1); -1 for one per core"
    )
    options = parser.parse_args(arguments)
    folder = options.out or Path("runs", "tune", Path(options.config).stem)
    if options.jobs != -1:
        check_whole("jobs", options.jobs, 1, 10_000)
    config = load_study(options.config)
    if options.trials is not None:
        config = config.model_copy(update={"trials": check_whole("trials", options.trials, 1, 100_000)})
    try:
        trials = tune(config, folder, options.jobs)
    except TerminatedWorkerError:
        print("agents.tune: a process was killed, perhaps for its memory; try fewer --jobs.", file=sys.stderr)
        return 1
    print(_table(config, trials))
    print(f"The study is in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
