"""The world of an episode: arrivals, channel and budgets, drawn at reset from one 64-bit seed, whatever the agent does.

``draw(scenario, world_seed)`` shows the world that an environment meets in the episode of that seed; inside compiled
loops `draw_world` fills one lane. What a world is drawn from are the scenario's constants (`build_world_tables`) and,
where it says so, recorded traces (`load_channel_trace`, `load_arrival_trace`).
"""

from coinfer_gym.world.belief import GainBelief, GainPosterior
from coinfer_gym.world.channel import block_at
from coinfer_gym.world.generator import (
    WORLD,
    World,
    WorldTables,
    build_world_tables,
    draw,
    draw_world,
    gain_db_range,
    mean_arrival_rate,
)
from coinfer_gym.world.random import CSI, DEVICE, DISTANCE, normal_at, substream, uniform
from coinfer_gym.world.traces import load_arrival_trace, load_channel_trace

__all__ = [
    "CSI",
    "DEVICE",
    "DISTANCE",
    "WORLD",
    "GainBelief",
    "GainPosterior",
    "World",
    "WorldTables",
    "block_at",
    "build_world_tables",
    "draw",
    "draw_world",
    "gain_db_range",
    "load_arrival_trace",
    "load_channel_trace",
    "mean_arrival_rate",
    "normal_at",
    "substream",
    "uniform",
]
