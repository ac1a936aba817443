"""The clairvoyant optimum: no policy exceeds the upper bound, the lower one is earned, a search agrees."""

import itertools

import gymnasium as gym
import numpy as np
import pytest

from baselines import rollout
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
    "late gain": {"tasks": 8, "arrivals": "poisson", "arrival_rate": 4.0, "csi_delay": 0.5, "csi_noise_db": 1.0},
    "noisy gain": {"tasks": 6, "arrivals": "one_at_a_time", "csi_noise_db": 3.0},
    "budgets": {"tasks": 6, "delay_budget_range": (0.1, 0.8), "energy_budget_range": (0.3, 2.5), "arrival_rate": 8.0},
    "battery": {
        "tasks": 5,
        "arrivals": "poisson",
        "arrival_rate": 3.0,
        "battery_capacity": 4.0,
        "battery_initial": 0.4,
        "harvest_power": 0.4,
    },
}


def play(env, policy, seed):
    """Mean delivered quality per task."""
    [episode] = rollout.play(env, policy, [seed])
    return episode["delivered"].sum() / env.unwrapped.scenario.tasks


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
@pytest.mark.thorough
@pytest.mark.parametrize("kind", WORLDS)
def test_bounds_hold_in_many_worlds(kind):
    assert_bounds_hold(kind, range(100, 105 if kind == "battery" else 200), steps=40)


@pytest.mark.parametrize("kind", [kind for kind in WORLDS if kind not in ("battery", "full queue", "slow decisions")])
def test_the_bounds_are_close(kind):
    """Not where a queue of two overflows, nor where two fifths of the weights must stay: quality jumps there."""
    scenario = load_scenario("bert-multimodal", **CHANNEL | WORLDS[kind])
    results = [clairvoyant_optimum(scenario, draw(scenario, seed)) for seed in range(4)]
    assert sum(result.upper - result.lower for result in results) < 0.005 * sum(result.upper for result in results)


def test_a_schedule_is_that_of_the_environment_that_the_policy_is_bound_to():
    policy = ClairvoyantPolicy(steps=40)
    for delay_budget in (0.5, 0.7):  # the same seed of the world
        env = gym.make("coinfer_gym/LAIM-v0", tasks=15, delay_budget=delay_budget)
        [episode], [fresh] = (rollout.play(env, each.bind(env), [5]) for each in (policy, ClairvoyantPolicy(steps=40)))
        assert episode["delivered"] == pytest.approx(fresh["delivered"], abs=0.0)


POISSON = {"tasks": 3, "arrivals": "poisson", "arrival_rate": 6.0, "block_duration": 0.2, "doppler": 1.0}


@pytest.mark.parametrize("seed", range(3))
def test_tiny_worlds_agree_with_exhaustive_search(seed):
    scenario = load_scenario("bert-multimodal", **POISSON)
    world = draw(scenario, seed)
    result = clairvoyant_optimum(scenario, world)
    searched = search_exhaustively(scenario, world, 0.005) / 3
    assert searched <= result.upper + 1e-9
    assert searched == pytest.approx(result.lower, rel=5e-3)


@pytest.mark.parametrize("rate", [10.0, 16.0])
def test_the_upper_bound_knows_that_a_full_queue_spares_tasks(rate):
    """Slow decisions: a task lost at the queue's only place leaves its time to a better one."""
    slow = {"retained_device_min": 0.4, "retained_server_min": 0.4, "queue_capacity": 1}
    scenario = load_scenario("bert-multimodal", **POISSON | slow | {"tasks": 5, "arrival_rate": rate})
    world = draw(scenario, 0)
    assert search_exhaustively(scenario, world, 0.02) / 5 <= clairvoyant_optimum(scenario, world).upper + 1e-9


def search_exhaustively(scenario, world, step):
    """Best sum of qualities over all services that end at multiples of `step`, by rules of the queue written anew."""
    arrivals, budget, best = world.arrivals, world.delay_budget, 0.0
    states = {(0, arrivals[0], (), 1): 0.0}  # task, start, what waits, how many have come; earned before
    while states:
        following = {}
        for (task, start, waiting, come), earned in states.items():
            ends = step * np.arange(np.ceil(start / step) + 1, np.floor((arrivals[task] + budget) / step) + 1)
            gains, budgets = np.full(len(ends), world.gain_at(start)), np.full(len(ends), world.energy_budget)
            rows = solve_exact_batch(scenario.problem(1.0), gains, ends - start, budgets, parallel=False)
            within = rows["reason"] == 0
            for end, quality in zip(ends[within], rows["quality"][within], strict=True):
                best = max(best, earned + quality)
                behind, came = queue_after(arrivals, budget, scenario.queue_capacity, waiting, come, end)
                if behind:
                    key = (behind[0], end, behind[1:], came)
                elif came < len(arrivals):
                    key = (came, arrivals[came], (), came + 1)
                else:
                    continue
                following[key] = max(following.get(key, 0.0), earned + quality)
        states = following
    return best


def queue_after(arrivals, budget, capacity, waiting, come, end):
    """Tasks that wait when a service ends, and how many have come."""
    while come < len(arrivals) and arrivals[come] <= end:
        waiting = tuple(task for task in waiting if arrivals[task] + budget > arrivals[come])
        waiting += (come,) * (len(waiting) < capacity)
        come += 1
    return tuple(task for task in waiting if arrivals[task] + budget > end), come


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
    """Far from the server, where a task takes its energy from the device or is not served."""
    rich = load_scenario("bert-multimodal", tasks=5, distance=2000)
    poor = load_scenario("bert-multimodal", tasks=5, distance=2000, battery_capacity=0.7, battery_initial=0.5)
    free, dear = (clairvoyant_optimum(scenario, draw(scenario, 3), steps=60) for scenario in (rich, poor))
    assert dear.upper < free.lower
    assert free.energy_price == 0.0 < dear.energy_price
