"""The figures of real weights: small runs recomputed, and verdicts that can fail."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from coinfer_gym.laim.distortion import magnitude_distortion, random_distortion
from studies.lyu import networks as _networks
from studies.lyu import output_distortion, pruned_weights, weights
from studies.lyu.autoencoder import normalize, theorem_constant
from tests.studies.made import make_and_read

RATIOS = (0.2, 0.5, 0.8)


def network(title, laplacian, pretrained=False):
    """Three layers with weights drawn from one of the distributions, each with its own spread."""
    generator = np.random.default_rng(len(title))
    layers = []
    for k, (inputs, outputs) in enumerate(itertools.pairwise((12, 60, 40, 12))):
        layer = nn.Linear(inputs, outputs, bias=False)
        draw = generator.laplace if laplacian else generator.normal
        layer.weight.data = torch.from_numpy(draw(0.0, 0.1 + 0.05 * k, (outputs, inputs)).astype(np.float32))
        layers.append(nn.Sequential(layer, nn.ReLU()))
    images = normalize(torch.from_numpy(generator.random((5, 12), dtype=np.float32)))
    model = nn.Sequential(*layers)
    return _networks.Network(title, model, pretrained, 5, lambda part, rows: part(images[rows]))


@pytest.fixture(scope="module")
def drawn():
    return network("small", laplacian=True), network("large one", laplacian=True, pretrained=True)


@pytest.mark.parametrize("module", [weights, output_distortion, pruned_weights])
def test_small_runs_write_their_files(module, drawn, tmp_path):
    options = (
        {"measured": {part.title: part.model for part in drawn}} if module is weights else {"measured": list(drawn)}
    )
    options |= {} if module is weights else {"ratios": (0.0, *RATIOS)[module is output_distortion :]}
    summary, rows = make_and_read(module.STUDIES[0], tmp_path, **options)
    assert summary["holds"]
    assert summary["found"]
    assert {row["network"] for row in rows} == {"small", "large one"}


@pytest.mark.parametrize("laplacian", [True, False])
def test_verdict_on_weights_says_which_distribution_it_is(laplacian):
    judged = weights.verdict(weights.compute({"a": network("a", laplacian).model}))
    assert all(judged["holds"].values()) == laplacian
    assert bool(judged["not_reproduced"]) != laplacian


def test_gradient_norm_is_that_of_the_jacobian(drawn):
    part = drawn[0]
    largest = 0.0
    for number in range(part.inputs):
        output = part.outputs(part.model, slice(number, number + 1))[0]
        rows = [
            torch.cat([g.flatten() for g in torch.autograd.grad(value, part.model.parameters(), retain_graph=True)])
            for value in output
        ]
        largest = max(largest, float(torch.linalg.matrix_norm(torch.stack(rows))))
    assert output_distortion.gradient_norm(part, probes=400) == pytest.approx(largest, rel=0.05)


def test_distortions_are_those_of_pruning_by_hand(drawn):
    part = drawn[0]
    found = output_distortion.measure(part, RATIOS)["magnitude"]
    flat = torch.cat([weight.detach().flatten() for weight in part.model.parameters()])
    for k, ratio in enumerate(RATIOS):
        order = flat.abs().sort(descending=True).values
        threshold = order[round(ratio * len(flat)) - 1]
        pruned = copy.deepcopy(part.model)
        for weight in pruned.parameters():
            weight.data[weight.abs() < threshold] = 0.0
        dropped = flat[flat.abs() < threshold]
        assert found.parameter[k] == pytest.approx(float(dropped.abs().sum()), rel=1e-5)
        assert found.euclidean[k] == pytest.approx(float(dropped.norm()), rel=1e-5)
        with torch.no_grad():
            moved = (part.outputs(pruned, slice(None)) - part.outputs(part.model, slice(None))).norm(dim=1)
        assert found.output_max[k] == pytest.approx(float(moved.max()), rel=1e-5)
        assert found.output_mean[k] == pytest.approx(float(moved.mean()), rel=1e-5)
        assert found.theorem[k] == pytest.approx(theorem_constant(part.model) * found.parameter[k], rel=1e-6)


def test_verdict_on_bounds_reports_failures(drawn):
    curves = output_distortion.compute(drawn, RATIOS)
    sound = output_distortion.verdict(curves)["holds"]
    part = curves["small", "random"]
    broken = {**curves, ("small", "random"): part._replace(layers_spectral=part.layers_spectral * 1e-9)}
    (changed,) = [name for name, holds in output_distortion.verdict(broken)["holds"].items() if holds != sound[name]]
    assert changed.startswith("L2: Theorem III.1")


def test_large_outputs_break_the_parameter_distortion_alone(drawn):
    curves = output_distortion.compute(drawn, RATIOS)
    broken = {key: part._replace(output_max=part.output_max * 1e6) for key, part in curves.items()}
    holds = output_distortion.verdict(broken)["holds"]
    assert not holds["L2: the parameter distortion alone bounds it too"]
    assert not holds["L3: the parameter distortion alone bounds it too"]


def test_closed_forms_fit_laplacian_weights():
    part = pruned_weights.measure(network("much larger", laplacian=True), RATIOS)
    scale = float((part.blocks[:, 0] / part.blocks[:, 1]).sum())
    for k, ratio in enumerate(RATIOS):
        assert part.closed["random"][k] == pytest.approx(random_distortion(ratio, scale))
        assert part.closed["magnitude by block"][k] == pytest.approx(magnitude_distortion(ratio, scale))
    for name in pruned_weights.PRUNINGS:
        np.testing.assert_allclose(part.distortion[name], part.closed[name], atol=0.03 * scale)
    assert (part.distortion["magnitude, one threshold"] <= part.distortion["magnitude by block"] * (1 + 1e-6)).all()


def test_verdict_on_pruned_weights_reports_failures(drawn):
    parts = pruned_weights.compute(drawn, RATIOS)
    sound = pruned_weights.verdict(parts)["holds"]
    part = parts["small"]
    below = {**part.distortion, "random": part.bound * 0.5}
    holds = pruned_weights.verdict({**parts, "small": part._replace(distortion=below)})["holds"]
    assert sound["L4: the measured distortion is never below the bound"]
    assert not holds["L4: the measured distortion is never below the bound"]
    upside = part._replace(entropies=-part.entropies)
    order = pruned_weights.verdict({"a": upside})["pairs_in_order"]
    assert max(order.values()) == 0.0


def test_counting_only_kept_weights_breaks_the_bound_where_it_is_said_to():
    """Per weight, with rate b rho: magnitude pruning against 2^-(b rho), and with the bits of which are kept."""
    for bits in (8, 12):
        edge = pruned_weights.breaks_below(bits)
        for ratio in (0.2 * edge, 0.9 * edge):
            assert magnitude_distortion(ratio, 1.0) < 2.0 ** (-bits * ratio)
            which = -ratio * math.log2(ratio) - (1.0 - ratio) * math.log2(1.0 - ratio)
            assert magnitude_distortion(ratio, 1.0) > 2.0 ** (-bits * ratio - which)
        for ratio in np.linspace(2.0 * edge, 0.5, 50):
            assert magnitude_distortion(ratio, 1.0) > 2.0 ** (-bits * ratio)
        # Kept weights count as exact, so that close to 1 nearly nothing moves.
        assert magnitude_distortion(1.0 - 0.5 * 2.0 ** (0.5 - bits / 2.0), 1.0) < 2.0**-bits
