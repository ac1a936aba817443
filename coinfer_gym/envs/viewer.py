"""What an environment looks like: the last decision as a picture, in a window, or as a block of text."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coinfer_gym.envs.canvas import HEIGHT, WIDTH, missing_extra
from coinfer_gym.envs.moment import Moment, is_decided
from coinfer_gym.envs.panels import paint
from coinfer_gym.envs.subjects import Info, Subject
from coinfer_gym.envs.text import write_text_block
from coinfer_gym.world import World


class Viewer:
    """Shows an episode of one environment; it remembers the stretch of the episode that the picture spans.

    Parameters
    ----------
    subject : Subject
        The environment as it is shown.
    fps : float
        Frames per second of the window.
    """

    def __init__(self, subject: Subject, fps: float) -> None:
        self._subject = subject
        scenario = subject.scenario
        self._screen = Screen(f"{subject.title}: {scenario.name}", fps)
        self._span = max(24.0 * scenario.delay_budget, 32.0 * scenario.block_duration)
        self._world: World | None = None
        self._gain_range = (0.0, 1.0)
        self._notes: deque[Info] = deque()
        self._decisions = 0

    def restart(self) -> None:
        """Forget the episode: a new one begins."""
        self._world = None
        self._notes.clear()
        self._decisions = 0

    def note(self, info: Info, world: Callable[[], World]) -> None:
        """Take in what a reset or a step told.

        Parameters
        ----------
        info : dict of float
            As the environment tells it; its decision is zeros at a reset.
        world : callable
            Gives the world of the episode; called once an episode.
        """
        if self._world is None:
            self._world = world()
            self._gain_range = gain_range_db(self._world)
        self._notes.append(info)
        self._decisions += is_decided(info)
        while self._notes[0]["time_s"] < info["time_s"] - self._span:
            self._notes.popleft()

    def draw(self, mode: str) -> str | NDArray[np.uint8] | None:
        """Show the last decision.

        Parameters
        ----------
        mode : {"ansi", "rgb_array", "human"}

        Returns
        -------
        str, ndarray of uint8 with shape (640, 960, 3), or None
            Text, picture, or nothing where a window shows the picture.

        Raises
        ------
        gymnasium.error.DependencyNotInstalled
            If Pillow is missing for a picture, or pygame for a window.
        """
        if mode == "ansi":
            return write_text_block(self._state())
        return self._screen.show(paint(self._state()), mode)

    def _state(self) -> Moment:
        assert self._world is not None, "note() comes before draw()"
        return Moment(self._subject, self._world, self._gain_range, list(self._notes), self._decisions, self._span)

    def close(self) -> None:
        """Close the window, if there is one."""
        self._screen.close()


class Screen:
    """Where pictures go: to the caller, or into a window, which opens with the first.

    Parameters
    ----------
    title : str
        Of the window.
    fps : float
        Frames per second of the window.
    """

    def __init__(self, title: str, fps: float) -> None:
        self._title, self._fps = title, fps
        self._window: _Window | None = None

    def show(self, picture: NDArray[np.uint8], mode: str) -> NDArray[np.uint8] | None:
        """The picture in mode ``rgb_array``; in mode ``human`` a window shows it."""
        if mode == "rgb_array":
            return picture
        if self._window is None:
            self._window = _Window(self._title, self._fps)
        self._window.show(picture)
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_window": None}


class _Window:
    """A pygame window of the picture's size."""

    def __init__(self, title: str, fps: float) -> None:
        try:
            import pygame
        except ImportError as error:
            raise missing_extra("pygame", "pygame-ce") from error
        self._pygame = pygame
        self._fps = fps
        pygame.display.init()
        pygame.display.set_caption(title)
        self._screen = pygame.display.set_mode((WIDTH, HEIGHT))
        self._clock = pygame.time.Clock()

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show a picture, no more often than `fps` times a second."""
        surface = self._pygame.image.frombuffer(picture.tobytes(), (WIDTH, HEIGHT), "RGB")
        self._screen.blit(surface, (0, 0))
        self._pygame.event.pump()
        self._pygame.display.flip()
        self._clock.tick(self._fps)

    def close(self) -> None:
        self._pygame.display.quit()


def gain_range_db(world: World) -> tuple[float, float]:
    """Bounds in dB of the axis of gains: of the episode's path, outages aside, and not too narrow."""
    gains = 10.0 * np.log10(world.gains)
    low, high = float(np.quantile(gains, 0.005)), float(gains.max())
    margin = max(0.05 * (high - low), 0.5 * (6.0 - (high - low)))
    return low - margin, high + margin
