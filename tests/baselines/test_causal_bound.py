"""The causal bound: between the best causal policy and the clairvoyant, and charges that are 0 in the mean."""

import json
import math

import gymnasium as gym
import numpy as np
import pytest
from scipy.linalg import expm

from baselines.bootstrap import shares
from baselines.causal_bound import causal_bound, penalties
from baselines.causal_bound.__main__ import main
from baselines.causal_bound.bound import plan, scaled
from baselines.causal_bound.foresight import BLOCKS, build_foresight
from baselines.causal_bound.history import believe, channel_states, channel_weights
from baselines.causal_bound.recursion import History
from baselines.causal_bound.values import Values, generator
from baselines.clairvoyant import clairvoyant_optimum
from baselines.clairvoyant.recursion import Times, Worth
from baselines.rollout import play
from baselines.stochastic import StochasticDP
from baselines.stochastic.arrivals import Process
from coinfer_gym import InvalidInputError, load_scenario
from coinfer_gym.world import build_world_tables, draw

LAIM = "coinfer_gym/LAIM-v0"
BUDGET, FIRST = 1.0, 0.005


class Enumerated:
    """Two tasks at any distance and one long after them: the best causal decision is one integral."""

    def __init__(self, seed, step=0.0125):
        rng = np.random.default_rng(seed)
        self.step, self.cells = step, round(BUDGET / step)
        rates = np.sort(rng.uniform(0.2, 5.0, 2))
        self.process = Process(*rates, *rng.uniform(0.1, 3.0, 2))
        self.least, self.power = rng.uniform(0.0, 0.3), rng.uniform(0.3, 1.0)
        self.gaps = (np.arange(40) + 0.5) / 40.0 * BUDGET
        self.belief = believe(np.array([FIRST]), self.process, FIRST, 1)[0][0]
        start = np.array([1.0 - self.belief, self.belief])
        quiet, rate = generator(self.process, 2)[:2, :2], np.array(rates)
        edges = [start @ expm(quiet * gap) for gap in np.linspace(0.0, BUDGET, 41)]
        arrived = [start.sum() - edge.sum() for edge in edges]
        self.chances = np.append(np.diff(arrived), 1.0 - arrived[-1])
        assert rate.min() > 0.0

    def quality(self, seconds):
        """Concave, and 0 where no decision is fast enough."""
        left = np.maximum(np.asarray(seconds) - self.least, 0.0)
        return np.where(np.asarray(seconds) >= self.least, left**self.power, 0.0)

    def causal(self):
        """Best expected sum, by a service time that does not know the gap."""
        times = np.linspace(max(self.least, 1e-3), BUDGET, 300)
        late = self.quality(np.minimum(BUDGET, BUDGET - (times[:, None] - self.gaps)))
        second = np.append(late, np.full((len(times), 1), self.quality(BUDGET)), axis=1)
        return float((self.quality(times) + second @ self.chances).max())

    def bound(self, foresight):
        """Mean of the best penalised sum over the gaps."""
        k = self.step * np.arange(self.cells + 4)
        steps = np.where(k + self.step >= self.least, self.quality(np.maximum(k + self.step, self.least)), -1e30)[None]
        worth = Worth(steps, steps, np.array([self.least]))
        times = Times(self.step, BUDGET, BUDGET, 2.0 * BUDGET)
        total = 0.0
        for gap, chance in zip(np.append(self.gaps, 1.5 * BUDGET), self.chances, strict=True):
            arrivals = np.array([FIRST, FIRST + gap, FIRST + 5.0 * BUDGET])
            cells = math.ceil((arrivals[2] + 2.0 * BUDGET) / self.step) + 4
            come = np.searchsorted(arrivals, self.step * np.arange(1, cells + 1), side="right")
            zeros = np.zeros(cells, np.int64)
            beliefs = believe(arrivals, self.process, self.step, cells)
            history = History(arrivals, zeros, zeros, come, *beliefs, np.ones((1, 1 + BLOCKS, 1)))
            total += chance * plan(history, foresight, times, worth, np.zeros(3, np.bool_), cells)
        return total - float(self.quality(BUDGET))

    def foresee(self, head):
        """Values of the second task by its age in cells, tabulated."""
        ages = self.step * np.arange(self.cells + 1)
        table = np.broadcast_to(head[:, None, :, None, None], (2, 1, self.cells + 1, self.cells + 1, 2))
        values = Values(np.zeros(1), ages, table, 0.0, self.process)
        return build_foresight(values, BUDGET, self.step, BUDGET, shift=self.step)

    def known(self):
        """With the values of the second task."""
        ages = self.step * np.arange(self.cells + 1)
        return self.foresee(np.tile(self.quality(BUDGET - ages), (2, 1)))

    def guessed(self, rng):
        """With values that mean nothing."""
        return self.foresee(rng.normal(size=(2, self.cells + 1)))


def check_enumerated(seeds):
    """In every model between the best causal policy and the clairvoyant, and in the mean well below the latter."""
    leads = []
    for seed in seeds:
        model = Enumerated(seed)
        best, known = model.causal(), model.known()
        bound, clairvoyant = model.bound(known), model.bound(scaled(known, 0.0))
        assert best <= clairvoyant + 1e-3
        assert best <= bound + 1e-3
        assert best <= model.bound(model.guessed(np.random.default_rng(seed))) + 1e-3  # whatever the values are
        if bound > clairvoyant + 5e-3:  # a steep quality on a coarse grid
            finer = Enumerated(seed, model.step / 2.0)
            known = finer.known()
            bound, clairvoyant = finer.bound(known), finer.bound(scaled(known, 0.0))
        assert best - 1e-3 <= bound <= clairvoyant + 5e-3
        leads.append((bound - best, clairvoyant - best))
    charged, free = np.mean(leads, axis=0)
    assert charged < 0.8 * free


def test_bound_in_enumerated_worlds():
    """Each of 8 random models has 41 worlds, and each world three bounds."""
    check_enumerated(range(8))


SMALL = {"tasks": 30, "arrivals": "poisson", "arrival_rate": 3.0, "channel": "constant"}


@pytest.mark.slow
@pytest.mark.thorough
def test_bound_in_many_enumerated_worlds():
    check_enumerated(range(100, 200))


def test_without_values_it_is_the_bound_of_the_clairvoyant():
    scenario = load_scenario("bert-multimodal", **SMALL)
    for seed in range(4):
        world = draw(scenario, seed)
        found = clairvoyant_optimum(scenario, world)
        assert found.lower - 1e-9 <= causal_bound(scenario, world, 0.0, steps=200) <= found.upper + 0.005


@pytest.mark.parametrize("world", [SMALL, {"tasks": 30, "channel": "constant"}], ids=["poisson", "bursts"])
def test_a_policy_that_does_not_know_the_future_is_charged_nothing_in_the_mean(world):
    """And what it earns less its charges stays below the bound in every world."""
    env = gym.make(LAIM, **world)
    scenario, policy = env.unwrapped.scenario, StochasticDP(env)
    charged = []
    for seed in range(60):
        [decisions] = play(env, policy, [seed])
        world = env.unwrapped.world()
        own = penalties(scenario, world, decisions, steps=200)
        charged.append(own.sum())
        if seed < 8:
            earned = decisions["delivered"].sum() / scenario.tasks
            assert earned - own.sum() / scenario.tasks <= causal_bound(scenario, world, 1.0, steps=200) + 1e-9
            assert earned - 0.5 * own.sum() / scenario.tasks <= causal_bound(scenario, world, 0.5, steps=200) + 1e-9
    assert abs(np.mean(charged)) < 4.0 * np.std(charged) / math.sqrt(len(charged))
    assert np.std(charged) > 0.1


def test_weights_of_the_channel_are_means_over_its_next_blocks():
    """Regress: over many worlds, the weights a block ahead less those that came are uncorrelated with the past."""
    scenario = load_scenario("bert-multimodal", tasks=200)
    levels = np.log(1e-10) + np.linspace(-2.0, 2.0, 5)
    errors, past = [], []
    for seed in range(12):
        weights = channel_weights(scenario, draw(scenario, seed), levels, 60, 2)
        errors.append(weights[:-1, 1] - weights[1:, 0])
        past.append(weights[:-1, 0])
        assert weights.sum(axis=2) == pytest.approx(1.0)
    error, past = np.concatenate(errors), np.concatenate(past)
    for column in (np.ones(len(past)), past[:, 0], past[:, 2], past[:, 4]):
        product = error * column[:, None]
        assert np.all(np.abs(product.mean(axis=0)) < 4.5 * product.std(axis=0) / math.sqrt(len(product)) + 1e-6)


def test_command(tmp_path, capsys):
    policies = {"myopic": {"policy": "myopic_exact"}, "fewer": {"policy": "random", "worlds": 2}}
    config = {"env": SMALL | {"tasks": 10}, "worlds": 3, "policies": policies}
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    assert main([str(path), "--out", str(tmp_path / "found"), "--jobs", "1"]) == 0
    summary = json.loads((tmp_path / "found" / "summary.json").read_text(encoding="utf-8"))
    delivered = summary["delivered"]
    share = delivered["myopic"]["mean"] / delivered["causal bound"]["mean"]
    assert summary["proven_share"]["myopic"]["mean"] == pytest.approx(share)
    assert list(summary["proven_share"]) == ["myopic"]  # the other plays fewer worlds
    assert summary["policies"]["myopic"]["metrics"]["delivered"]["mean"] == delivered["myopic"]["mean"]
    assert "proven share" in capsys.readouterr().out


def test_states_of_the_channel_make_its_gains():
    scenario = load_scenario("bert-multimodal", tasks=20, rician_factor=2.0)
    tables, world = build_world_tables(scenario), draw(scenario, 5)
    first, second, level = channel_states(tables, 5)
    r = tables.record[0]
    fading = (r["line_of_sight"] + r["scattered"] * first) ** 2 + (r["scattered"] * second) ** 2
    assert r["path_gain"] * fading * np.exp(r["shadowing"] * level) == pytest.approx(world.gains)


def test_shares():
    values, bounds = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]), np.array([2.0, 4.0, 6.0])
    found = shares(values, bounds)
    assert found.mean == pytest.approx([0.5, 1.0])
    assert found.low == pytest.approx([0.5, 1.0])
    assert found.high == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize(
    "changes",
    [
        {"arrivals": "one_at_a_time"},
        {"channel": "trace"},
        {"battery_capacity": 5.0},
        {"delay_budget_range": (0.2, 0.5)},
    ],
)
def test_unknown_worlds_are_refused(changes):
    scenario = load_scenario("bert-multimodal", tasks=5)
    world = draw(scenario, 0)
    with pytest.raises(InvalidInputError, match=next(iter(changes)).split("_")[0]):
        causal_bound(scenario.model_copy(update=changes), world)
