"""Accuracy predictors of designs: predictions walked tree by tree, bounds against random points, files that are bad."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.layerwise.network import Block, Group, Layer, Network
from coinfer_gym.layerwise.predictor import (
    RegressionPredictor,
    feature_names,
    load_regression_predictor,
    shipped_regression_predictors,
    write_features,
)
from coinfer_gym.layerwise.trees import LEAF, bound_box, predict_lane, predict_row

GROUPS = ("conv1", "fc1")
NAMES = feature_names(GROUPS, noisy=True)


def random_tree(rng, depth, box):
    """Nested tuples (feature, number, first, second) or a leaf's value; every leaf can be reached."""
    if depth == 0 or rng.random() < 0.15:
        return float(rng.normal(0.0, 0.05))
    feature = int(rng.integers(len(box)))
    low, high = box[feature]
    number = float(rng.uniform(low, high))
    boxes = [[*box[:feature], side, *box[feature + 1 :]] for side in ((low, number), (number, high))]
    return feature, number, *(random_tree(rng, depth - 1, each) for each in boxes)


def walk(tree, row):
    while isinstance(tree, tuple):
        feature, number, first, second = tree
        tree = first if row[feature] <= number else second
    return tree


def flat(tree):
    if not isinstance(tree, tuple):
        return [(LEAF, tree)]
    return [(tree[0], tree[1]), *flat(tree[2]), *flat(tree[3])]


def forest(seed, count=20, depth=4, linear=False):
    rng = np.random.default_rng(seed)
    trees = [random_tree(rng, depth, [(0.0, 1.0)] * len(NAMES)) for _ in range(count)]
    nodes = [node for tree in trees for node in flat(tree)]
    coefficients = rng.normal(0.0, 0.1, len(NAMES)) if linear else np.zeros(len(NAMES))
    tests = np.array([test for test, _ in nodes], dtype=np.int64)
    numbers = np.array([number for _, number in nodes])
    made = RegressionPredictor(
        "mine", "alexnet", 0.9, NAMES, "GradientBoosting", {"mse": 1e-4}, 0.5, coefficients, tests, numbers
    )
    return made, trees


def expected(made, trees, rows):
    sums = [made.base + row @ made.coefficients + sum(walk(tree, row) for tree in trees) for row in rows]
    return np.clip(sums, 0.0, 1.0)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("depth", [0, 1, 3, 7])
def test_prediction_is_the_sum_of_walks_through_the_trees(depth, linear):
    made, trees = forest(depth, depth=depth, linear=linear)
    rows = np.random.default_rng(1).random((300, len(NAMES)))
    at = made.tests == 0  # on the very numbers that the first feature is tested against
    on_the_edge = made.numbers[at][:100]
    rows[: len(on_the_edge), 0] = on_the_edge
    want = expected(made, trees, rows)
    np.testing.assert_allclose(made.predict(rows), want, rtol=0, atol=1e-12)
    assert predict_row(made.tables, rows, 7) == pytest.approx(want[7], abs=1e-12)


def test_prediction_lies_between_0_and_1():
    made, _ = forest(0)
    rows = np.random.default_rng(0).random((10, len(NAMES)))
    assert (replace(made, base=5.0).predict(rows) == 1.0).all()
    assert (replace(made, base=-5.0).predict(rows) == 0.0).all()
    assert bound_box(replace(made, base=5.0).tables, rows[0], rows[0]) == 1.0


@pytest.mark.parametrize("seed", range(20))
def test_bound_of_one_tree_is_its_largest_leaf_in_the_box(seed):
    made, trees = forest(seed, count=1, depth=5)
    rng = np.random.default_rng(seed)
    low = rng.uniform(0.0, 0.6, len(NAMES))
    high = low + rng.uniform(0.0, 0.4, len(NAMES))
    points = rng.uniform(low, high, (4000, len(NAMES)))
    best = expected(made, trees, points).max()
    bound = bound_box(made.tables, low, high)
    assert bound >= best - 1e-12
    exact = made.base + largest_leaf(trees[0], low, high)
    assert bound == pytest.approx(exact, abs=1e-12)


def largest_leaf(tree, low, high):
    """Largest leaf of a box by cutting the box at every test: the recursion that the kernel does without."""
    if not isinstance(tree, tuple):
        return tree
    feature, number, first, second = tree
    found = []
    if low[feature] <= number:
        found.append(
            largest_leaf(first, low, np.where(np.arange(len(high)) == feature, np.minimum(high, number), high))
        )
    if high[feature] > number:
        above = np.nextafter(number, math.inf)
        found.append(largest_leaf(second, np.where(np.arange(len(low)) == feature, np.maximum(low, above), low), high))
    return max(found)


@pytest.mark.parametrize("linear", [False, True])
def test_bound_is_above_all_predictions_in_the_box_and_meets_them_at_a_point(linear):
    made, trees = forest(3, count=30, linear=linear)
    rng = np.random.default_rng(3)
    for width in (0.0, 0.05, 0.3, 1.0):
        low = rng.uniform(0.0, 1.0 - width, len(NAMES))
        high = low + width
        found = expected(made, trees, rng.uniform(low, high, (500, len(NAMES)))).max()
        bound = bound_box(made.tables, low, high)
        assert bound >= found - 1e-12
        if width == 0.0:
            assert bound == pytest.approx(found, abs=1e-12)


def test_features_of_a_design():
    network = Network(
        "tiny",
        (Group("conv1", 8), Group("fc1", 20)),
        (
            Block("conv", (Layer("conv", 3, "conv1", 4, 4, 3),), "conv1", 16),
            Block("fc", (Layer("fc", "conv1", "fc1", area=16),), "fc1", 1, True),
            Block("end", (Layer("fc", "fc1", 10),), 10, 1, True),
        ),
        48,
    )
    # a codec from 4 channels to 1, the image, nothing, and the feature as it is
    designs = np.array([[cut, 4.0, 5.0, sent, 1.0, 2e9] for cut, sent in ((1, 1), (0, 1), (3, 1), (1, 4))])
    noisy, quiet = np.full((4, 6), math.nan), np.full((4, 5), math.nan)
    for i in range(4):
        write_features(network.tables, designs, i, 20.0, noisy)
        write_features(network.tables, designs, i, 20.0, quiet)
    assert NAMES == ("retained_conv1", "retained_fc1", "cut", "compression", "log2_values", "snr_db")
    expected = [
        [0.5, 0.25, 1, 0.25, 4, 20],
        [0.5, 0.25, 0, 1, math.log2(48), 20],
        [0.5, 0.25, 3, 1, 0, 20],
        [0.5, 0.25, 1, 1, 6, 20],
    ]
    assert noisy.tolist() == expected
    # without noise and without a codec all cuts are one: the image's
    assert quiet.tolist() == [expected[0][:5], *[expected[1][:5]] * 3]


def test_a_file_gives_the_same_predictor(tmp_path):
    made, _ = forest(5, linear=True)
    path = tmp_path / "mine.json"
    path.write_text(made.to_json())
    read = load_regression_predictor(path, GROUPS)
    rows = np.random.default_rng(2).random((50, len(NAMES)))
    np.testing.assert_array_equal(read.predict(rows), made.predict(rows))
    assert read.to_json() == made.to_json()
    assert read.noisy


def test_shipped_predictors_load_and_those_of_the_other_world_are_not_among_them():
    names = shipped_regression_predictors()
    assert "minilm-squad-magnitude" not in names
    for name in names:
        assert load_regression_predictor(name).name == name


@pytest.mark.parametrize(
    ("change", "field", "remedy"),
    [
        (lambda d: d.pop("tests"), "tests", "missing"),
        (lambda d: d.update(colour=1), "key", "Known are"),
        (lambda d: d.update(kind="table"), "kind", "'regression'"),
        (lambda d: d.pop("kind"), "kind", "'regression'"),
        (lambda d: d.update(metric="f1"), "metric", "'accuracy'"),
        (lambda d: d.update(network=3), "network", "Give text"),
        (lambda d: d.update(base="0.5"), "base", "Give a number"),
        (lambda d: d.update(base=math.nan), "numbers", "finite"),
        (lambda d: d.update(unpruned=1.5), "unpruned", "accuracy of the unpruned"),
        (lambda d: d.update(scores=[1]), "scores", "numbers by name"),
        (lambda d: d.update(features="cut"), "features", "Give a list"),
        (lambda d: d["features"].__setitem__(0, "cut"), "features", "none twice"),
        (lambda d: d["coefficients"].pop(), "coefficients", "one for each"),
        (lambda d: d["numbers"].pop(), "tests, numbers", "one number for each"),
        (lambda d: d["numbers"].__setitem__(0, None), "numbers", "list of numbers"),
        (lambda d: d["numbers"].__setitem__(0, math.inf), "numbers", "finite"),
        (lambda d: d["tests"].__setitem__(0, 6), "tests", "0 to 5"),
        (lambda d: d["tests"].__setitem__(0, -2), "tests", "-1 at a leaf"),
        (lambda d: d["tests"].__setitem__(0, 1.5), "tests", "whole numbers"),
        (lambda d: [d[key].pop() for key in ("tests", "numbers")], "tests", "leaves are missing"),
    ],
)
def test_damaged_file_gives_one_clear_error(tmp_path, change, field, remedy):
    data = forest(1)[0].to_dict()
    change(data)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InvalidInputError, match=remedy) as caught:
        load_regression_predictor(path)
    assert caught.value.field.endswith(field)


def test_file_that_is_none_or_of_another_network(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text("[1")
    with pytest.raises(InvalidInputError, match="not valid JSON"):
        load_regression_predictor(path)
    path.write_text("[1]")
    with pytest.raises(InvalidInputError, match="Give a mapping"):
        load_regression_predictor(path)
    with pytest.raises(InvalidInputError, match="no such file"):
        load_regression_predictor(tmp_path / "none.json")
    with pytest.raises(InvalidInputError, match=r"as my\.json"):
        load_regression_predictor("minilm-squad-magnitude")
    path.write_text(forest(1)[0].to_json())
    with pytest.raises(InvalidInputError, match="retained_stage1"):
        load_regression_predictor(path, ("stage1", "stage2"))


def test_features_that_cannot_be_predicted():
    made, _ = forest(1)
    with pytest.raises(InvalidInputError, match="Give rows of retained_conv1"):
        made.predict(np.zeros((2, 5)))
    with pytest.raises(InvalidInputError, match="finite"):
        made.predict(np.full((1, 6), math.nan))


@pytest.mark.parametrize(("depth", "linear"), [(3, False), (2, True), (5, False), (0, False)])
def test_a_lane_is_predicted_as_a_row_to_the_last_bit(depth, linear):
    made, _ = forest(3, depth=depth, linear=linear)
    rng = np.random.default_rng(3)
    limits = [np.append(made.numbers[made.tests == f], [-1e9, 0.5, 1e9]) for f in range(len(made.features))]
    near = np.column_stack([rng.choice(each, 500) for each in limits])
    rows = np.concatenate([near, np.nextafter(near, np.inf), np.nextafter(near, -np.inf), rng.random(near.shape)])
    work = np.zeros((1, rows.shape[1]), np.uint64)
    predicted = [predict_lane(made.tables, made.leaf_masks, np.ascontiguousarray(row[None]), 0, work) for row in rows]
    assert predicted == made.predict(rows).tolist()
    assert depth == 0 or len(set(predicted)) > 10


def test_a_lane_is_predicted_where_limits_lie_so_close_that_a_bucket_holds_many():
    limits = [0.1, *np.linspace(0.5, 0.5 + 1e-9, 7).tolist(), 0.9]
    tests, numbers = [], []
    for limit in limits:
        tests += [0, LEAF, LEAF]
        numbers += [limit, 0.0, 0.1]
    empty = np.zeros(1)
    made = RegressionPredictor("close", "tiny", 1.0, ("x",), "None", {}, 0.0, empty, np.array(tests), np.array(numbers))
    assert made.leaf_masks.most == 7
    for limit in limits:
        for value in (np.nextafter(limit, 0.0), limit, np.nextafter(limit, 1.0)):
            row = np.array([[value]])
            predicted = predict_lane(made.tables, made.leaf_masks, row, 0, np.zeros((1, 1), np.uint64))
            assert predicted == pytest.approx(0.1 * sum(value > each for each in limits), abs=1e-12)
