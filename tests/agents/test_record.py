"""Data sets of Minari: what was played is what stands there, in whole episodes."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

minari = pytest.importorskip("minari")
pytest.importorskip("h5py")
pytest.importorskip("stable_baselines3")

from agents import record as recording  # noqa: E402
from agents.demonstrations import FIRST_WORLD  # noqa: E402
from agents.held_out import SELECTION_SEED  # noqa: E402
from baselines.config import load_config  # noqa: E402
from coinfer_gym import InvalidInputError  # noqa: E402
from coinfer_gym.envs.observation import OBSERVATION_NAMES  # noqa: E402

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "offline").glob("*.yaml"))
TASKS, SEED = 12, 4_000
SMALL = {
    "env": {"scenario": "bert-multimodal", "tasks": TASKS},
    "worlds": 4,
    "seed": SEED,
    "policies": {"random": {"policy": "random"}, "the optimum": {"policy": "myopic_exact"}},
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def test_episodes_replay_to_the_last_bit():
    ids = recording.record(load_config(SMALL), "small", 20)
    assert ids == ["coinfer_gym/small/random-v0", "coinfer_gym/small/the_optimum-v0"]
    for name in ids:
        dataset = minari.load_dataset(name)
        env = dataset.recover_environment()
        for number, episode in enumerate(dataset.iterate_episodes()):
            observation, info = env.reset(seed=SEED + number)
            assert episode.observations.shape == (len(episode) + 1, len(OBSERVATION_NAMES))
            assert episode.truncations.tolist() == [False] * (len(episode) - 1) + [True]
            assert not episode.terminations.any()
            for k, action in enumerate(episode.actions):
                assert np.array_equal(episode.observations[k], observation)
                assert {name: episode.infos[name][k] for name in recording.INFOS}.items() <= info.items()
                observation, reward, _, truncated, info = env.step(action)
                assert episode.rewards[k] == reward
            assert truncated
            assert episode.infos["delivered"][-1] == info["delivered"]
            assert np.array_equal(episode.observations[-1], observation)


@pytest.mark.parametrize(("wanted", "episodes"), [(1, 1), (TASKS, 1), (TASKS + 1, 2), (1000, 4)])
def test_whole_episodes_until_there_are_enough_decisions(wanted, episodes):
    own = SMALL | {"env": SMALL["env"] | {"arrivals": "one_at_a_time"}, "policies": {"random": {"policy": "random"}}}
    [name] = recording.record(load_config(own), "count", wanted)
    found = minari.load_dataset(name)
    assert (found.total_episodes, found.total_steps) == (episodes, episodes * TASKS)


def test_a_data_set_that_is_there_stays(folder, tmp_path, capsys):
    config = tmp_path / "tiny.yaml"
    config.write_text("title: t\nenv: {tasks: 3}\nworlds: 1\npolicies: {random: {policy: random}}\n", encoding="utf-8")
    assert recording.main([str(config), "--decisions", "3"]) == 0
    assert "coinfer_gym/tiny/random-v0: " in capsys.readouterr().out
    [data] = folder.rglob("main_data.hdf5")
    before = data.stat().st_mtime_ns
    assert recording.main([str(config), "--decisions", "1000"]) == 0
    assert data.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("name", "label"), [("my data", "random"), ("small", "a/b"), ("..", "random"), ("small", "a:b")]
)
def test_names_that_minari_does_not_take_are_refused_before_anything_is_played(name, label, folder):
    config = load_config(SMALL | {"policies": {label: {"policy": "random"}}})
    with pytest.raises(InvalidInputError, match="letters, digits and underscores"):
        recording.record(config, name, 5)
    assert not list(folder.iterdir())


def test_two_policies_of_one_name_are_refused(folder):
    config = load_config(SMALL | {"policies": {"a b": {"policy": "random"}, "a_b": {"policy": "random"}}})
    with pytest.raises(InvalidInputError, match="rename one"):
        recording.record(config, "small", 5)
    assert not list(folder.iterdir())


def test_the_shipped_configurations_meet_worlds_of_their_own():
    assert [path.stem for path in CONFIGS] == ["battery", "late_csi", "queueing"]
    for path in CONFIGS:
        config = load_config(path)
        assert len(config.policies) == 4
        assert FIRST_WORLD + 5_000_000 < config.seed < config.seed + config.worlds < SELECTION_SEED
        gym.make(config.environment, **config.keywords)
