"""The last decision as a block of text, for mode ``ansi``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coinfer_gym.envs.moment import Moment, excess_text

_SPARKS = "▁▂▃▄▅▆▇█"


def write_text_block(state: Moment) -> str:
    """The block of text of mode ``ansi``."""
    info, scenario = state.info, state.scenario
    lines = [
        f"{state.subject.title} {scenario.name}   decision {state.decisions}   t {state.now:.3f} s   {state.status}   "
        f"quality {info['quality']:.3f}   delivered {info['delivered']:.3f}",
        f"channel {info['gain_db']:.1f} dB   {_spark(state)}",
    ]
    if state.has_queue:
        lines.append(
            f"queue   {info['queue_length']:.0f} of {scenario.queue_capacity} waiting   lost {info['dropped']:.0f}"
        )
    if state.decided:
        size, rate = state.upload
        upload = f"{size} at {rate}, {state.power}" if state.depiction.upload_bits > 0.0 else "nothing to send"
        lines.append(
            f"cut     {state.cut} of {state.units}   device {state.depiction.device}   upload {upload}   "
            f"server {state.depiction.server}"
        )
        lines.extend(state.depiction.remarks)
    else:
        lines.append(f"cut     - of {state.units}")
    lines.append(_account("delay", state.delays, ("wait", "device", "upload", "server"), state.delay_budget, "s"))
    lines.append(_account("energy", state.energies, ("device", "upload", "server"), state.energy_budget, "J"))
    if state.depiction.overheads:
        parts = "  ".join(f"{name} {joules:.4f}" for name, _, joules in state.depiction.overheads)
        lines.append(f"of it   {parts} J")
    if scenario.battery_capacity is not None:
        lines.append(f"battery {info['battery_j']:.4f} of {scenario.battery_capacity:.4f} J before the task")
    return "\n".join(lines)


def _spark(state: Moment) -> str:
    """The channel of the time axis in one line, a bar marking the moment of the decision."""
    gains = state.gains_db(40)
    low, high = state.gain_range
    levels = np.clip((gains - low) / (high - low) * len(_SPARKS), 0, len(_SPARKS) - 1).astype(int)
    sparks = "".join(_SPARKS[level] for level in levels)
    here = int(40 * (state.now - state.start) / (state.end - state.start))
    return f"{sparks[:here]}|{sparks[here:]}"


def _account(name: str, parts: Sequence[float], names: Sequence[str], budget: float, unit: str) -> str:
    """One budget and what it was spent on."""
    total = sum(parts)
    filled = min(30, round(20 * total / budget))
    bar = "".join("|" * (place == 20) + ("#" if place < filled else ".") for place in range(30))
    spent = "  ".join(f"{part} {value:.4f}" for part, value in zip(names, parts, strict=True))
    return f"{name:<7} {total:.4f} of {budget:.4f} {unit}   [{bar}] {excess_text(total, budget):>6}   {spent}"
