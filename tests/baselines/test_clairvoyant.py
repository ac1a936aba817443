"""The clairvoyant optimum: no policy exceeds the upper bound, the lower one is earned, a search agrees."""

import itertools

import gymnasium as gym
import numpy as np
import pytest

from baselines.clairvoyant import ClairvoyantPolicy, clairvoyant_optimum
from baselines.farsighted import QueueBudget, Slowdown
from baselines.rules import MyopicExact, RandomPolicy
from coinfer_gym import InvalidInputError, load_scenario, solve_exact_batch
from coinfer_gym.world import draw

LAIM = "coinfer_gym/LAIM-v0"
CHANNEL = {"block_duration": 0.5, "doppler": 0.5}

WORLDS = {
    "bursts": {"tasks": 8, "arrival_rate": 4.0, "burst_rate": 20.0},
    "poisson": {"tasks": 8, "arrivals": "poisson", "arrival_rate": 3.0},
    "periodic": {"tasks": 8, "arrivals": "periodic", "arrival_rate": 2.5},
    "full queue": {"tasks": 10, "arrivals": "poisson", "arrival_rate": 12.0, "queue_capacity": 2},
    "impatient": {"tasks": 8, "arrivals": "poisson", "arrival_rate": 6.0, "patience": 1.0},
    "short blocks": {"tasks": 8, "arrivals": "poisson", "arrival_rate": 4.0, "block_duration": 0.03, "doppler": 3.0},
    "constant": {"tasks": 8, "arrivals": "poisson", "arrival_rate": 4.0, "channel": "constant"},
    "slow decisions": {"tasks": 8, "arrivals": "poisson", "arrival_rate": 6.0, "retained_device_min": 0.4},
    "magnitude": {"tasks": 6, "arrivals": "poisson", "arrival_rate": 4.0, "quality": "magnitude_pruning"},
    "one at a time": {"tasks": 6, "arrivals": "one_at_a_time"},
    "budgets": {"tasks": 6, "delay_budget_range": (0.2, 1.2), "energy_budget_range": (0.02, 0.2), "arrival_rate": 5.0},
    "battery": {
        "tasks": 5,
        "arrivals": "poisson",
        "arrival_rate": 3.0,
        "battery_capacity": 0.3,
        "battery_initial": 0.4,
        "harvest_power": 0.03,
    },
}


def play(env, policy, seed):
    """Mean delivered quality per task."""
    policy.seed(seed)
    observation, _ = env.reset(seed=seed)
    total, state, start, ended = 0.0, None, np.ones(1, np.bool_), False
    while not ended:
        action, state = policy.predict(observation, state=state, episode_start=start)
        observation, _, _, ended, info = env.step(action)
        total += info["delivered"]
        start = np.zeros(1, np.bool_)
    return total / env.unwrapped.scenario.tasks


def assert_bounds_hold(kind, seeds, steps):
    env = gym.make(LAIM, **CHANNEL | WORLDS[kind])
    rules = [RandomPolicy(3), MyopicExact(env), QueueBudget(env, share=0.3, least=0.1), Slowdown(env, fraction=0.7)]
    clairvoyant = ClairvoyantPolicy(env, steps=steps)
    for seed in seeds:
        env.reset(seed=seed)
        result = clairvoyant_optimum(env.unwrapped.scenario, env.unwrapped.world(), steps)
        assert max(play(env, rule, seed) for rule in rules) <= result.upper + 1e-9
        assert play(env, clairvoyant, seed) == pytest.approx(result.lower, abs=2e-5)
        assert result.lower <= result.upper


@pytest.mark.parametrize("kind", WORLDS)
def test_no_policy_exceeds_the_upper_bound_and_the_lower_one_is_earned(kind):
    assert_bounds_hold(kind, range(1 if kind == "battery" else 6), steps=60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", WORLDS)
def test_bounds_hold_in_many_worlds(kind):
    assert_bounds_hold(kind, range(100, 105 if kind == "battery" else 200), steps=40)


@pytest.mark.parametrize("kind", [kind for kind in WORLDS if kind not in ("battery", "full queue")])
def test_the_bounds_are_close(kind):
    scenario = load_scenario("bert-multimodal", **CHANNEL | WORLDS[kind])
    results = [clairvoyant_optimum(scenario, draw(scenario, seed)) for seed in range(4)]
    assert sum(result.upper - result.lower for result in results) < 0.005 * sum(result.upper for result in results)


@pytest.mark.parametrize("seed", range(3))
def test_tiny_worlds_agree_with_exhaustive_search(seed):
    poisson = {"tasks": 3, "arrivals": "poisson", "arrival_rate": 6.0}
    scenario = load_scenario("bert-multimodal", **poisson, block_duration=0.2, doppler=1.0)
    world = draw(scenario, seed)
    result = clairvoyant_optimum(scenario, world)
    searched = search_exhaustively(scenario, world, 60) / 3
    assert searched <= result.upper + 1e-9
    assert searched == pytest.approx(result.lower, rel=5e-3)


def search_exhaustively(scenario, world, choices):
    """Best sum of qualities over all combinations of `choices` service times per task, by the environment's rules."""
    clocks, totals = np.zeros(1), np.zeros(1)
    for arrival in world.arrivals:
        starts = np.maximum(clocks, arrival)
        lost = arrival + world.delay_budget <= starts
        left = np.maximum(arrival + world.delay_budget - starts, 0.0)
        shares = np.linspace(0.0, 1.0, choices)
        delays = 0.036 + np.maximum(left - 0.036, 0.0)[:, None] * shares  # 36 ms: hardly more than the fastest decision
        gains = np.array([world.gain_at(start) for start in starts])
        budgets = np.broadcast_to(world.energy_budget, delays.shape)
        rows = solve_exact_batch(
            scenario.problem(1.0),
            np.repeat(gains, choices).reshape(delays.shape),
            delays,
            budgets.copy(),
            parallel=False,
        )
        quality = np.where((rows["reason"] == 0) & (delays <= left[:, None] + 1e-9), rows["quality"], 0.0)
        ends = np.where(lost[:, None], clocks[:, None], starts[:, None] + delays).ravel()
        earned = (totals[:, None] + np.where(lost[:, None], 0.0, quality)).ravel()
        clocks, totals = _undominated(ends, earned)
    return totals.max()


def _undominated(clocks, totals):
    """Of paths that end in the same two milliseconds the two best: enough of them, and not millions."""
    order = np.lexsort((-totals, np.round(clocks / 0.002)))
    cells = np.round(clocks[order] / 0.002)
    keep = np.ones(len(order), np.bool_)
    keep[2:] = cells[2:] != cells[:-2]
    return clocks[order][keep], totals[order][keep]


def test_schedule():
    scenario = load_scenario("bert-multimodal", tasks=30)
    world = draw(scenario, 5)
    result = clairvoyant_optimum(scenario, world)
    assert result.lower == pytest.approx(sum(service.quality for service in result.schedule) / 30)
    for before, after in itertools.pairwise(result.schedule):
        assert after.task > before.task
        assert after.start >= before.start + before.delay - 1e-9
    for service in result.schedule:
        assert service.start >= world.arrivals[service.task]
        assert service.gain == world.gain_at(service.start)
    with pytest.raises(InvalidInputError, match="steps"):
        clairvoyant_optimum(scenario, world, steps=1)


def test_a_battery_has_a_price():
    rich = load_scenario("bert-multimodal", tasks=5)
    poor = load_scenario("bert-multimodal", tasks=5, battery_capacity=0.05, battery_initial=0.5)
    free, dear = (clairvoyant_optimum(scenario, draw(scenario, 3), steps=60) for scenario in (rich, poor))
    assert dear.upper < free.lower
    assert free.energy_price == 0.0 < dear.energy_price
