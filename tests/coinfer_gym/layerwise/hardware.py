"""A small device, server and link that the tests of this folder share."""

CONSTANTS = {
    "flops_per_cycle_device": 0.25,
    "flops_per_cycle_server": 8.0,
    "frequency_device_min": 1e4,
    "frequency_device_max": 1e6,
    "frequency_server": 3e6,
    "pue_device": 1.1,
    "pue_server": 1.4,
    "kappa_device": 2e-18,
    "kappa_server": 3e-19,
    "bandwidth": 2e5,
    "noise_density": 1e-9,
    "power_min": 0.01,
    "power_max": 0.5,
    "input_value_bits": 8.0,
    "feature_value_bits": 32.0,
    "retained_min": 0.1,
}
