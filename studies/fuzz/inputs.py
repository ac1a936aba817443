"""The kinds of input: each draws one try, which is an input in words and a call that uses it."""

from __future__ import annotations

import importlib
import json
import math
import reprlib
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import yaml

import coinfer_gym
from coinfer_gym import Scenario
from coinfer_gym.files import parse_yaml
from coinfer_gym.layerwise.scenario import LayerwiseScenario
from studies.fuzz import layerwise, optimum

STEPS = 5
"""Decisions that an accepted input is tried with."""

LAIM, LAYERWISE = "coinfer_gym/LAIM-v0", "coinfer_gym/Layerwise-v0"
SCENARIOS = (
    (LAIM, Scenario, "bert-multimodal"),
    (LAIM, Scenario, "bert-battery"),
    (LAYERWISE, LayerwiseScenario, "alexnet-rpi4b-4g"),
)
ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(coinfer_gym.__file__).parent

Rng = np.random.Generator


class SilentError(Exception):
    """An input was accepted that gives wrong numbers."""


class Try(NamedTuple):
    """One input."""

    text: str  # what is given, shortened
    run: Callable[[], object]  # uses it
    refuse: bool = False  # whether only an error is right


def choose(rng: Rng, values: Any) -> Any:
    """One of some values of any type."""
    return values[int(rng.integers(len(values)))]


def _nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


EXTREME = (1e308, -1e308, 5e-324, 1e30, -1.0, 0, 1, True, None, 10**400, "1e3", "", "x" * 5000)
NO_NUMBER = (math.nan, math.inf, -math.inf, "abc", "1_000", "1,5", [1.0, 2.0], {"a": {"b": [1]}}, _nested(60))
NO_PLAIN = (object(), 1j, Path("x"), b"x", np.array([1.0, 2.0]), np.float64("nan"), len, datetime(2026, 1, 2), {1, 2})


def draw_value(rng: Rng, numeric: bool, python: bool = False) -> tuple[Any, bool]:
    """A value, and whether it must be refused where a number belongs."""
    values = NO_NUMBER + (NO_PLAIN if python else ())
    if rng.random() < 0.5:
        return choose(rng, EXTREME), False
    return choose(rng, values), numeric


def leaves(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all values in nested mappings and lists."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from leaves(value, (*path, key))


def mutate(rng: Rng, data: dict[str, Any]) -> tuple[str, bool]:
    """Change, remove or add one value in place; returns what was done, and whether it must be refused."""
    path = choose(rng, list(leaves(data)))
    inner: Any = data
    for key in path[:-1]:
        inner = inner[key]
    old, place = inner[path[-1]], ".".join(map(str, path))
    numeric = isinstance(old, (int, float)) and not isinstance(old, bool)
    if rng.random() < 0.1:
        del inner[path[-1]]
        return f"without {place}", False
    if rng.random() < 0.1 and isinstance(inner, dict):
        inner["surplus"] = 1
        return f"surplus beside {place}", False
    value, refuse = draw_value(rng, numeric)
    inner[path[-1]] = value
    return f"{place}: {reprlib.repr(value)}", refuse


def write(rng: Rng, path: Path, text: str) -> bool:
    """Write a text, in one of five cases damaged; returns whether it is whole."""
    content = text.encode("utf-8", "surrogatepass")
    whole = rng.random() < 0.8
    if not whole:
        at, length = int(rng.integers(len(content) + 1)), int(rng.integers(1, 40))
        junk = choose(rng, (b"", rng.bytes(length), b"\x00", b"\xff\xfe", b"[" * 3000, b"\t", b"&a [*a, *a]", b": :"))
        content = content[:at] + junk + content[at + length :]
    path.write_bytes(content)
    return whole


def play(environment: str, keywords: dict[str, Any], lanes: Any = None) -> None:
    """Make an environment and take some random steps, whose numbers must be finite."""
    if lanes is not None:
        env: Any = gym.make_vec(environment, lanes, "vector_entry_point", **keywords)
    else:
        env = gym.make(environment, disable_env_checker=True, **keywords)
    env.action_space.seed(0)
    observation, info = env.reset(seed=0)
    for _ in range(STEPS):
        check({"observation": observation, **info})
        observation, reward, _, ended, info = env.step(env.action_space.sample())
        check({"reward": reward})
        if np.any(ended):
            break


def check(numbers: dict[str, Any]) -> None:
    """Raise `SilentError` unless the numbers are finite."""
    for name, value in numbers.items():
        if not np.isfinite(np.asarray(value, np.float64)).all():
            raise SilentError(f"{name} is {value}")


def draw_field(rng: Rng, python: bool = False) -> tuple[str, str, str, Any, bool]:
    """Environment, scenario, a field of it and a value, and whether the value must be refused."""
    environment, model, base = choose(rng, SCENARIOS)
    name, field = choose(rng, list(model.model_fields.items()))
    kind = str(field.annotation)
    numeric = any(part in kind for part in ("float", "int")) and "tuple" not in kind
    return environment, base, field.alias or name, *draw_value(rng, numeric, python)


def draw_scenario(rng: Rng, folder: Path) -> Try:
    """A scenario file with one odd value."""
    environment, base, name, value, refuse = draw_field(rng)
    path = folder / "scenario.yaml"
    whole = write(rng, path, yaml.safe_dump({"extends": base, name: value}))
    text = f"{base} {name}: {reprlib.repr(value)}{'' if whole else ', damaged'}"
    return Try(text, partial(play, environment, {"scenario": str(path)}), refuse and whole)


NETWORKS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("laim/workloads/bert-base.yaml", "workload", {}),
    ("laim/predictors/minilm-squad-magnitude.json", "predictor", {"scenario": "minilm-squad"}),
    ("layerwise/networks/alexnet.yaml", "network", {}),
    ("layerwise/predictors/alexnet-l1.json", "predictor", {}),
)


def draw_network(rng: Rng, folder: Path) -> Try:
    """A workload, a network or a predictor with one odd value."""
    source, key, keywords = choose(rng, NETWORKS)
    path = PACKAGE / source
    data = parse_yaml(path.read_text()) if path.suffix == ".yaml" else json.loads(path.read_text())
    what, refuse = mutate(rng, data)
    text = yaml.safe_dump(data, sort_keys=False) if path.suffix == ".yaml" else json.dumps(data)
    whole = write(rng, folder / path.name, text)
    environment = LAIM if source.startswith("laim") else LAYERWISE
    run = partial(play, environment, {key: str(folder / path.name), **keywords})
    return Try(f"{path.name} {what}{'' if whole else ', damaged'}", run, refuse and whole)


CELLS = ("", "-", "1e308", "5e-324", "-1e9", "-1", "0", '"-95.5"', " -95 ")
NO_CELLS = ("nan", "inf", "abc", "1_0", "0x10", "1 000", "\u0661\u0662", "--1", "x" * 9999, "1.5.2")


def draw_trace(rng: Rng, folder: Path) -> Try:
    """A recorded channel or recorded arrivals with one odd cell or row."""
    arrivals, column = rng.random() < 0.3, choose(rng, ("gain_db", "snr_db", "throughput_mbps"))
    low = {"gain_db": -100.0, "snr_db": 0.0, "throughput_mbps": 1.0}[column]
    header = "time_s" if arrivals else f"time_s,{column}"
    rows = [[f"{0.1 * k:.1f}"] + ([] if arrivals else [f"{low + 20.0 * rng.random():.2f}"]) for k in range(200)]
    row, place = rows[int(rng.integers(len(rows)))], int(rng.integers(len(rows[0])))
    flaw, refuse = choose(rng, (("cell", False), ("no number", True), ("surplus", True), ("short", False))), False
    if flaw[0] == "cell":
        row[place] = choose(rng, CELLS)
    elif flaw[0] == "no number":
        row[place], refuse = choose(rng, NO_CELLS), True
    elif flaw[0] == "surplus":
        row.append(choose(rng, ("5", "abc", "-100")))
        refuse = True
    else:
        row.pop()
    header = (
        header if rng.random() < 0.9 else choose(rng, ("", header.upper(), f"{header},{header}", "a,b", header[1:]))
    )
    separator = "," if rng.random() < 0.95 else choose(rng, (";", "\t"))
    whole = write(rng, folder / "trace.csv", "\n".join([header, *(separator.join(each) for each in rows)]))
    keywords = {"arrivals": "trace", "arrival_trace": str(folder / "trace.csv")}
    if not arrivals:
        keywords = {"channel": "trace", "channel_trace": str(folder / "trace.csv")}
    shown = f"{'arrivals' if arrivals else column} header {header!r}, {flaw[0]}: {reprlib.repr(separator.join(row))}"
    return Try(f"{shown}{'' if whole else ', damaged'}", partial(play, LAIM, keywords), refuse and whole)


def draw_agent(rng: Rng, folder: Path) -> Try:
    """The file of a shipped agent with one odd value in its metadata or its weights, or with damaged bytes."""
    from safetensors import safe_open
    from safetensors.numpy import save

    source = choose(rng, sorted((ROOT / "agents" / "trained").glob("*/agent.safetensors")))
    with safe_open(source, framework="numpy") as file:
        metadata = json.loads(file.metadata()["agent"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
    kind = choose(rng, ("metadata", "metadata", "weights", "bytes"))
    content, target = source.read_bytes(), folder / "agent.safetensors"
    if kind == "metadata":
        before = json.dumps(metadata)
        text, _ = mutate(rng, metadata)
        changed = json.dumps(metadata) != before
        content = save(weights, {"agent": json.dumps(metadata)})
    elif kind == "weights":
        name, value = choose(rng, sorted(weights)), choose(rng, (math.nan, math.inf, 1e38))
        turned = weights[name].ndim > 1 and rng.random() < 0.3
        weights[name] = weights[name].T.copy() if turned else np.full_like(weights[name], value)
        text, changed = f"{name} {'transposed' if turned else f'all {value}'}", True
        content = save(weights, {"agent": json.dumps(metadata)})
    else:
        at = int(rng.integers(len(content)))
        content = content[:at] + choose(rng, (b"", b"\xff", bytes(8))) + content[at + 1 :]
        text, changed = f"byte {at}", content != source.read_bytes()
    target.write_bytes(content)
    return Try(f"{source.parent.name} {text}", partial(_act, target), changed)


def _act(path: Path) -> None:
    from agents.policy import load_agent

    agent = load_agent(path)
    env: Any = gym.make(LAIM)
    agent.bind(env)
    check({"action": agent.predict(env.reset(seed=0)[0], deterministic=True)[0]})


def draw_configuration(rng: Rng, folder: Path) -> Try:
    """A configuration of a command with one odd value."""
    pattern, reader = choose(rng, list(READERS.items()))
    source = choose(rng, sorted((ROOT / "configs").glob(pattern))) if pattern else Path("run.yaml")
    data = parse_yaml(source.read_text(encoding="utf-8")) if pattern else _run_config(rng)
    what, refuse = mutate(rng, data)
    whole = write(rng, folder / source.name, yaml.safe_dump(data, sort_keys=False))
    text = f"{source.parent.name}/{source.name} {what}{'' if whole else ', damaged'}"
    return Try(text, partial(_read, reader, folder / source.name), refuse and whole and not pattern)


READERS = {
    "": "agents.runs:read_config_file",
    "compare/*.yaml": "baselines.config:load_comparisons",
    "tune/*.yaml": "baselines.tune:load_config",
    "agents/tune/*.yaml": "agents.tune:load_study",
    "imitation/*.yaml": "agents.demonstrations:load_config",
    "sweeps/*.yaml": "studies.agents.sweep_config:load_sweep",
}
"""The reader of each kind of configuration, by the files of those that are shipped; training runs are made up."""


def _run_config(rng: Rng) -> dict[str, Any]:
    algo = choose(rng, ("ppo", "sac", "dqn", "a2c", "td3"))
    learning = {"learning_rate": 1e-3, "gamma": 0.99, "policy": "MlpPolicy", "policy_kwargs": {"net_arch": [8, 8]}}
    learning |= {"n_steps": 8, "n_epochs": 2} if algo == "ppo" else {}
    wrapper = ["DiscreteActions"] if algo == "dqn" else ["BudgetShareAction"]
    run = {"algo": algo, "seed": 1, "n_timesteps": 64, "max_minutes": 0.1, "violations": 0.5, "out": "runs/fuzz"}
    return run | {"conf_file": "none", "wrapper": wrapper, "env_kwargs": {"tasks": 5}, "hyperparams": learning}


def _read(reader: str, path: Path) -> None:
    """Read a configuration, and make the environment or the learner that it describes."""
    module, name = reader.split(":")
    config = getattr(importlib.import_module(module), name)(path)
    if module == "baselines.config":
        for each in config.values():
            gym.make(each.environment, **each.keywords)
    if module == "agents.runs":
        importlib.import_module(module).build_model(config, config.load_hyperparameters())


def draw_action(rng: Rng, folder: Path) -> Try:
    """An action of a wrong type, shape or value."""
    environment, lanes = choose(rng, (LAIM, LAIM, LAYERWISE)), choose(rng, (None, 3))
    wrapper = (
        choose(rng, (None, "BudgetShareAction", "KeepBudgets", "DiscreteActions")) if environment == LAIM else None
    )
    kind = choose(rng, list(_ACTIONS))
    return Try(
        f"{environment} {wrapper} {lanes} {kind}", partial(_step, environment, lanes, wrapper, kind), kind in _NONE
    )


def _tensor(good: Any) -> Any:
    import torch

    return torch.as_tensor(good, dtype=torch.float32).requires_grad_()


_ACTIONS: dict[str, Callable[[Any], Any]] = {
    "list": lambda good: np.asarray(good).tolist(),
    "float64": lambda good: np.asarray(good, np.float64),
    "tensor with gradient": _tensor,
    "1e308": lambda good: np.full(np.shape(good), 1e308),
    "infinite": lambda good: np.full(np.shape(good), np.inf),
    "text": lambda good: "abc",
    "numeric text": lambda good: np.full(np.shape(good), "0.5"),
    "bytes": lambda good: b"abc",
    "ragged": lambda good: [[1.0], [1.0, 2.0], 3.0],
    "structured": lambda good: np.zeros(np.shape(good), [("a", float), ("b", int)]),
    "complex": lambda good: np.asarray(good) + 1j,
    "masked": lambda good: np.ma.array(good, mask=True),
    "dates": lambda good: np.full(np.shape(good), np.datetime64("2026-01-02")),
    "nan": lambda good: np.full(np.shape(good), np.nan),
    "none": lambda good: None,
    "objects": lambda good: np.full(np.shape(good), object()),
    "mapping": lambda good: {"a": 1},
    "empty": lambda good: [],
    "one more": lambda good: np.zeros((*np.shape(good), 2)),
}
_NONE = tuple(list(_ACTIONS)[5:])  # of these only an error is right


def _step(environment: str, lanes: int | None, wrapper: str | None, kind: str) -> None:
    from coinfer_gym.laim import vector_wrappers, wrappers

    if lanes is None:
        env: Any = gym.make(environment, disable_env_checker=True)
    else:
        env = gym.make_vec(environment, lanes, "vector_entry_point")
    if wrapper is not None:
        env = getattr(wrappers if lanes is None else vector_wrappers, wrapper)(env)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(_ACTIONS[kind](env.action_space.sample()))
    check({"reward": reward, **info})


def draw_keyword(rng: Rng, folder: Path) -> Try:
    """A keyword of ``make`` or ``make_vec`` with an odd name or value."""
    environment, base, name, value, refuse = draw_field(rng, python=True)
    if rng.random() < 0.15:
        name, refuse = choose(rng, ("frameskip", "x" * 3000, "scenario ", "max_task", "self", "lanes_", "\n")), True
    lanes = choose(rng, (None, 3, 3, *EXTREME, *NO_NUMBER)) if rng.random() < 0.3 else None
    text = f"{environment} {base} lanes {reprlib.repr(lanes)} {reprlib.repr(name)}: {reprlib.repr(value)}"
    return Try(text, partial(play, environment, {"scenario": base, name: value}, lanes), refuse)


def draw_optimum(rng: Rng, folder: Path) -> Try:
    """A problem far wider than any scenario, whose exact optimum nothing may beat."""
    problem = optimum.random_problem(rng)
    return Try(f"{problem.workload.cuts} cuts, {problem.quality}", partial(_demand, optimum.faults, rng, problem))


def draw_layerwise(rng: Rng, folder: Path) -> Try:
    """The same for Layerwise-v0."""
    problem = layerwise.random_problem(rng)
    text = f"{problem.network.name}, accuracy {problem.accuracy_min:g}"
    return Try(text, partial(_demand, layerwise.faults, rng, problem))


def draw_certificate(rng: Rng, folder: Path) -> Try:
    """A problem and a cut, whose exact optimum must be that of the conic program."""
    from studies.fuzz import certificate  # brings the convex solvers along

    problem, cut = certificate.random_problem(rng)
    text = f"cut {cut} of {problem.workload.cuts}, {problem.quality}"
    return Try(text, partial(_demand, certificate.difference, problem, cut))


def _demand(faults: Callable[..., list[str]], *given: Any) -> None:
    """Raise `SilentError` if an optimum has faults."""
    wrong = faults(*given)
    if wrong:
        raise SilentError("; ".join(wrong))


KINDS: dict[str, Callable[[Rng, Path], Try]] = {
    "scenario": draw_scenario,
    "network": draw_network,
    "trace": draw_trace,
    "agent": draw_agent,
    "configuration": draw_configuration,
    "action": draw_action,
    "keyword": draw_keyword,
    "optimum": draw_optimum,
    "layerwise": draw_layerwise,
    "certificate": draw_certificate,
}
"""What draws a try, by kind."""
