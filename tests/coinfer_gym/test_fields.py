"""Every field of every scenario with extreme values: refused in one line that names it, or the episode stays finite."""

import math

import gymnasium as gym
import numpy as np
import pytest

from coinfer_gym.cell.scenario import load_cell_scenario
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.scenario import Scenario, load_scenario
from coinfer_gym.layerwise.scenario import load_layerwise_scenario

SCENARIOS = {
    "coinfer_gym/LAIM-v0": load_scenario("bert-multimodal"),
    "coinfer_gym/Layerwise-v0": load_layerwise_scenario("alexnet-rpi4b-4g"),
    "coinfer_gym/Cell-v0": load_cell_scenario("cell-4"),
}
EXTREMES = [
    1e308,
    -1e308,
    5e-324,
    -1,
    0,
    math.inf,
    -math.inf,
    math.nan,
    True,
    "text",
    "1",
    10**400,
    [],
    [0.1],
    None,
    b"1",
]
WORLDS = {  # each uses other fields
    "default": {},
    "all": {"channel": "fading", "arrivals": "mmpp", "csi_delay": 0.2, "csi_noise_db": 1.0, "battery_capacity": 5.0},
}


def ends(info):
    """The least and the largest value that a field allows."""
    return [getattr(limit, key) for limit in info.metadata for key in ("ge", "le") if hasattr(limit, key)]


FIELDS = [
    (env_id, info.alias or key)
    for env_id, scenario in SCENARIOS.items()
    for key, info in type(scenario).model_fields.items()
    if scenario.family != "cell" or key not in Scenario.model_fields
]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(("env_id", "field"), FIELDS)
def test_an_extreme_value_is_refused_by_name_or_the_episode_stays_finite(env_id, field, world):
    scenario = SCENARIOS[env_id]
    infos = {info.alias or key: info for key, info in type(scenario).model_fields.items()}
    plain = scenario.model_dump(by_alias=True) | WORLDS[world]
    values = [*EXTREMES, *ends(infos[field])]
    if field.endswith("_range"):
        low, high = ends(infos[field.removesuffix("_range")])
        values += [
            [low, high],
            [high, low],
            [low, low],
            [high, high],
            [0.1, 1e308],
            [5e-324, 1],
            [math.nan, 1],
            ["1", 2],
        ]
    for value in values:
        try:
            env = gym.make(env_id, scenario=plain, disable_env_checker=True, **{field: value})
        except InvalidInputError as error:
            text = str(error)
            assert field.removesuffix("_range") in text or "No decision meets both budgets" in text, text
            assert len(text) < 600
            assert "\n" not in text
            continue
        _, info = env.reset(seed=1)
        rng = np.random.default_rng(1)
        for _ in range(50):
            assert np.isfinite(list(info.values())).all(), (value, info)
            observation, reward, _, ended, info = env.step(rng.uniform(-1.0, 1.0, env.action_space.shape))
            assert np.isfinite([*observation, reward, *info.values()]).all(), (value, info)
            if ended:
                env.reset()
