"""Problems of the layerwise world with predictors of made-up measurements."""

import math
from functools import cache

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor

from coinfer_gym.layerwise.network import load_network
from coinfer_gym.layerwise.predictor import RegressionPredictor, feature_names
from coinfer_gym.layerwise.problem import LayerwiseProblem
from studies.mu.cifar.fit import additive
from studies.mu.cifar.teacher import features_of

UNPRUNED = 0.86
POWER_MAX, BANDWIDTH, NOISE_DENSITY = 0.2, 3.86e6, 2e-20


def gain_of(rate):
    """Gain with which full power has a rate in bit/s."""
    return (2.0 ** (rate / BANDWIDTH) - 1.0) * NOISE_DENSITY * BANDWIDTH / POWER_MAX


@cache
def synthetic_predictor(name, points=600, trees=120, seed=0):
    """Trees fitted to ``0.86 prod_g (1 - a_g (1 - r_g)^4)`` minus a loss that rises as the values sent fall."""
    network, generator = load_network(name), np.random.default_rng(seed)
    groups = len(network.groups)
    losses = 0.02 + 0.1 * generator.random(groups)
    retained = np.where(generator.random((points, groups)) < 0.7, generator.uniform(0.1, 1.0, (points, groups)), 1.0)
    cuts = generator.integers(0, network.cuts, points)
    shares = np.where(generator.random(points) < 0.7, 1024.0 ** -generator.random(points), 1.0)
    rows = features_of(network, np.column_stack([cuts, retained, shares, np.ones((points, 2))]))
    kept, sent = rows[:, :groups], rows[:, -1]
    codec = np.where(rows[:, -2] < 1.0, 0.004 * np.maximum(0.0, 10.0 - sent) + 0.001, 0.0)
    accuracies = UNPRUNED * np.prod(1.0 - losses * (1.0 - kept) ** 4, axis=1) - codec
    fitted = GradientBoostingRegressor(n_estimators=trees, max_depth=3, random_state=seed).fit(rows, accuracies)
    names = feature_names([group.name for group in network.groups], noisy=False)
    base, coefficients, tests, numbers = additive(fitted)
    return RegressionPredictor(
        "made up", name, UNPRUNED, names, "GradientBoosting", {}, base, coefficients, tests, numbers
    )


def synthetic_problem(name="alexnet", rate=11.22e6, gflops=0.2, **changes):
    """A Raspberry Pi 3B+ and a Tesla P100 over 4G, and an accuracy of 2 % less than the unpruned network's."""
    settings = {
        "network": load_network(name),
        "predictor": synthetic_predictor(name),
        "gain": gain_of(rate),
        "delay_budget": math.inf,
        "energy_budget": math.inf,
        "accuracy_min": UNPRUNED - 0.02,
        "flops_per_cycle_device": gflops * 1e9 / 1.4e9,
        "flops_per_cycle_server": 10.6e12 / 1.328e9,
        "frequency_device_min": 0.6e9,
        "frequency_device_max": 1.4e9,
        "frequency_server": 1.328e9,
        "pue_device": 1.0,
        "pue_server": 1.0,
        "kappa_device": 3.5 / 1.4e9**3,
        "kappa_server": 250.0 / 1.328e9**3,
        "bandwidth": BANDWIDTH,
        "noise_density": NOISE_DENSITY,
        "power_min": 0.01,
        "power_max": POWER_MAX,
        "input_value_bits": 32.0,
        "feature_value_bits": 32.0,
        "retained_min": 0.1,
    }
    return LayerwiseProblem(**(settings | changes))
