"""Pictures and texts of a cell: their form, and the shares and moments that they show."""

import pickle

import numpy as np
import pytest

from coinfer_gym.cell.env import CellEnv

pytest.importorskip("PIL")

BLUE, ORANGE = (0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00)  # of the devices 0 and 1
BAND, SERVER = (slice(58, 148), slice(92, 860)), (slice(174, 264), slice(92, 860))
ON_SERVER = [-1.0, -1.0, -1.0, -1.0, 1.0, 1.0]  # at the lowest power, so that the upload takes time


def make(mode="rgb_array", **overrides):
    return CellEnv(render_mode=mode, **({"tasks": 5} | overrides))


def height(picture, place, colour):
    """Most pixels of a colour in a column of a panel, as a share of its height."""
    return (picture[place] == np.array(colour)).all(axis=-1).sum(axis=0).max() / 90.0


@pytest.mark.parametrize(
    "overrides", [{}, {"scenario": "cell-mixed", "tasks": 2}, {"devices": 64, "tasks": 1}, {"devices": 1}]
)
def test_every_moment_has_a_picture(overrides):
    env = make(**overrides)
    env.action_space.seed(0)
    env.reset(seed=0)
    ended = False
    while not ended:
        picture = env.render()
        assert picture.shape == (640, 960, 3)
        assert picture.dtype == np.uint8
        ended = env.step(env.action_space.sample())[3]
    assert (env.render() != picture).any()


def test_held_shares_show_as_heights():
    env = make(scenario="bert-multimodal", channel="constant", devices=2, arrivals="one_at_a_time")
    env.reset(seed=0)
    assert height(env.render(), BAND, BLUE) == 0.0
    env.step(np.array([*ON_SERVER, 0.0, 0.5], np.float32))  # a quarter of the band, 0.5625 of the server
    assert height(env.render(), BAND, BLUE) == pytest.approx(0.25, abs=0.03)
    assert height(env.render(), SERVER, BLUE) == pytest.approx(0.5625, abs=0.03)
    env.step(np.array([*ON_SERVER, 1.0, 1.0], np.float32))  # the other takes the rest
    assert height(env.render(), BAND, ORANGE) == pytest.approx(0.75, abs=0.03)
    assert height(env.render(), SERVER, ORANGE) == pytest.approx(0.4375, abs=0.03)


def test_text_tells_who_took_what_and_what_it_gave():
    env = make("ansi")
    env.reset(seed=0)
    assert "takes" not in env.render()
    info = env.step(np.array([*ON_SERVER, 0.0, 0.0], np.float32))[4]
    text = env.render()
    for fact in (
        f"device {info['device']:.0f} (cell-4)",
        "decision 1 at",
        f"band {info['band']:.2f}   server {info['server']:.2f}   cut 0 of 12",
        f"delivered {info['delivered']:.3f}",
    ):
        assert fact in text


def test_a_window_opens_and_a_copy_has_none():
    pygame = pytest.importorskip("pygame")
    env = make("human")
    env.reset(seed=0)
    env.step(np.zeros(8, np.float32))
    assert pygame.display.get_surface().get_size() == (960, 640)
    other = pickle.loads(pickle.dumps(env))  # noqa: S301  one's own pickle
    env.close()
    assert pygame.display.get_surface() is None
    other.step(np.zeros(8, np.float32))
    assert pygame.display.get_surface() is not None  # the copy has opened its own
    other.close()
