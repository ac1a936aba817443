"""The worlds of the shipped scenarios and what random actions make of them, recorded once."""

import gymnasium as gym
import numpy as np
import pytest

STORED = [  # environment, scenario, last arrival in s, sum of gains, time in s and energy in J of 40 random steps
    ("LAIM-v0", "bart-multimodal", 82.35992133797757, 3.2267560672546265e-08, 19.08050209826718, 48.71758425042882),
    ("LAIM-v0", "bert-battery", 47.160797772122216, 2.1307656360832076e-08, 16.271178762992776, 32.8082709432058),
    ("LAIM-v0", "bert-multimodal", 47.160797772122216, 2.1307656360832076e-08, 17.731951023803784, 35.2933147295536),
    ("LAIM-v0", "bert-text", 47.160797772122216, 2.1307656360832076e-08, 17.731951023803784, 35.21184199453998),
    ("LAIM-v0", "minilm-squad", 47.160797772122216, 2.1307656360832076e-08, 20.304490652258853, 7.336082110301242),
    ("LAIM-v0", "vit-image", 90.59780246499794, 3.623815804847715e-08, 27.53226491508188, 53.5537342856005),
    (
        "Layerwise-v0",
        "alexnet-rpi4b-4g",
        7.661813677308427,
        5.600639087353833e-10,
        1.5586088209266376,
        0.3869302410769009,
    ),
    (
        "Layerwise-v0",
        "regnet-tk1-wifi",
        1.9154534193271067,
        2.6086371450676524e-09,
        0.3565741424021039,
        0.03048983968066886,
    ),
]


@pytest.mark.parametrize(("env_id", "scenario", "last_arrival", "gains", "time_s", "energy"), STORED)
def test_shipped_worlds_stay_what_they_are(env_id, scenario, last_arrival, gains, time_s, energy):
    """To 1e-9, since libraries of mathematics may differ in the last bits from one system to another."""
    env = gym.make(f"coinfer_gym/{env_id}", scenario=scenario)
    env.reset(seed=11)
    world, rng = env.unwrapped.world(), np.random.default_rng(5)
    infos = [env.step(rng.uniform(-1.0, 1.0, env.action_space.shape))[4] for _ in range(40)]
    found = world.arrivals[-1], world.gains.sum(), infos[-1]["time_s"], sum(info["energy_j"] for info in infos)
    assert found == pytest.approx((last_arrival, gains, time_s, energy), rel=1e-9, abs=0.0)
