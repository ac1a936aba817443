"""What an observed gain tells: against simulated worlds, the environment, and closed forms of scipy."""

import math

import gymnasium as gym
import numpy as np
import pytest
from scipy import stats

from coinfer_gym import GainBelief, GainPosterior, InvalidInputError, load_scenario
from coinfer_gym.cell.scenario import load_cell_scenario
from coinfer_gym.physics import from_db
from coinfer_gym.world import build_world_tables, draw
from tests.interpreted import samples

LAIM = "coinfer_gym/LAIM-v0"
CHANNELS = {
    "noise": {"csi_noise_db": 2.0},
    "noise, no shadowing": {"csi_noise_db": 1.0, "shadowing_db": 0},
    "noise, line of sight": {"csi_noise_db": 3.0, "rician_factor": 10},
    "delay of half a block and noise": {"csi_delay": 0.5, "csi_noise_db": 1.0},
    "delay of a block and noise": {"csi_delay": 1.0, "csi_noise_db": 3.0, "shadowing_db": 0},
    "delay of 2.3 blocks and noise": {"csi_delay": 2.3, "csi_noise_db": 0.5, "shadowing_db": 4},
    "delay, noise, line of sight": {"csi_delay": 1.0, "csi_noise_db": 1.0, "rician_factor": 3},
    "delay, noise, slow": {"csi_delay": 1.0, "csi_noise_db": 0.5, "doppler": 0.1, "shadowing_db": 0},
}
WITHOUT_NOISE = {
    "delay of half a block": {"csi_delay": 0.5},
    "delay of a block": {"csi_delay": 1.0},
    "delay, no shadowing": {"csi_delay": 1.0, "shadowing_db": 0},
    "delay, line of sight": {"csi_delay": 1.5, "rician_factor": 5},
    "delay, fading against its phase": {"csi_delay": 1.0, "doppler": 0.6, "rician_factor": 2, "shadowing_db": 3},
    "delay, fading that stands still": {"csi_delay": 1.0, "doppler": 0.0},
}


def path_gain(scenario):
    return float(build_world_tables(scenario).record[0].path_gain)


@pytest.mark.parametrize("channel", CHANNELS.values(), ids=CHANNELS.keys())
def test_posterior_is_that_of_simulated_worlds_to_three_digits(channel):
    """Instants of simulated worlds count by how likely their gain is observed as given: Bayes' rule by Monte Carlo."""
    scenario = load_scenario("bert-multimodal", tasks=100_000, **channel)
    tables, rng, path = build_world_tables(scenario), np.random.default_rng(1), path_gain(scenario)
    observed_db = 10.0 * math.log10(path) + np.array([-9.0, 0.0, 4.0])
    posteriors = [GainBelief(scenario).given(from_db(value)) for value in observed_db]
    levels = [np.interp([0.9, 0.6, 0.3, 0.05], p.survival[::-1], p.gains[::-1]) for p in posteriors]
    found = []
    for seed in range(samples(60)):
        gains = draw(tables, seed).gains
        lag = math.floor(scenario.csi_delay / scenario.block_duration)
        late = rng.random(gains.size) * scenario.block_duration < scenario.csi_delay - lag * scenario.block_duration
        now = np.arange(lag + 1, gains.size)
        before, current = 10.0 * np.log10(gains[now - lag - late[now]]), gains[now]
        likely = np.exp(-0.5 * ((observed_db[:, None] - before) / scenario.csi_noise_db) ** 2)
        above = [(likely[k] * (current >= level[:, None])).sum(axis=1) for k, level in enumerate(levels)]
        found.append([likely.sum(axis=1)[:, None] * np.ones(4), above])
    weight, above = np.moveaxis(np.array(found), 1, 0)
    mean = above.sum(axis=0) / weight.sum(axis=0)
    error = np.sqrt((((above - mean * weight) / weight.mean(axis=0)) ** 2).sum(axis=0)) / len(found)
    expected = np.array([p.probability(level) for p, level in zip(posteriors, levels, strict=True)])
    assert len(found) < 60 or error.max() < 2e-3
    assert np.abs(mean - expected).max() < 1e-3 + 4.0 * error.max()
    assert (np.abs(mean - expected) < 4.0 * error + 2e-4).all()


@pytest.mark.parametrize("channel", [*CHANNELS.values(), *WITHOUT_NOISE.values()], ids=[*CHANNELS, *WITHOUT_NOISE])
def test_gain_that_a_decision_meets_is_distributed_as_the_environment_lets_expect(channel):
    """The probability to be surpassed of what comes true is uniform, whatever was observed."""
    env = gym.make(LAIM, tasks=24, **channel).unwrapped
    belief, rng = GainBelief(env.scenario), np.random.default_rng(2)
    action, surpassed, observed = np.array([1.0, -1, -1, 1, 1, 1], np.float32), [], []
    for seed in range(samples(600)):
        _, info = env.reset(seed=seed)
        ended = False
        while not ended:
            problem, before = env.problem(), info["time_s"]
            _, _, _, ended, info = env.step(action)
        assert before > env.scenario.csi_delay
        posterior, gain = belief.given(problem.gain), from_db(info["gain_db"])
        beyond, at_least = posterior.probability(gain * (1.0 + 1e-12)), posterior.probability(gain)
        surpassed.append(beyond + rng.random() * (at_least - beyond))
        observed.append(problem.gain)
    assert stats.kstest(surpassed, "uniform").pvalue > 1e-3
    assert stats.spearmanr(surpassed, observed).pvalue > 1e-3


@pytest.mark.parametrize("rician", [0.0, 0.5, 4.0, 30.0])
@pytest.mark.parametrize("doppler", [0.05, 0.25, 0.7])
def test_late_gain_without_shadowing_is_a_non_central_chi_square(rician, doppler):
    scenario = load_scenario("bert-multimodal", csi_delay=2.0, shadowing_db=0, rician_factor=rician, doppler=doppler)
    r = build_world_tables(scenario).record[0]
    rho, a, s = r.fading_correlation**2, r.line_of_sight, r.scattered
    variance = s * s * (1.0 - rho * rho)
    for amplitude in (0.3, 1.0, 1.6):
        posterior = GainBelief(scenario).given(r.path_gain * amplitude**2)
        levels = np.array([0.05, 0.3, 1.0, 2.0])

        phases = np.linspace(0.0, math.pi, 2001)[:, None]
        mean = np.abs(a * (1.0 - rho) + rho * amplitude * np.exp(1j * phases))
        above = stats.ncx2.sf(levels / variance, 2, mean**2 / variance)
        weights = np.exp(a * amplitude / (s * s) * (np.cos(phases) - 1.0)) * np.ones(levels.size)
        weights[[0, -1]] *= 0.5
        assert posterior.probability(r.path_gain * levels) == pytest.approx(
            np.average(above, axis=0, weights=weights), abs=3e-4
        )


def test_noisy_gain_is_weighed_by_its_prior():
    scenario = load_scenario("bert-multimodal", csi_noise_db=2.0, shadowing_db=0)
    path, nu = path_gain(scenario), 2.0 * math.log(10.0) / 10.0
    for z in (-6.0, 0.0, 2.0, 8.0):  # the last one is all but impossible
        posterior = GainBelief(scenario).given(path * math.exp(z))
        u = np.linspace(max(-40.0, z - 12.0 * nu), 5.0, 200_001)
        exponent = u - np.exp(u) - 0.5 * ((z - u) / nu) ** 2
        density = np.exp(exponent - exponent.max())
        above = 1.0 - np.cumsum(density) / density.sum()
        wanted = np.interp([0.95, 0.5, 0.1], above[::-1], u[::-1])
        assert posterior.probability(path * np.exp(wanted)) == pytest.approx([0.95, 0.5, 0.1], abs=5e-4)


@pytest.mark.parametrize("noise_db", [1e-2, 1e-4, 1e-6])
def test_small_noise_is_all_that_is_unknown(noise_db):
    scenario = load_scenario("bert-multimodal", csi_noise_db=noise_db, shadowing_db=8.0)
    gain = 0.4 * path_gain(scenario)
    posterior = GainBelief(scenario).given(gain)
    away = np.array([-2.0, -0.5, 0.0, 1.0])  # deviations: next to the noise the prior is flat
    levels = gain * np.exp(away * noise_db * math.log(10.0) / 10.0)
    assert posterior.probability(levels) == pytest.approx(stats.norm.sf(away), abs=3e-3)


def test_very_old_gain_tells_nothing():
    scenario = load_scenario("bert-multimodal", csi_delay=1000.0, shadowing_db=0, csi_noise_db=1.0)
    path = path_gain(scenario)
    posterior = GainBelief(scenario).given(path * 1e-3)
    levels = np.array([0.01, 0.2, 1.0, 3.0])
    assert posterior.probability(path * levels) == pytest.approx(np.exp(-levels), abs=1e-4)


@pytest.mark.parametrize(
    "certain",
    [
        {},
        {"channel": "constant", "csi_delay": 0.5, "csi_noise_db": 3.0},
        {"csi_delay": 3.7, "doppler": 0.0, "shadowing_db": 0},
    ],
)
def test_what_cannot_have_changed_is_certain(certain):
    scenario = load_scenario("bert-multimodal", **certain)
    observed = path_gain(scenario) if "channel" in certain else 1.7 * path_gain(scenario)
    posterior = GainBelief(scenario).given(observed)
    assert posterior.probability([0.999 * observed, observed, observed * (1 + 1e-12)]).tolist() == [1.0, 1.0, 0.0]


def test_probability_between_and_at_gains():
    posterior = GainPosterior([1.0, math.e**2, math.e**2, math.e**4], [1.0, 0.8, 0.5, 0.1])
    wanted = [0.5, 1.0, math.e, math.e**2, math.e**3, math.e**4, 60.0]
    assert posterior.probability(wanted) == pytest.approx([1.0, 1.0, 0.9, 0.8, 0.3, 0.1, 0.0], abs=1e-12)
    assert posterior.probability(math.e) == pytest.approx(0.9)
    assert posterior.gain_at(posterior.log_gains[1]) == math.e**2
    assert posterior.gain_at(1.0) == math.e


@pytest.mark.parametrize(
    ("gains", "survival", "field"),
    [
        ([1.0, 0.5], [1.0, 0.0], "gains"),
        ([0.0, 0.5], [1.0, 0.0], "gains"),
        ([1.0, math.nan], [1.0, 0.0], "gains"),
        ([1.0, "x"], [1.0, 0.0], "gains"),
        ([], [], "gains"),
        ([[1.0]], [1.0], "gains"),
        ([1.0, 2.0], [0.9, 0.0], "survival"),
        ([1.0, 2.0, 3.0], [1.0, 0.2, 0.3], "survival"),
        ([1.0, 2.0], [1.0, math.nan], "survival"),
        ([1.0, 2.0], [1.0, -0.1], "survival"),
        ([1.0, 2.0], [1.0], "survival"),
    ],
)
def test_what_is_no_distribution_is_refused(gains, survival, field):
    with pytest.raises(InvalidInputError, match=field):
        GainPosterior(gains, survival)


@pytest.mark.parametrize("gain", [0.0, -1.0, 1e300, math.inf, math.nan, "strong", True])
def test_what_is_no_gain_is_refused(gain):
    with pytest.raises(InvalidInputError, match="gain"):
        GainBelief(load_scenario("bert-multimodal", csi_noise_db=1.0)).given(gain)


def test_a_trace_that_is_seen_late_is_refused(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("time_s,gain_db\n0,-90\n1,-95\n", encoding="utf-8")
    trace = {"channel": "trace", "channel_trace": str(path)}
    assert GainBelief(load_scenario("bert-multimodal", **trace)).given(1e-9).gains.tolist() == [1e-9]
    with pytest.raises(InvalidInputError, match="channel"):
        GainBelief(load_scenario("bert-multimodal", **trace, csi_delay=1.0))


def test_a_cell_has_no_one_path():
    with pytest.raises(InvalidInputError, match="distance of each device"):
        GainBelief(load_cell_scenario("cell-4", csi_noise_db=3.0))
