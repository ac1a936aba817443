"""The worlds of the shipped scenarios and what random actions make of them, recorded once."""

import gymnasium as gym
import numpy as np
import pytest

from coinfer_gym import InvalidInputError

STORED = [  # environment, scenario, last arrival in s, sum of gains, time in s and energy in J of 40 random steps
    ("LAIM-v0", "bart-multimodal", 82.35992133797757, 3.2267560672546265e-08, 16.8268748842297, 39.71577696224297),
    ("LAIM-v0", "bert-battery", 47.160797772122216, 2.1307656360832076e-08, 13.337454015591865, 28.4898401707067),
    ("LAIM-v0", "bert-multimodal", 47.160797772122216, 2.1307656360832076e-08, 14.335376573700383, 29.803342065853876),
    ("LAIM-v0", "bert-text", 47.160797772122216, 2.1307656360832076e-08, 14.318230894384302, 29.705508206907265),
    ("LAIM-v0", "minilm-squad", 47.160797772122216, 2.1307656360832076e-08, 15.18790923756028, 5.532203503168173),
    ("LAIM-v0", "mpnet-squad", 64.08451678790195, 3.192113389123607e-08, 18.496385235349422, 38.51941392753116),
    ("LAIM-v0", "vit-image", 90.59780246499794, 3.623815804847715e-08, 22.85841831218627, 46.75597620556122),
    ("Cell-v0", "cell-4", 22.21890094342926, 7.653055428829763e-09, 6.509439759272159, 29.405998323413176),
    ("Cell-v0", "cell-mixed", 22.21890094342926, 7.653055428829763e-09, 2.9075614817438646, 29.493171251943814),
    (
        "Layerwise-v0",
        "alexnet-rpi4b-4g",
        7.661813677308427,
        5.600639087353833e-10,
        1.4638557733097153,
        0.4715538227642924,
    ),
    (
        "Layerwise-v0",
        "regnet-tk1-wifi",
        1.9154534193271067,
        2.6086371450676524e-09,
        0.35515549814758224,
        0.04705928893025624,
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


@pytest.mark.parametrize(
    ("env_id", "keyword", "value", "home"),
    [
        ("Layerwise-v0", "scenario", "bert-multimodal", "LAIM-v0"),
        ("LAIM-v0", "scenario", "cell-4", "Cell-v0"),
        ("Cell-v0", "scenario", "alexnet-rpi4b-4g", "Layerwise-v0"),
        ("Layerwise-v0", "workload", "bert-base", "LAIM-v0"),
        ("LAIMShares-v0", "devices", 3, "Cell-v0"),
        ("Cell-v0", "accuracy_loss", 0.1, "Layerwise-v0"),
    ],
)
def test_what_belongs_to_another_environment_says_to_which(env_id, keyword, value, home):
    kind = "scenario" if keyword == "scenario" else "field"
    with pytest.raises(InvalidInputError, match=f"It is a {kind} of coinfer_gym/{home}"):
        gym.make(f"coinfer_gym/{env_id}", **{keyword: value})


def test_a_file_that_extends_a_scenario_of_another_environment_says_of_which(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("{extends: cell-4}", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"extends: got 'cell-4'\. It is a scenario of coinfer_gym/Cell-v0"):
        gym.make("coinfer_gym/LAIM-v0", scenario=str(file))
    file.write_text("{extends: bert-multimodal, devices: 3}", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"key: got 'devices'\. It is a field of coinfer_gym/Cell-v0"):
        gym.make("coinfer_gym/LAIM-v0", scenario=str(file))
