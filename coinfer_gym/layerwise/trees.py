"""Sums of regression trees as compiled code reads them: predictions, and their upper bound in a box."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coinfer_gym._compile import kernel, merged_kernel

LEAF = -1
"""Stands in a tree's tests for a leaf."""

_BYTE = 8
_BUCKETS = 256


class TreeTables(NamedTuple):
    """A constant, a linear form and trees, whose nodes stand one after the other, each tree in preorder.

    The way out of a leaf leads back to it, so that a descent of fixed length needs no branch. Indices are unsigned: for
    signed ones numba checks whether they count from the end, which makes a prediction several times as slow.

    Attributes
    ----------
    base : float
        Constant of the sum.
    coefficients : ndarray, shape (d,)
        Of the linear form.
    roots, depths : ndarray of unsigned int, shape (T,)
        First node of each tree, and the most tests on a way through it.
    feature : ndarray of unsigned int, shape (M,)
        What a node tests; 0 at a leaf.
    number : ndarray, shape (M,)
        Largest value that goes to the first child; a leaf's value.
    ways : ndarray of unsigned int, shape (2 M,)
        Node ``ways[2 m]`` follows node m if the feature is at most its number, else node ``ways[2 m + 1]``.
    parent : ndarray of unsigned int, shape (M,)
        Node above; a root's is itself.
    after : ndarray of unsigned int, shape (M,)
        First node behind all nodes below this one.
    """

    base: float
    coefficients: NDArray[np.float64]
    roots: NDArray[np.uint32]
    depths: NDArray[np.uint32]
    feature: NDArray[np.uint32]
    number: NDArray[np.float64]
    ways: NDArray[np.uint32]
    parent: NDArray[np.uint32]
    after: NDArray[np.uint32]


class LeafMasks(NamedTuple):
    """Trees of up to eight leaves, each a byte that says which leaves are left; eight trees make a word.

    A test that is passed (feature above its number) rules out the leaves below its first child. The tree ends at the
    first leaf that no test rules out. What all tests of one feature rule out depends on how many of their numbers it is
    above, so one row of masks for each such rank answers all trees at once (Lucchese et al., QuickScorer, 2015).

    Attributes
    ----------
    limits : ndarray, shape (L + d,)
        For each feature, the numbers that it is tested against, ascending, and infinity.
    low, scale : ndarray, shape (d,)
        Feature f with value x lies in bucket ``(x - low[f]) * scale[f]``, rounded down and clipped.
    places : ndarray of unsigned int, shape (d, B)
        Place in `limits` of the first number that a value in the bucket may not exceed.
    most : int
        Most limits in one bucket.
    masks : ndarray of unsigned int, shape ((L + d) W,)
        W words for each of `limits`: the leaves left if the feature is above those before it. Empty if a tree has more
        than eight leaves.
    values : ndarray, shape (64 W,)
        Values of the eight leaves of each tree.
    first : ndarray of unsigned int, shape (256,)
        Place of the lowest bit of a byte.
    """

    limits: NDArray[np.float64]
    low: NDArray[np.float64]
    scale: NDArray[np.float64]
    places: NDArray[np.uint64]
    most: int
    masks: NDArray[np.uint64]
    values: NDArray[np.float64]
    first: NDArray[np.uint8]


def count_complete(tests: NDArray[np.int64]) -> int:
    """Nodes of the complete trees at the start of a list of tests in preorder."""
    # A test opens one more way than it closes, a leaf closes one: tree n ends where the open ways first fall to -n.
    lowest = np.minimum.accumulate(np.concatenate(([0], np.cumsum(np.where(tests == LEAF, -1, 1)))))
    ends = np.flatnonzero(np.diff(lowest)) + 1
    return int(ends[-1]) if len(ends) else 0


def build_tables(
    base: float, coefficients: NDArray[np.float64], tests: NDArray[np.int64], numbers: NDArray[np.float64]
) -> TreeTables:
    """Tables of trees in preorder, as `coinfer_gym.layerwise.predictor.RegressionPredictor` has them; read-only."""
    count = len(tests)
    ways, parent = np.repeat(np.arange(count), 2).reshape(count, 2), np.arange(count)
    after, level = np.arange(1, count + 1), np.zeros(count, np.int64)
    for node in reversed(range(count)):
        if tests[node] != LEAF:
            second = after[node + 1]
            ways[node] = node + 1, second
            parent[[node + 1, second]] = node
            after[node] = after[second]
    for node in range(count):
        level[node] = 0 if parent[node] == node else level[parent[node]] + 1
    roots = np.flatnonzero(level == 0)
    depths = np.maximum.reduceat(level, roots) if count else roots
    tables = TreeTables(
        float(base),
        coefficients.copy(),
        roots.astype(np.uint32),
        depths.astype(np.uint32),
        np.maximum(tests, 0).astype(np.uint32),
        numbers.copy(),
        ways.ravel().astype(np.uint32),
        parent.astype(np.uint32),
        after.astype(np.uint32),
    )
    for table in tables[1:]:
        table.flags.writeable = False
    return tables


def build_masks(trees: TreeTables, tests: NDArray[np.int64]) -> LeafMasks:
    """Masks of the trees of some tables, for `predict_lane`; read-only."""
    numbers, is_leaf = trees.number, tests == LEAF
    limits = [np.unique(numbers[tests == f]) for f in range(len(trees.coefficients))]
    rows = np.cumsum([0, *(len(each) + 1 for each in limits)])
    before = np.cumsum(is_leaf) - is_leaf  # leaves that stand before a node
    tree = np.searchsorted(trees.roots, np.arange(len(tests)), side="right") - 1
    place = before - before[trees.roots[tree]] if len(tree) else before
    is_small = not (place >= _BYTE).any()
    words = -(-len(trees.roots) // _BYTE)
    left = np.full((int(rows[-1]) if is_small else 0, _BYTE * words), 0xFF, np.uint8)
    values = np.zeros((_BYTE * words, _BYTE))
    if is_small:
        values[tree[is_leaf], place[is_leaf]] = numbers[is_leaf]
        for node in np.flatnonzero(~is_leaf).tolist():
            feature = int(tests[node])
            row = int(rows[feature]) + int(np.searchsorted(limits[feature], numbers[node])) + 1
            second = int(trees.ways[2 * node + 1])
            left[row, tree[node]] &= 0xFF & ~((1 << int(place[second])) - (1 << int(place[node])))
        for own in map(slice, rows[:-1].tolist(), rows[1:].tolist()):
            left[own] = np.bitwise_and.accumulate(left[own], axis=0)
    ended = np.concatenate([np.append(each, math.inf) for each in limits])
    first = np.array([(byte & -byte).bit_length() - 1 if byte else 0 for byte in range(256)], np.uint8)
    masks = LeafMasks(ended, *_find_buckets(limits, rows), left.view("<u8").ravel(), values.ravel(), first)
    for table in masks:
        if isinstance(table, np.ndarray):
            table.flags.writeable = False
    return masks


def _find_buckets(
    limits: Sequence[NDArray[np.float64]], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint64], int]:
    """`low`, `scale`, `places` and `most` of `LeafMasks`; `rows` has the place of each feature's first limit.

    A larger value never lies in a lower bucket, so a value is above all limits in the buckets before its own.
    """
    low, scale = np.zeros(len(limits)), np.ones(len(limits))
    places, most = np.zeros((len(limits), _BUCKETS), np.uint64), 0
    for feature, numbers in enumerate(limits):
        if len(numbers) > 1:
            low[feature], scale[feature] = numbers[0], _BUCKETS / (numbers[-1] - numbers[0])
        buckets = np.clip((numbers - low[feature]) * scale[feature], 0.0, _BUCKETS - 1.0).astype(np.int64)
        held = np.bincount(buckets, minlength=_BUCKETS)
        places[feature] = rows[feature] + np.cumsum(held) - held
        most = max(most, int(held.max()))
    return low, scale, places, most


@kernel
def predict_row(trees: TreeTables, features: NDArray[np.float64], i: int) -> float:
    """Accuracy in [0, 1] predicted from row `i` of the features, shape (n, d)."""
    total = trees.base
    for k in range(trees.coefficients.shape[0]):
        total += trees.coefficients[k] * features[i, k]
    for t in range(trees.roots.shape[0]):
        node = np.uint64(trees.roots[t])
        for _ in range(trees.depths[t]):
            is_above = features[i, trees.feature[node]] > trees.number[node]
            node = np.uint64(trees.ways[np.uint64(2) * node + np.uint64(is_above)])
        total += trees.number[node]
    return min(1.0, max(0.0, total))


@merged_kernel
def predict_lane(
    trees: TreeTables, masks: LeafMasks, features: NDArray[np.float64], i: int, ranks: NDArray[np.uint64]
) -> float:
    """The same as `predict_row`, to the last bit, and several times as fast if no tree has more than eight leaves.

    Parameters
    ----------
    trees : TreeTables
    masks : LeafMasks
        Of the same predictor.
    features : ndarray, shape (n, d)
    i : int
    ranks : ndarray of unsigned int, shape (n, d)
        Row `i` is overwritten.
    """
    if masks.masks.shape[0] == 0:
        return predict_row(trees, features, i)
    total, highest = trees.base, masks.places.shape[1] - 1.0
    width = np.uint64(masks.values.shape[0] // (_BYTE * _BYTE))
    for f in range(trees.coefficients.shape[0]):
        value = features[i, f]
        total += trees.coefficients[f] * value
        place = masks.places[f, np.uint64(min(highest, max(0.0, (value - masks.low[f]) * masks.scale[f])))]
        for _ in range(masks.most):  # without a branch: infinity stands after the last limit
            place += np.uint64(value > masks.limits[place])
        ranks[i, f] = place * width
    leaf = np.uint64(0)
    for w in range(width):
        word = ~np.uint64(0)
        for f in range(trees.coefficients.shape[0]):
            word &= masks.masks[ranks[i, f] + np.uint64(w)]
        for _ in range(_BYTE):
            total += masks.values[leaf + np.uint64(masks.first[word & np.uint64(255)])]
            leaf += np.uint64(_BYTE)
            word >>= np.uint64(8)
    return min(1.0, max(0.0, total))


@kernel
def predict_rows(trees: TreeTables, features: NDArray[np.float64], accuracies: NDArray[np.float64]) -> None:
    """Write `predict_row` of every row of the features, shape (n, d), to `accuracies`, shape (n,)."""
    for i in range(features.shape[0]):
        accuracies[i] = predict_row(trees, features, i)


@kernel
def bound_box(trees: TreeTables, low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    """Upper bound of the accuracy if every feature lies between `low` and `high`, both of shape (d,).

    The sum of the largest values that the linear form and each tree take in the box. It is exact for one tree; several
    trees may take their largest values at different points, and then no design reaches it.
    """
    total = trees.base
    for k in range(trees.coefficients.shape[0]):
        total += max(trees.coefficients[k] * low[k], trees.coefficients[k] * high[k])
    one = np.uint64(1)
    for t in range(trees.roots.shape[0]):
        root = np.uint64(trees.roots[t])
        end = np.uint64(trees.after[root])
        largest = -math.inf
        node = root
        while node < end:
            above = np.uint64(trees.parent[node])
            tested, limit = trees.feature[above], trees.number[above]
            is_outside = low[tested] > limit if node == above + one else high[tested] <= limit
            if is_outside and node != root:
                node = np.uint64(trees.after[node])
                continue
            if np.uint64(trees.ways[node + node]) == node:
                largest = max(largest, trees.number[node])
            node += one
        total += largest
    return min(1.0, max(0.0, total))
