"""Where cutting pays: points of the maps against single optima, and how they are judged."""

from dataclasses import replace

import numpy as np
import pytest

from coinfer_gym import Decision, solve_exact
from studies.lyu.where import KINDS, STUDIES, compute, gain_of, judge, middle, of_size, problem_of
from tests.studies.made import make_and_read


def test_points_are_single_optima():
    maps = compute(networks=("Llama 1 G",), shape=(4, 3), budgets=(2.0,))
    (network, trip, budget), each = next(iter(maps.items()))
    phone = problem_of(network, trip)
    delay, energy = middle(phone)
    assert (each.delay_budget, each.energy_budget) == (budget * delay, energy)
    for i, j in ((0, 3), (1, 2), (2, 0)):
        gain = float(gain_of(phone, each.rates[j]))
        budgets = {"delay_budget": each.delay_budget, "energy_budget": energy}
        problem = replace(of_size(phone, float(each.sizes[i])), gain=gain, **budgets)
        best, *ends = (solve_exact(problem, cut) for cut in (None, 0, 16))
        better = max(end.quality for end in ends if end.feasible)
        assert each.cut[i, j] == best.cut
        assert each.lead[i, j] == pytest.approx(best.quality - better, abs=1e-9)


def test_a_gain_gives_its_rate_at_full_power():
    phone = problem_of("Llama 1 G", 0.0)
    decision = Decision(1, 1.0, 1.0, phone.power_max, 1e9, 2e9)
    delays = [replace(phone, gain=float(gain_of(phone, rate))).evaluate(decision).delay for rate in (2e7, 4e7)]
    bits = phone.workload.blocks[0].activation_bits
    assert delays[0] - delays[1] == pytest.approx(bits / 2e7 - bits / 4e7)


def test_a_larger_chip_takes_the_same_energy_in_less_time():
    phone, decision = problem_of("Llama 1 G", 0.0), Decision(16, 1.0, 1.0, 0.0, 1e9, 0.0)
    alone = [of_size(phone, size).evaluate(decision) for size in (1.0, 2.0)]
    assert alone[0].delay == pytest.approx(2.0 * alone[1].delay)
    assert alone[0].energy == pytest.approx(alone[1].energy)


def test_judge_tells_ends_inner_cuts_and_what_needs_no_choice():
    best = np.array([0.5, 0.5, 0.7, 1.0, -1.0, 0.3])
    server, device = np.array([0.5, 0.2, 0.6, 1.0, -1.0, -1.0]), np.array([0.4, 0.5, 0.5, 0.9, -1.0, -1.0])
    kind, lead = judge(best, server, device)
    assert [KINDS[k] for k in kind] == ["on_server", "on_device", "inner", "unpruned", "infeasible", "inner"]
    np.testing.assert_allclose(lead, [0.0, 0.0, 0.1, 0.0, 0.0, 0.3], atol=1e-12)


def test_figure_is_made(tmp_path):
    summary, rows = make_and_read(STUDIES[0], tmp_path, networks=("Llama 1 G",), shape=(3, 3), budgets=(1.0,))
    assert len(rows) == 2 * 9
    assert all(isinstance(value, bool) for value in summary["holds"].values())
    assert len(summary["found"]) == 2
