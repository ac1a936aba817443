"""ONNX graphs, against the agents that they come from."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from agents import export as exporting
from agents.agent_file import AGENT_FILE
from agents.export import TOLERANCE, build_graph, check_graph, main
from agents.policy import load_agent
from tests.agents.models import LAIM, LISTED, make_model, save_model


def save(folder, algo, wrapper=(), activation=None, seed=3, **policy_kwargs):
    """File of an agent."""
    model = make_model(algo, wrapper, seed, activation, **policy_kwargs)
    config = {"env": LAIM, "env_kwargs": {"tasks": 5}, "wrapper": list(wrapper)}
    return save_model(model, folder, activation, **config) / AGENT_FILE


@pytest.mark.parametrize(
    ("algo", "wrapper", "activation", "policy_kwargs"),
    [
        ("ppo", [], "elu", {"net_arch": [32, 32]}),
        ("ppo", LISTED, "tanh", {"net_arch": []}),
        ("sac", [], "silu", {"net_arch": [32]}),
        ("td3", [], "relu", {"net_arch": [32]}),
        ("dqn", LISTED, None, {}),
        ("maskable_ppo", LISTED, None, {}),
        ("recurrent_ppo", ["BudgetShareAction"], None, {"lstm_hidden_size": 8, "n_lstm_layers": 2, "net_arch": [16]}),
    ],
)
def test_acts_as_the_agent(tmp_path, algo, wrapper, activation, policy_kwargs):
    file = save(tmp_path, algo, wrapper, activation, **policy_kwargs)
    assert check_graph(build_graph(file), load_agent(file), observations=300) <= TOLERANCE


@pytest.mark.parametrize("algo", ["ppo", "recurrent_ppo"])
def test_takes_batches(tmp_path, algo):
    file = save(tmp_path, algo)
    session = onnxruntime.InferenceSession(build_graph(file).SerializeToString())
    agent, state = load_agent(file), None
    shapes = {entry.name: [9 if size == "batch" else size for size in entry.shape] for entry in session.get_inputs()}
    memory = {name: np.zeros(shape, np.float32) for name, shape in shapes.items() if name != "observation"}
    for seed in range(3):
        rows = np.random.default_rng(seed).uniform(-1.0, 1.0, (9, 7)).astype(np.float32)
        found, *carried = session.run(None, {"observation": rows} | memory)
        memory = dict(zip(memory, carried, strict=True))
        expected, state = agent.predict(rows, state, deterministic=True)
        assert np.std(expected) > 0.1
        np.testing.assert_allclose(found, expected, rtol=0.0, atol=TOLERANCE)


def test_command_line(tmp_path, capsys):
    save(tmp_path, "ppo", ["BudgetShareAction"])
    out = tmp_path / "agent.onnx"
    assert main([str(tmp_path), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "1,000 observations" in text
    assert "NumPy" in text
    model = onnx.load(out)
    onnx.checker.check_model(model)
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told["algo"] == "ppo"
    assert json.loads(told["env_kwargs"]) == {"tasks": 5}
    assert json.loads(told["wrapper"]) == ["BudgetShareAction"]


def test_a_graph_that_acts_otherwise_is_not_written(tmp_path, capsys, monkeypatch):
    (tmp_path / "other").mkdir()
    file, other = save(tmp_path, "ppo"), save(tmp_path / "other", "ppo", seed=4)
    model = build_graph(other)
    assert check_graph(model, load_agent(file), observations=20) > TOLERANCE
    monkeypatch.setattr(exporting, "build_graph", lambda path: model)
    assert main([str(file), "--out", str(tmp_path / "agent.onnx")]) == 2
    assert "differ" in capsys.readouterr().err
    assert not (tmp_path / "agent.onnx").exists()


def test_refuses(tmp_path, capsys):
    (tmp_path / AGENT_FILE).write_bytes(b"no agent")
    assert main([str(tmp_path)]) == 2
    assert AGENT_FILE in capsys.readouterr().err
