"""Pictures and texts of LAIM-v0: their form, the facts they tell, and what is missing when an extra is."""

import copy
import pickle
import re
import sys
from itertools import pairwise

import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled, ResetNeeded

from coinfer_gym import InvalidInputError, solve_exact
from coinfer_gym.envs import viewer
from coinfer_gym.envs.moment import gain_range_db
from coinfer_gym.laim.env import LAIMEnv

pytest.importorskip("PIL")

SHAPE = (640, 960, 3)
SITUATIONS = {
    "default": {},
    "50 blocks": {"workload": "resnet-152"},
    "no queue": {"arrivals": "one_at_a_time"},
    "battery": {"battery_capacity": 5.0, "harvest_power": 0.1},
    "constant channel": {"channel": "constant"},
    "fast channel": {"block_duration": 1e-3, "doppler": 100.0},
    "long queue": {"queue_capacity": 64, "arrival_rate": 50.0, "arrivals": "poisson", "tasks": 1000},
    "capacity 1": {"queue_capacity": 1},
    "no static powers": {"scenario": "paper-lyu", "arrivals": "mmpp"},
    "long budget": {"delay_budget": 600.0, "energy_budget": 1e4},
}


def make(mode="rgb_array", **overrides):
    return LAIMEnv(render_mode=mode, **({"tasks": 80} | overrides))


def run(env, steps, seed=0, policy=None):
    """Info after some random steps, or those of a policy."""
    env.action_space.seed(seed)
    _, info = env.reset(seed=seed)
    for _ in range(steps):
        info = env.step(env.action_space.sample() if policy is None else policy(env))[4]
    return info


def run_and_render(env):
    run(env, 1)
    return env.render()


def best(env):
    return env.action(solve_exact(env.problem()))


def is_colour(picture, colour):
    """How many pixels have a colour."""
    return int((picture == np.array(colour)).all(axis=-1).sum())


DEVICE, SERVER, BAD = (0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00), (0xB2, 0x18, 0x2B)


@pytest.mark.parametrize("overrides", SITUATIONS.values(), ids=SITUATIONS)
def test_every_situation_has_a_picture(overrides):
    env = make(**(overrides | {"tasks": 6}))
    env.action_space.seed(0)
    env.reset(seed=0)
    ended, frames = False, []
    while not ended:
        frames.append(env.render())
        ended = env.step(env.action_space.sample())[3]
    frames.append(env.render())
    for frame in frames:
        assert frame.shape == SHAPE
        assert frame.dtype == np.uint8
        assert frame.std() > 10.0
    assert all((one != other).any() for one, other in pairwise(frames))


def test_picture_before_the_first_step_shows_no_decision():
    env = make()
    env.reset(seed=0)
    before = env.render()
    env.step(np.zeros(6, np.float32))
    after = env.render()
    for colour in (DEVICE, SERVER):
        assert is_colour(after, colour) > 10 * is_colour(before, colour)


def test_cut_and_ratios_show_as_areas():
    env, areas = make(arrivals="one_at_a_time"), []
    for cut, retained in ((-1.0, 1.0), (0.0, 1.0), (1.0, 1.0), (1.0, -1.0)):
        env.reset(seed=0)
        env.step(np.array([cut, retained, retained, 1.0, 1.0, 1.0], np.float32))
        network = env.render()[360:430]
        areas.append((is_colour(network, DEVICE), is_colour(network, SERVER)))
    on_server, middle, on_device, pruned = areas
    assert on_server[1] > middle[1] > on_device[1] == 0
    assert on_device[0] > middle[0] > on_server[0]
    assert pruned[0] < 0.1 * on_device[0]


def test_excess_is_red():
    env, red = make(arrivals="one_at_a_time", channel="constant", distance=50.0), []
    for policy in (best, lambda env: np.ones(6, np.float32)):
        info = run(env, 1, policy=policy)
        red.append((info["violated"], is_colour(env.render()[500:610, 84:612], BAD)))
    assert red[0] == (0.0, 0)
    assert red[1][0] == 1.0
    assert red[1][1] > 500


@pytest.mark.parametrize("overrides", SITUATIONS.values(), ids=SITUATIONS)
def test_text_tells_the_facts(overrides):
    env = make("ansi", **overrides)
    for steps in (1, 7):
        info = run(env, steps)
        text = env.render()
        assert 5 <= len(text.splitlines()) <= 8
        facts = [
            f"decision {steps}",
            f"t {info['time_s']:.3f} s",
            f"quality {info['quality']:.3f}",
            f"delivered {info['delivered']:.3f}",
            f"channel {info['gain_db']:.1f} dB",
            f"cut     {info['cut']:.0f} of {env.scenario.workload.cuts - 1}",
            f"keeps {100 * info['retained_device']:.0f} % at {info['frequency_device_hz'] / 1e9:.2f} GHz",
            f"keeps {100 * info['retained_server']:.0f} % at {info['frequency_server_hz'] / 1e9:.2f} GHz",
            f"{info['wait_s'] + info['delay_s']:.4f} of {info['wait_s'] + info['delay_budget_s']:.4f} s",
            f"{info['energy_j']:.4f} of {info['energy_budget_j']:.4f} J",
            *(f"{part} {info[f'delay_{part}_s']:.4f}" for part in ("device", "upload", "server")),
            *(f"{part} {info[f'energy_{part}_j']:.4f}" for part in ("device", "upload", "server")),
        ]
        if info["cut"] < env.scenario.workload.cuts - 1:
            facts.append(f"{10 * np.log10(info['power_w'] / 1e-3):.1f} dBm")
        if env.scenario.arrivals != "one_at_a_time":
            facts.append(f"{info['queue_length']:.0f} of {env.scenario.queue_capacity} waiting")
        if env.scenario.battery_capacity is not None:
            facts.append(f"battery {info['battery_j']:.4f}")
        for fact in facts:
            assert fact in text


def test_text_of_the_upload_is_size_and_rate():
    env = make("ansi", scenario="paper-lyu")
    env.reset(seed=0)
    info = env.step(np.zeros(6, np.float32))[4]
    bits = env.scenario.workload.upload_bits[int(info["cut"])]
    size, rate = re.search(r"([\d.]+) Mbit at ([\d.]+) Mbit/s", env.render()).groups()
    assert float(size) == pytest.approx(bits / 1e6, rel=0.01)
    assert float(rate) == pytest.approx(bits / info["delay_upload_s"] / 1e6, rel=0.01)
    env.step(np.ones(6, np.float32))
    assert "nothing to send" in env.render()


def test_text_says_what_became_of_the_task():
    cases = {
        "within both budgets": {"delay_budget": 100.0, "energy_budget": 100.0},
        "late": {"energy_budget": 100.0, "delay_budget": 0.1, "patience": 100},
        "over its energy": {"delay_budget": 100.0, "energy_budget": 0.15},
        "late and over its energy": {"delay_budget": 0.1, "energy_budget": 0.4, "patience": 100},
        "given up: too late": {"delay_budget": 0.1},
        "given up: battery empty": {"delay_budget": 100.0, "energy_budget": 100.0, "battery_capacity": 1e-3},
    }
    for status, overrides in cases.items():
        env = make("ansi", channel="constant", **overrides)
        run(env, 1, policy=lambda env: np.ones(6, np.float32))
        assert f"   {status}   " in env.render()


def test_text_before_the_first_step():
    env = make("ansi")
    env.reset(seed=0)
    assert "no decision yet" in env.render()
    env.step(np.zeros(6, np.float32))
    assert "no decision yet" not in env.render()


def test_render_needs_an_episode_and_a_mode():
    with pytest.raises(ResetNeeded, match="reset"):
        make().render()
    env = make(None)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None
    with pytest.raises(InvalidInputError, match="render_mode"):
        make("jpeg")


def test_the_axis_of_gains_is_found_once_an_episode(monkeypatch):
    found = []
    monkeypatch.setattr(viewer, "gain_range_db", lambda world: found.append(world.seed) or gain_range_db(world))
    env = make()
    for episode in (1, 2):
        run(env, 2, seed=episode)
        for _ in range(3):
            env.render()
        assert len(found) == episode


def test_a_new_episode_forgets_the_old_one():
    env, fresh = make(), make()
    run(env, 12, seed=1)
    for one in (env, fresh):
        one.reset(options={"world_seed": 5})
    np.testing.assert_array_equal(env.render(), fresh.render())
    for one in (env, fresh):
        one.step(np.zeros(6, np.float32))
    np.testing.assert_array_equal(env.render(), fresh.render())


def test_rendering_leaves_the_episode_alone():
    plain, seen = make(None), make()
    for env in (plain, seen):
        env.action_space.seed(0)
        env.reset(seed=0)
    for _ in range(20):
        seen.render()
        assert plain.step(plain.action_space.sample())[4] == seen.step(seen.action_space.sample())[4]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])  # noqa: S301
def test_copies_show_the_same(duplicate):
    env = make()
    run(env, 5)
    env.render()
    twin = duplicate(env)
    np.testing.assert_array_equal(env.render(), twin.render())
    for one in (env, twin):
        one.step(np.zeros(6, np.float32))
    np.testing.assert_array_equal(env.render(), twin.render())


def test_window_opens_updates_and_closes(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame = pytest.importorskip("pygame")
    env = make("human")
    env.metadata = env.metadata | {"render_fps": 1000}
    env.reset(seed=0)
    assert pygame.display.get_init()
    assert pygame.display.get_surface().get_size() == (960, 640)
    env.step(np.zeros(6, np.float32))
    assert env.render() is None
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    still = make()
    still.reset(seed=0)
    still.step(np.zeros(6, np.float32))
    np.testing.assert_array_equal(shown, still.render())
    twin = copy.deepcopy(env)
    assert twin.render() is None
    env.close()
    assert not pygame.display.get_init()
    env.close()


@pytest.mark.parametrize(
    ("mode", "module", "package"), [("rgb_array", "PIL", "pillow"), ("human", "pygame", "pygame-ce")]
)
def test_missing_packages_are_named(monkeypatch, mode, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    env = make(mode)
    with pytest.raises(DependencyNotInstalled, match=f"pip install {package}"):
        run_and_render(env)


def test_text_needs_no_package(monkeypatch):
    for module in ("PIL", "pygame"):
        monkeypatch.setitem(sys.modules, module, None)
    env = make("ansi")
    env.reset(seed=0)
    assert "bert-multimodal" in env.render()


def test_the_parts_of_the_energy_and_the_capped_rate_are_told():
    physics = {
        "static_power_device": 0.2,
        "static_power_server": 2.0,
        "waiting_power_device": 0.1,
        "circuit_power": 0.3,
    }
    env = make("ansi", channel="constant", delay_budget=30.0, energy_budget=30.0, rate_max=1.5e6, **physics)
    middle = np.array([0.0, -1.0, -1.0, 1.0, 1.0, 1.0], np.float32)
    info = run(env, 1, policy=lambda _: middle)
    text = env.render()
    for name, key in (
        ("device static", "static_device"),
        ("circuits", "circuit"),
        ("waiting", "waiting"),
        ("server static", "static_server"),
    ):
        assert f"{name} {info[f'energy_{key}_j']:.4f}" in text
    assert "at 1.50 Mbit/s" in text
