"""Layerwise-v0 as its users meet it: scenarios, files of one's own, pictures, and every number reckoned by hand."""

import functools
import math
from itertools import product

import gymnasium as gym
import numpy as np
import pytest
from scipy.special import exp1

import coinfer_gym  # noqa: F401  registers the ids
from coinfer_gym import InvalidInputError, load_scenario
from coinfer_gym.envs.hybrid import HybridActions
from coinfer_gym.laim.env import LAIMEnv
from coinfer_gym.layerwise.env import LayerwiseEnv
from coinfer_gym.layerwise.network import load_network
from coinfer_gym.layerwise.predictor import RegressionPredictor, feature_names
from coinfer_gym.layerwise.problem import LayerwiseDecision
from coinfer_gym.layerwise.scenario import (
    DEVICES,
    DEVICES_TODAY,
    LINKS,
    LINKS_TODAY,
    NETWORKS,
    load_layerwise_scenario,
    shipped_layerwise_scenarios,
)
from coinfer_gym.layerwise.trees import LEAF
from coinfer_gym.scenario import WorldScenario
from tests.coinfer_gym.equal import plain

LAYERWISE = "coinfer_gym/Layerwise-v0"
FORGIVEN = 1e-5  # accuracy that may be missing, as every limit is met up to so much


def random_predictor(name, trees=30, seed=0):
    """Small trees of random tests and a linear form of random coefficients, around 0.82."""
    rng, network = np.random.default_rng(seed), load_network(name)
    names = feature_names([group.name for group in network.groups], noisy=False)
    high = [*[1.0] * len(network.groups), network.cuts, 1.0, 16.0]
    tests, numbers = [], []

    def grow(depth):
        if depth == 0 or rng.random() < 0.1:
            tests.append(LEAF)
            numbers.append(rng.normal(0.0, 0.004))
            return
        feature = int(rng.integers(len(names)))
        tests.append(feature)
        numbers.append(rng.uniform(0.0, high[feature]))
        grow(depth - 1)
        grow(depth - 1)

    for _ in range(trees):
        grow(3)
    coefficients = rng.uniform(0.0, 0.002, len(names))
    return RegressionPredictor(
        "random", name, 0.84, names, "Trees", {}, 0.82, coefficients, np.array(tests), np.array(numbers)
    )


@pytest.fixture(scope="module")
def predictors(tmp_path_factory):
    """Files of `random_predictor` by network: no test depends on what the shipped ones say."""
    folder = tmp_path_factory.mktemp("predictors")
    files = {}
    for name in NETWORKS:
        files[name] = folder / f"{name}.json"
        files[name].write_text(random_predictor(name).to_json())
    return files


def steps(env, count, seed):
    """What `count` random steps hand out; a new episode begins where one ends."""
    rng, out = np.random.default_rng(seed), []
    for _ in range(count):
        out.append(env.step(rng.uniform(-1.1, 1.1, env.action_space.shape).astype(np.float32)))
        if out[-1][3]:
            out.append(env.reset())
    return out


# --- the world, actions and decisions


def test_one_seed_is_one_world_in_both_environments():
    scenario = load_scenario("bert-multimodal", delay_budget_range=(0.7, 2.0)).model_dump()
    world = {name: scenario[name] for name in WorldScenario.model_fields if name not in ("name", "description")}
    laim, layerwise = LAIMEnv(**world), LayerwiseEnv(**world)
    for env in (laim, layerwise):
        env.reset(seed=5)
    for _ in range(3):
        one, two = laim.world(), layerwise.world()
        assert one.seed == two.seed
        assert np.array_equal(one.gains, two.gains)
        assert np.array_equal(one.arrivals, two.arrivals)
        assert (one.delay_budget, one.energy_budget) == (two.delay_budget, two.energy_budget)
        for env in (laim, layerwise):
            env.reset()


def random_decision(rng, s, compression):
    return LayerwiseDecision(
        int(rng.integers(s.network.cuts)),
        tuple(rng.uniform(s.retained_min, 1.0, len(s.network.groups)).tolist()),
        compression,
        s.power_min * (s.power_max / s.power_min) ** rng.uniform(),
        rng.uniform(s.frequency_device_min, s.frequency_device_max),
    )


@pytest.mark.parametrize("network", NETWORKS)
def test_decisions_become_actions_and_come_back(network):
    env, rng = LayerwiseEnv(f"{network}-rpi4b-4g"), np.random.default_rng(0)
    for k in range(200):
        decision = random_decision(rng, env.scenario, 1.0 if k % 2 else 1024.0 ** -rng.uniform())
        action = env.action(decision)
        assert action in env.action_space
        back = env.decision(action)
        controls = decision.power, decision.frequency
        cut, retained, compression, *_ = rounded(env.scenario, (decision.cut, decision.retained, decision.compression))
        assert (back.cut, back.retained, back.compression) == (cut, tuple(retained), compression)
        assert (back.power, back.frequency) == pytest.approx(controls, rel=3e-6)
        assert (env.action(back) == action).all()
    with pytest.raises(InvalidInputError, match="Give a LayerwiseDecision"):
        env.action(np.ones(5))


def rounded(s, decision):
    """A decision with the shares of channels that are kept and sent: the nearest whole numbers, in plain Python."""
    cut, retained, compression, *controls = decision
    kept = [
        group.step * max(1, math.floor(ratio * group.channels / group.step + 0.5))
        for group, ratio in zip(s.network.groups, retained, strict=True)
    ]
    names = [group.name for group in s.network.groups]
    outputs = s.network.blocks[cut - 1].outputs if 0 < cut < len(s.network.blocks) else None
    before = kept[names.index(outputs)] if outputs in names else 1
    shares = [count / group.channels for count, group in zip(kept, s.network.groups, strict=True)]
    return cut, shares, max(1, math.floor(compression * before + 0.5)) / before, *controls


def decision_of(s, action):
    """The table of the action space, in plain Python."""
    a = [min(1.0, max(-1.0, float(x))) for x in action]
    whole = sum(1.0 / k for k in range(1, s.cuts + 1))
    rank, end = 0, 2.0 / whole - 1.0
    while a[0] >= end and rank < s.cuts - 1:
        rank, end = rank + 1, end + 2.0 / whole / (rank + 2)
    return decision_at(s, fastest_first(s)[rank], a[1:])


@functools.cache
def fastest_first(s):
    """Cuts by the delay of a middle action at the mean gain."""
    gain, middle = 10.0 ** (s.mean_gain_db / 10.0), [0.0] * (len(s.network.groups) + 3)
    return sorted(range(s.cuts), key=lambda cut: sum(phases_of(s, decision_at(s, cut, middle), gain)[0]))


def decision_at(s, cut, a):
    """The decision at a cut of the other components of an action."""

    def linear(x, low, high):
        return low + 0.5 * (x + 1.0) * (high - low)

    least = least_share(s, cut)
    if a[-3] >= 0.75:
        compression = 1.0
    elif a[-3] >= -0.25:
        compression = least + (1.0 - least) * (a[-3] + 0.25) ** 3
    else:
        compression = least * (1.0 - ((-0.25 - a[-3]) / 0.75) ** 3)
    power = linear(a[-2], s.power_min, s.power_max)
    retained = [1.0 - (1.0 - s.retained_min) * ((1.0 - x) / 2.0) ** 3 for x in a[:-3]]
    frequency = math.sqrt(linear(a[-1], s.frequency_device_min**2, s.frequency_device_max**2))
    return rounded(s, (cut, retained, compression, power, frequency))


@functools.cache
def least_share(s, cut):
    """The least share of the channels before a cut that the unpruned network can send at the least accuracy."""
    outputs = s.network.blocks[cut - 1].outputs if 0 < cut < len(s.network.blocks) else None
    before = {group.name: group.channels for group in s.network.groups}.get(outputs, 1)
    unpruned = [1.0] * len(s.network.groups)
    for sent in range(1, before + 1):
        decision = cut, unpruned, sent / before, s.power_max, s.frequency_device_max
        if predicted(s.predictor, decision, phases_of(s, decision, 1.0)[2]) >= s.accuracy_min:
            return sent / before
    return 1.0


def layer_flops(layer, width):
    """Table I, layer by layer."""
    inputs, outputs = width(layer.inputs if layer.fan_in is None else layer.fan_in), width(layer.outputs)
    positions = layer.height * layer.width
    return {
        "conv": 2 * positions * (inputs * layer.kernel**2 + 1) * outputs,
        "fc": (2 * inputs * layer.area - 1) * outputs,
        "maxpool": layer.kernel**2 * positions * outputs,
    }.get(layer.type, positions * outputs)


def phases_of(s, decision, gain):
    """Seconds and joules of device, upload and server by eqs. 1-6, and the values that are sent."""
    cut, retained, compression, power, frequency = decision
    network = s.network
    kept = {
        group.name: group.step * max(1, math.floor(ratio * group.channels / group.step + 0.5))
        for group, ratio in zip(network.groups, retained, strict=True)
    }

    def width(channels):
        return kept.get(channels, channels)

    flops = [sum(layer_flops(layer, width) for layer in block.layers) for block in network.blocks]
    device, server = sum(flops[:cut]), sum(flops[cut:])
    values, bits = network.input_values, s.input_value_bits
    if cut == len(network.blocks):
        values = 0
    elif cut > 0:
        block, bits = network.blocks[cut - 1], s.feature_value_bits
        channels = width(block.outputs)
        sent = max(1, math.floor(compression * channels + 0.5))
        values = sent * block.area
        if sent < channels and block.vector:
            device, server = device + (2 * channels - 1) * sent, server + (2 * sent - 1) * channels + channels
        elif sent < channels:
            device += 2 * block.area * (channels + 1) * sent
            server += 2 * block.area * (sent + 1) * channels + block.area * channels
    rate = s.bandwidth * math.log2(1.0 + power * gain / (s.noise_density * s.bandwidth))
    upload = values * bits / rate
    t_device = device / (frequency * s.flops_per_cycle_device)
    t_server = server / (s.frequency_server * s.flops_per_cycle_server)
    energies = (
        s.pue_device * s.kappa_device * frequency**3 * t_device,
        power * upload,
        s.pue_server * s.kappa_server * s.frequency_server**3 * t_server,
    )
    return (t_device, upload, t_server), energies, values


def predicted(predictor, decision, values):
    """The predictor walked node by node."""
    cut, retained, compression, *_ = decision
    features = [*retained, float(cut), compression, math.log2(values) if values > 0 else 0.0]
    if compression == 1.0:  # without a codec the cut makes no difference
        features[-3:] = 0.0, 1.0, math.log2(3072)
    total = predictor.base + float(np.dot(predictor.coefficients, features))
    node = 0

    def skip(node):
        return node + 1 if predictor.tests[node] == LEAF else skip(skip(node + 1))

    while node < len(predictor.tests):
        end = skip(node)
        while predictor.tests[node] != LEAF:
            above = features[predictor.tests[node]] > predictor.numbers[node]
            node = skip(node + 1) if above else node + 1
        total, node = total + predictor.numbers[node], end
    return min(1.0, max(0.0, total))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("arrivals", ["poisson", "one_at_a_time"])
def test_every_number_of_a_step_is_reckoned_by_hand(network, arrivals, predictors):
    env = LayerwiseEnv(f"{network}-rpi4b-4g", predictor=str(predictors[network]), arrivals=arrivals, tasks=150)
    s, rng, seen = env.scenario, np.random.default_rng(0), {"met": 0, "short": 0, "abandoned": 0, "codec": 0}
    env.reset(seed=0)
    truncated = False
    while not truncated:
        action = rng.uniform(-1.0, 1.0, env.action_space.shape)
        kind = rng.random()
        if kind < 0.5:  # a design that may be fast and accurate enough
            action[1:-3], action[0] = rng.uniform(0.5, 1.0, len(action) - 4), rng.choice(s.cut_components[[0, -1]])
            action[[-2, -1]] = 1.0
        elif kind < 0.75:  # one that is pruned far
            action[1:-3] = rng.uniform(-1.0, -0.5, len(action) - 4)
        else:  # one that is slow
            action[[0, -3]], action[[-2, -1]] = 1.0, -1.0
        problem, decision = env.problem(), decision_of(s, action)
        _, reward, _, truncated, info = env.step(action)
        delays, energies, values = phases_of(s, decision, 10.0 ** (info["gain_db"] / 10.0))
        accuracy = predicted(s.predictor, decision, values)
        names = ("cut", *(f"retained_{g.name}" for g in s.network.groups), "compression", "power_w")
        cut, retained, compression, power, frequency = decision
        expected = dict(zip(names, (cut, *retained, compression, power), strict=True))
        expected |= {"frequency_device_hz": frequency, "sent_values": values, "accuracy": accuracy}
        shortfall = max(0.0, 1.0 - (accuracy + FORGIVEN) / s.accuracy_min)
        expected["cost_accuracy"] = shortfall
        budget = info["wait_s"] + info["delay_budget_s"]
        age = info["wait_s"] + sum(delays)
        if age <= s.patience * budget:
            parts = ("device", "upload", "server")
            expected |= {f"delay_{part}_s": value for part, value in zip(parts, delays, strict=True)}
            expected |= {f"energy_{part}_j": value for part, value in zip(parts, energies, strict=True)}
            expected |= {"quality": max(0.0, 1.0 - age / budget), "abandoned": 0.0}
            late, costly = max(0.0, age / budget - 1.0), max(0.0, sum(energies) / s.energy_budget - 1.0)
        else:
            expected |= {"quality": 0.0, "abandoned": 1.0, "cost_delay": s.patience - 1.0}
            late, costly = s.patience - 1.0, max(0.0, info["energy_j"] / s.energy_budget - 1.0)
        met = late == 0.0 and costly == 0.0 and shortfall == 0.0 and not expected["abandoned"]
        expected |= {"cost_delay": late, "cost_energy": costly, "cost": late + costly + shortfall}
        expected |= {"violated": float(not met), "delivered": expected["quality"] if met else 0.0}
        assert {name: info[name] for name in expected} == pytest.approx(expected, rel=1e-6, abs=2e-6)
        lost = info["dropped"] + info["abandoned"]
        prices = ((s.weight_delay, late), (s.weight_energy, costly), (s.weight_accuracy, shortfall))
        kept = [1.0 / (1.0 + steepness * x) for steepness, (_, x) in zip((3.0, 3.0, 120.0), prices, strict=True)]
        paid = expected["quality"] * math.prod(kept)
        paid -= sum(weight * (1.0 - share) for (weight, _), share in zip(prices, kept, strict=True))
        assert reward == pytest.approx(paid - s.weight_drop * lost, abs=1e-5)
        if not info["abandoned"]:
            outcome = problem.evaluate(problem.row(env.decision(action))[None])
            assert info["accuracy"] == outcome.accuracy[0]
            assert info["sent_values"] == outcome.sent_values[0]
            assert info["delay_s"] == pytest.approx(outcome.delay[0], rel=1e-12)
            assert info["energy_j"] == pytest.approx(outcome.energy[0], rel=1e-12)
        if shortfall > 0.0:
            assert (info["delivered"], info["violated"]) == (0.0, 1.0)
        seen["met"] += met and info["quality"] > 0.0
        seen["short"] += shortfall > 0.0 and not info["abandoned"]
        seen["abandoned"] += expected["abandoned"]
        seen["codec"] += 0 < values < s.network.upload_values(retained)[cut]
    assert min(seen.values()) > 0, seen


@pytest.mark.parametrize(("component", "name"), [(0, "cut"), (6, "retained_fc1"), (10, "frequency_device")])
def test_a_nan_is_an_error_that_names_its_component(component, name):
    env, twin = LayerwiseEnv(), LayerwiseEnv()
    env.reset(seed=4)
    twin.reset(seed=4)
    action = np.zeros(11)
    action[component] = np.nan
    with pytest.raises(InvalidInputError, match=rf"{name}: got nan"):
        env.step(action)
    assert plain(steps(env, 5, 0)) == plain(steps(twin, 5, 0))
    for malformed in (action, np.zeros(10), np.zeros((1, 11)), None):
        with pytest.raises(InvalidInputError, match="action"):
            env.decision(malformed)


# --- scenarios


def test_every_shipped_scenario_steps():
    names = shipped_layerwise_scenarios()
    worlds = [*product(NETWORKS, DEVICES, LINKS), *product(NETWORKS, DEVICES_TODAY, LINKS_TODAY)]
    assert names == sorted("-".join(parts) for parts in worlds)
    for name in names:
        env = LayerwiseEnv(name, tasks=5)
        observation, _ = env.reset(seed=0)
        for result in steps(env, 6, 0):
            assert np.isfinite(result[0]).all()
        assert env.scenario.name == name
        assert observation.shape == (7,)


@pytest.mark.parametrize(
    ("link", "rate"),
    [("3g", 1.19e6), ("4g", 11.22e6), ("5g", 52.24e6), ("wifi", 54.19e6), ("5gtoday", 19.9e6), ("wifi6", 6e8)],
)
def test_fading_gives_the_rate_of_the_link_on_average(link, rate):
    s = load_layerwise_scenario(f"alexnet-{'phone' if link in LINKS_TODAY else 'rpi4b'}-{link}")
    gain = 10 ** (s.reference_gain_db / 10) * s.distance**-s.path_loss_exponent
    snr = s.power_max * gain / (s.noise_density * s.bandwidth)
    # E[log2(1 + snr X)] with X exponential of mean 1
    mean = s.bandwidth * math.exp(1 / snr) * exp1(1 / snr) / math.log(2)
    assert mean == pytest.approx(rate, rel=2e-3)


def test_devices_and_links_of_today_are_those_of_laim():
    server = ["flops_per_cycle_server", "kappa_server", "pue_server"]
    device = ["flops_per_cycle_device", "kappa_device", "frequency_device_min", "frequency_device_max"]
    radio = ["bandwidth", "power_min", "power_max"]
    for name, other, fields in (
        ("alexnet-phone-wifi6", "phone-llama-2026", [*device, *server, *radio]),
        ("regnet-phone-5gtoday", "phone-5g-2026", [*device, *server, *radio]),
        ("regnet-orin-wifi6", "jetson-llama-2026", device),
    ):
        mine, theirs = load_layerwise_scenario(name), load_scenario(other)
        assert {field: getattr(mine, field) for field in fields} == {field: getattr(theirs, field) for field in fields}
        if "kappa_server" in fields:
            assert mine.frequency_server == theirs.frequency_server_max
    assert load_scenario("phone-llama-2026").rate_max == 6e8


def test_a_file_of_ones_own_extends_a_shipped_scenario(tmp_path):
    predictor = random_predictor("alexnet", trees=3)
    (tmp_path / "mine.json").write_text(predictor.to_json())
    (tmp_path / "mine.yaml").write_text(
        "extends: alexnet-rpi4b-4g\nname: mine\npredictor: mine.json\naccuracy_loss: 0.1\n"
    )
    env = LayerwiseEnv(str(tmp_path / "mine.yaml"), bandwidth=1e6)
    shipped = LayerwiseEnv("alexnet-rpi4b-4g").scenario
    s = env.scenario
    assert (s.name, s.bandwidth, s.delay_budget) == ("mine", 1e6, shipped.delay_budget)
    assert s.accuracy_min == pytest.approx(predictor.unpruned - 0.1)
    env.reset(seed=0)
    steps(env, 5, 0)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"scenario": "alexnet-rpi4b-6g"}, "Did you mean"),
        ({"accuracy_los": 0.1}, "Did you mean 'accuracy_loss'"),
        ({"network": "alexnot"}, "Did you mean 'alexnet'"),
        ({"network": "regnet"}, "features"),
        ({"predictor": "none.json"}, "no such file"),
        ({"retained_min": 0.0}, "retained_min"),
        ({"accuracy_loss": -0.1}, "accuracy_loss"),
        ({"weight_accuracy": math.nan}, "weight_accuracy"),
        ({"frequency_device_min": 2e9}, "frequency_device"),
        ({"power_min": 1.0}, "power_min"),
        ({"workload": "bert-base"}, "workload"),
    ],
)
def test_a_wrong_keyword_is_an_error_that_helps(kwargs, message):
    with pytest.raises(InvalidInputError, match=message):
        LayerwiseEnv(**kwargs)


def test_a_battery_is_drained_and_ends_service():
    env = LayerwiseEnv(battery_capacity=0.1, battery_initial=1.0, harvest_power=0.01, tasks=30)
    env.reset(seed=0)
    infos = [result[-1] for result in steps(env, 25, 0) if len(result) == 5]
    assert infos[0]["battery_j"] == pytest.approx(0.1)
    assert any(info["abandoned"] and info["delay_s"] + info["wait_s"] < 0.06 for info in infos)
    for info in infos:
        assert info["energy_device_j"] + info["energy_upload_j"] <= info["battery_j"] * (1.0 + 1e-4)


# --- wrappers


def test_hybrid_actions_give_the_cut_as_a_whole_number():
    for kind in ("dict", "tuple"):
        env = HybridActions(gym.make(LAYERWISE), kind=kind)
        env.reset(seed=0)
        for cut in range(12):
            controls = np.full(10, 0.3, np.float32)
            info = env.step({"cut": cut, "controls": controls} if kind == "dict" else (cut, controls))[-1]
            assert info["cut"] == cut
        assert env.action_space.sample() is not None
        with pytest.raises(InvalidInputError, match="0 to 11"):
            env.action({"cut": 12, "controls": controls} if kind == "dict" else (12, controls))


# --- pictures

DEVICE, SERVER, BAD, GOOD = (0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00), (0xB2, 0x18, 0x2B), (0x00, 0x9E, 0x73)


def count(picture, colour):
    """How many pixels have a colour."""
    return int((picture == np.array(colour)).all(axis=-1).sum())


def test_the_strip_shows_cut_widths_and_codec():
    pytest.importorskip("PIL")
    env = LayerwiseEnv("alexnet-rpi4b-4g", render_mode="rgb_array", arrivals="one_at_a_time")
    areas = {}
    for name, (cut, retained, compression) in {
        "server": (0, 1.0, 1.0),
        "middle": (6, 1.0, 1.0),
        "encoded": (6, 1.0, -1.0),
        "device": (11, 1.0, 1.0),
        "pruned": (11, -1.0, 1.0),
    }.items():
        env.reset(seed=0)
        env.step(np.array([env.scenario.cut_components[cut], *[retained] * 7, compression, 1.0, 1.0], np.float32))
        strip = env.render()[360:430]
        areas[name] = count(strip, DEVICE), count(strip, SERVER)
    assert areas["server"][1] > areas["middle"][1] > areas["device"][1] == 0
    assert areas["device"][0] > areas["middle"][0] > areas["server"][0]
    assert areas["pruned"][0] < 0.2 * areas["device"][0]
    assert all(more > less + 300 for more, less in zip(areas["encoded"], areas["middle"], strict=True))


def test_the_accuracy_stands_beside_its_least(predictors):
    pytest.importorskip("PIL")
    bars = []
    for loss in (0.5, 0.0):
        kwargs = {"predictor": str(predictors["alexnet"]), "accuracy_loss": loss, "arrivals": "one_at_a_time"}
        env = LayerwiseEnv("alexnet-rpi4b-5g", render_mode="rgb_array", **kwargs)
        env.reset(seed=3)
        info = env.step(np.r_[env.scenario.cut_components[0], -np.ones(7), np.ones(3)])[-1]
        panel = env.render()[592:612, 712:]
        bars.append((info["cost_accuracy"] > 0.0, count(panel, BAD) > 500, count(panel, GOOD) > 500))
        env.render_mode = "ansi"
        text = env.render()
        assert f"accuracy {info['accuracy']:.4f} of at least {env.scenario.accuracy_min:.4f}" in text
        assert ("too inaccurate" in text) == bool(info["cost_accuracy"])
        assert f"sent {info['sent_values']:.0f} of 3072 values" in text
    assert bars == [(False, False, True), (True, True, False)]


def test_the_text_tells_the_facts():
    env = LayerwiseEnv("regnet-rpi4b-4g", render_mode="ansi", channel="constant")
    env.reset(seed=0)
    assert "Layerwise-v0 regnet-rpi4b-4g" in env.render()
    assert "no decision yet" in env.render()
    info = env.step(np.array([env.scenario.cut_components[13], 1.0, -0.6442, -1.0, 1.0, 0.0, 1.0, 1.0], np.float32))[-1]
    text = env.render()
    assert "cut     13 of 25" in text
    assert "stage1 100 %  stage2 50 %  stage3 10 %  stage4 100 %" in text
    for fact in ("at 1.50 GHz", "at 1.33 GHz", "23.0 dBm", f"{info['energy_j']:.4f} of"):
        assert fact in text
    kbit = info["sent_values"] * 32 / 1e3
    assert f"upload {kbit:.3g}" in text
