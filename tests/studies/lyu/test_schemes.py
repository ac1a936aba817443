"""Figures of designs, cuts and regimes: small runs, their data recomputed, and that their verdicts can fail."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from baselines import solve_conic, solve_sca
from baselines.schemes import SCHEMES
from coinfer_gym import load_scenario, solve_exact
from studies.lyu import cuts, other_budget, problems, regimes, schemes
from tests.studies.made import failures, make_and_read

NAME = "magnitude_pruning"
PAIRS = ((1.0, 1.0), (0.3, 0.3))
CUTS = {"MPNet": 4, "BART": 2}


def problem_of(network, quality=NAME, **changes):
    scenario = load_scenario("paper-lyu")
    if network == "BART":
        bart = {"workload": "bart-base", "input_bits": 640 * 480 * 3 * 8}
        scenario = load_scenario("paper-lyu", **bart, delay_budget=1.0, energy_budget=0.08)
    gain = 10.0 ** ((scenario.reference_gain_db - 30.0 * math.log10(scenario.distance)) / 10.0)
    return replace(scenario.problem(gain), quality=quality, **changes)


def number(text):
    return float(text) if text else math.nan


@pytest.fixture(scope="module")
def small_cuts(tmp_path_factory):
    return make_and_read(cuts.STUDIES[0], tmp_path_factory.mktemp("cuts"), names=(NAME,), budgets=PAIRS)


@pytest.fixture(scope="module")
def designs():
    """One network's curves along the delay budget, by the exact optimum alone."""
    problem = problem_of("MPNet")
    budgets = problem.delay_budget * np.array([0.2, 0.5, 1.0])
    made = {}
    for split in schemes.SPLITS:
        for name, scheme in SCHEMES.items():
            cut = scheme.cut(problem) if scheme.end or split == "free" else schemes.FIXED_CUTS["MPNet"]
            found = [solve_exact(scheme.restrict(replace(problem, delay_budget=t)), cut) for t in budgets]
            quality = np.array([s.quality if s.feasible else math.nan for s in found])
            chosen = np.array([s.cut if s.feasible else -1 for s in found])
            sca = [values[schemes.CHECKED] for values in (quality, quality, chosen)]
            curve = schemes.Curve(budgets, quality, quality, chosen, *sca, 0.0, *[np.empty(0)] * 3)
            made["MPNet", NAME, split, name] = curve
    return schemes.Designs(schemes.DELAY, made, schemes.find_onsets(schemes.DELAY))


@pytest.fixture(scope="module")
def small_maps():
    return regimes.compute((NAME,), (9, 7))


def test_designs_are_the_conic_optimum_and_the_sca(tmp_path):
    summary, rows = make_and_read(schemes.STUDIES[0], tmp_path, ("", "_distortion"), names=(NAME,), points=3)
    assert failures(summary) == []
    assert len(rows) == len(CUTS) * len(schemes.SPLITS) * len(SCHEMES) * 3
    ends = {"on_device": {"MPNet": 12, "BART": 6}, "on_server": {"MPNet": 0, "BART": 0}}
    ratios = {"device_pruning": {"retained_server_min": 1.0}, "server_pruning": {"retained_device_min": 1.0}}
    infeasible = 0
    for row in rows[::10]:
        network, scheme = row["network"], row["scheme"]
        changes = {"delay_budget": float(row["budget"]), **ratios.get(scheme, {})}
        problem = problem_of(network, **changes)
        if scheme == "fixed_power":
            problem = replace(problem, power_min=problem.power_max)
        if scheme == "fixed_frequency":
            for side in ("device", "server"):
                fastest = getattr(problem, f"frequency_{side}_max")
                problem = replace(problem, **{f"frequency_{side}_min": fastest})
        cut = CUTS[network] if row["split"] == "fixed" else None
        cut = ends.get(scheme, {}).get(network, cut)
        best = solve_conic(problem, cut)
        assert best.feasible == bool(row["quality"])
        if not best.feasible:
            infeasible += 1
            assert not row["cut"]
            continue
        assert float(row["quality"]) == pytest.approx(best.quality, abs=1e-6)
        assert float(row["relative_distortion"]) == pytest.approx(1.0 - best.quality, abs=1e-6)  # closed form: linear
        if row["sca_quality"]:
            assert float(row["sca_quality"]) == pytest.approx(solve_sca(problem, cut).quality, abs=1e-7)
    assert infeasible > 0


def test_cuts_are_the_conic_optimum(small_cuts):
    summary, rows = small_cuts
    assert failures(summary) == []
    assert len(rows) == 2 * len(PAIRS) * (13 + 7)
    for row in rows[::7]:
        problem = problem_of(row["network"])
        delay = problem.delay_budget * float(row["relative_delay_budget"])
        energy = problem.energy_budget * float(row["relative_energy_budget"])
        problem = replace(problem, delay_budget=delay, energy_budget=energy)
        if row["prompt"] == "text":
            problem = replace(problem, workload=problem.workload.with_input_bits(2048))
        best = solve_conic(problem, int(row["cut"]))
        value = best.quality if best.feasible else math.nan
        assert number(row["quality"]) == pytest.approx(value, abs=1e-6, nan_ok=True)
        assert number(row["sca_quality"]) == pytest.approx(value, abs=5e-3, nan_ok=True)


def test_maps_are_the_conic_optimum(tmp_path):
    summary, rows = make_and_read(regimes.STUDIES[0], tmp_path, names=(NAME,), shape=(5, 4))
    assert failures(summary) == []
    assert len(rows) == 2 * 5 * 4
    for row in rows[::9]:
        problem = problem_of("MPNet", gain=10.0 ** (float(row["gain_db"]) / 10.0))
        problem = replace(problem, delay_budget=float(row["delay_budget"]))
        if row["prompt"] == "text":
            problem = replace(problem, workload=problem.workload.with_input_bits(2048))
        for column, cut in (("quality", None), ("on_server", 0), ("on_device", 12)):
            best = solve_conic(problem, cut)
            assert number(row[column]) == pytest.approx(
                best.quality if best.feasible else math.nan, abs=1e-5, nan_ok=True
            )


@pytest.mark.parametrize(("budget", "network"), list(zip(schemes.BUDGETS, CUTS, strict=True)))
def test_onsets_part_the_feasible_budgets_from_the_others(budget, network):
    found = schemes.find_onsets(budget)[network]
    for name, of in found.items():
        problem = SCHEMES[name].restrict(problem_of(network))
        for cut, onset in ((schemes.FIXED_CUTS[network], of["fixed"]), (None, of["free"]), *enumerate(of["by_cut"])):
            if math.isinf(onset):
                assert not solve_exact(replace(problem, **{budget.field: 1e3}), cut).feasible
                continue
            assert solve_exact(replace(problem, **{budget.field: onset * (1 + 1e-6)}), cut).feasible
            assert not solve_exact(replace(problem, **{budget.field: onset * (1 - 1e-6)}), cut).feasible


@pytest.mark.parametrize(
    ("key", "values", "claims"),
    [
        (("free", "fixed_power"), [0.5, 0.4, 0.6], ["quality never falls"]),
        (("fixed", "on_device"), [0.4, math.nan, 0.6], ["quality never falls"]),
        (("fixed", "joint"), [0.1, 0.2, 0.3], ["at least as good as each restriction, cut fixed"]),
        (("free", "joint"), [math.nan, 1.0, 1.0], ["at least as good as each restriction, cut free"]),
        (("free", "device_pruning"), [0.0, 0.0, 1.1], ["at least as good as each restriction, cut free"]),
    ],
)
def test_verdict_on_designs_reports_failures(designs, key, values, claims):
    assert failures(schemes.verdict(designs)) == []
    place = ("MPNet", NAME, *key)
    changed = {**designs.curves, place: designs.curves[place]._replace(quality=np.array(values))}
    judged = schemes.verdict(designs._replace(curves=changed))
    assert len(failures(judged)) == len(claims)
    assert all(part in claim for part, claim in zip(claims, failures(judged), strict=True))
    assert any(NAME in text for text in judged["found"])


@pytest.mark.parametrize(("field", "claim"), [("fixed", "is infeasible, cut fixed"), ("alone", "too slow")])
def test_verdict_on_onsets_reports_failures(designs, field, claim):
    changed = {network: dict(of) for network, of in designs.onsets.items()}
    changed["BART"]["server_pruning"] = {**changed["BART"]["server_pruning"], field: 0.01}
    (failed,) = failures(schemes.verdict(designs._replace(onsets=changed)))
    assert claim in failed


def test_gains_are_counted_where_something_is_left_to_gain(designs):
    panel = schemes.verdict(designs)["measured"]["panels"][f"MPNet / {NAME} / fixed"]
    joint, power = (designs.curves["MPNet", NAME, "fixed", name].quality for name in ("joint", "fixed_power"))
    assert panel["gain_over"]["fixed_power"]["max"] == pytest.approx((joint - power).max())
    assert panel["gain_over"]["fixed_power"]["mean"] == pytest.approx((joint - power).mean())
    assert panel["gain_over"]["fixed_frequency"] == {"max": 0.0, "mean": None, "points": 0, "rival_infeasible": 3}


def test_the_other_budget_decides_who_fails_first(tmp_path):
    summary, rows = make_and_read(other_budget.STUDIES[0], tmp_path, points=3, along=3)
    assert {(row["network"], row["along"]) for row in rows} == set(itertools.product(CUTS, ("delay", "energy")))
    holds = {claim.split(":")[1].split(",")[0].strip(): [] for claim in summary["holds"]}
    for claim, value in summary["holds"].items():
        holds[claim.split(":")[1].split(",")[0].strip()].append((claim[:2], "without limit" in claim, value))
    # At the paper's cut both whole parts of MPNet need the same energy times time squared: a tie, unless clocks decide.
    assert sorted(holds["MPNet"]) == [
        ("L7", False, False),
        ("L7", True, True),
        ("L9", False, False),
        ("L9", True, True),
    ]
    assert sorted(holds["BART"]) == [("L7", False, False), ("L7", True, False), ("L9", False, True), ("L9", True, True)]


def made_cuts(quality, prompt="multimodal", pair=(1.0, 1.0)):
    values = np.array(quality)
    return {("MPNet", prompt, NAME, pair): cuts.Cuts(values, values, values, values, 1.0)}


@pytest.mark.parametrize(
    ("quality", "best", "holds"),
    [
        ([0.4, 0.6, 0.5], "inner", True),
        ([math.nan, 0.6, math.nan], "inner", True),
        ([0.7, 0.6, 0.5], "on_server", False),
        ([0.4, 0.6, 0.6], "on_device", False),
        ([0.4, math.nan, 0.2], "on_server", False),
    ],
)
def test_verdict_on_cuts_reports_failures(quality, best, holds):
    judged = cuts.verdict({**made_cuts(quality), **made_cuts([0.9, 0.5, 0.1], "text")})
    assert list(judged["holds"].values()) == [holds]
    first = next(iter(judged["measured"]["cases"].values()))
    assert first["best"] == best
    assert first["inner_wins"] == holds
    assert any("on the server in 1, at an inner cut in 0" in text for text in judged["found"])


def test_break_even_makes_server_and_inner_cut_equal(small_cuts):
    case = small_cuts[0]["measured"]["cases"]["MPNet, multimodal, magnitude pruning, 1 T0, 1 E0"]
    problem = problem_of("MPNet")
    bits = case["break_even"] * problem.workload.upload_bits[1]
    server = solve_conic(replace(problem, workload=problem.workload.with_input_bits(bits)), 0)
    assert server.quality == pytest.approx(case["inner"], abs=1e-5)


def test_kinds_of_a_map():
    column = [[0.5], [0.6], [0.6], [0.6], [1.0], [math.nan]]
    server, device = (
        [[0.5], [0.5], [math.nan], [0.6], [1.0], [math.nan]],
        [[0.1], [0.6], [0.2], [0.5], [0.2], [math.nan]],
    )
    made = regimes.Regimes(
        np.zeros(1), np.ones(6), np.array([[0], [12], [3], [0], [0], [-1]]), *map(np.array, (column, server, device))
    )
    names = [regimes.KINDS[kind] for kind in regimes.kinds(made)[:, 0]]
    assert names == ["on_server", "on_device", "inner", "on_server", "unpruned", "infeasible"]


def test_verdict_on_maps_reports_failures(small_maps):
    assert failures(regimes.verdict(small_maps)) == []
    multimodal, text = (small_maps[prompt, NAME] for prompt in problems.PROMPTS)
    swapped = {("multimodal", NAME): text, ("text", NAME): multimodal}
    assert "smaller for text-only" in failures(regimes.verdict(swapped))[-1]
    ends = multimodal._replace(quality=np.fmax(multimodal.on_server, multimodal.on_device))
    assert "have a region" in failures(regimes.verdict({**small_maps, ("multimodal", NAME): ends}))[0]


def test_qualities_that_coincide_share_a_panel():
    values = np.array([0.1, math.nan, 0.3])
    other = np.array([0.1, math.nan, 0.3 + 2e-3])
    parts = {"rate_distortion": values, "random_pruning": values + 5e-4, NAME: other}
    made = {("a", name): cuts.Cuts(part, part, part, part, 1.0) for name, part in parts.items()}
    groups = problems.group_coinciding(made, list(parts), 1, "quality")
    assert groups == {"rate_distortion": "rate-distortion bound\n= random pruning", NAME: "magnitude pruning"}


def test_sca_difference_has_both_signs():
    exact, sca = np.array([0.5, 0.6, math.nan, 0.2]), np.array([0.4, 0.61, 0.1, math.nan])
    compared = problems.sca_difference(exact, sca)
    assert compared["points"] == 2
    assert compared["disagree_on_feasibility"] == 2
    assert compared["largest_left"] == pytest.approx(0.1)
    assert compared["largest_above"] == pytest.approx(0.01)
