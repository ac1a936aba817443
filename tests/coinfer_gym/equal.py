"""Equality to the last bit of what environments hand out, and random actions for lanes."""

import numpy as np


def same(one, two):
    """Equal in type, layout and every bit; what a mask declares absent aside."""
    assert type(one) is type(two)
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for key, value in one.items():
            mask = one.get(f"_{key}")
            if isinstance(value, np.ndarray) and mask is not None:
                assert (value.dtype, value.shape) == (two[key].dtype, two[key].shape)
                same(list(value[mask]), list(two[key][mask]))
            else:
                same(value, two[key])
    elif isinstance(one, (tuple, list)):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            same(a, b)
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (two.dtype, two.shape)
        assert np.array_equal(one, two)
    else:
        assert one == two


def plain(item):
    """Something that compares by ``==`` and prints every bit."""
    if isinstance(item, np.ndarray):
        return item.dtype.str, item.shape, item.tobytes().hex()
    if isinstance(item, dict):
        return {key: plain(value) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return [plain(value) for value in item]
    return item.hex() if isinstance(item, float) else item


def actions_for(env, steps, seed=0):
    """Actions of all lanes for some steps, some of them out of range."""
    return np.random.default_rng(seed).uniform(-1.1, 1.1, (steps, *env.action_space.shape)).astype(np.float32)
