"""The worlds of the shipped scenarios and what random actions make of them, as they have been since version 0.1."""

import gymnasium as gym
import numpy as np
import pytest

STORED = [  # environment, scenario, last arrival in s, sum of gains, time in s and energy in J of 40 random steps
    ("LAIM-v0", "bart-multimodal", 87.4298547358015, 4.818480641314008e-09, 26.62175547913598, 13.672231183607831),
    ("LAIM-v0", "bert-battery", 87.4298547358015, 4.799043188344651e-09, 23.009979149202096, 6.530428189200687),
    ("LAIM-v0", "bert-multimodal", 87.4298547358015, 4.799043188344651e-09, 25.741581430618904, 8.704753794565551),
    ("LAIM-v0", "bert-text", 87.4298547358015, 4.799043188344651e-09, 25.0702734034109, 9.190724786527552),
    ("LAIM-v0", "minilm-squad", 87.4298547358015, 4.799043188344651e-09, 22.881344004349728, 1.9945465777567621),
    ("LAIM-v0", "vit-image", 87.4298547358015, 4.818480641314008e-09, 57.244055898015986, 14.893649039155026),
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
