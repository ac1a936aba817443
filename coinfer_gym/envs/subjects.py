"""What the viewer shows of a decision: the network, how much of it is kept, what is sent, and the limits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from coinfer_gym.physics import from_db, transmission_rate
from coinfer_gym.scenario import WorldScenario

Info = dict[str, Any]


@dataclass(frozen=True)
class Depiction:
    """What to show of one decision.

    Attributes
    ----------
    kept : tuple of float
        Share in [0, 1] of each unit that is kept.
    device, server : str
        Text on what each side keeps and on its clock.
    upload_bits : float
        Size of the upload in bit.
    compression : float
        Share in (0, 1] of the feature's values that the encoder sends; 1 without an encoder.
    accuracy : float, optional
        Predicted accuracy, in environments with a least accuracy.
    overheads : tuple of (str, int, float)
        Parts of the energy beside computing and radiating: what each is, whether the device's (0), the upload's (1) or
        the server's (2), and its joules.
    remarks : tuple of str
        Further lines of text.
    """

    kept: tuple[float, ...]
    device: str
    server: str
    upload_bits: float
    compression: float = 1.0
    accuracy: float | None = None
    overheads: tuple[tuple[str, int, float], ...] = ()
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
        Least accuracy, if the environment has one.
    """

    title: ClassVar[str]
    fill: ClassVar[str]
    """The quantity of which `Depiction.kept` gives shares."""
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
        """What to show of the decision that an ``info`` describes."""

    def rate(self, info: Info) -> float:
        """Rate of the link in bit/s at the power of the decision."""
        s = self.scenario
        return transmission_rate(info["power_w"], from_db(info["gain_db"]), s.bandwidth, s.noise_density)


def side_text(kept: float | None, of: str, frequency: float) -> str:
    """Text on the share and the clock of a side; ``"idle"`` if it computes nothing."""
    return "idle" if kept is None else f"keeps {100.0 * kept:.0f} %{of} at {1e-9 * frequency:.2f} GHz"
