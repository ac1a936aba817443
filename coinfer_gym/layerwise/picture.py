"""What the viewer shows of Layerwise-v0."""

from __future__ import annotations

from coinfer_gym.envs.subjects import Depiction, Info, Subject, side_text
from coinfer_gym.layerwise.scenario import LayerwiseScenario


class LayerwiseSubject(Subject):
    """Layerwise-v0: the blocks of a network, the channels they keep, and the encoder at the cut."""

    title = "Layerwise-v0"
    blocks = "blocks"
    fill = "channels"
    limits = ("all limits", "a limit")

    def __init__(self, scenario: LayerwiseScenario) -> None:
        network = scenario.network
        super().__init__(scenario, network.name, network.block_flops(), scenario.accuracy_min)
        self._layers = network
        self._value_bits = (scenario.input_value_bits, scenario.feature_value_bits)
        self._frequency_server = scenario.frequency_server

    def depict(self, info: Info) -> Depiction:
        """Fill each block to the share of output channels it keeps, and each side's text with its share of FLOPs."""
        network, cut = self._layers, int(info["cut"])
        retained = [info[f"retained_{group.name}"] for group in network.groups]
        kept = network.kept(retained)
        shares = {
            group.name: count / group.channels for group, count in zip(network.groups, kept.tolist(), strict=True)
        }
        left = network.block_flops(retained)
        device, server = (
            float(left[side].sum() / self.flops[side].sum()) if self.flops[side].size else None
            for side in (slice(cut), slice(cut, None))
        )
        sent, values = info["sent_values"], float(network.upload_values(retained)[cut])
        compression = sent / values if values > 0.0 else 1.0
        accuracy = info["accuracy"]
        names = "  ".join(f"{name} {100.0 * share:.0f} %" for name, share in shares.items())
        return Depiction(
            kept=tuple(shares.get(str(block.outputs), 1.0) for block in network.blocks),
            device=side_text(device, " of its FLOPs", info["frequency_device_hz"]),
            server=side_text(server, " of its FLOPs", self._frequency_server),
            upload_bits=sent * self._value_bits[cut > 0],
            compression=compression,
            accuracy=accuracy,
            remarks=(
                f"kept    {names}   sent {sent:.0f} of {values:.0f} values",
                f"accuracy {accuracy:.4f} of at least {self.accuracy_min:.4f}",
            ),
        )
