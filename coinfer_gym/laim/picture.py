"""What the viewer shows of LAIM-v0."""

from __future__ import annotations

import math

import numpy as np

from coinfer_gym.envs.subjects import Depiction, Info, Subject, side_text
from coinfer_gym.laim.scenario import Scenario

_OVERHEADS = (
    ("device static", 0, "energy_static_device_j"),
    ("circuits", 1, "energy_circuit_j"),
    ("waiting", 1, "energy_waiting_j"),
    ("server static", 2, "energy_static_server_j"),
)


class LAIMSubject(Subject):
    """LAIM-v0: blocks of a workload, a retained ratio on each side of the cut.

    Parameters
    ----------
    scenario : Scenario
    """

    title = "LAIM-v0"
    fill = "weights"
    limits = ("both budgets", "a budget")

    def __init__(self, scenario: Scenario) -> None:
        workload = scenario.workload
        super().__init__(scenario, workload.name, np.array([block.flops for block in workload.blocks]))
        self._upload_bits = workload.upload_bits
        self._snr_gap, self._rate_max = scenario.snr_gap, scenario.rate_max or math.inf

    def depict(self, info: Info) -> Depiction:
        """Each block keeps what its side does."""
        cut = int(info["cut"])
        device, server = info["retained_device"], info["retained_server"]
        return Depiction(
            kept=(device,) * cut + (server,) * (len(self.flops) - cut),
            device=side_text(device, "", info["frequency_device_hz"]),
            server=side_text(server, "", info["frequency_server_hz"]),
            upload_bits=float(self._upload_bits[cut]),
            overheads=tuple((name, stage, info[key]) for name, stage, key in _OVERHEADS if info[key] > 0.0),
        )

    def rate(self, info: Info) -> float:
        """Rate of the link in bit/s: with its SNR gap, and no more than its highest."""
        rate = super().rate({**info, "gain_db": info["gain_db"] - 10.0 * math.log10(self._snr_gap)})
        return min(rate, self._rate_max)
