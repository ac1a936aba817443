"""Cell-v0 as an environment: bounds, problems and actions at shares, kinds of device, and errors that help."""

import gymnasium as gym
import numpy as np
import pytest

import coinfer_gym
from coinfer_gym import InvalidInputError, solve_exact
from coinfer_gym.cell.dynamics import INFO_NAMES
from coinfer_gym.cell.env import CellVectorEnv
from coinfer_gym.cell.scenario import SHARED, load_cell_scenario, shipped_cell_scenarios
from coinfer_gym.cell.spaces import ACTION_NAMES, CELL_NAMES
from tests.coinfer_gym.equal import same

CELL = "coinfer_gym/Cell-v0"
WORLDS = {
    "default": {"tasks": 6},
    "mixed": {"scenario": "cell-mixed", "devices": 5, "kinds": [{"scenario": "vit-image", "tasks": 4}, {"tasks": 7}]},
    "battery": {"scenario": "bert-battery", "devices": 3, "battery_capacity": 0.5, "tasks": 8},
    "waiting": {"devices": 6, "share_min": 0.4, "tasks": 5, "csi_delay": 0.5, "csi_noise_db": 1.0},
    "one at a time": {"scenario": "bert-text", "devices": 2, "arrivals": "one_at_a_time", "tasks": 6},
}
worlds = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())


def test_the_registry_makes_both():
    env = gym.make_vec(CELL, 3, vectorization_mode="vector_entry_point", scenario="cell-16", tasks=3)
    assert env.unwrapped.__class__ is CellVectorEnv
    assert env.observation_space.shape == (3, len(CELL_NAMES))
    assert env.action_space.shape == (3, len(ACTION_NAMES))
    single = gym.make("coinfer_gym:coinfer_gym/Cell-v0", tasks=3)
    _, info = single.reset(seed=0)
    assert tuple(info) == INFO_NAMES
    again = gym.make(gym.envs.registration.EnvSpec.from_json(single.spec.to_json()))
    same(again.reset(seed=5), single.reset(seed=5))


@worlds
def test_observations_and_rewards_stay_in_bounds(world):
    env = gym.make(CELL, **world)
    for seed in range(3):
        observation, info = env.reset(seed=seed)
        rng, ended = np.random.default_rng(seed), False
        while not ended:
            assert observation in env.observation_space
            assert np.isfinite(list(info.values())).all()
            observation, reward, terminated, ended, info = env.step(rng.uniform(-1.3, 1.3, 8).astype(np.float32))
            assert np.isfinite(reward)
            assert not terminated


def test_an_optimum_at_given_shares_yields_what_it_promises():
    env = gym.make(CELL, scenario="cell-4", tasks=20).unwrapped
    env.reset(seed=2)
    ended, met = False, 0
    while not ended:
        band, server = (min(0.4, free) for free in env.free)
        solution = solve_exact(env.problem(band, server))
        action = env.action(solution, band, server)
        assert env.shares(action) == pytest.approx((band, server), rel=1e-5)
        _, _, _, ended, info = env.step(action)
        last = solution.cut == env.scenario.cuts - 1
        assert (info["band"], info["server"]) == pytest.approx((0.0, 0.0) if last else (band, server), rel=1e-5)
        assert info["clipped"] == 0.0
        if solution.feasible:
            assert info["quality"] == pytest.approx(solution.quality, abs=1e-4)
            met += not info["violated"]
    assert met > 20


def test_a_smaller_share_is_never_better():
    env = gym.make(CELL, scenario="cell-4", tasks=20).unwrapped
    env.reset(seed=2)
    for _ in range(10):
        qualities = [solve_exact(env.problem(share, share)) for share in (0.1, 0.3, 1.0)]
        found = [solution.quality if solution.feasible else 0.0 for solution in qualities]
        assert found == sorted(found)
        env.step(env.action(qualities[-1]))


def test_shares_of_more_than_is_free_are_clipped_and_counted():
    env = gym.make(CELL, scenario="bert-text", devices=2, arrivals="one_at_a_time", tasks=3).unwrapped
    env.reset(seed=0)
    decision = env.decision(np.array([-1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0], np.float32))
    first = env.step(env.action(decision, 0.5, 0.7))[4]
    assert (first["band"], first["server"], first["clipped"]) == pytest.approx((0.5, 0.7, 0.0), rel=1e-6)
    second = env.step(env.action(decision, 0.9, 0.2))[4]
    assert second["device"] == 1.0
    assert (second["band"], second["server"]) == pytest.approx((0.5, 0.2), rel=1e-6)
    assert second["clipped"] == 1.0


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"devices": 0}, r"devices: got 0\. Give a whole number from 1 to 64"),
        ({"devices": 65}, "from 1 to 64"),
        ({"bandwidth": 0.0}, "bandwidth: got 0.0"),
        ({"distance": 0.0}, "distance: got 0.0"),
        ({"distance_range": [0.0, 50.0]}, r"distance_range: got .*low <= high, both from 1 to 1e\+09 m"),
        ({"distance_range": [50.0, 20.0]}, "distance_range"),
        ({"share_min": 0.0}, "share_min: got 0.0"),
        ({"share_min": 1.5}, "share_min: got 1.5"),
        ({"kinds": [{"scenario": "alexnet-rpi4b-4g"}]}, r"kinds\[0\]: scenario.*LAIM-v0.*another size"),
        ({"kinds": [{}, {"network": "alexnet"}]}, r"kinds\[1\]: key: got 'network'.*six components"),
        ({"kinds": [{"scenario": "cell-16"}]}, r"kinds\[0\]: scenario: got 'cell-16'.*a cell is no device"),
        ({"kinds": [{}, {"distance": 9.0}]}, r"kinds\[1\]: distance: got 9.0.*distance_range"),
        ({"kinds": [{}, {"energy_budget": 1e-9}]}, r"energy_budget of cell-4, kinds\[1\]"),
        ({"kinds": [{"bandwidth": 1e6}]}, r"kinds\[0\]: bandwidth.*All devices share it"),
        ({"kinds": [{"energy_budget": 1e-9, "name": "poor"}]}, "energy_budget of poor.*No decision meets both budgets"),
        ({"kinds": 3}, "kinds: got 3. Give a list of kinds of device: each a mapping"),
        ({"kinds": ["bert-text"]}, "Give a list of kinds of device: each a mapping"),
        ({"kinds": [{}, {"tasks": -1}]}, r"kinds\[1\]: tasks: got -1"),
        ({"kinds": [{"share_min": 0.1}]}, r"kinds\[0\]: share_min.*give it to the cell"),
        (
            {"scenario": "cell-cameras", "distance_range": [20.0, 20000.0]},
            r"delay_budget of cell-cameras at 20000 m: .*In the best channel a task needs [0-9.]+ s",
        ),
        ({"kinds": [3]}, "kinds"),
        ({"scenario": "phone-llama-2026"}, "workload of phone-llama-2026"),
        ({"kinds": [{}, {}, {}], "devices": 2}, "devices: got 2.*one device per kind at least: 3"),
        ({"scenario": "cell-5"}, "cell-4"),
        ({"device": 3}, "Did you mean 'devices'"),
        ({"energy_budget": 1e-9}, "energy_budget of cell-4.*No decision meets both budgets"),
    ],
)
def test_a_cell_that_cannot_be_is_one_clear_error(keywords, message):
    with pytest.raises((InvalidInputError, TypeError), match=message) as caught:
        gym.make(CELL, **keywords)
    assert "\n" not in str(caught.value)


def test_a_recorded_channel_has_its_own_distance(tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("time_s,gain_db\n0,-90\n1,-100\n2,-95\n", encoding="utf-8")
    recorded = {"scenario": "bert-multimodal", "channel": "trace", "channel_trace": str(trace), "tasks": 3}
    gym.make(CELL, **recorded).reset(seed=0)
    with pytest.raises(InvalidInputError, match="distance_range"):
        gym.make(CELL, distance_range=(10.0, 20.0), **recorded)
    kinds = [{}, {key: recorded[key] for key in ("channel", "channel_trace")}]
    with pytest.raises(InvalidInputError, match="distance_range"):
        gym.make(CELL, distance_range=(10.0, 20.0), kinds=kinds)


def test_a_distance_takes_the_place_of_the_range():
    near, far = (gym.make(CELL, distance=distance, channel="constant", tasks=3).unwrapped for distance in (20.0, 200.0))
    gains = [[] for _ in range(2)]
    for env, found in zip((near, far), gains, strict=True):
        assert env.scenario.distance_range is None
        env.reset(seed=0)
        found += [float(env.world(device).gains[0]) for device in range(env.devices)]
    fall = 10.0**near.scenario.path_loss_exponent
    np.testing.assert_allclose(np.divide(*gains), fall, rtol=1e-9)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, np.nan, "half", True])
def test_a_share_that_is_none_is_an_error(share):
    env = gym.make(CELL, tasks=3).unwrapped
    env.reset(seed=0)
    with pytest.raises(InvalidInputError, match=r"band: got .*\(0, 1\]"):
        env.problem(band=share)
    with pytest.raises(InvalidInputError, match=r"server: got .*\(0, 1\]"):
        env.action(env.decision(np.zeros(8, np.float32)), server=share)


def test_an_action_takes_no_share_below_the_least():
    env = gym.make(CELL, tasks=3).unwrapped
    env.reset(seed=0)
    decision = env.decision(np.zeros(8, np.float32))
    with pytest.raises(InvalidInputError, match=r"band: got 0\.01.*share_min, 0\.02"):
        env.action(decision, band=0.01)
    env.problem(band=0.01)  # what it would be worth may be asked


def test_nan_and_another_size_are_errors_by_name():
    env = gym.make(CELL, tasks=3, disable_env_checker=True)
    env.reset(seed=0)
    with pytest.raises(InvalidInputError, match="action: server"):
        env.step(np.array([0.0] * 7 + [np.nan], np.float32))
    with pytest.raises(InvalidInputError, match=r"shape of action: got \(6,\)"):
        env.step(np.zeros(6, np.float32))
    with pytest.raises(InvalidInputError, match="device: got 4"):
        env.unwrapped.world(4)


@pytest.mark.parametrize("name", shipped_cell_scenarios())
def test_shipped_cells_are_whole(name):
    scenario = load_cell_scenario(name)
    assert scenario.name == name
    assert scenario.description
    for kind in scenario.members:
        assert all(getattr(kind, field) == getattr(scenario, field) for field in SHARED)
    assert load_cell_scenario(scenario.model_dump(by_alias=True)) == scenario
    env = gym.make(CELL, scenario=name, tasks=3)
    env.reset(seed=0)
    assert {"cell-4": 4, "cell-16": 16, "cell-cameras": 32, "cell-mixed": 12}[name] == env.unwrapped.devices


def test_kinds_take_turns_and_keep_what_is_theirs():
    scenario = load_cell_scenario("cell-mixed")
    assert [kind.workload_name for kind in scenario.members] == ["mpnet-base", "minilm-squad", "vit-base"]
    assert scenario.members[1].predictor is not None
    env = gym.make(CELL, scenario="cell-mixed", tasks=2).unwrapped
    env.reset(seed=0)
    kinds, ended = {}, False
    while not ended:
        kinds[env.device] = env.kind.name
        ended = env.step(np.zeros(8, np.float32))[3]
    assert kinds == {k: ("phone", "wearable", "laptop")[k % 3] for k in range(12)}


def test_a_file_of_ones_own_extends_a_cell(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("extends: cell-4\nname: mine\ndevices: 7\nkinds: [{}, {power_max: 0.1}]\n", encoding="utf-8")
    scenario = load_cell_scenario(path)
    assert (scenario.devices, scenario.bandwidth, scenario.name) == (7, 5e6, "mine")
    assert [kind.power_max for kind in scenario.members] == [0.2, 0.1]
    (tmp_path / "phone.yaml").write_text("extends: vit-image\nname: phone\n", encoding="utf-8")
    path.write_text("extends: cell-4\nname: mine\nkinds: [{scenario: phone.yaml}]\n", encoding="utf-8")
    (kind,) = load_cell_scenario(path).members  # a path counts from the folder of the file
    assert (kind.name, kind.bandwidth) == ("phone", 5e6)


def test_the_package_knows_the_cell():
    assert CELL in gym.registry
    assert coinfer_gym.load_scenario("bert-multimodal").family == "laim"
    assert load_cell_scenario("bert-multimodal").family == "cell"
