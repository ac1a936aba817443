"""A trained agent as an ONNX graph, for runtimes without Python: ``python -m agents.export PATH --out agent.onnx``.

``PATH`` is the folder of a run, an agent's file, or the name of a shipped agent. The graph holds the deterministic
actor: observations of shape ``(batch, n)`` in, what `agents.policy.Agent.predict` answers out. Actions are those of the
wrappers that the agent was trained in; the properties of the model name these.

| agent | further inputs | output ``action`` |
|---|---|---|
| PPO, A2C | | clipped to [-1, 1] |
| SAC, TQC, TD3, DDPG | | squashed by tanh |
| DQN, PPO and A2C with a list of actions | | number of the best |
| MaskablePPO | ``action_masks`` | number of the best that may be taken |
| RecurrentPPO | ``hidden``, ``cell`` (zeros at first) | as PPO; beside it ``next_hidden``, ``next_cell`` |

A file is written once the graph in onnxruntime has given the actions of the agent in NumPy for 1,000 observations.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from agents.evaluate import find_agent
from agents.policy import Agent, actor_layers, find_actor, load_agent, read_agent
from baselines.output import write_bytes
from coinfer_gym.errors import InvalidInputError

__all__ = ["TOLERANCE", "Check", "build_graph", "check_graph", "export", "main"]

TOLERANCE = 1e-5
"""What actions of the graph and of the agent may differ by."""

_OPSET, _IR_VERSION = 17, 8  # of 2022: every runtime in use reads them
_ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu", "elu": "Elu"}
_GATES = (0, 3, 1, 2)  # torch has input, forget, cell, output; ONNX input, output, forget, cell

Weights = Mapping[str, NDArray[np.float32]]


class Check(NamedTuple):
    """A graph against the agent that it came from.

    Attributes
    ----------
    difference : float
        Largest one of an action's components.
    onnx_us, numpy_us : float
        Median time for one observation, in microseconds.
    """

    difference: float
    onnx_us: float
    numpy_us: float


class _Graph:
    """Nodes and constants of a graph in the making; every method returns the name of what it adds."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def hold(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def activate(self, x: str, activation: str) -> str:
        if activation == "silu":
            return self.add("Mul", x, self.add("Sigmoid", x))
        return self.add(_ACTIVATIONS[activation], x)

    def apply(self, layer: tuple[Any, Any], x: str) -> str:
        return self.add("Gemm", x, self.hold(layer[0]), self.hold(layer[1]), transB=1)


def build_graph(path: str | Path) -> onnx.ModelProto:
    """Deterministic actor of an agent as an ONNX model.

    Parameters
    ----------
    path : str or Path
        As for `agents.evaluate.find_agent`.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    InvalidInputError
        If there is no such agent, or its file is damaged.
    """
    weights, about = read_agent(find_agent(path))
    squashed = find_actor(about["algo"]).squashed
    layers = actor_layers(about["algo"], weights)
    graph = _Graph()
    inputs, outputs, x = [], [], "observation"
    observed = layers[0][0].shape[1]
    if about["algo"] == "recurrent_ppo":
        observed = weights["lstm_actor.weight_ih_l0"].shape[1]
        count = sum(name.startswith("lstm_actor.weight_ih_l") for name in weights)
        shape = (count, "batch", weights["lstm_actor.weight_hh_l0"].shape[1])
        inputs += [_value(name, shape) for name in ("hidden", "cell")]
        outputs += [_value(name, shape) for name in ("next_hidden", "next_cell")]
        x = _add_memory(graph, weights, count)
    for layer in layers[:-1]:
        x = graph.activate(graph.apply(layer, x), about["activation"])
    x = graph.apply(layers[-1], x)
    size = len(layers[-1][1])
    if about["algo"] == "maskable_ppo":
        inputs.append(_value("action_masks", ("batch", size), TensorProto.BOOL))
        x = graph.add("Where", "action_masks", x, graph.hold(-np.inf))
    if squashed:
        graph.add("Tanh", x, output="action")
    elif "log_std" in weights:
        graph.add("Clip", x, graph.hold(-1.0), graph.hold(1.0), output="action")
    else:
        graph.add("ArgMax", x, output="action", axis=1, keepdims=0)
    real = squashed or "log_std" in weights
    action = _value("action", ("batch", size)) if real else _value("action", ("batch",), TensorProto.INT64)
    inputs.insert(0, _value("observation", ("batch", observed)))
    body = helper.make_graph(graph.nodes, "actor", inputs, [action, *outputs], graph.constants)
    model = helper.make_model(
        body, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION, producer_name="coinfer_gym"
    )
    told = {"algo": about["algo"]} | {key: json.dumps(value) for key, value in about["config"].items()}
    helper.set_model_props(model, told)
    onnx.checker.check_model(model, full_check=True)
    return model


def _value(name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _add_memory(graph: _Graph, weights: Weights, count: int) -> str:
    """Add an LSTM for one step of time; returns its output, of shape (batch, units)."""
    axis = graph.hold([0], np.int64)
    starts = {name: [name] for name in ("hidden", "cell")}
    if count > 1:
        for name, parts in starts.items():
            parts[:] = [f"{name}_{i}" for i in range(count)]
            graph.nodes.append(helper.make_node("Split", [name], parts, axis=0))
    x = graph.add("Unsqueeze", "observation", axis)
    after: dict[str, list[str]] = {"hidden": [], "cell": []}
    for i in range(count):
        read = {kind: _reorder(weights[f"lstm_actor.{kind}_l{i}"]) for kind in ("weight_ih", "weight_hh")}
        bias = np.concatenate([_reorder(weights[f"lstm_actor.{kind}_l{i}"]) for kind in ("bias_ih", "bias_hh")])
        constants = [graph.hold(array[None]) for array in (*read.values(), bias)]
        ends = [f"after_hidden_{i}", f"after_cell_{i}"]
        graph.nodes.append(
            helper.make_node(
                "LSTM",
                [x, *constants, "", starts["hidden"][i], starts["cell"][i]],
                ["", *ends],
                hidden_size=read["weight_hh"].shape[1],
            )
        )
        x = ends[0]
        for parts, end in zip(after.values(), ends, strict=True):
            parts.append(end)
    for name, parts in after.items():
        graph.add("Concat", *parts, output=f"next_{name}", axis=0)
    return graph.add("Squeeze", x, axis)


def _reorder(gates: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of the four gates in the order of ONNX."""
    parts = np.split(gates, 4)
    return np.concatenate([parts[k] for k in _GATES])


def check_graph(model: onnx.ModelProto, agent: Agent, observations: int = 1000, seed: int = 0) -> Check:
    """Ask a graph and the agent for the same actions, one observation after another.

    Parameters
    ----------
    model : onnx.ModelProto
    agent : Agent
        Not bound to an environment.
    observations : int
        How many; they are uniform in [-1, 1], as are the masks of actions in {0, 1}.
    seed : int
        Of these.

    Returns
    -------
    Check
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    shapes = {entry.name: [1 if size == "batch" else size for size in entry.shape] for entry in session.get_inputs()}
    random = np.random.default_rng(seed)
    rows = random.uniform(-1.0, 1.0, (observations, *shapes["observation"])).astype(np.float32)
    memory = {name: np.zeros(shapes[name], np.float32) for name in ("hidden", "cell") if name in shapes}
    state: Any = None
    differences, times = [], []
    for row in rows:
        masks = {}
        if "action_masks" in shapes:
            masks["action_masks"] = random.random(shapes["action_masks"]) < 0.5
            masks["action_masks"][0, random.integers(shapes["action_masks"][1])] = True
        feed = {"observation": row} | memory | masks
        begin = perf_counter()
        found, *carried = session.run(None, feed)
        middle = perf_counter()
        expected, state = agent.predict(row[0], state=state, deterministic=True, **masks)
        times.append((middle - begin, perf_counter() - middle))
        memory = dict(zip(memory, carried, strict=True))
        differences.append(np.abs(found[0].astype(np.float64) - np.ravel(expected)).max())
    onnx_us, numpy_us = 1e6 * np.median(times, axis=0)
    return Check(float(max(differences)), float(onnx_us), float(numpy_us))


def export(path: str | Path, out: Path) -> Check:
    """Write the graph of an agent to a file, if it acts as the agent does.

    Parameters
    ----------
    path : str or Path
        As for `agents.evaluate.find_agent`.
    out : Path

    Returns
    -------
    Check

    Raises
    ------
    InvalidInputError
        If there is no such agent.
    RuntimeError
        If the actions of the graph are others than the agent's.
    """
    model = build_graph(path)
    check = check_graph(model, load_agent(find_agent(path)))
    if not check.difference <= TOLERANCE:
        raise RuntimeError(f"Actions of the graph differ by {check.difference:.1e}, more than {TOLERANCE:.0e}.")
    write_bytes(out, model.SerializeToString())
    return check


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser("python -m agents.export", description="A trained agent as an ONNX graph.")
    parser.add_argument("path", help="folder of a run, agent's file, or name of a shipped agent")
    parser.add_argument("--out", type=Path, default=Path("agent.onnx"), help="file to write (default: agent.onnx)")
    options = parser.parse_args(arguments)
    try:
        check = export(options.path, options.out)
    except (InvalidInputError, RuntimeError) as error:
        print(f"agents.export: {error}", file=sys.stderr)
        return 2
    print(f"1,000 observations: actions of onnxruntime and NumPy differ by at most {check.difference:.1e}")
    print(f"one observation: onnxruntime {check.onnx_us:.1f} us, NumPy {check.numpy_us:.1f} us")
    print(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
