"""The figures of Mu et al. that compare schemes and optimizers: small runs on made-up predictors, and verdicts."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from baselines.layerwise import cia, rivals
from baselines.layerwise.rivals import RIVALS
from coinfer_gym import InvalidInputError
from studies.mu import noise as layerwise_noise
from studies.mu import optimizer as layerwise_optimizer
from studies.mu import rates as layerwise_rates
from studies.mu import schemes as _layerwise
from studies.mu import tradeoff as layerwise_tradeoff
from studies.mu.schemes import ALL, EQ_7, Choice, Store, choose, choose_at, with_cuts
from tests.baselines.layerwise.synthetic import synthetic_predictor, synthetic_problem
from tests.studies.made import failures, make_and_read

GFLOPS = {"rpi3b": 0.2, "rpi4b": 3.0, "tk1": 326.4}
METHODS = ("All_Local", "All_Server", "Neurosurgeon", "FPGM", "BottleNet++", "Proposed")


def made_up(network, device, rate, link="4g", cuts=EQ_7):
    return with_cuts(synthetic_problem(network, rate, GFLOPS[device]), cuts)


@pytest.fixture(autouse=True)
def made_up_problems(monkeypatch):
    for module in (layerwise_rates, layerwise_tradeoff, layerwise_noise, layerwise_optimizer):
        monkeypatch.setattr(module, "problem_at", made_up)


def test_problems_have_the_rate():
    for rate in (1e4, 11.22e6, 1e8):
        problem = _layerwise.problem_at("alexnet", "rpi3b", rate)
        assert problem.rate == pytest.approx(rate, rel=1e-9)
        assert math.isinf(problem.energy_budget)


def test_unpruned_schemes_need_no_prediction():
    problem = replace(made_up("alexnet", "rpi3b", 1e6), accuracy_min=0.99)
    assert choose(problem, "All_Server").accuracy == problem.predictor.unpruned
    fallen_back = choose(problem, "FPGM")
    assert fallen_back.delay == choose(problem, "Neurosurgeon").delay
    with pytest.raises(InvalidInputError):
        RIVALS["FPGM"](problem, 0)


def test_each_cut_has_the_best_of_the_grid():
    problem = made_up("alexnet", "rpi3b", 11.22e6)
    for method in ("FPGM", "2_Step Pruning", "BottleNet++"):
        rows = [choose_at(problem, method, cut, 0) for cut in range(1, problem.network.cuts - 1)]
        fastest = min(float(problem.evaluate(row[None]).delay[0]) for row in rows if row is not None)
        assert fastest == pytest.approx(RIVALS[method](problem, 0).solution.delay, rel=1e-12)


def test_rates(tmp_path, monkeypatch):
    monkeypatch.setattr(rivals, "EVALUATIONS", 15_000)
    options = {
        "rates": (1e4, 1e8),
        "methods": METHODS,
        "curves": (("alexnet", "rpi3b"),),
        "devices": ("rpi3b",),
        "work": tmp_path / "work",
    }
    (study,) = layerwise_rates.STUDIES
    summary, rows = make_and_read(study, tmp_path / "a", ("", "_all_cuts"), **options)
    part = summary["measured"]["M4 (AlexNet, Raspberry Pi 3B+, cuts of eq. (7))"]
    for row in rows:
        if row["cuts"] == EQ_7 and not row["scheme"].startswith("All"):
            assert 0 < int(row["cut"]) < 11
    ends = {row["scheme"]: row["cut"] for row in rows if row["cuts"] == ALL and float(row["rate"]) == 1e8}
    assert set(ends.values()) == {"0", "11"}
    rows = [row for row in rows if row["cuts"] == EQ_7 and not row["link"] and float(row["rate"]) == 1e4]
    delays = {row["scheme"]: float(row["delay"]) for row in rows}
    own = delays.pop("Proposed")
    assert part["second"][0] == pytest.approx(min(delays.values()) / own, rel=1e-6)
    assert part["worst"][0] == pytest.approx(max(delays.values()) / own, rel=1e-6)

    def refuse(*_):
        raise AssertionError("nothing is left to choose")

    monkeypatch.setattr(_layerwise, "choose", refuse)
    study.make(tmp_path / "b", **options)
    texts = [(tmp_path / name / "layerwise_rates.csv").read_bytes() for name in "ab"]
    assert texts[0] == texts[1]
    (tmp_path / "work" / "choices.json").write_text('{"a": [1]}')
    with pytest.raises(InvalidInputError, match="damaged"):
        Store(tmp_path / "work" / "choices.json")


def test_rates_verdict_reports_failures():
    def choice(delay, cut=3):
        return Choice(delay, cut, 0.9, 1, 0.1, ())

    parts = {"All_Server": [choice(30.0, 0), choice(1.0, 0)], "FPGM": [choice(2.0)] * 2}
    sound = {("alexnet", "rpi3b", EQ_7): parts | {"Proposed": [choice(1.0), choice(1.5)]}}
    assert failures(layerwise_rates.verdict(layerwise_rates.Data((1e4, 1e8), sound, {}))) == []
    broken = {("alexnet", "rpi3b", EQ_7): parts | {"Proposed": [choice(2.1), choice(0.9)]}}
    assert len(failures(layerwise_rates.verdict(layerwise_rates.Data((1e4, 1e8), broken, {})))) == 4
    # On TK1 the paper makes no exception for All_Server.
    fast = {("alexnet", "tk1", EQ_7): sound["alexnet", "rpi3b", EQ_7]}
    assert len(failures(layerwise_rates.verdict(layerwise_rates.Data((1e4, 1e8), fast, {})))) == 3


def test_tradeoff(tmp_path, monkeypatch):
    monkeypatch.setattr(cia, "ROUND", 16)
    methods = ("Neurosurgeon", "BottleNet++", "CIA", "Proposed")
    options = {"networks": ("alexnet",), "methods": methods, "evaluations": 500}
    _, rows = make_and_read(layerwise_tradeoff.STUDIES[0], tmp_path, **options)
    for method in methods:
        assert [int(row["cut"]) for row in rows if row["scheme"] == method] == list(range(1, 11))
    rows = [row for row in rows if row["scheme"] == "Neurosurgeon"]
    network = made_up("alexnet", "rpi3b", 1e6).network
    flops = network.block_flops().cumsum()
    for row in rows:
        assert float(row["flops_device"]) == pytest.approx(flops[int(row["cut"]) - 1], rel=1e-6)
        assert float(row["bits_sent"]) == pytest.approx(32.0 * network.upload_values()[int(row["cut"])], rel=1e-6)


def test_tradeoff_counts_points():
    point = layerwise_tradeoff.Point
    own = point(1.0, 1.0, 1.0)
    pairs = [(own, point(2.0, 1.0, 2.0)), (own, point(0.5, 2.0, 2.0)), (own, own), (own, point(3.0, 3.0, 0.5))]
    found = layerwise_tradeoff.compare(pairs)
    assert found == {"points": 4, "dominated": 0.5, "left": 0.5, "below": 0.5, "faster": 0.5}


def test_noise(tmp_path, monkeypatch):
    monkeypatch.setattr(rivals, "EVALUATIONS", 15_000)
    quiet = synthetic_predictor("alexnet")
    noisy = replace(
        quiet,
        features=(*quiet.features, "snr_db"),
        coefficients=np.append(quiet.coefficients, 0.0004),
        base=quiet.base - 0.02,
    )
    monkeypatch.setattr(cia, "ROUND", 16)
    options = {"snrs_db": (0.0, 50.0), "evaluations": 600, "predictor": noisy}
    _, rows = make_and_read(layerwise_noise.STUDIES[0], tmp_path, **options)
    digital, analog = layerwise_noise.problems_at(10.0, 10.0, noisy)
    assert digital.rate == pytest.approx(11.22e6, rel=1e-9)
    assert analog.rate == digital.rate
    for cuts, snr_db in product((EQ_7, ALL), ("0", "50")):
        there = [row for row in rows if (row["cuts"], row["snr_db"]) == (cuts, snr_db)]
        delays = {row["scheme"]: float(row["delay"]) for row in there}
        assert delays["Proposed"] <= delays["Prune_Partition"] <= 1.01 * delays["Neurosurgeon"]
        assert delays["BottleNet++"] <= delays["Neurosurgeon"]
        assert delays["CIA"] <= delays["Neurosurgeon"]
        if cuts == EQ_7:
            assert all(0 < int(row["cut"]) < 11 for row in there if not row["scheme"].startswith("All"))


def test_noise_needs_its_predictor(tmp_path, monkeypatch):
    monkeypatch.setattr(layerwise_noise, "shipped_regression_predictors", list)
    with pytest.raises(InvalidInputError, match=r"cifar\.sweep --noise"):
        layerwise_noise.STUDIES[0].make(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_optimizer(tmp_path):
    options = {"scenarios": (("alexnet", "rpi3b", "4g"),), "searches": ("Algorithm 1, as printed", "random search")}
    study = layerwise_optimizer.STUDIES[0]
    summary, rows = make_and_read(study, tmp_path, **options, evaluations=300, own_evaluations=15_000)
    assert summary["holds"]["no search is faster than the proven bound"]
    (scenario,) = summary["measured"]["scenarios"].values()
    assert 0.0 < scenario["bound"] <= scenario["best"]
    for row in rows[:-1]:
        assert int(row["evaluations"]) <= (15_000 if row["search"] == "Proposed" else 300)
        if row["delay"]:
            assert float(row["gap"]) == pytest.approx(float(row["delay"]) / scenario["bound"] - 1.0, rel=1e-6)


def test_optimizer_verdict_can_fail():
    def compared(delay, seconds):
        search = layerwise_optimizer.Search(delay, 1, seconds)
        return {("alexnet", "rpi3b", "4g"): layerwise_optimizer.Compared({"Proposed": search}, 1.0, 1.0, 0.1)}

    near, quick = "Proposed: within 2% in every scenario", "Proposed: within 3 s of processor time in every scenario"
    cases = [
        (compared(1.01, 1.0), []),
        (compared(1.03, 1.0), [near]),
        (compared(math.nan, 1.0), [near]),
        (compared(1.0, 4.0), [quick]),
        (compared(0.9, 1.0), ["no search is faster than the proven bound"]),
    ]
    for data, expected in cases:
        assert failures(layerwise_optimizer.verdict(data)) == expected
