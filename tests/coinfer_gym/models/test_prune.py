"""Pruning: the share kept is exact, the right weights go, and the distortion is what the papers' formula says."""

import copy
import math
import re
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from torch.nn.utils.prune import l1_unstructured

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim.distortion import magnitude_distortion, random_distortion
from coinfer_gym.models.build import workload_from_model
from coinfer_gym.models.prune import prunable, prune, prune_split
from coinfer_gym.models.split import split

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}


def bert() -> Any:
    torch.manual_seed(0)
    return transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=100)).eval()


def gpt2() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=24, n_layer=2, n_head=3, vocab_size=100)
    return transformers.GPT2LMHeadModel(config).eval()


def nonzero(weights: Any) -> int:
    return sum(int(weight.count_nonzero()) for weight in weights)


def moved(before: Any, after: Any) -> float:
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return sum(float((old - new).detach().abs().sum(dtype=torch.float64)) for old, new in pairs)


@pytest.mark.parametrize("method", ["magnitude", "random"])
@pytest.mark.parametrize("retained", [0.0, 0.1234, 0.5, 1.0])
def test_the_share_kept_is_exact(method: str, retained: float) -> None:
    before, model = bert(), bert()
    total = sum(weight.numel() for weight in prunable(model))
    done = prune(model, retained, method=method)
    assert done.kept == done.weights_kept == nonzero(prunable(model)) == round(retained * total)
    assert done.total == done.weights_total == total
    assert done.distortion == pytest.approx(moved(before, model), rel=1e-6)


def test_in_each_layer_when_asked() -> None:
    model = bert()
    done = prune(model, 0.3, scope="layerwise")
    for weight in prunable(model):
        assert nonzero([weight]) == round(0.3 * weight.numel())
    assert done.kept == nonzero(prunable(model))


def test_equal_weights_are_counted_exactly_too() -> None:
    layer = nn.Linear(10, 10)
    nn.init.ones_(layer.weight)
    assert prune(layer, 0.37).kept == nonzero([layer.weight]) == 37


def test_only_the_smallest_weights_go() -> None:
    before, model = bert(), bert()
    prune(model, 0.4)
    old = torch.cat([weight.detach().flatten() for weight in prunable(before)])
    new = torch.cat([weight.detach().flatten() for weight in prunable(model)])
    assert old[new == 0].abs().max() <= old[new != 0].abs().min()
    assert torch.equal(old[new != 0], new[new != 0])


def test_embeddings_norms_biases_and_tied_heads_are_left_alone() -> None:
    before, model = gpt2(), gpt2()
    pruned = {id(weight) for weight in prunable(model)}
    assert id(model.lm_head.weight) not in pruned
    prune(model, 0.0)
    for (name, old), new in zip(before.named_parameters(), model.parameters(), strict=True):
        is_matrix = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        assert (id(new) in pruned) == is_matrix
        assert torch.equal(old, new) != is_matrix


def test_random_pruning_follows_its_seed() -> None:
    models = [bert() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        prune(model, 0.5, method="random", seed=seed)
    assert moved(models[0], models[1]) == 0.0
    assert moved(models[0], models[2]) > 0.0


def test_the_distortion_of_laplacian_weights_is_the_closed_form() -> None:
    torch.manual_seed(0)
    rate, size = 30.0, 400
    weight = torch.distributions.Laplace(0.0, 1.0 / rate).sample((size, size))
    for method, formula in (("magnitude", magnitude_distortion), ("random", random_distortion)):
        layer = nn.Linear(size, size)
        layer.weight.data = weight.clone()
        found = prune(layer, 0.4, method=method).distortion
        assert found == pytest.approx(formula(0.4, size * size / rate), rel=0.02)


def test_one_block_alone() -> None:
    before, model = bert(), bert()
    prune(model.encoder.layer[1], 0.25)
    assert moved(before.encoder.layer[0], model.encoder.layer[0]) == 0.0
    matrices = prunable(model.encoder.layer[1])
    assert nonzero(matrices) == round(0.25 * sum(weight.numel() for weight in matrices))


@pytest.mark.parametrize("scope", ["global", "layerwise"])
def test_rows_go_as_a_whole(scope: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(20, 10), transformers.pytorch_utils.Conv1D(6, 5))
    done = prune(model, 0.5, scope=scope, structured="rows")
    rows = [*model[0].weight.flatten(1), *model[2].weight, *model[3].weight.t()]
    kept = [row for row in rows if row.count_nonzero()]
    assert (done.kept, done.total) == (len(kept), 24)
    assert len(kept) == 12
    assert all(row.count_nonzero() == row.numel() for row in kept)
    assert done.weights_kept == sum(row.numel() for row in kept)
    assert done.weights_total == sum(row.numel() for row in rows)


@pytest.mark.parametrize("make", [bert, gpt2])
@torch.no_grad()
def test_a_dropped_head_says_nothing_any_more(make: Any) -> None:
    before, model = make(), make()
    done = prune(model, 1 / 3, scope="layerwise", structured="heads")
    assert (done.kept, done.total) == (2, 6)
    assert done.weights_total == 2 * 4 * 24 * 24
    assert done.weights_kept == done.weights_total // 3
    assert done.distortion == pytest.approx(moved(before, model), rel=1e-6)
    inputs = torch.arange(9)[None] + 5
    outputs = model(inputs)[0]
    assert not torch.equal(outputs, before(inputs)[0])
    # Whatever a dropped head computes, its columns of the output projection are 0.
    if make is bert:
        for layer in model.encoder.layer:
            columns = layer.attention.output.dense.weight.unflatten(1, (3, 8)).abs().sum((0, 2))
            values = layer.attention.self.value.weight.unflatten(0, (3, 8)).abs().sum((1, 2))
            assert (columns == 0).sum() == 2
            assert torch.equal(columns == 0, values == 0)
    else:
        for layer in model.transformer.h:
            rows = layer.attn.c_proj.weight.unflatten(0, (3, 8)).abs().sum((1, 2))
            values = layer.attn.c_attn.weight.unflatten(1, (3, 3, 8)).abs().sum((0, 3))
            assert (rows == 0).sum() == 2
            assert torch.equal((rows == 0).expand(3, 3), values == 0)


def test_each_side_is_pruned_by_its_own_share() -> None:
    model = bert()
    before = copy.deepcopy(model)
    (device, server), on_device, on_server = prune_split(model, 1, 0.5, 0.75)
    assert moved(before, model) == 0.0
    for half, done, retained in ((device, on_device, 0.5), (server, on_server, 0.75)):
        assert done.kept == nonzero(prunable(half)) == round(retained * done.total)
    inputs = torch.arange(9)[None] + 5
    with torch.no_grad():
        pruned = copy.deepcopy(model)
        prune(pruned.encoder.layer[0], 0.5)
        prune([pruned.encoder.layer[1], pruned.pooler], 0.75)
        assert torch.equal(server(device(input_ids=inputs))[0], pruned(inputs)[0])


@pytest.mark.parametrize("cut", [0, 2])
def test_at_the_ends_one_side_has_nothing_to_prune(cut: int) -> None:
    halves, on_device, on_server = prune_split(bert(), cut, 0.5, 0.5)
    assert min(on_device.total, on_server.total) == 0
    assert on_device.kept + on_server.kept == round(0.5 * (on_device.total + on_server.total))
    assert nonzero(prunable(list(halves))) == on_device.kept + on_server.kept


def test_a_plain_sequence() -> None:
    model = nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 10))
    (device, server), on_device, on_server = prune_split(model, 1, 0.2, 0.9, method="random")
    assert (nonzero(prunable(device)), nonzero(prunable(server))) == (20, 90)
    assert (on_device.kept, on_server.kept) == (20, 90)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"retained": 1.5}, "retained"),
        ({"retained": math.nan}, "retained"),
        ({"retained": "half"}, "retained"),
        ({"method": "magnitud"}, "method"),
        ({"scope": "local"}, "scope"),
        ({"structured": "columns"}, "structured"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        prune(nn.Linear(2, 2), **({"retained": 0.5} | options))
    assert caught.value.field == field


@pytest.mark.parametrize("modules", [None, "x", [1], {"a": 1}])
def test_what_is_no_network_is_refused(modules: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"modules: got .* Give a torch.nn.Module"):
        prune(modules, 0.5)
    with pytest.raises(InvalidInputError, match=r"model: got .* Give a transformers model"):
        prune_split(modules, 1, 0.5, 0.5)


REPARAMETRISED = {
    "parametrize.remove_parametrizations(layer, 'weight')": nn.utils.parametrizations.weight_norm,
    "parametrize.remove_parametrizations(layer, 'weight').": nn.utils.parametrizations.spectral_norm,
    "prune.remove(layer, 'weight')": lambda layer: l1_unstructured(layer, "weight", 0.5),
    "remove_weight_norm(layer)": nn.utils.weight_norm,
    "remove_spectral_norm(layer)": nn.utils.spectral_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("remedy", REPARAMETRISED)
def test_a_weight_that_is_computed_from_others_is_refused_and_told_how_to_make_plain(remedy: str) -> None:
    model = bert()
    REPARAMETRISED[remedy](model.encoder.layer[1].output.dense)
    name = "encoder.layer.1.output.dense.weight"
    for call in (
        lambda: prune(model, 0.25),
        lambda: prune_split(model, 1, 0.25, 0.25),
        lambda: workload_from_model(model, tokens=4),
    ):
        with pytest.raises(InvalidInputError, match=f"modules: {name}: got .* computed anew .*{re.escape(remedy)}"):
            call()
    with pytest.raises(InvalidInputError, match=r"modules: weight: got .* Make it plain"):
        prune(REPARAMETRISED[remedy](nn.Linear(16, 8)), 0.25)


def test_a_network_that_torch_pruned_and_made_plain_can_be_pruned_again() -> None:
    layer = l1_unstructured(nn.Linear(16, 8), "weight", 0.5)
    torch.nn.utils.prune.remove(layer, "weight")
    assert nonzero([layer.weight]) == 64
    assert prune(layer, 0.25).kept == nonzero([layer.weight]) == 32


def test_a_computed_bias_does_not_keep_its_weights_from_being_pruned() -> None:
    model = nn.Sequential(nn.Linear(4, 16), l1_unstructured(nn.Linear(16, 8), "bias", 0.5))
    (_, server), _, done = prune_split(model, 1, 0.5, 0.25)
    assert done.kept == nonzero(prunable(server)) == 32
    assert nonzero([model[1].weight]) == 128


def test_quantised_weights_are_refused() -> None:
    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(torch.ones(4, 4, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(InvalidInputError, match=r"modules: 0\.weight: got .*torch\.uint8.* Load the network in floats"):
        prune(nn.Sequential(layer), 0.5)


def test_convolutions_that_shift_their_weights_are_left_alone() -> None:
    # A zero would not stay one.
    config = transformers.BitConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_groups=2)
    model = transformers.BitForImageClassification(config)
    assert set(prunable(model).values()) == {model.classifier[1]}


def test_pruning_a_half_leaves_the_embedding_of_the_other() -> None:
    model = gpt2()
    before = model.transformer.wte.weight.clone()
    for half in split(model, 1):
        prune(half, 0.1)
    assert torch.equal(model.transformer.wte.weight, before)


def test_pruning_a_half_of_a_sequence_leaves_the_embedding_of_the_other() -> None:
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 4), nn.Linear(4, 10, bias=False))
    model[2].weight = model[0].weight
    for cut in range(4):
        device, server = split(model, cut)
        assert set(prunable([device, server]).values()) == {[*device, *server][1]}
        assert len(prunable(server)) == (1 if cut < 2 else 0)


def test_nothing_to_prune_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="nothing to prune: give Linear"):
        prune(nn.LayerNorm(3), 0.5)
    with pytest.raises(InvalidInputError, match="heads of equal queries, keys and values"):
        prune(nn.Linear(2, 2), 0.5, structured="heads")
    config = transformers.LlamaConfig(**SMALL | {"num_attention_heads": 4, "num_key_value_heads": 2}, vocab_size=100)
    with pytest.raises(InvalidInputError, match="heads of equal queries, keys and values"):
        prune(transformers.LlamaModel(config), 0.5, structured="heads")
