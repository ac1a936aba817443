"""What the viewer shows of LAIM-v0."""

from __future__ import annotations

import numpy as np

from coinfer_gym.envs.subjects import Depiction, Info, Subject, side_text
from coinfer_gym.laim.scenario import Scenario


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

    def depict(self, info: Info) -> Depiction:
        """Each block keeps what its side does."""
        cut = int(info["cut"])
        device, server = info["retained_device"], info["retained_server"]
        return Depiction(
            kept=(device,) * cut + (server,) * (len(self.flops) - cut),
            device=side_text(device, "", info["frequency_device_hz"]),
            server=side_text(server, "", info["frequency_server_hz"]),
            upload_bits=float(self._upload_bits[cut]),
        )
