"""The law of lanes, in every environment: lane `i` seeded ``s`` is the single environment seeded ``s + i``."""

import gymnasium as gym
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import coinfer_gym  # noqa: F401  registers the ids
from tests.coinfer_gym.equal import actions_for, same

SHORT = {"tasks": 12}  # episodes end within a few steps, at times that differ where tasks are lost
ONE_AT_A_TIME = {"arrivals": "one_at_a_time"}
LATE = {"csi_delay": 0.5, "csi_noise_db": 3.0}
BATTERY = {"scenario": "bert-battery", "battery_initial": 0.7}
RANGES = {"delay_budget_range": (0.3, 3.0), "energy_budget_range": (0.01, 0.5)}
PHYSICS = {
    "static_power_device": 0.1,
    "waiting_power_device": 0.05,
    "battery_capacity": 2.0,
    "round_trip": 0.05,
    "memory_bandwidth_device": 3e9,
    "memory_capacity_server": 2.5e8,
    "sparsity_gain": 0.8,
    "energy_budget": 0.5,
    "tasks": 20,
}
MIXED = {"scenario": "cell-mixed", "devices": 5, "kinds": [{"scenario": "vit-image", "tasks": 4}, {"tasks": 7}]}
QUICK = {"delay_budget_range": (0.02, 0.2), "energy_budget_range": (0.01, 0.5), "csi_delay": 0.03, "csi_noise_db": 3.0}
WORLDS = {
    "LAIM": {
        "default": SHORT,
        "one at a time": SHORT | ONE_AT_A_TIME,
        "one task": {"tasks": 1},
        "busy": SHORT | {"arrivals": "poisson", "arrival_rate": 8.0, "queue_capacity": 2},
        "battery": SHORT | BATTERY | {"battery_capacity": 0.1},
        "budgets and noise": SHORT | RANGES | LATE | {"scenario": "vit-image", "arrivals": "periodic"},
        "physics": PHYSICS,
    },
    "Layerwise": {
        "default": SHORT,
        "regnet, one at a time": SHORT | ONE_AT_A_TIME | {"scenario": "regnet-rpi4b-5g"},
        "one task": {"tasks": 1},
        "busy": SHORT | {"arrival_rate": 200.0, "queue_capacity": 2},
        "battery": SHORT | {"battery_capacity": 0.2, "battery_initial": 0.7, "harvest_power": 0.05},
        "budgets and noise": SHORT | QUICK | {"arrivals": "periodic"},
    },
    "Cell": {
        "default": {"tasks": 6},
        "mixed": MIXED,
        "battery": {"scenario": "bert-battery", "devices": 3, "battery_capacity": 0.5, "tasks": 8},
        "waiting": {"devices": 6, "share_min": 0.4, "tasks": 5} | LATE,
        "one at a time": {"scenario": "bert-text", "devices": 2, "tasks": 6} | ONE_AT_A_TIME,
    },
    "LAIMShares": {"default": SHORT, "energy": SHORT | {"energy": True}},
    "LayerwiseShares": {"default": SHORT},
    "CellShares": {
        "default": {"tasks": 4},
        "energy": {"scenario": "cell-mixed", "devices": 6, "energy": True, "tasks": 4},
    },
}
CASES = {
    f"{name}, {label}, {mode.value}": (name, world, mode)
    for name, worlds in WORLDS.items()
    for label, world in worlds.items()
    for mode in (AutoresetMode if name in ("LAIM", "Cell") else [AutoresetMode.NEXT_STEP])
}


@pytest.mark.parametrize(("name", "world", "mode"), CASES.values(), ids=CASES)
def test_lane_i_is_the_single_environment_seeded_s_plus_i_in_the_layout_of_gymnasium(name, world, mode):
    env_id, lanes = f"coinfer_gym/{name}-v0", 4
    native = gym.make_vec(env_id, lanes, vectorization_mode="vector_entry_point", autoreset_mode=mode, **world)
    singles = [lambda: gym.make(env_id, disable_env_checker=True, **world)] * lanes
    single = SyncVectorEnv(singles, autoreset_mode=mode)
    for space in ("observation_space", "action_space", "single_observation_space", "single_action_space"):
        assert getattr(native, space) == getattr(single, space)
    same(native.reset(seed=100), single.reset(seed=100))
    ended = 0
    for actions in actions_for(native, 60 if "Shares" not in name else 20):
        result = native.step(actions)
        same(result, single.step(actions))
        done = result[3]
        ended += done.sum()
        if mode is AutoresetMode.DISABLED and done.any():
            same(native.reset(options={"reset_mask": done.copy()}), single.reset(options={"reset_mask": done.copy()}))
    assert ended >= lanes or "Shares" in name


ALL_CORES = {
    "LAIM, busy": ("LAIM", WORLDS["LAIM"]["busy"], 64),
    "LAIM, battery": ("LAIM", WORLDS["LAIM"]["battery"], 64),
    "Layerwise": ("Layerwise", SHORT, 200),
    "Cell": ("Cell", {"tasks": 5}, 64),
}


@pytest.mark.parametrize(("name", "world", "lanes"), ALL_CORES.values(), ids=ALL_CORES)
def test_all_cores_do_what_one_does(name, world, lanes):
    one, two = (
        gym.make_vec(
            f"coinfer_gym/{name}-v0", lanes, vectorization_mode="vector_entry_point", parallel=parallel, **world
        )
        for parallel in (False, True)
    )
    same(one.reset(seed=7), two.reset(seed=7))
    for actions in actions_for(one, 30):
        same(one.step(actions), two.step(actions))
