"""Rules that look ahead: what they see, how long they let services take, and that foresight pays."""

import math
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from baselines import rollout
from baselines.farsighted import Lyapunov, QueueBudget, Slowdown, serve_within
from baselines.predictive_control import PredictiveControl
from baselines.quality_grid import build_grid, build_robust_grid
from baselines.rules import MyopicExact, RobustExact
from baselines.stochastic import StochasticDP, futures, model
from baselines.stochastic.arrivals import Process, arrival_process, update_belief
from coinfer_gym import GainBelief, InvalidInputError, load_scenario, solve_exact, solve_robust
from coinfer_gym.world import mean_arrival_rate

LAIM = "coinfer_gym/LAIM-v0"
POISSON = {"scenario": "bert-multimodal", "arrivals": "poisson", "arrival_rate": 5.0, "tasks": 80}
BURSTS = {"scenario": "bert-multimodal", "tasks": 80}
COARSE = {"gains": 4, "waits": 7, "queue": 5, "beliefs": 4, "times": 10, "levels": 4, "samples": 24}
RULES = {
    "slowdown": Slowdown,
    "queue budget": QueueBudget,
    "drift plus penalty": Lyapunov,
    "predictive control": PredictiveControl,
    "dynamic programming": lambda: StochasticDP(**COARSE),
}


def play(env, policy, seed):
    """What became of each task of an episode."""
    [episode] = rollout.play(env, policy, [seed])
    del episode["seconds"]
    return [dict(zip(episode, row, strict=True)) for row in zip(*episode.values(), strict=True)]


def delivered(env, policy, seeds):
    tasks = env.unwrapped.scenario.tasks
    return np.mean([sum(info["delivered"] for info in play(env, policy, seed)) / tasks for seed in seeds])


@pytest.mark.parametrize("name", RULES)
def test_foresight_pays(name):
    env = gym.make(LAIM, **POISSON)
    assert delivered(env, RULES[name]().bind(env), range(8)) > delivered(env, MyopicExact(env), range(8)) + 0.003


@pytest.mark.parametrize("name", RULES)
def test_rules_repeat_themselves_and_take_a_batch_of_one(name):
    env = gym.make(LAIM, scenario="bert-battery", tasks=15)
    first, second = (play(env, RULES[name]().bind(env), 4) for _ in range(2))
    assert first == second
    assert sum(info["delivered"] for info in first) > 0.0
    policy = RULES[name]().bind(env)
    observation, _ = env.reset(seed=0)
    single, _ = policy.predict(observation)
    batch, _ = policy.predict(observation[None])
    np.testing.assert_array_equal(batch, single[None])
    with pytest.raises(InvalidInputError, match="observation"):
        policy.predict({"observation": observation})


def test_slowdown_caps_the_service_time():
    env = gym.make(LAIM, **POISSON)
    assert max(info["delay_s"] for info in play(env, Slowdown(env, fraction=0.5), 0)) <= 0.5 / 5.0 * (1 + 1e-5)


def test_queue_budget_shares_the_time_out():
    env = gym.make(LAIM, **BURSTS)
    for info in play(env, QueueBudget(env, share=0.4, least=0.1), 3):
        if info["queue_length"]:
            assert info["delay_s"] <= max(0.4 / info["queue_length"], 0.1) * (1 + 1e-5)
        else:
            assert info["delay_s"] <= info["delay_budget_s"] * (1 + 1e-5)


def test_drift_plus_penalty_gives_more_time_for_a_larger_tradeoff():
    env = gym.make(LAIM, **BURSTS)
    hasty, patient = (play(env, Lyapunov(env, tradeoff=tradeoff), 3) for tradeoff in (0.2, 5.0))
    delays = [np.mean([info["delay_s"] for info in infos if info["queue_length"]]) for infos in (hasty, patient)]
    assert delays[0] < 0.8 * delays[1]


@pytest.mark.parametrize(
    "arrivals",
    [
        {"arrivals": "one_at_a_time"},
        {"arrivals": "trace"},
        {"arrivals": "mmpp", "delay_budget_range": (0.5, 1.5)},
        {"arrivals": "mmpp", "battery_capacity": 20.0, "battery_initial": 0.5, "harvest_power": 0.8},
    ],
    ids=["one at a time", "trace", "budgets", "battery"],
)
def test_rules_read_the_observation_as_it_was_written(arrivals, tmp_path):
    if arrivals["arrivals"] == "trace":
        path = tmp_path / "arrivals.csv"
        times = np.cumsum(np.random.default_rng(0).exponential(0.5, 30))
        path.write_text("time_s\n" + "\n".join(f"{time:.6f}" for time in times - times[0] + 7.0), encoding="utf-8")
        arrivals = {**arrivals, "arrival_trace": str(path)}
    env = gym.make(LAIM, scenario="bert-multimodal", **{**arrivals, "tasks": 20})
    policy = _Recorder(env)
    for view, info, intensity in zip(policy.views, play(env, policy, 1), policy.intensities, strict=True):
        assert view.waiting == info["queue_length"]
        assert view.left == pytest.approx(info["delay_budget_s"])
        assert view.wait == pytest.approx(info["wait_s"], abs=1e-5)
        assert view.intensity == pytest.approx(intensity, rel=1e-5, abs=1e-5)
        if "battery_capacity" in arrivals:
            assert view.battery == pytest.approx(info["battery_j"], abs=1e-5)
        else:
            assert view.battery == math.inf


class _Recorder(Slowdown):
    """Keeps what it sees beside the true estimate of the arrival rate."""

    def __init__(self, env):
        self.views, self.intensities = [], []
        super().__init__(env)

    def choose(self, view, problem, memory):
        self.views.append(view)
        lane, scenario = self._env.lanes.state[0], self._env.scenario
        decay = math.exp((lane["intensity_clock"] - lane["clock"]) / scenario.intensity_time)
        self.intensities.append(min(lane["intensity"] * decay, self._intensity_high))
        return super().choose(view, problem, memory)


def test_a_debt_of_energy_saves_energy():
    env = gym.make(LAIM, scenario="bert-battery", tasks=40)
    spent = [
        np.mean([info["energy_device_j"] for info in play(env, Lyapunov(env, gain_of_debt=weight), 3)])
        for weight in (1e-9, 50.0)
    ]
    assert spent[1] < spent[0]


def test_serve_within():
    problem = load_scenario("bert-multimodal").problem(1e-10)
    assert serve_within(problem, 0.3).delay == pytest.approx(0.3)
    assert serve_within(problem, 10.0).quality == solve_exact(problem).quality
    fast = serve_within(problem, 1e-3)
    assert fast.feasible
    assert (fast.cut, fast.retained_server) == (0, pytest.approx(0.05, abs=1e-3))
    assert serve_within(problem, 0.3, 0.4).energy <= 0.4 * (1 + 1e-9)
    hopeless = load_scenario("bert-multimodal").problem(1e-10, delay_budget=1e-3)
    assert not serve_within(hopeless, 1.0).feasible
    assert serve_within(hopeless, 1.0).delay == solve_exact(hopeless).delay


@pytest.mark.parametrize(
    ("arrivals", "rate"),
    [
        ({}, (15 * 0.5 + 20 * 4) / 35),
        ({"arrivals": "poisson", "arrival_rate": 3.0}, 3.0),
        ({"arrivals": "one_at_a_time"}, math.inf),
    ],
)
def test_mean_arrival_rate(arrivals, rate):
    assert mean_arrival_rate(load_scenario("bert-multimodal", **arrivals)) == pytest.approx(rate)


def test_belief_is_bayes_rule():
    process = arrival_process(load_scenario("bert-multimodal"))
    assert process == pytest.approx((0.5, 4.0, 1 / 15, 1 / 20))
    stationary = process[2] / (process[2] + process[3])
    assert update_belief(stationary, process, 0, 0.0) == pytest.approx(stationary)
    assert update_belief(0.5, process, 0, 2.0) < 0.02
    assert update_belief(0.5, process, 3, 0.5) > 0.95
    counts = _simulate_counts(process, 0.5, 0.6, 50_000)
    for arrivals in range(3):
        met = counts[0] == arrivals
        # arrivals at even distances are a simplification, that of one in the middle is nearly none
        assert update_belief(0.5, process, arrivals, 0.6) == pytest.approx(counts[1][met].mean(), abs=0.02)


def test_tasks_are_lost_in_a_sampled_future_as_in_the_queue():
    """Three tasks wait, in a queue of four places.

    A short service loses none of them, one as long as the delay budget all of them; a flood finds one place.
    """
    unit = np.array([0.0, 1.0])
    for seconds, rate, lost, behind in ((0.05, 1e-9, [0], 2), (1.0, 1e-9, [3], 0), (0.05, 1e3, range(20, 80), 3)):
        axes = futures.Axes(unit, unit, 9, unit, Process(rate, rate, 0.0, 0.0), 1.0, 0.01, 0.1, 4)
        start = (0.5, 3, 0.0, seconds, 0.5)
        _, _, left, _, drops = futures._meet_future(start, axes, np.uint64(7), futures.build_scratch(4))
        assert left == behind
        assert drops in lost


def _simulate_counts(process, belief, seconds, runs):
    """Arrivals in a time, and whether a burst is on at its end."""
    generator = np.random.default_rng(0)
    burst = generator.random(runs) < belief
    counts = np.zeros(runs, np.int64)
    for _ in range(200):
        step = seconds / 200
        counts += generator.random(runs) < step * np.where(burst, process[1], process[0])
        burst ^= generator.random(runs) < step * np.where(burst, process[3], process[2])
    return counts, burst


@pytest.mark.parametrize("kind", [POISSON, BURSTS], ids=["poisson", "bursts"])
def test_dynamic_programming_knows_what_it_will_earn(kind):
    """Short episodes earn some per cent more, see `StochasticDP.model`."""
    env = gym.make(LAIM, **kind | {"tasks": 200})
    policy = StochasticDP(env)
    assert policy.model.mean_quality == pytest.approx(delivered(env, policy, range(12)), rel=0.08)


def test_dynamic_programming_takes_the_time_of_the_highest_value():
    env = gym.make(LAIM, tasks=30)
    policy = StochasticDP(env, **COARSE)
    observation, _ = env.reset(seed=4)
    ended, taken = False, []
    while not ended:
        action, _ = policy.predict(observation)
        observation, _, _, ended, info = env.step(action)
        seconds, worth = policy.compared
        assert worth.shape == (len(seconds), 1)
        taken.append(np.interp(info["delay_s"], seconds, worth[:, 0]) - worth.max())
    assert np.mean(taken) > -0.01  # a parabola through the best three, and services that end early


def test_recorded_gains_in_whole_decibels_leave_no_level_empty(tmp_path):
    """Quantiles of few different gains coincide."""
    path = tmp_path / "gains.csv"
    gains = [-110, -110, -110, -107] * 100
    path.write_text("\n".join(["time_s,gain_db", *(f"{k},{gain}" for k, gain in enumerate(gains))]))
    env = gym.make(LAIM, channel="trace", channel_trace=str(path), tasks=50)
    policy = StochasticDP(env, **COARSE)
    assert math.isfinite(policy.model.mean_quality)
    assert delivered(env, policy, range(4)) > delivered(env, MyopicExact(env), range(4))


def test_dynamic_programming_with_a_battery_is_solved_to_the_end(monkeypatch):
    env = gym.make(LAIM, scenario="bert-battery")
    found = []
    for sweeps in (250, 400):
        monkeypatch.setattr(model, "_SWEEPS", sweeps)
        model.solve_process.cache_clear()
        found.append(StochasticDP(env, **COARSE).model.mean_quality)
    model.solve_process.cache_clear()
    assert found[0] == pytest.approx(found[1], abs=2e-5)


ROBUST = {
    "queue budget": lambda **options: QueueBudget(share=0.1, least=0.08, fraction=1.7, **options),
    "dynamic programming": lambda **options: StochasticDP(**COARSE, **options),
}


@pytest.mark.parametrize("name", ROBUST)
def test_robust_rules_are_the_plain_ones_where_the_gain_is_known(name):
    env = gym.make(LAIM, tasks=60)
    plain, robust = (play(env, ROBUST[name](robust=robust).bind(env), 5) for robust in (False, True))
    assert plain == robust


@pytest.mark.parametrize("name", ROBUST)
def test_robust_rules_pay_where_the_gain_is_late(name):
    env = gym.make(LAIM, **BURSTS, csi_delay=0.5, csi_noise_db=1.0)
    plain, robust = (delivered(env, ROBUST[name](robust=robust).bind(env), range(5)) for robust in (False, True))
    assert robust > plain + 0.05
    assert robust > delivered(env, RobustExact(env), range(5))


def test_robust_grid_is_what_the_robust_optimum_lets_expect():
    scenario = load_scenario("bert-multimodal", csi_delay=0.5, csi_noise_db=1.0)
    problem, belief = scenario.problem(1.0), GainBelief(scenario)
    gains, delays, energies = [1e-11, 1e-10], [0.05, 0.2, 0.4], [0.3, 0.85]
    grid = build_robust_grid(problem, belief, gains, delays, energies)
    certain = build_robust_grid(problem, GainBelief(load_scenario("bert-multimodal")), gains, delays, energies)
    plain = build_grid(problem, gains, delays, energies)
    np.testing.assert_array_equal(certain.quality, plain.quality)
    np.testing.assert_array_equal(certain.device_energy, plain.device_energy)
    posed = replace(problem, delay_budget=0.2, energy_budget=0.3)
    robust = solve_robust(posed, belief.given(1e-10))
    assert grid.quality[1, 1, 0] == robust.expected_quality
    assert (grid.quality < plain.quality).any()


def test_looking_at_the_queue_helps_dynamic_programming():
    env = gym.make(LAIM, **{**POISSON, "arrival_rate": 6.4})
    blind, seeing = (StochasticDP(env, **{**COARSE, "queue": queue}) for queue in (1, 8))
    assert delivered(env, seeing, range(12)) > delivered(env, blind, range(12))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Slowdown(fraction=0.0), "fraction"),
        (lambda: QueueBudget(share=None), "share"),
        (lambda: Lyapunov(gain_of_debt=-3), "gain_of_debt"),
        (lambda: PredictiveControl(horizon=0.5), "horizon"),
        (lambda: StochasticDP(gains=2.5), "gains"),
        (lambda: QueueBudget(least=-1.0), "least"),
        (lambda: Lyapunov(tradeoff=0.0), "tradeoff"),
        (lambda: PredictiveControl(forecast="crystal ball"), "forecast"),
        (lambda: PredictiveControl(trust=2.0), "trust"),
        (lambda: StochasticDP(waits=1), "waits"),
        (lambda: StochasticDP(samples=0), "samples"),
        (lambda: StochasticDP(robust=1), "robust"),
        (lambda: QueueBudget(robust="yes"), "robust"),
        (lambda: StochasticDP(gym.make(LAIM, arrivals="one_at_a_time")), "arrivals"),
        (lambda: StochasticDP(gym.make(LAIM, delay_budget_range=(0.5, 1.0))), "delay_budget_range"),
        (lambda: PredictiveControl(gym.make(LAIM, arrivals="one_at_a_time")), "arrivals"),
    ],
)
def test_wrong_arguments(make, name):
    with pytest.raises(InvalidInputError) as caught:
        make()
    assert caught.value.field == name
