"""A trained agent as an ONNX graph, for runtimes without Python: ``python -m agents.export PATH --out agent.onnx``.

``PATH`` is the folder of a run, an agent's file, or the name of a shipped agent. The graph holds the deterministic
actor: it takes observations of shape ``(batch, n)`` and gives the actions of `agents.policy.Agent.predict`. These are
actions of the wrappers that the agent was trained in, which the properties of the model name.

| agent | further inputs | output ``action`` |
|---|---|---|
| PPO, A2C | | clipped to [-1, 1] |
| SAC, TQC, TD3, DDPG | | squashed by tanh |
| DQN, PPO and A2C with a list of actions | | index of the best action |
| MaskablePPO | ``action_masks`` | index of the best allowed action |
| RecurrentPPO | ``hidden``, ``cell`` (zeros at first) | as PPO; further outputs ``next_hidden``, ``next_cell`` |

The file is written only if onnxruntime gives the agent's own actions for 1,000 observations.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.actors import actor_layers, find_actor
from agents.agent_file import read_agent
from agents.evaluate import find_agent
from agents.hyperparameters import ACTIVATIONS
from agents.policy import Agent, load_agent
from coinfer_gym.command import command
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.files import write_bytes

__all__ = ["TOLERANCE", "build_graph", "check_graph", "export", "main"]

TOLERANCE = 1e-5
"""Largest difference between actions of the graph and of the agent."""

_OPSET = 17  # of 2022: every runtime in use reads it
_LSTM = "lstm_actor."


class _Module(nn.Module):
    """The deterministic actor of an agent's file in torch, with examples of its inputs and the names of its outputs."""

    def __init__(self, weights: Mapping[str, NDArray[np.float32]], algo: str, activation: str) -> None:
        super().__init__()
        self.layers = [tuple(map(torch.from_numpy, layer)) for layer in actor_layers(algo, weights)]
        self.activation = ACTIVATIONS[activation]()
        self.squashed = find_actor(algo).squashed
        self.listed = not self.squashed and "log_std" not in weights
        self.inputs, self.outputs = {"observation": torch.zeros(1, self.layers[0][0].shape[1])}, ["action"]
        self.masked = algo == "maskable_ppo"
        if self.masked:
            self.inputs["action_masks"] = torch.ones(1, len(self.layers[-1][1]), dtype=torch.bool)
        self.lstm = None
        if algo == "recurrent_ppo":
            own = {name[len(_LSTM) :]: torch.from_numpy(weights[name]) for name in weights if name.startswith(_LSTM)}
            units, observed = own["weight_hh_l0"].shape[1], own["weight_ih_l0"].shape[1]
            self.lstm = nn.LSTM(observed, units, len(own) // 4)
            self.lstm.load_state_dict(own)
            state = torch.zeros(len(own) // 4, 1, units)
            self.inputs = {"observation": torch.zeros(1, observed), "hidden": state, "cell": state}
            self.outputs += ["next_hidden", "next_cell"]

    def forward(self, observation: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
        x, state = observation, ()
        if self.lstm is not None:
            x, state = self.lstm(x[None], more)
            x = x[0]
        for i, (weight, bias) in enumerate(self.layers):
            x = nn.functional.linear(self.activation(x) if i else x, weight, bias)
        if self.masked:
            x = torch.where(more[0], x, -torch.inf)
        if self.listed:
            return (x.argmax(1), *state)
        return (torch.tanh(x) if self.squashed else x.clamp(-1.0, 1.0), *state)


def build_graph(path: str | Path) -> onnx.ModelProto:
    """Deterministic actor of an agent, found as by `agents.evaluate.find_agent`, as an ONNX model."""
    weights, about = read_agent(find_agent(path))
    module = _Module(weights, about["algo"], about["activation"]).eval()
    states = ("hidden", "cell", "next_hidden", "next_cell")  # of shape (layers, batch, units)
    axes = {name: {int(name in states): "batch"} for name in (*module.inputs, *module.outputs)}
    content: Any = io.BytesIO()
    with warnings.catch_warnings():
        # The newer exporter needs onnxscript and writes operators that older runtimes do not know.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(module.inputs.values()),
            content,
            input_names=list(module.inputs),
            output_names=module.outputs,
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )
    model = onnx.load_model_from_string(content.getvalue())
    properties = {"algo": about["algo"]} | {key: json.dumps(value) for key, value in about["config"].items()}
    onnx.helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    return model


def check_graph(model: onnx.ModelProto, agent: Agent, observations: int = 1000) -> float:
    """Largest difference in a component of an action between a graph and an unbound agent.

    Observations are drawn uniformly from [-1, 1] and given one after another.
    """
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    shapes = {entry.name: [1 if size == "batch" else size for size in entry.shape] for entry in session.get_inputs()}
    random = np.random.default_rng(0)
    rows = random.uniform(-1.0, 1.0, (observations, *shapes["observation"])).astype(np.float32)
    memory = {name: np.zeros(shapes[name], np.float32) for name in ("hidden", "cell") if name in shapes}
    state: Any = None
    difference = 0.0
    for row in rows:
        masks = {}
        if "action_masks" in shapes:
            masks["action_masks"] = random.random(shapes["action_masks"]) < 0.5
            masks["action_masks"][0, random.integers(shapes["action_masks"][1])] = True
        found, *carried = session.run(None, {"observation": row} | memory | masks)
        expected, state = agent.predict(row[0], state=state, deterministic=True, **masks)
        memory = dict(zip(memory, carried, strict=True))
        difference = max(difference, float(np.abs(found[0].astype(np.float64) - expected).max()))
    return difference


def export(path: str | Path, out: Path) -> float:
    """Write the graph of an agent to a file; returns the largest difference of its actions from the agent's.

    `InvalidInputError` is raised if there is no such agent, or the graph gives other actions.
    """
    agent = load_agent(find_agent(path))
    model = build_graph(path)
    difference = check_graph(model, agent)
    if not difference <= TOLERANCE:
        remedy = f"Actions of its graph differ by {difference:.1e}, more than {TOLERANCE:.0e}."
        raise InvalidInputError("agent", str(path), remedy)
    write_bytes(out, model.SerializeToString())
    return difference


@command("agents.export")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser("python -m agents.export", description="Write a trained agent as an ONNX graph.")
    parser.add_argument("path", help="folder of a run, an agent's file, or the name of a shipped agent")
    parser.add_argument("--out", type=Path, default=Path("agent.onnx"), help="file to write (default: agent.onnx)")
    options = parser.parse_args(arguments)
    difference = export(options.path, options.out)
    print(f"1,000 observations: actions of onnxruntime and NumPy differ by at most {difference:.1e}")
    print(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
