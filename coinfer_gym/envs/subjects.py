"""What the viewer shows of each environment's decisions: the network, what is kept of it, what is sent, and limits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from coinfer_gym.scenario import WorldScenario

Info = dict[str, Any]


@dataclass(frozen=True)
class Depiction:
    """How one decision is shown.

    Attributes
    ----------
    kept : tuple of float
        Share in [0, 1] that is kept of each unit.
    device, server : str
        What the sides keep and how they are clocked.
    upload_bits : float
        Size of the upload in bit.
    compression : float
        Share in (0, 1] of the feature's values that an encoder sends; 1 where there is none.
    accuracy : float, optional
        What is predicted, in environments that set a least accuracy.
    remarks : tuple of str
        Further lines of the text.
    """

    kept: tuple[float, ...]
    device: str
    server: str
    upload_bits: float
    compression: float = 1.0
    accuracy: float | None = None
    remarks: tuple[str, ...] = ()


class Subject(ABC):
    """An environment as the viewer sees it; each environment has its own subclass.

    Parameters
    ----------
    scenario : WorldScenario
    network : str
        Name of the network.
    flops : ndarray, shape (N,)
        FLOPs of each block, unpruned.
    accuracy_min : float, optional
        Least accuracy, where there is one.
    """

    title: ClassVar[str]
    fill: ClassVar[str]
    """What the kept shares are shares of."""
    limits: ClassVar[tuple[str, str]]
    """The limits of a task, all of them and one of them."""

    def __init__(
        self, scenario: WorldScenario, network: str, flops: NDArray[np.float64], accuracy_min: float | None = None
    ) -> None:
        self.scenario = scenario
        self.network = network
        self.flops = flops
        self.accuracy_min = accuracy_min

    @abstractmethod
    def depict(self, info: Info) -> Depiction:
        """How the decision of an info is shown."""


def side_text(kept: float | None, of: str, frequency: float) -> str:
    """Share and clock of a side; it is idle where it has nothing to keep a share of."""
    return "idle" if kept is None else f"keeps {100.0 * kept:.0f} %{of} at {1e-9 * frequency:.2f} GHz"
