"""What the viewer shows of each environment's decisions: the network, what is kept of it, what is sent, and limits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from coinfer_gym.layerwise.scenario import LayerwiseScenario
from coinfer_gym.scenario import Scenario, WorldScenario

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
        FLOPs of each unit, unpruned.
    accuracy_min : float, optional
        Least accuracy, where there is one.
    """

    title: ClassVar[str]
    units: ClassVar[str]
    """What the network's units are called."""
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


class LAIMSubject(Subject):
    """LAIM-v0: blocks of a workload, a retained ratio on each side of the cut.

    Parameters
    ----------
    scenario : Scenario
    """

    title = "LAIM-v0"
    units = "blocks"
    fill = "weights"
    limits = ("both budgets", "a budget")

    def __init__(self, scenario: Scenario) -> None:
        workload = scenario.workload
        super().__init__(scenario, workload.name, np.array([block.flops for block in workload.blocks]))
        self._upload_bits = workload.upload_bits

    def depict(self, info: Info) -> Depiction:
        """Each block keeps what its side does."""
        cut = int(info["cut"])
        device, server = info["retained_device"], info["retained_server"]
        return Depiction(
            kept=(device,) * cut + (server,) * (len(self.flops) - cut),
            device=_side(device, "", info["frequency_device_hz"]),
            server=_side(server, "", info["frequency_server_hz"]),
            upload_bits=float(self._upload_bits[cut]),
        )


class LayerwiseSubject(Subject):
    """Layerwise-v0: units of a network, a retained ratio for each group of layers, an encoder at the cut.

    Parameters
    ----------
    scenario : LayerwiseScenario
    """

    title = "Layerwise-v0"
    units = "units"
    fill = "channels"
    limits = ("all limits", "a limit")

    def __init__(self, scenario: LayerwiseScenario) -> None:
        network = scenario.network
        super().__init__(scenario, network.name, network.unit_flops(), scenario.accuracy_min)
        self._layers = network
        self._value_bits = (scenario.input_value_bits, scenario.feature_value_bits)
        self._frequency_server = scenario.frequency_server

    def depict(self, info: Info) -> Depiction:
        """A unit keeps the channels of the group that it hands on; a side's share of FLOPs is that of its units."""
        network, cut = self._layers, int(info["cut"])
        retained = [info[f"retained_{group.name}"] for group in network.groups]
        kept = network.kept(retained)
        shares = {
            group.name: count / group.channels for group, count in zip(network.groups, kept.tolist(), strict=True)
        }
        left = network.unit_flops(retained)
        device, server = (
            float(left[side].sum() / self.flops[side].sum()) if self.flops[side].size else None
            for side in (slice(cut), slice(cut, None))
        )
        sent, values = info["sent_values"], float(network.values(retained)[cut])
        compression = sent / values if values > 0.0 else 1.0
        accuracy = info["accuracy"]
        names = "  ".join(f"{name} {100.0 * share:.0f} %" for name, share in shares.items())
        return Depiction(
            kept=tuple(shares.get(str(unit.outputs), 1.0) for unit in network.units),
            device=_side(device, " of its FLOPs", info["frequency_device_hz"]),
            server=_side(server, " of its FLOPs", self._frequency_server),
            upload_bits=sent * self._value_bits[cut > 0],
            compression=compression,
            accuracy=accuracy,
            remarks=(
                f"kept    {names}   sent {sent:.0f} of {values:.0f} values",
                f"accuracy {accuracy:.4f} of at least {self.accuracy_min:.4f}",
            ),
        )


def _side(kept: float | None, of: str, frequency: float) -> str:
    """Share and clock of a side; it is idle where it has nothing to keep a share of."""
    return "idle" if kept is None else f"keeps {100.0 * kept:.0f} %{of} at {1e-9 * frequency:.2f} GHz"
