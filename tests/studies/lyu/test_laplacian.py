"""Fits of weight distributions against scipy's, and the rates that a workload gets."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from scipy import stats

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.models.build import workload_from_model
from studies.lyu.laplacian import entropy_bits, fit_blocks, fit_weights

SMALL = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 40}


def bert() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=100)).eval()


def drawn(kind: str, count: int = 20_000) -> np.ndarray:
    generator = np.random.default_rng(1)
    values = generator.laplace(0.0, 0.04, count) if kind == "laplacian" else generator.normal(0.0, 0.05, count)
    return values.astype(np.float32)


@pytest.mark.parametrize("kind", ["laplacian", "gaussian"])
def test_fits_are_those_of_scipy(kind: str) -> None:
    values = drawn(kind)
    fit = fit_weights(torch.from_numpy(values))
    wide = values.astype(np.float64)
    for found, family in ((fit.laplacian, stats.laplace), (fit.gaussian, stats.norm)):
        _, scale = family.fit(wide, floc=0.0)
        likelihood = family.logpdf(wide, 0.0, scale).sum()
        assert found.log_likelihood == pytest.approx(likelihood, rel=1e-9)
        assert found.aic == pytest.approx(2.0 - 2.0 * likelihood, rel=1e-9)
        assert found.ks == pytest.approx(stats.kstest(wide, family(0.0, scale).cdf).statistic, abs=1e-9)
    assert 1.0 / fit.laplacian_rate == pytest.approx(stats.laplace.fit(wide, floc=0.0)[1])
    assert fit.gaussian_deviation == pytest.approx(stats.norm.fit(wide, floc=0.0)[1])
    assert fit.laplacian_is_better == (kind == "laplacian")
    better, worse = (fit.laplacian, fit.gaussian) if kind == "laplacian" else (fit.gaussian, fit.laplacian)
    assert better.ks < worse.ks
    assert fit.excess_kurtosis == pytest.approx({"laplacian": 3.0, "gaussian": 0.0}[kind], abs=0.5)


@pytest.mark.parametrize("count", [2, 7, 1000])
def test_entropy_is_vasiceks(count: int) -> None:
    values = np.sort(drawn("gaussian", count).astype(np.float64))
    window = min(math.floor(math.sqrt(count) + 0.5), (count - 1) // 2 or 1)
    expected = np.mean(
        [
            math.log2(count / (2 * window) * (values[min(i + window, count - 1)] - values[max(i - window, 0)]))
            for i in range(count)
        ]
    )
    assert entropy_bits(torch.from_numpy(values)) == pytest.approx(expected)


def test_blocks_rates_are_those_of_the_workload() -> None:
    model = bert()
    for number, layer in enumerate(model.encoder.layer):
        for weight in layer.parameters():
            weight.data *= 1.0 + number  # so that no two blocks are alike
    workload, fits = workload_from_model(model, tokens=8), fit_blocks(model)
    rates = [fit.laplacian_rate for fit in fits]
    np.testing.assert_allclose(workload.laplacian_rates, rates, rtol=1e-6)
    assert rates[0] > 1.5 * rates[2]
    # What pruning does not touch (embeddings, norms, biases) counts as parameters alone.
    assert [block.prunable for block in workload.blocks] == [fit.values for fit in fits]
    assert workload.blocks[0].parameters > workload.blocks[0].prunable + 100 * SMALL["hidden_size"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_16_bits_are_fitted_as_the_numbers_that_they_are(dtype: torch.dtype) -> None:
    model = bert().to(dtype)
    fits = fit_blocks(model)
    workload = workload_from_model(model, tokens=8)
    assert fits == fit_blocks(model.float())
    np.testing.assert_allclose(workload.laplacian_rates, [fit.laplacian_rate for fit in fits], rtol=1e-6)


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.0], [1.0, math.nan]])
def test_what_cannot_be_fitted_is_refused(values: list[float]) -> None:
    with pytest.raises(InvalidInputError, match="at least two finite weights"):
        fit_weights(torch.tensor(values))
