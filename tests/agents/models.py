"""Untrained models of every algorithm, and agents made of them, for tests that need no training."""

import torch

from agents.agent_file import AGENT_FILE, save_agent
from agents.hyperparameters import ACTIVATIONS, ALGORITHMS, find_policy
from coinfer_gym.sb3 import make_native

LAIM = "coinfer_gym/LAIM-v0"
LISTED = [{"DiscreteActions": {"cuts": [0, 1, 12], "retained_levels": [0.2, 0.6], "frequency_levels": [0.6]}}]
WRAPPERS = {"dqn": LISTED, "maskable_ppo": LISTED}


def make_model(algo, wrappers=None, seed=3, activation=None, **policy_kwargs):
    """A model with weights of some size: fresh ones give actions near 0."""
    env = make_native(LAIM, 1, WRAPPERS.get(algo, []) if wrappers is None else wrappers)
    more = {} if "ppo" in algo or algo == "a2c" else {"buffer_size": 10}
    if activation:
        policy_kwargs["activation_fn"] = ACTIVATIONS[activation]
    model = ALGORITHMS[algo](find_policy(algo), env, policy_kwargs=policy_kwargs, seed=1, device="cpu", **more)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.policy.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def save_model(model, folder, activation=None, **config):
    """Folder that now holds the agent of a model."""
    algo = next(name for name, kind in ALGORITHMS.items() if type(model) is kind)
    save_agent(folder / AGENT_FILE, algo, model.policy.state_dict(), config, activation, 7)
    return folder
