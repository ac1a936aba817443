"""A small instance of P1 for the tests of the optimizers."""

from coinfer_gym.laim.problem import Problem
from coinfer_gym.laim.workload import Block, Workload

RATES = (25.0, 40.0, 60.0, 90.0)

RESTRICTED = [
    ({"power_min": 0.3}, "power", 0.3),
    ({"frequency_device_min": 1e9, "frequency_device_max": 1e9}, "frequency_device", 1e9),
    ({"frequency_server_min": 1e9, "frequency_server_max": 1e9}, "frequency_server", 1e9),
    ({"retained_device_min": 1.0, "delay_budget": 0.2, "energy_budget": 0.4}, "retained_device", 1.0),
    ({"retained_server_min": 1.0, "delay_budget": 0.1, "energy_budget": 0.7}, "retained_server", 1.0),
]
"""Bounds that leave a control no choice, the control, and its value."""

PHYSICS = {
    "static_power_device": 0.5,
    "static_power_server": 3.0,
    "waiting_power_device": 0.2,
    "circuit_power": 0.4,
    "amplifier_efficiency": 0.4,
    "rate_max": 4e7,
    "snr_gap": 2.0,
    "round_trip": 2e-3,
    "memory_bandwidth_device": 4e8,
    "memory_bandwidth_server": 2e9,
    "memory_capacity_device": 1.1e7,
    "memory_capacity_server": 6e7,
    "sparsity_gain": 0.8,
    "delay_budget": 0.16,
    "energy_budget": 0.25,
}
"""Every constant beyond the paper's model, and budgets at which all but the server's capacity matter at cut 2."""


def small_problem(**changes):
    """Four blocks of a transformer's size whose budgets bind at every cut."""
    blocks = tuple(Block(f"layer{j}", 1.9e9, 7_000_000 + 1_000_000 * j, 3.1e6, rate) for j, rate in enumerate(RATES, 1))
    values = {
        "workload": Workload("small", 4.8e6, blocks),
        "gain": 1e-10,
        "delay_budget": 0.065,
        "energy_budget": 0.16,
        "bandwidth": 10e6,
        "noise_density": 3.2e-20,
        "power_max": 0.3,
        "flops_per_cycle_device": 32.0,
        "flops_per_cycle_server": 128.0,
        "frequency_device_max": 2e9,
        "frequency_server_max": 3e9,
        "pue_device": 1.0,
        "pue_server": 1.4,
        "kappa_device": 1e-27,
        "kappa_server": 3e-27,
    }
    return Problem(**(values | changes))
