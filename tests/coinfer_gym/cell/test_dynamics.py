"""The process of a cell: LAIM-v0 with one device, and an independent simulation of events with several."""

import math

import gymnasium as gym
import numpy as np
import pytest

import coinfer_gym  # noqa: F401  registers the ids
from coinfer_gym.laim.decision import Decision

CELL = "coinfer_gym/Cell-v0"
ONE_DEVICE = {
    "default": {"scenario": "bert-multimodal", "tasks": 60},
    "battery": {"scenario": "bert-battery", "battery_capacity": 1.5, "tasks": 60},
    "late channel state": {"scenario": "bert-multimodal", "csi_delay": 0.7, "csi_noise_db": 2.0, "tasks": 60},
    "drawn budgets": {"scenario": "vit-image", "delay_budget_range": (0.3, 3.0), "energy_budget_range": (0.3, 2.0)},
    "one at a time": {"scenario": "bert-text", "arrivals": "one_at_a_time", "tasks": 30},
    "accuracy": {"scenario": "minilm-squad", "tasks": 60},
    "memory": {"scenario": "glasses-vit-2026", "tasks": 60},
    "one task": {"scenario": "bert-multimodal", "tasks": 1},
}
BUSY = {  # few shares are enough, so that devices wait for each other; queues overflow and tasks expire
    "scenario": "bert-multimodal",
    "devices": 5,
    "distance_range": (20.0, 300.0),
    "share_min": 0.3,
    "queue_capacity": 2,
    "tasks": 40,
    "patience": 100.0,  # all uploads end, so that what they took is what is told without the round trip
}


def episode(env, seed, actions=None):
    """Infos of an episode, that of the reset first, with the reward."""
    rng = np.random.default_rng(seed)
    infos, ended = [env.reset(seed=seed)[1] | {"reward": 0.0}], False
    while not ended:
        action = rng.uniform(-1.0, 1.0, 8) if actions is None else actions(rng)
        _, reward, _, ended, info = env.step(action.astype(np.float32))
        infos.append(info | {"reward": reward})
    return infos


@pytest.mark.parametrize("world", ONE_DEVICE.values(), ids=ONE_DEVICE.keys())
def test_one_device_that_takes_all_is_laim_to_the_last_bit(world):
    laim, cell = gym.make("coinfer_gym/LAIM-v0", **world), gym.make(CELL, devices=1, **world)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        seen, info = laim.reset(seed=seed)
        seen_too, info_too = cell.reset(seed=seed)
        ended = False
        while True:
            assert seen_too[:7].tolist() == seen.tolist()
            assert seen_too[7:].tolist() == [1.0, 1.0, -1.0, -1.0, -1.0, -1.0]
            assert {key: info_too[key] for key in info} == info
            if ended:
                break
            action = rng.uniform(-1.2, 1.0, 6).astype(np.float32)
            seen, reward, _, ended, info = laim.step(action)
            seen_too, reward_too, _, ended_too, info_too = cell.step(np.append(action, np.float32([1.0, 1.0])))
            assert (reward, ended) == (reward_too, ended_too)
        assert np.array_equal(laim.unwrapped.world().gains, cell.unwrapped.world().gains)


class Reference:
    """A cell event by event, every arrival for itself; it takes only the durations of services from the environment."""

    def __init__(self, env):
        self.scenario, self.worlds = env.scenario, [env.world(k) for k in range(env.devices)]
        count = len(self.worlds)
        self.queue = [[] for _ in range(count)]  # arrival times of the waiting tasks
        self.next = [0] * count  # number of the next arrival
        self.head = [None] * count  # arrival time of the task that waits for a decision
        self.until = [0.0] * count  # the end of the service
        self.band, self.server = [(0.0, 0.0)] * count, [(0.0, 0.0)] * count  # share, and until when
        self.lost = 0
        self.now = 0.0

    def _arrivals(self, k):
        return self.worlds[k].arrivals

    def _expire(self, k):
        waiting = [time for time in self.queue[k] if time + self.worlds[k].delay_budget > self.now]
        self.lost += len(self.queue[k]) - len(waiting)
        self.queue[k] = waiting
        head = self.head[k]
        if head is not None and head + self.worlds[k].delay_budget <= self.now:
            self.head[k], self.lost = None, self.lost + 1

    def _settle(self):
        """Everything that happens at this moment, and the device that decides now, if one does."""
        for k in range(len(self.worlds)):
            idle = self.until[k] <= self.now
            if idle:
                self.band[k] = self.server[k] = (0.0, 0.0)
            times = self._arrivals(k)
            came = []
            while self.next[k] < len(times) and times[self.next[k]] <= self.now:
                came.append(times[self.next[k]])
                self.next[k] += 1
            self._expire(k)
            for time in came:
                if idle and self.head[k] is None and not self.queue[k]:
                    self.head[k] = time
                elif len(self.queue[k]) == self.scenario.queue_capacity:
                    self.lost += 1
                else:
                    self.queue[k].append(time)
            if idle and self.head[k] is None and self.queue[k]:
                self.head[k] = self.queue[k].pop(0)
        for k, head in enumerate(self.head):
            if head is not None and min(self.free()) >= self.scenario.share_min:
                return k
        return None

    def free(self):
        return tuple(1.0 - sum(share for share, until in held if until > self.now) for held in (self.band, self.server))

    def _next_event(self):
        times = [until for held in (self.band, self.server) for _, until in held]
        times += self.until
        for k, number in enumerate(self.next):
            times += self._arrivals(k)[number : number + 1].tolist()
            heads = self.queue[k] + ([] if self.head[k] is None else [self.head[k]])
            times += [time + self.worlds[k].delay_budget for time in heads]
        return min((time for time in times if time > self.now), default=math.inf)

    def decide(self):
        """Advance to the next decision; its device, or None at the end."""
        while (k := self._settle()) is None:
            self.now = self._next_event()
            if self.now == math.inf:
                return None
        return k

    def serve(self, k, info, trip):
        """Take in what a service took."""
        self.head[k] = None
        upload = max(0.0, info["delay_upload_s"] - trip)
        self.band[k] = (info["band"], self.now + info["delay_device_s"] + upload)
        self.until[k] = self.now + info["delay_s"]
        self.server[k] = (info["server"], self.until[k])


@pytest.mark.parametrize("change", [{}, {"share_min": 0.02}, {"queue_capacity": 10}, {"round_trip": 0.0}])
def test_decisions_come_as_in_a_simulation_of_all_events(change):
    env = gym.make(CELL, **BUSY | change).unwrapped
    blocked = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        env.reset(seed=seed)
        reference, lost, last = Reference(env), 0, env.scenario.cuts - 1
        while True:
            k = reference.decide()
            assert k == env.device
            assert reference.free() == pytest.approx(env.free, abs=1e-12)
            _, _, _, ended, info = env.step(rng.uniform(-1.0, 1.0, 8).astype(np.float32))
            assert info["time_s"] == pytest.approx(reference.now, abs=1e-9)
            assert info["wait_s"] == pytest.approx(reference.now - reference.head[k], abs=1e-9)
            assert info["queue_length"] == len(reference.queue[k])
            assert not info["abandoned"]
            reference.serve(k, info, 0.0 if info["cut"] == last else env.scenario.round_trip)
            lost += info["dropped"]
            blocked += info["blocked_s"] > 0.0
            if ended:
                break
        assert reference.decide() is None
        assert lost == reference.lost
    assert blocked > 0 or "share_min" in change


def test_a_decision_takes_what_p1_says_at_its_shares():
    env = gym.make(CELL, scenario="cell-mixed", tasks=20, round_trip=0.02).unwrapped
    rng, seen = np.random.default_rng(1), set()
    env.reset(seed=1)
    ended = False
    while not ended:
        action = rng.uniform(-1.0, 1.0, 8).astype(np.float32)
        problem, decision, kind = env.problem(*env.shares(action)), env.decision(action), env.kind
        assert problem.workload == kind.workload
        expected = problem.evaluate(decision)
        _, _, _, ended, info = env.step(action)
        if info["abandoned"]:
            continue
        seen.add(kind.name)
        assert info["delay_s"] == pytest.approx(expected.delay, rel=1e-12)
        assert info["energy_j"] == pytest.approx(expected.energy, rel=1e-12)
        assert info["quality"] == pytest.approx(expected.quality, rel=1e-12)
    assert len(seen) == 3


def test_shares_in_use_never_exceed_the_whole_and_are_as_told():
    env = gym.make(CELL, devices=8, scenario="cell-4", tasks=30, share_min=0.05)
    infos = episode(env, 3)[1:]
    for number, info in enumerate(infos):
        now, used = info["time_s"], {"band": info["band"], "server": info["server"]}
        for earlier in infos[:number]:
            if earlier["device"] != info["device"]:
                upload = earlier["time_s"] + earlier["delay_device_s"] + earlier["delay_upload_s"]
                used["band"] += earlier["band"] if upload - env.unwrapped.scenario.round_trip > now + 1e-9 else 0.0
                used["server"] += earlier["server"] if earlier["time_s"] + earlier["delay_s"] > now + 1e-9 else 0.0
        for name, share in used.items():
            assert share <= 1.0 + 1e-12
            assert info[f"{name}_free"] == pytest.approx(1.0 - share + info[name], abs=1e-9)
        assert (info["band"] == 0.0) == (info["cut"] == env.unwrapped.scenario.cuts - 1)
    assert [info["time_s"] for info in infos] == sorted(info["time_s"] for info in infos)


def test_every_task_is_decided_or_lost():
    for world in (BUSY, BUSY | {"scenario": "bert-battery"}, {"scenario": "cell-mixed", "tasks": 15}):
        env = gym.make(CELL, **world)
        infos = episode(env, 7)
        kinds = env.unwrapped.scenario.members
        tasks = sum(kinds[k % len(kinds)].tasks for k in range(env.unwrapped.devices))
        assert len(infos) - 1 + sum(info["dropped"] for info in infos) == tasks


def test_a_device_that_finds_too_little_waits_for_the_next_release():
    """Of two devices that always have a task the first takes all, and what it takes is back when its task ends."""
    env = gym.make(CELL, scenario="bert-text", devices=2, arrivals="one_at_a_time", tasks=5)
    server = np.array([-1.0, 0.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0], np.float32)  # all of both
    alone = np.array([1.0, -1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0], np.float32)  # nothing of either
    env.reset(seed=0)
    first = env.step(server)[4]
    assert (first["device"], first["band"], first["server"]) == (0.0, 1.0, 1.0)
    again = env.step(alone)[4]  # both are ready when its task ends: the lower number decides
    assert (again["device"], again["time_s"], again["wait_s"]) == (0.0, first["delay_s"], 0.0)
    assert (again["band"], again["server"]) == (0.0, 0.0)
    waited = env.step(server)[4]
    assert (waited["device"], waited["band_free"], waited["server_free"]) == (1.0, 1.0, 1.0)
    assert waited["time_s"] == first["delay_s"]
    assert (waited["blocked_s"], waited["wait_s"]) == pytest.approx((first["delay_s"],) * 2, rel=1e-12)


def test_what_is_seen_of_the_cell():
    env = gym.make(CELL, devices=3, scenario="bert-text", arrivals="one_at_a_time", tasks=4)
    seen, _ = env.reset(seed=0)
    assert seen[7:].tolist() == [1.0, 1.0, -1.0, -1.0, -1.0, -1.0]
    action = np.array([-1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 0.0, 0.5], np.float32)
    seen, _, _, _, info = env.step(action)
    assert (info["band"], info["server"]) == (0.25, 0.5625)
    assert seen[7:10] == pytest.approx([0.5, -0.125, 2.0 / 3.0 - 1.0])
    sent = info["delay_upload_s"] - env.unwrapped.scenario.round_trip
    budget = env.unwrapped.scenario.delay_budget
    assert seen[11:] == pytest.approx([2.0 * sent / budget - 1.0, min(1.0, 2.0 * info["delay_s"] / budget - 1.0)])


def test_budgets_tell_kinds_apart():
    env = gym.make(CELL, scenario="cell-mixed", tasks=2).unwrapped
    seen, _ = env.reset(seed=0)
    levels, ended = {}, False
    while not ended:
        levels.setdefault(env.kind.name, set()).add(tuple(seen[4:6].tolist()))
        seen, _, _, ended, _ = env.step(np.zeros(8, np.float32))
    assert all(len(level) == 1 for level in levels.values())
    (phone,), (wearable,), (laptop,) = (levels[name] for name in ("phone", "wearable", "laptop"))
    assert (phone[0], wearable[0], laptop[0]) == (-1.0, 1.0, 1.0)  # 0.5, 0.8 and 0.8 s
    assert (wearable[1], laptop[1]) == (-1.0, 1.0)  # 0.15 and 2.5 J
    assert -1.0 < phone[1] < 1.0


def test_queues_elsewhere_are_seen_as_reported():
    world = {"scenario": "bert-multimodal", "devices": 2, "arrivals": "poisson", "arrival_rate": 20.0, "tasks": 60}
    env = gym.make(CELL, **world)
    seen, info = env.reset(seed=0)
    reported, until, told, rng, ended = {}, {}, 0.0, np.random.default_rng(0), False
    while not ended:
        expected = seen[10]
        seen, _, _, ended, info = env.step(rng.uniform(-1.0, 1.0, 8).astype(np.float32))
        other = 1.0 - info["device"]
        serves = until.get(other, 0.0) > info["time_s"]
        waiting = reported.get(other, 0.0) if serves else 0.0
        assert info["busy"] == serves
        assert info["waiting_elsewhere"] == waiting
        assert expected == pytest.approx(2.0 * waiting / (waiting + 2.0) - 1.0)
        reported[info["device"]] = info["queue_length"]
        told = max(told, waiting)
        until[info["device"]] = info["time_s"] + info["delay_s"]
    assert told > 3.0


def test_nothing_of_the_future_is_seen():
    """Queues elsewhere are those that devices reported; arrivals after a decision do not move what it saw."""
    world = {"scenario": "cell-4", "devices": 6, "arrivals": "poisson", "arrival_rate": 4.0, "tasks": 30}
    env, other = gym.make(CELL, **world).unwrapped, gym.make(CELL, **world).unwrapped
    env.reset(seed=4)
    other.reset(seed=4)
    rng, count = np.random.default_rng(0), 60
    actions = rng.uniform(-1.0, 1.0, (count, 8)).astype(np.float32)
    moments = []
    for action in actions:
        info = env.step(action)[4]
        moments.append(info["time_s"])
    # Every arrival after the last decision is put off: until then both worlds tell the same.
    last = moments[-1]
    arrivals = other.lanes.arrivals
    arrivals[arrivals > last] += 5.0
    for row, lane in enumerate(other.lanes.state):  # a first task that is still to come
        late = lane["clock"] > last
        lane["clock"] += 5.0 * late
        other.lanes.model.held[0, row]["ready"] += 5.0 * late
    observations = [other.step(action)[0] for action in actions[:-1]]
    env.reset(seed=4)
    for action, expected in zip(actions[:-1], observations, strict=True):
        assert env.step(action)[0].tolist() == expected.tolist()


def test_worlds_do_not_depend_on_actions_and_differ_by_device():
    env = gym.make(CELL, scenario="cell-16", tasks=10).unwrapped
    infos = episode(env, 2)
    worlds = [env.world(k) for k in range(env.devices)]
    episode(env, 2, lambda rng: np.full(8, -0.5))
    for k, world in enumerate(worlds):
        again = env.world(k)
        assert np.array_equal(world.gains, again.gains)
        assert np.array_equal(world.arrivals, again.arrivals)
    assert len({world.arrivals[0] for world in worlds}) == len({world.gains[0] for world in worlds}) == env.devices
    for info in infos:
        assert info["gain_db"] == pytest.approx(10.0 * math.log10(worlds[int(info["device"])].gain_at(info["time_s"])))


def test_distances_are_uniform_over_the_ring():
    env = gym.make(CELL, scenario="cell-4", devices=64, channel="constant", distance_range=(10.0, 200.0), tasks=1)
    distances = []
    for seed in range(40):
        env.reset(seed=seed)
        s = env.unwrapped.scenario
        gains_db = [10.0 * math.log10(env.unwrapped.world(k).gains[0]) for k in range(64)]
        distances += [10.0 ** ((s.reference_gain_db - gain) / (10.0 * s.path_loss_exponent)) for gain in gains_db]
    assert min(distances) >= 10.0
    assert max(distances) <= 200.0
    below = np.mean(np.array(distances) < 100.0)
    expected = (100.0**2 - 10.0**2) / (200.0**2 - 10.0**2)
    assert below == pytest.approx(expected, abs=4.0 * math.sqrt(expected * (1.0 - expected) / len(distances)))


def test_taking_all_that_is_free_blocks_the_others():
    """The shipped load makes band and server scarce: all that is free loses more tasks than equal shares."""
    lost = {}
    for label, share in (("all", 1.0), ("equal", 0.25)):
        env = gym.make(CELL, scenario="cell-4", tasks=40).unwrapped
        total = 0.0
        for seed in range(3):
            env.reset(seed=seed)
            ended = False
            while not ended:
                taken = [min(share, free) for free in env.free]
                decision = Decision(6, 0.2, 0.1, 0.2, 2e9, 2.6e9)  # 0.3 s on shares of a quarter
                _, _, _, ended, info = env.step(env.action(decision, *taken))
                total += info["dropped"]
        lost[label] = total
    assert lost["all"] > 2.0 * lost["equal"], lost
