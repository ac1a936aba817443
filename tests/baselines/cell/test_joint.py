"""Joint rules of a cell: the tasks that they see against the devices' worlds, and their search against P1 itself."""

import gymnasium as gym
import numpy as np
import pytest

from baselines.cell.joint import JointMyopic, JointQuantum, JointSearch, waiting_tasks
from baselines.cell.rules import ShareOfFree
from baselines.optimizers import OPTIMIZERS
from coinfer_gym import Decision, InvalidInputError, solve_exact
from coinfer_gym.cell.env import share_problem
from coinfer_gym.cell.optimum import solve_cell
from coinfer_gym.laim.decision import CONTROLS

CELL = "coinfer_gym/Cell-v0"


def crowded(seed=4, **keywords):
    """A cell at the first decision for which three tasks or more wait elsewhere, and its observation."""
    env = gym.make(CELL, **({"scenario": "cell-16", "tasks": 8} | keywords))
    rule = ShareOfFree(part=0.3).bind(env)
    observation, _ = env.reset(seed=seed)
    while len(waiting_tasks(env.unwrapped)) < 3:
        observation, *_ = env.step(rule.predict(observation)[0])
    return env, observation


def test_the_tasks_that_wait_are_those_that_came():
    env = gym.make(CELL, scenario="cell-16", tasks=8)
    cell, rule, seen = env.unwrapped, ShareOfFree(part=0.6).bind(env), 0
    observation, _ = env.reset(seed=4)
    worlds, ended = [cell.world(k) for k in range(cell.devices)], False
    while not ended:
        now = float(cell.lanes.state[cell.device]["clock"])
        rows, others = cell.lanes.state, [k for k in range(16) if k != cell.device]
        came = [k for k in others if rows[k]["task"] < 8 and worlds[k].arrivals[rows[k]["task"]] <= now]
        found = waiting_tasks(cell)
        assert len(found) == len(came)
        for k, task in zip(came, found, strict=True):
            world = worlds[k]
            assert task.problem.gain == pytest.approx(world.gains[min(int(now), len(world.gains) - 1)])
            begins = max(now, cell.lanes.model.held[0, k]["busy_until"])
            deadline = world.arrivals[rows[k]["task"]] + world.delay_budget
            assert task.problem.delay_budget == pytest.approx(deadline - begins, abs=1e-9)
            assert (task.server > 0.0) <= (begins > now)
            seen += 1
        held = sum(task.band for task in found), sum(task.server for task in found)
        assert all(part + free <= 1.0 + 1e-9 for part, free in zip(held, cell.free, strict=True))
        observation, _, _, ended, _ = env.step(rule.predict(observation)[0])
    assert seen > 20


def test_the_share_is_that_of_the_joint_optimum():
    env, observation = crowded(seed=6)  # its task is shared; most are best on the device alone
    cell = env.unwrapped
    others = waiting_tasks(cell)
    pool = np.array(cell.free) + np.sum([(task.band, task.server) for task in others], axis=0)
    tasks = [cell.problem(1.0, 1.0), *(task.problem for task in others)]
    action, _ = JointMyopic(reserve=0.0).bind(env).predict(observation)
    band, server = cell.shares(action)
    assert max(band / cell.free[0], server / cell.free[1]) < 1.0  # nothing is clipped
    best = solve_cell(tasks, pool[0] * cell.scenario.bandwidth, min(1.0, pool[1]))
    # With these shares for the task at hand, and what is left for the others, as much is earned.
    own = solve_exact(cell.problem(band, server))
    rest = solve_cell(tasks[1:], (pool[0] - band) * cell.scenario.bandwidth, min(1.0, pool[1] - server))
    assert own.quality + rest.quality >= 0.98 * best.quality
    less = [cell.shares(JointMyopic(reserve=r).bind(env).predict(observation)[0]) for r in (1.0, 8.0)]
    assert band > less[0][0] > less[1][0]


def test_the_search_evaluates_p1_at_its_shares():
    env, _ = crowded()
    tasks = [env.unwrapped.problem(1.0, 1.0), *(task.problem for task in waiting_tasks(env.unwrapped))]
    there = (0.6 * tasks[0].bandwidth, 0.7)
    search, rng = JointSearch(tasks, *there), np.random.default_rng(0)
    points = search.box.points(rng.uniform(size=(400, 8 * len(tasks))))
    points[3::8] = np.where(rng.uniform(size=400) < 0.5, 1.0, points[3::8])
    values, shares, served = search.objective(points), search.shares(points), 0
    assert (shares.sum(axis=0) <= 1.0 + 1e-12).all()
    for i in range(points.shape[1]):
        expected = 0.0
        for m, task in enumerate(tasks):
            band, server = shares[m, 0, i] * there[0] / task.bandwidth, shares[m, 1, i] * there[1]
            part = share_problem(task, band, server)
            x = points[8 * m : 8 * m + 6, i]
            values_of = {}
            for name, place in zip(CONTROLS, x[1:], strict=True):
                low, high = getattr(part, f"{name}_min"), 1.0 if "retained" in name else getattr(part, f"{name}_max")
                if "retained" in name:
                    values_of[name] = low + place * (high - low)
                else:
                    low = max(low, 1e-3 * high)
                    values_of[name] = low * (high / low) ** place
            found = part.evaluate(Decision(int(x[0]), **values_of))
            excess = max(found.delay / task.delay_budget, found.energy / task.energy_budget) - 1.0
            served += excess <= 0.0
            expected += found.quality if excess <= 0.0 else -excess / (1.0 + excess)
        assert values[i] == pytest.approx(-expected, rel=1e-6, abs=1e-9)
    assert served > 20


def test_the_search_stays_below_the_bound_and_repeats_itself():
    env, observation = crowded()
    tasks = [env.unwrapped.problem(1.0, 1.0), *(task.problem for task in waiting_tasks(env.unwrapped))]
    search = JointSearch(tasks, tasks[0].bandwidth, 1.0)
    rule = JointQuantum(evaluations=20_000).bind(env)
    first, second = (rule.predict(observation)[0] for _ in range(2))
    assert first.tolist() == second.tolist()
    band, server = rule.share_out(tasks, tasks[0].bandwidth, 1.0)
    assert 0.0 < band <= 1.0
    assert 0.0 < server <= 1.0
    found = OPTIMIZERS["quantum_mqhoa_5"](search, 20_000, 0)
    bound = solve_cell(tasks, tasks[0].bandwidth).bound
    assert 0.0 < -found.fun <= bound


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JointMyopic(reserve=-1.0), "reserve"),
        (lambda: JointQuantum(evaluations=0), "evaluations"),
        (lambda: JointQuantum(seed=-1), "seed"),
        (lambda: JointMyopic().bind(gym.make(CELL, scenario="cell-mixed")), "need not be concave"),
    ],
)
def test_mistakes_are_explained(make, message):
    with pytest.raises(InvalidInputError, match=message):
        make()
