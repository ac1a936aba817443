"""The schemes of the comparison: their restrictions, and grids against designs evaluated one by one."""

import math
from dataclasses import replace

import numpy as np
import pytest

from baselines.layerwise import rivals
from baselines.layerwise.rivals import RIVALS
from coinfer_gym import InvalidInputError
from coinfer_gym.layerwise.problem import LayerwiseDecision
from tests.baselines.layerwise.synthetic import synthetic_predictor, synthetic_problem

PROBLEMS = [synthetic_problem("alexnet"), synthetic_problem("regnet", 1.19e6), synthetic_problem("alexnet", 1e5, 3.0)]
QUICK = {name: choose for name, choose in RIVALS.items() if name != "CIA"}


@pytest.fixture(scope="module", params=PROBLEMS, ids=["alexnet 4g", "regnet 3g", "alexnet slow"])
def case(request):
    return request.param, {name: choose(request.param, 0) for name, choose in QUICK.items()}


def one_by_one(problem, designs):
    """Least delay of designs (cut, ratios, compression) within the accuracy."""
    ends = (problem.power_max, problem.frequency_device_max)
    found = (problem.evaluate(LayerwiseDecision(cut, tuple(ratios), share, *ends)) for cut, ratios, share in designs)
    return min(each.delay for each in found if each.accuracy >= problem.accuracy_min)


def test_the_schemes_stand_in_the_order_of_the_paper():
    assert list(RIVALS) == [
        "All_Local",
        "All_Server",
        "Neurosurgeon",
        "Prune_Partition",
        "2_Step Pruning",
        "FPGM",
        "BottleNet++",
        "CIA",
        "Proposed",
    ]


def test_every_choice_is_feasible_and_goes_by_its_name(case):
    problem, chosen = case
    for name, choice in chosen.items():
        assert choice.name == name
        assert choice.solution.feasible
        assert choice.solution.accuracy >= problem.accuracy_min
        assert problem.evaluate(choice.solution) == choice.solution
        assert (choice.solution.power, choice.solution.frequency) == (problem.power_max, problem.frequency_device_max)


def test_choices_keep_to_their_restrictions(case):
    problem, chosen = case
    found = {name: choice.solution for name, choice in chosen.items()}
    for name in ("All_Local", "All_Server", "Neurosurgeon", "BottleNet++"):
        assert set(found[name].retained) == {1.0}
    for name in found.keys() - {"BottleNet++", "Proposed"}:
        assert found[name].compression == 1.0
    network, levels = problem.network, np.linspace(problem.retained_min, 1.0, rivals.LEVELS)
    uniform = [network.kept([level] * len(network.groups)).tolist() for level in levels]
    assert network.kept(found["FPGM"].retained).tolist() in uniform
    assert (found["All_Local"].cut, found["All_Server"].cut) == (problem.network.cuts - 1, 0)
    two = found["2_Step Pruning"]
    group = problem.network.tables.cuts["group"][two.cut]
    kept = network.kept(two.retained).tolist()

    def others(counts):
        return [count for place, count in enumerate(counts, start=1) if place != group]

    assert any(
        others(kept) == others(each) and all(mine <= theirs for mine, theirs in zip(kept, each, strict=True))
        for each in uniform
    )


def test_freedom_pays(case):
    _, chosen = case
    delay = {name: choice.solution.delay for name, choice in chosen.items()}
    assert delay["Neurosurgeon"] <= min(delay["All_Local"], delay["All_Server"])
    assert delay["FPGM"] <= delay["Neurosurgeon"]
    assert delay["2_Step Pruning"] <= delay["FPGM"]
    assert delay["BottleNet++"] <= delay["Neurosurgeon"]
    assert all(delay["Proposed"] <= 1.01 * other for other in delay.values())


def test_neurosurgeon_takes_the_best_cut(case):
    problem, chosen = case
    network = problem.network
    flops, values = network.block_flops(), network.upload_values()
    device = problem.flops_per_cycle_device * problem.frequency_device_max
    server = problem.flops_per_cycle_server * problem.frequency_server
    rate = problem.bandwidth * math.log2(
        1 + problem.power_max * problem.gain / problem.noise_density / problem.bandwidth
    )
    delays = [
        flops[:cut].sum() / device + values[cut] * 32 / rate + flops[cut:].sum() / server for cut in range(network.cuts)
    ]
    assert chosen["Neurosurgeon"].solution.cut == int(np.argmin(delays))
    assert chosen["Neurosurgeon"].solution.delay == pytest.approx(min(delays), rel=1e-12)


def test_grids_are_searched_whole(case, monkeypatch):
    problem, _ = case
    monkeypatch.setattr(rivals, "LEVELS", 7)
    groups, cuts = len(problem.network.groups), range(problem.network.cuts)
    levels = np.linspace(0.1, 1.0, 7)
    uniform = [(cut, [level] * groups, 1.0) for cut in cuts for level in levels]
    assert RIVALS["FPGM"](problem, 0).solution.delay == one_by_one(problem, uniform)
    behind = problem.network.tables.cuts["group"]
    twice = [
        (cut, [second if place == behind[cut] else first for place in range(1, groups + 1)], 1.0)
        for cut in cuts
        for first in levels
        for second in levels[levels <= first]
    ]
    assert RIVALS["2_Step Pruning"](problem, 0).solution.delay == one_by_one(problem, twice)


def test_bottlenet_tries_every_number_of_channels():
    problem = synthetic_problem("regnet", 1.19e6)
    channels = [
        problem.network.groups[group - 1].channels if group else 1 for group in problem.network.tables.cuts["group"]
    ]
    designs = [(cut, [1.0] * 4, sent / count) for cut, count in enumerate(channels) for sent in range(1, count + 1)]
    chosen = RIVALS["BottleNet++"](problem, 0)
    assert chosen.solution.delay == one_by_one(problem, designs)
    assert chosen.evaluations == len(designs)


def test_fpgm_is_judged_by_its_own_predictor(monkeypatch):
    problem = PROBLEMS[0]
    other = synthetic_predictor("alexnet", seed=1)
    monkeypatch.setattr(rivals, "fpgm_predictor", lambda _: other)
    solution = rivals.fpgm(problem).solution
    assert solution == replace(problem, predictor=other).evaluate(solution)
    assert solution.accuracy != problem.evaluate(solution).accuracy


def test_schemes_keep_to_the_cuts_of_the_problem(monkeypatch):
    monkeypatch.setattr(rivals, "EVALUATIONS", 60_000)
    whole = synthetic_problem("alexnet", 1e8)  # so fast a link that the image is sent
    last = whole.network.cuts - 1
    inner = replace(whole, cuts=(1, last - 1))
    for name, choose in QUICK.items():
        free, bound = choose(whole, 0).solution, choose(inner, 0).solution
        if name.startswith("All"):
            assert bound == free
            assert bound.cut == (0 if name == "All_Server" else last)
        else:
            assert free.cut == 0
            assert 0 < bound.cut < last
            assert bound.delay > free.delay


@pytest.mark.parametrize("name", QUICK)
def test_an_accuracy_out_of_reach_is_an_error(name, monkeypatch):
    monkeypatch.setattr(rivals, "EVALUATIONS", 15_000)
    with pytest.raises(InvalidInputError, match="accuracy_min") as caught:
        RIVALS[name](replace(PROBLEMS[0], accuracy_min=0.95), 0)
    assert name in str(caught.value)
