"""The decision process against a second simulator: events on a heap, plain Python, eqs. 1-11 written out."""

import heapq
import math

import numpy as np
import pytest

from coinfer_gym import load_scenario
from coinfer_gym.laim.dynamics import INFO_NAMES
from coinfer_gym.laim.env import LAIMEnv
from coinfer_gym.world import CSI, draw, gain_db_range, normal_at, substream

EXPIRY, COMPLETION, ARRIVAL = range(3)
"""Kinds of events; at one instant they happen in this order."""


def share(value, low, high):
    """Place of `value` between -1 at `low` and 1 at `high`."""
    return 0.0 if high <= low else max(-1.0, min(1.0, 2.0 * (value - low) / (high - low) - 1.0))


def decision_of(s, action):
    """The table of the action space."""
    a = [max(-1.0, min(1.0, x)) for x in action]
    cuts = len(s.workload.blocks) + 1
    part = [0.5 * (x + 1.0) for x in a]
    ends = np.linspace(-0.5, 0.5, cuts - 1) if cuts > 2 else [0.0]  # where the next cut begins
    clocks = [
        (getattr(s, f"frequency_{side}_min"), getattr(s, f"frequency_{side}_max")) for side in ("device", "server")
    ]
    return (
        int(np.searchsorted(ends, a[0], side="right")),
        s.retained_device_min + part[1] * math.sqrt(part[1]) * (1.0 - s.retained_device_min),
        s.retained_server_min + part[2] * math.sqrt(part[2]) * (1.0 - s.retained_server_min),
        s.power_min + part[3] * (s.power_max - s.power_min),
        *(math.hypot(low, math.sqrt(x * (high**2 - low**2))) for x, (low, high) in zip(part[4:], clocks, strict=True)),
    )


def side_of(s, side, blocks, retained, clock):
    """Seconds, and joules by the clock and by the static power, of a side that runs some blocks (eqs. 4, 5, 8, 9)."""
    per_cycle, pue = getattr(s, f"flops_per_cycle_{side}"), getattr(s, f"pue_{side}")
    cycles = sum(b.flops for b in blocks) / per_cycle * (1.0 - s.sparsity_gain * (1.0 - retained))
    read = (
        sum(b.reads * b.prunable for b in blocks) * s.parameter_bits / 8.0 * (1.0 - s.sparsity_gain * (1.0 - retained))
    )
    bandwidth = getattr(s, f"memory_bandwidth_{side}") or math.inf
    seconds = max(cycles / clock, read / bandwidth)
    dynamic = getattr(s, f"kappa_{side}") * cycles**3 / seconds**2 if seconds > 0.0 else 0.0
    return seconds, pue * dynamic, pue * getattr(s, f"static_power_{side}") * seconds


def phases_of(s, decision, gain):
    """Seconds, joules of the device and joules of the server while computing, sending, under way and waiting."""
    cut, rho_d, rho_s, p, f_d, f_s = decision
    blocks = s.workload.blocks
    bits = 0.0 if cut == len(blocks) else s.workload.input_bits if cut == 0 else blocks[cut - 1].activation_bits
    rate = s.bandwidth * math.log2(1.0 + p * gain / s.snr_gap / (s.noise_density * s.bandwidth))
    tau = bits / min(rate, s.rate_max or math.inf)
    trip = s.round_trip if cut < len(blocks) else 0.0
    t_d, dynamic_d, static_d = side_of(s, "device", blocks[:cut], rho_d, f_d)
    t_s, dynamic_s, static_s = side_of(s, "server", blocks[cut:], rho_s, f_s)
    wait = s.waiting_power_device
    return [
        (t_d, dynamic_d + static_d, 0.0),
        (tau, (p / s.amplifier_efficiency + s.circuit_power + wait) * tau, 0.0),
        (trip, wait * trip, 0.0),
        (t_s, wait * t_s, dynamic_s + static_s),
    ]


def fitted(s, decision):
    """The decision that the memories hold: another cut if need be, then lower ratios."""
    blocks, byte = s.workload.blocks, s.parameter_bits / 8.0
    held = []
    for cut in range(len(blocks) + 1):
        pair = []
        for side, own in (("device", blocks[:cut]), ("server", blocks[cut:])):
            whole, dense = (
                byte * sum(f(b) for b in own) for f in (lambda b: b.prunable, lambda b: b.parameters - b.prunable)
            )
            most = min(1.0, ((getattr(s, f"memory_capacity_{side}") or math.inf) - dense) / whole) if whole else 1.0
            pair.append(most if most >= getattr(s, f"retained_{side}_min") else None)
        held.append(pair)
    order = sorted(range(len(held)), key=lambda cut: (abs(cut - decision[0]), cut))
    cut = next((cut for cut in order if None not in held[cut]), None)
    if cut is None:
        return decision
    return (cut, min(decision[1], held[cut][0]), min(decision[2], held[cut][1]), *decision[3:])


def quality_of(s, cut, rho_d, rho_s):
    """Closed forms of Sec. IV, 1 for the unpruned model."""

    def total(weigh):
        return sum(weigh(b, rho_d if j < cut else rho_s) for j, b in enumerate(s.workload.blocks))

    if s.quality == "rate_distortion":
        return total(lambda b, rho: rho * b.prunable) / total(lambda b, rho: b.prunable)
    lost = {"magnitude_pruning": lambda rho: 1.0 - rho + rho * math.log(rho), "random_pruning": lambda rho: 1.0 - rho}
    distortion = total(lambda b, rho: b.prunable / b.laplacian_rate * lost[s.quality](rho))
    return 1.0 - distortion / total(lambda b, rho: b.prunable / b.laplacian_rate)


class Simulator:
    """One device, one queue, one episode; `arrivals` holds one task more than the episode has."""

    def __init__(self, scenario, world, arrivals):
        self.s, self.world, self.arrivals = scenario, world, list(arrivals)
        self.delay_budget, self.energy_budget = world.delay_budget, world.energy_budget
        self.clock, self.dropped, self.waiting, self.served = 0.0, 0, [], 0
        self.always = scenario.arrivals == "one_at_a_time"
        mains = scenario.battery_capacity is None
        self.capacity = math.inf if mains else scenario.battery_capacity
        self.battery = math.inf if mains else scenario.battery_initial * scenario.battery_capacity
        self.noted, self.head = [], None
        self.events = [] if self.always else [(t, ARRIVAL, k) for k, t in enumerate(self.arrivals[:-1])]
        heapq.heapify(self.events)
        self.next_task()

    def advance(self, time):
        """Let time pass without service: the battery charges."""
        self.charge(time - self.clock)
        self.clock = time

    def charge(self, seconds):
        if self.capacity < math.inf:
            self.battery = min(self.capacity, self.battery + self.s.harvest_power * seconds)

    def handle(self, busy):
        """The next event; a task that finds the device idle is served at once, without waiting."""
        time, kind, k = heapq.heappop(self.events)
        if kind == EXPIRY:
            if k in self.waiting:
                self.waiting.remove(k)
                self.dropped += 1
        elif kind == ARRIVAL:
            self.noted.append(time)
            if not busy:
                self.advance(time)
                self.head = k
            elif len(self.waiting) == self.s.queue_capacity:
                self.dropped += 1
            else:
                self.waiting.append(k)
                heapq.heappush(self.events, (time + self.delay_budget, EXPIRY, k))
        return kind

    def next_task(self):
        """Take the next task to the head; none where the episode ends."""
        self.head = None
        if self.always:
            self.head, self.wait = (self.served if self.served < self.s.tasks else None), 0.0
            return
        if self.waiting:
            self.head = self.waiting.pop(0)
        while self.head is None and self.events:
            self.handle(busy=False)
        if self.head is not None:
            self.wait = self.clock - self.arrivals[self.head]
            return
        # The process goes on with a task that the episode does not decide.
        self.advance(max(self.clock, self.arrivals[-1]))
        self.noted.append(self.arrivals[-1])
        self.wait = min(self.clock - self.arrivals[-1], self.delay_budget)

    def observed_gain_db(self):
        seen = max(0.0, self.clock - self.s.csi_delay)
        gain_db = 10.0 * math.log10(self.world.gain_at(seen))
        if self.s.csi_noise_db:
            block = int(seen / self.s.block_duration)
            gain_db += self.s.csi_noise_db * normal_at(np.uint64(substream(np.uint64(self.world.seed), CSI)), block)
        return gain_db

    def observation(self):
        s = self.s
        rate = sum(math.exp((t - self.clock) / s.intensity_time) for t in self.noted) / s.intensity_time
        highest = max(s.arrival_rate, s.burst_rate) if s.arrivals == "mmpp" else s.arrival_rate
        if s.arrivals == "trace":
            times = np.loadtxt(s.arrival_trace, skiprows=1)
            highest = (len(times) - 1) / (times[-1] - times[0])
        levels = [
            share(math.log(budget), *(math.log(end) for end in span or (1.0, 1.0)))
            for budget, span in (
                (self.delay_budget, s.delay_budget_range),
                (self.energy_budget, s.energy_budget_range),
            )
        ]
        return [
            share(self.observed_gain_db(), *gain_db_range(s)),
            share(len(self.waiting), 0.0, s.queue_capacity),
            share(self.wait, 0.0, self.delay_budget),
            share(rate, 0.0, 2.0 * highest),
            *levels,
            1.0 if self.capacity == math.inf else share(self.battery, 0.0, self.capacity),
        ]

    def situation(self):
        return {
            "time_s": self.clock,
            "gain_db": 10.0 * math.log10(self.world.gain_at(self.clock)),
            "wait_s": self.wait,
            "delay_budget_s": self.delay_budget - self.wait,
            "energy_budget_j": self.energy_budget,
            "queue_length": float(len(self.waiting)),
            "battery_j": 0.0 if self.capacity == math.inf else self.battery,
        }

    def serve(self, phases):
        """Run the phases one after another until done, out of patience, or out of battery; what was spent in each.

        Out of battery, the device stands still until the task's deadline.
        """
        patience, battery, spent, finished = self.s.patience * self.delay_budget - self.wait, self.battery, [], True
        dead = False
        for seconds, drawn, other in phases:  # the server does not live on the device's battery
            part = 0.0
            if finished:
                in_time = patience / seconds if seconds > patience else 1.0
                powered = battery / drawn if drawn > battery else 1.0
                part = min(in_time, powered)
                finished = part == 1.0
                dead = powered < in_time
            spent.append((part * seconds, part * drawn, part * other))
            patience, battery = patience - part * seconds, battery - part * drawn
        pause = max(0.0, self.delay_budget - self.wait - sum(phase[0] for phase in spent)) if dead else 0.0
        return spent, finished, battery, pause

    def step(self, action):
        """Decide the task at the head: observation, reward, end, info."""
        s, info = self.s, self.situation()
        wanted = decision_of(s, action)
        decision = fitted(s, wanted)
        phases, finished, self.battery, pause = self.serve(phases_of(s, decision, self.world.gain_at(self.clock)))
        t_d, sending, trip, t_s = (phase[0] for phase in phases)
        tau, e_d, e_tx, e_s = sending + trip, phases[0][1], sum(phase[1] for phase in phases[1:]), phases[3][2]
        delay, energy = t_d + tau + t_s, e_d + e_tx + e_s
        age = self.wait + delay
        quality = quality_of(s, *decision[:3]) if finished else 0.0
        late, costly = max(0.0, age / self.delay_budget - 1.0), max(0.0, energy / self.energy_budget - 1.0)
        met = finished and late <= 1e-5 and costly <= 1e-5
        self.dropped = 0
        self.served += 1
        occupied = delay + pause
        heapq.heappush(self.events, (self.clock + occupied, COMPLETION, -1))
        while self.handle(busy=True) != COMPLETION:
            pass
        self.clock += occupied
        self.charge(occupied)
        self.next_task()
        lost = self.dropped + (not finished)
        kept = 1.0 / (1.0 + 3.0 * late), 1.0 / (1.0 + 3.0 * costly)  # of the pay, beyond each budget
        reward = quality * kept[0] * kept[1] - s.weight_drop * lost
        reward -= s.weight_delay * (1.0 - kept[0]) + s.weight_energy * (1.0 - kept[1])
        names = ("cut", "retained_device", "retained_server", "power_w", "frequency_device_hz", "frequency_server_hz")
        info |= dict(zip(names, decision, strict=True))
        info |= {"delay_s": delay, "delay_device_s": t_d, "delay_upload_s": tau, "delay_server_s": t_s}
        info |= {"energy_j": energy, "energy_device_j": e_d, "energy_upload_j": e_tx, "energy_server_j": e_s}
        info |= {"energy_static_device_j": s.pue_device * s.static_power_device * t_d}
        info |= {"energy_static_server_j": s.pue_server * s.static_power_server * t_s}
        info |= {
            "energy_circuit_j": s.circuit_power * sending,
            "energy_waiting_j": s.waiting_power_device * (tau + t_s),
        }
        info["limited"] = float(decision != wanted)
        info |= {"quality": quality, "delivered": quality if met else 0.0, "violated": float(not met)}
        info["abandoned"] = float(not finished)
        info |= {"cost": late + costly, "cost_delay": late, "cost_energy": costly, "dropped": self.dropped}
        info["clipped"] = sum(not -1.0 <= x <= 1.0 for x in action)
        return self.observation(), reward, self.head is None, info


def simulator_of(env):
    """The second simulator in the world that `env` was just reset to."""
    world = env.world()
    longer = load_scenario(env.scenario.model_dump(by_alias=True) | {"tasks": env.scenario.tasks + 1})
    arrivals = draw(longer, world.seed).arrivals
    assert arrivals[:-1] == pytest.approx(world.arrivals, abs=0.0)
    return Simulator(env.scenario, world, arrivals)


def compare(env, policy, seed=0):
    """Play one episode in both; returns the infos."""
    observation, info = env.reset(seed=seed)
    twin = simulator_of(env)
    assert observation == pytest.approx(twin.observation(), abs=2e-6)
    assert info == pytest.approx(dict.fromkeys(INFO_NAMES, 0.0) | twin.situation(), rel=1e-9, abs=1e-12)
    infos, truncated = [], False
    while not truncated:
        assert env.problem().gain == pytest.approx(10.0 ** (twin.observed_gain_db() / 10.0))
        assert env.problem().delay_budget == pytest.approx(twin.delay_budget - twin.wait)
        action = policy(twin)
        observation, reward, terminated, truncated, info = env.step(action)
        expected_observation, expected_reward, end, expected_info = twin.step([float(x) for x in action])
        assert info == pytest.approx(expected_info, rel=1e-9, abs=1e-12)
        assert reward == pytest.approx(expected_reward, rel=1e-9, abs=1e-12)
        assert (terminated, truncated) == (False, end)
        assert observation[:3] == pytest.approx(expected_observation[:3], abs=2e-6)
        if not end:  # the estimate of the arrival rate at the end has a test of its own
            assert observation[3] == pytest.approx(expected_observation[3], abs=2e-6)
        assert observation[4:] == pytest.approx(expected_observation[4:], abs=2e-6)
        infos.append(info)
    return infos


def check_books(env, infos):
    """What holds of every episode, whoever plays it."""
    s, world = env.scenario, env.world()
    assert len(infos) + sum(info["dropped"] for info in infos) == s.tasks
    starts = np.array([info["time_s"] for info in infos])
    delays = np.array([info["delay_s"] for info in infos])
    assert (np.diff(starts) >= delays[:-1] - 1e-9).all()
    for info in infos:
        assert 0.0 <= info["wait_s"] < world.delay_budget
        assert 0.0 <= info["queue_length"] <= s.queue_capacity
        assert info["delay_budget_s"] + info["wait_s"] == pytest.approx(world.delay_budget)
        for what, unit in (("delay", "s"), ("energy", "j")):
            parts = [info[f"{what}_{part}_{unit}"] for part in ("device", "upload", "server")]
            assert min(parts) >= 0.0
            assert info[f"{what}_{unit}"] == pytest.approx(sum(parts))
        assert info["wait_s"] + info["delay_s"] <= s.patience * world.delay_budget * (1.0 + 1e-4)
        if s.battery_capacity is not None:
            assert info["energy_device_j"] + info["energy_upload_j"] <= info["battery_j"] * (1.0 + 1e-4)
        assert info["delivered"] in (0.0, info["quality"])
        assert 0.0 <= info["quality"] <= 1.0
        if s.arrivals != "one_at_a_time":
            assert np.abs(world.arrivals - (info["time_s"] - info["wait_s"])).min() < 1e-9


def random_policy(rng):
    """Anything, now and then out of range; or all tasks alike and fast, so that queues can empty."""
    fast = rng.random() < 0.3
    base = rng.uniform(-1.0, 1.0, 6)
    base[3:] = 1.0

    def policy(_):
        return base if fast else rng.uniform(-1.1, 1.1, 6)

    return policy


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    rng = np.random.default_rng(1)
    gains = "\n".join(f"{0.3 * k},{g}" for k, g in enumerate(rng.uniform(-125.0, -95.0, 50)))
    (folder / "channel.csv").write_text(f"time_s,gain_db\n{gains}\n")
    arrivals = "\n".join(str(t) for t in np.cumsum(rng.exponential(0.5, 40)))
    (folder / "arrivals.csv").write_text(f"time_s\n{arrivals}\n")
    return {"channel_trace": str(folder / "channel.csv"), "arrival_trace": str(folder / "arrivals.csv")}


ENERGIES = {"bert-multimodal": (0.3, 1.7), "paper-lyu": (0.01, 0.5)}
"""Budgets from where few designs fit to where most do, in J."""


def random_scenario(rng, traces, **fixed):
    pick = rng.choice
    base = str(pick(list(ENERGIES)))
    rate = float(10.0 ** rng.uniform(-0.5, 1.5))
    fields = {
        "workload": str(pick(["bert-base", "vit-base"])),
        "quality": str(pick(["rate_distortion", "magnitude_pruning", "random_pruning"])),
        "tasks": int(rng.integers(1, 40)),
        "queue_capacity": int(rng.integers(1, 4)),
        "patience": float(pick([1.0, rng.uniform(1.0, 3.0)])),
        "arrivals": str(pick(["periodic", "poisson", "mmpp", "trace"])),
        "arrival_rate": rate,
        "burst_rate": 5.0 * rate,
        "calm_duration": 3.0,
        "burst_duration": 2.0,
        "channel": str(pick(["constant", "fading", "trace"])),
        "doppler": float(rng.uniform(0.0, 3.0)),
        "block_duration": float(pick([0.05, 0.5])),
        "delay_budget": float(rng.uniform(0.3, 2.0)),
        "intensity_time": float(rng.uniform(0.5, 5.0)),
        "weight_delay": float(rng.uniform(0.0, 3.0)),
        "weight_energy": float(rng.uniform(0.0, 3.0)),
        "weight_drop": float(rng.uniform(0.0, 3.0)),
        "retained_device_min": float(rng.uniform(0.05, 1.0)),
    }
    if rng.random() < 0.5:
        fields["delay_budget_range"] = (0.2, 2.0)
        fields["energy_budget_range"] = ENERGIES[base]
    if rng.random() < 0.5:
        fields |= {"csi_delay": float(rng.uniform(0.0, 2.0)), "csi_noise_db": float(rng.uniform(0.0, 5.0))}
    if rng.random() < 0.6 and "delay_budget" not in fixed:
        fields |= {"energy_budget": 2.0} | random_physics(rng)
        if "energy_budget_range" in fields:
            fields["energy_budget_range"] = (0.5, 10.0)
    fields |= fixed
    for switch, path in (("channel", "channel_trace"), ("arrivals", "arrival_trace")):
        if fields[switch] == "trace":
            fields[path] = traces[path]
    return load_scenario(base, **fields)


def random_physics(rng):
    """Some of the constants that the paper's model leaves out."""
    drawn = {
        "static_power_device": 0.3,
        "static_power_server": 5.0,
        "waiting_power_device": 0.1,
        "circuit_power": 1.0,
        "amplifier_efficiency": 0.3,
        "rate_max": 2e7,
        "snr_gap": 2.0,
        "round_trip": 0.05,
        "memory_bandwidth_device": 3e9,
        "memory_bandwidth_server": 5e9,
        "memory_capacity_device": 2e8,
        "memory_capacity_server": 2.5e8,
        "sparsity_gain": 0.6,
    }
    return {name: value for name, value in drawn.items() if rng.random() < 0.7}


def play_random(seeds, traces, **fixed):
    """Infos of one random episode per seed, each compared with the simulator."""
    infos = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        scenario = random_scenario(rng, traces, **fixed)
        env = LAIMEnv(scenario.model_dump(by_alias=True))
        episode = compare(env, random_policy(rng), seed)
        check_books(env, episode)
        infos += episode
    return infos


@pytest.mark.parametrize("arrivals", ["periodic", "poisson", "mmpp", "trace"])
def test_random_worlds_agree_step_by_step(arrivals, traces):
    infos = play_random(range(10), traces, arrivals=arrivals)
    # Every branch was met: drops, a queue, tasks given up, tasks in and out of budget.
    for name in ("dropped", "queue_length", "violated", "delivered", "cost_delay", "cost_energy", "clipped", "limited"):
        assert any(info[name] > 0.0 for info in infos), name
    assert any(info["quality"] == 0.0 for info in infos)


def test_a_task_that_always_waits_agrees_step_by_step(traces):
    infos = play_random(range(8), traces, arrivals="one_at_a_time")
    assert all(info["wait_s"] == info["queue_length"] == info["dropped"] == 0.0 for info in infos)


@pytest.mark.parametrize("arrivals", ["poisson", "one_at_a_time"])
def test_tiny_batteries_agree_step_by_step(arrivals, traces):
    infos = []
    for capacity, initial, harvest in ((0.03, 0.5, 0.02), (0.2, 1.0, 0.1), (0.05, 0.0, 0.5), (2.0, 0.1, 0.0)):
        battery = {"battery_capacity": capacity, "battery_initial": initial, "harvest_power": harvest}
        infos += play_random(range(3), traces, arrivals=arrivals, **battery)
    assert any(info["quality"] == 0.0 and info["cost_delay"] == 0.0 for info in infos), "none ran out of battery"
    assert any(info["quality"] > 0.0 for info in infos)
    assert any(info["battery_j"] == 0.0 for info in infos)


def test_a_path_that_is_too_short_is_met_again_from_its_start(traces):
    # A path of 30 budgets and a quarter more, 1.875 s, for tasks that may take a hundred budgets each.
    scenario = {"arrivals": "one_at_a_time", "tasks": 30, "delay_budget": 0.05, "patience": 100.0}
    infos = play_random(range(5), traces, channel="fading", block_duration=0.01, delay_budget_range=None, **scenario)
    assert max(info["time_s"] for info in infos) > 1.875


WORKLOAD = """
name: by-hand
input_bits: 0.5e+6
blocks:
  - {name: one, flops: 1.0e+9, parameters: 100, activation_bits: 1.5e+6, laplacian_rate: 50}
  - {name: two, flops: 2.0e+9, parameters: 300, activation_bits: 1.0e+6, laplacian_rate: 50}
"""

BY_HAND = {
    "retained_device_min": 0.5,
    "retained_server_min": 0.5,
    "flops_per_cycle_device": 10,
    "flops_per_cycle_server": 10,
    "frequency_device_min": 0.5e8,
    "frequency_device_max": 1e8,
    "frequency_server_min": 0.5e9,
    "frequency_server_max": 1e9,
    "pue_device": 1,
    "pue_server": 1.5,
    "kappa_device": 1e-25,
    "kappa_server": 1e-27,
    "bandwidth": 1e6,
    "noise_density": 1e-15,
    "power_min": 0.1,
    "power_max": 0.7,
    "delay_budget": 1.9,
    "energy_budget": 0.5,
    "channel": "constant",
    "reference_gain_db": -80,
    "path_loss_exponent": 0,
    "arrivals": "periodic",
    "arrival_rate": 1.0,
    "intensity_time": 2.0,
    "tasks": 5,
    "queue_capacity": 1,
    "patience": 1.6,
    "weight_delay": 2,
    "weight_energy": 3,
    "weight_drop": 0.5,
}


@pytest.fixture
def by_hand(tmp_path):
    """Environment of which one can work out everything; battery and the like as keywords."""
    path = tmp_path / "by-hand.yaml"
    path.write_text(WORKLOAD)

    def make(**overrides):
        return LAIMEnv("paper-lyu", **(BY_HAND | {"workload": str(path), "input_bits": None} | overrides))

    return make


ON_DEVICE = [1, 1, -1, -1, 1, -1]  # all kept, highest clock: 3e9 / (1e8 x 10) = 3 s and 1e-25 x 1e16 x 3e8 = 0.3 J
IN_BETWEEN = [0, 1, -1, 1, 1, 1]  # cut 1, device kept whole, server half, all else at its highest


def test_an_episode_worked_out_by_hand(by_hand):
    # Tasks come 0, 1, 2, 3 and 4 s after the first. SNR is 1e-8 p / 1e-9: 3 Mbit/s at 0.7 W, 1 Mbit/s at 0.1 W.
    env = by_hand()
    observation, info = env.reset(seed=3)
    start = info["time_s"]
    assert 0.0 < start < 1.0
    assert observation.tolist() == pytest.approx([0.0, -1.0, -1.0, 1 / 2 - 1, 0.0, 0.0, 1.0])

    # 1. Device 1e9/(1e8 10) = 1 s and 1e-25 1e16 1e8 = 0.1 J; upload 1.5 Mbit = 0.5 s and 0.7 0.5 = 0.35 J;
    #    server 1e9/(1e9 10) = 0.1 s and 1.5 1e-27 1e18 1e8 = 0.15 J.
    observation, reward, _, truncated, info = env.step(IN_BETWEEN)
    assert [info[f"delay_{k}_s"] for k in ("device", "upload", "server")] == pytest.approx([1.0, 0.5, 0.1])
    assert [info[f"energy_{k}_j"] for k in ("device", "upload", "server")] == pytest.approx([0.1, 0.35, 0.15])
    assert (info["quality"], info["cost_delay"], info["cost_energy"]) == pytest.approx((250 / 400, 0.0, 0.2))
    assert (info["violated"], info["delivered"], info["dropped"]) == (1.0, 0.0, 0.0)
    assert reward == pytest.approx(0.625 * 5 / 8 - 3 * 3 / 8)  # m = 3 x 0.2 / (1 + 3 x 0.2)
    assert not truncated
    # The second task has waited 0.6 of 1.9 s; two came 1.6 s and 0.6 s ago, the memory is 2 s, the highest rate 1/s.
    rate = (math.exp(-0.8) + math.exp(-0.3)) / 2
    assert observation.tolist() == pytest.approx([0.0, -1.0, 1.2 / 1.9 - 1, rate - 1, 0.0, 0.0, 1.0], abs=1e-6)

    # 2. It would take 3 s, but patience ends at an age of 1.6 x 1.9 = 3.04 s, after 2.44 s, at 4.04 s. Meanwhile the
    #    third task (from 2 s on) waits until it is dropped at 3.9 s, the fourth (3 s) finds the one place taken and is
    #    lost too, and the fifth (4 s) finds it free.
    observation, reward, _, truncated, info = env.step(ON_DEVICE)
    assert (info["time_s"] - start, info["wait_s"], info["delay_budget_s"]) == pytest.approx((1.6, 0.6, 1.3))
    assert (info["delay_s"], info["energy_j"]) == pytest.approx((2.44, 0.3 * 2.44 / 3))
    assert (info["quality"], info["cost_delay"], info["cost_energy"]) == pytest.approx((0.0, 0.6, 0.0))
    assert (info["violated"], info["dropped"]) == (1.0, 2.0)
    assert reward == pytest.approx(-2 * 1.8 / 2.8 - 0.5 * (2 + 1))  # two in the queue, and the one given up
    assert not truncated
    rate = sum(math.exp(-age / 2) for age in (4.04, 3.04, 2.04, 1.04, 0.04)) / 2
    assert observation.tolist() == pytest.approx([0.0, -1.0, 0.08 / 1.9 - 1, rate - 1, 0.0, 0.0, 1.0], abs=1e-6)

    # 3. On the server, at half the ratio: upload 0.5 Mbit at 0.1 W = 0.5 s and 0.05 J; server at 0.75 GHz, whose
    #    square is 5 twelfths of the way from 0.5 to 1: 0.5 3e9 / 7.5e9 = 0.2 s and 1.5 1e-27 0.5625e18 0.5 3e8 =
    #    0.1265625 J. The energy of the device is nil.
    observation, reward, terminated, truncated, info = env.step([-1, 1, -1, -1, 1, -1 / 6])
    assert (info["time_s"] - start, info["wait_s"]) == pytest.approx((4.04, 0.04))
    assert (info["delay_device_s"], info["delay_upload_s"], info["delay_server_s"]) == pytest.approx((0.0, 0.5, 0.2))
    assert (info["delay_s"], info["energy_j"]) == pytest.approx((0.7, 0.1765625))
    assert (info["cut"], info["quality"], info["delivered"], info["violated"]) == pytest.approx((0, 0.5, 0.5, 0))
    assert reward == pytest.approx(0.5)
    assert (terminated, truncated) == (False, True)
    # The next task comes at 5 s, 0.26 s after the end; the episode does not decide it.
    assert observation[[0, 1, 2, 4, 5, 6]].tolist() == pytest.approx([0.0, -1.0, -1.0, 0.0, 0.0, 1.0])


def test_a_battery_worked_out_by_hand(by_hand):
    # 0.2 J of 0.25 J, 0.04 W of harvest; patience enough.
    battery = {"battery_capacity": 0.25, "battery_initial": 0.8, "harvest_power": 0.04, "patience": 4.0}
    env = by_hand(arrivals="one_at_a_time", **battery)
    observation, info = env.reset()
    assert info["battery_j"] == pytest.approx(0.2)
    assert observation[6] == pytest.approx(0.6)
    # On the device it would take 0.3 J: out of battery after 2 of 3 s, in which it then harvests 0.08 J.
    observation, reward, _, _, info = env.step(ON_DEVICE)
    assert (info["delay_s"], info["energy_j"], info["quality"]) == pytest.approx((2.0, 0.2, 0.0))
    assert (info["violated"], info["cost_delay"]) == pytest.approx((1.0, 2.0 / 1.9 - 1.0))
    assert info["abandoned"] == 1.0
    assert reward == pytest.approx(-2 * 0.3 / 2.2 - 0.5)  # an excess of 0.1 / 1.9
    assert observation[6] == pytest.approx(2 * 0.08 / 0.25 - 1)
    # On the server, 0.05 J for the upload alone: done in 0.7 s.
    observation, _, _, _, info = env.step([-1, 1, -1, -1, 1, -1 / 6])
    assert (info["battery_j"], info["quality"]) == pytest.approx((0.08, 0.5))
    assert observation[6] == pytest.approx(2 * (0.08 - 0.05 + 0.7 * 0.04) / 0.25 - 1)


def test_a_battery_that_fails_during_the_upload_has_run_the_device_to_its_end(by_hand):
    # 0.275 J: 0.1 J and 1 s for the device, then half of the upload, 0.175 of 0.35 J in 0.25 of 0.5 s.
    env = by_hand(battery_capacity=0.275, energy_budget=1.0)
    env.reset(seed=0)
    info = env.step(IN_BETWEEN)[-1]
    assert [info[f"delay_{k}_s"] for k in ("device", "upload", "server")] == pytest.approx([1.0, 0.25, 0.0])
    assert [info[f"energy_{k}_j"] for k in ("device", "upload", "server")] == pytest.approx([0.1, 0.175, 0.0])
    assert info["quality"] == 0.0


def in_pairs(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("time_s\n" + "".join(f"{t}\n{t}\n" for t in range(0, 40, 4)))
    return {"arrivals": "trace", "arrival_trace": str(path)}


def test_of_two_that_come_at_once_one_is_served_and_one_waits(by_hand, tmp_path):
    env = by_hand(tasks=30, **in_pairs(tmp_path))
    for seed in range(2):
        _, info = env.reset(seed=seed)
        lost, served, truncated = info["dropped"], 0, False
        while not truncated:
            _, _, _, truncated, info = env.step([-1, 1, -1, 1, 1, 1])
            lost, served = lost + info["dropped"], served + 1
        assert (lost, served) == (0.0, 30)


def test_tasks_lost_before_the_first_decision_are_counted(by_hand, tmp_path):
    path = tmp_path / "five.csv"
    path.write_text("time_s\n" + "".join(f"{t}\n" * 5 for t in range(0, 40, 4)))
    env = by_hand(tasks=30, arrivals="trace", arrival_trace=str(path))
    for seed in range(2):
        _, info = env.reset(seed=seed)
        lost, served, truncated = info["dropped"], 0, False
        while not truncated:
            _, _, _, truncated, info = env.step([-1, 1, -1, 1, 1, 1])
            lost, served = lost + info["dropped"], served + 1
        assert lost + served == 30


def test_the_last_observation_counts_the_task_at_the_head_as_arrived(by_hand):
    env = by_hand(tasks=1, intensity_time=4.0)
    env.reset(seed=0)
    observation, _, _, truncated, _ = env.step([-1, 1, -1, 1, 1, 1])
    assert truncated
    assert observation[3] == pytest.approx((1 + math.exp(-1 / 4)) / 4 - 1, abs=1e-6)  # one came 1 s ago, one now


def test_a_task_waits_less_than_its_delay_budget_however_often_deadlines_pass(by_hand):
    env = by_hand(arrival_rate=20.0, tasks=300, queue_capacity=64, patience=1.01, arrivals="poisson")
    _, info = env.reset(seed=0)
    waits, truncated = [], False
    while not truncated:
        _, _, _, truncated, info = env.step([-1, 1, -1, 1, 1, 1])
        waits.append(info["wait_s"])
    assert 1.0 < max(waits) < 1.9
