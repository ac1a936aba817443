"""What an environment looks like: the last decision as a picture, in a window, or as a block of text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coinfer_gym.envs.canvas import HEIGHT, WIDTH, missing_extra
from coinfer_gym.envs.moment import Moment, gain_range_db, is_decided
from coinfer_gym.envs.panels import paint
from coinfer_gym.envs.subjects import Info, Subject
from coinfer_gym.envs.text import write_text_block
from coinfer_gym.world import World


class EpisodeViewer(ABC):
    """Shows an episode; it remembers the stretch of the episode that the picture needs.

    Parameters
    ----------
    title : str
        Of the window.
    fps : float
        Frames per second of the window.
    memory : float
        Seconds of the episode that are remembered.
    """

    def __init__(self, title: str, fps: float, memory: float) -> None:
        self._screen = Screen(title, fps)
        self._memory = memory
        self._notes: deque[Info] = deque()
        self._decisions = 0

    def restart(self) -> None:
        """Forget the episode: a new one begins."""
        self._notes.clear()
        self._decisions = 0

    def note(self, info: Info, world: Callable[..., World]) -> None:
        """Take in what a reset or a step told.

        Parameters
        ----------
        info : dict of float
            As the environment tells it; its decision is zeros at a reset.
        world : callable
            Gives the world of the episode.
        """
        self._notes.append(info)
        self._decisions += is_decided(info)
        while self._notes[0]["time_s"] < info["time_s"] - self._memory:
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
        return self._text() if mode == "ansi" else self._screen.show(self._picture(), mode)

    def close(self) -> None:
        """Close the window, if there is one."""
        self._screen.close()

    @abstractmethod
    def _text(self) -> str:
        """The last decision in words."""

    @abstractmethod
    def _picture(self) -> NDArray[np.uint8]:
        """The last decision and what led to it."""


class Viewer(EpisodeViewer):
    """Shows an episode of one device.

    Parameters
    ----------
    subject : Subject
        The environment as it is shown.
    fps : float
        Frames per second of the window.
    """

    def __init__(self, subject: Subject, fps: float) -> None:
        self._subject, scenario = subject, subject.scenario
        span = max(24.0 * scenario.delay_budget, 32.0 * scenario.block_duration)
        super().__init__(f"{subject.title}: {scenario.name}", fps, span)
        self._world: World | None = None
        self._gain_range = (0.0, 0.0)

    def restart(self) -> None:
        """Forget the episode: a new one begins."""
        super().restart()
        self._world = None

    def note(self, info: Info, world: Callable[..., World]) -> None:
        """Take in what a reset or a step told, and the world once an episode."""
        if self._world is None:
            self._world = world()
            self._gain_range = gain_range_db(self._world)
        super().note(info, world)

    def _state(self) -> Moment:
        assert self._world is not None, "note() comes before draw()"
        notes = list(self._notes)
        return Moment(self._subject, self._world, self._gain_range, notes, self._decisions, self._memory)

    def _text(self) -> str:
        return write_text_block(self._state())

    def _picture(self) -> NDArray[np.uint8]:
        return paint(self._state())


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
