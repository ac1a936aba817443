"""Training rewards in place of the environment's own, against what the lanes were told."""

import numpy as np
import pytest

from coinfer_gym import InvalidInputError
from coinfer_gym.sb3 import make_native
from coinfer_gym.sb3_rewards import LagrangianPenalties, PayDelivered, find_lagrangian, native_env
from tests.coinfer_gym.lanes import LAIM, LANES, ONE, QUEUE, make_dummy, random_actions


def test_the_lanes_are_found_inside_wrappers():
    lanes = make_native(LAIM, 1)
    assert native_env(PayDelivered(lanes)) is lanes
    with pytest.raises(InvalidInputError, match="make_native"):
        native_env(make_dummy(1))


def test_what_is_delivered_is_paid():
    raw = make_native(LAIM, LANES, **QUEUE)
    env, dummy = (PayDelivered(lanes) for lanes in (make_native(LAIM, LANES, **QUEUE), make_dummy(LANES, **QUEUE)))
    for lanes in (env, raw, dummy):
        lanes.seed(0)
        lanes.reset()
    price = raw.get_attr("scenario")[0].weight_drop
    missed = 0
    for actions in random_actions(7, 12):
        rewards, plain = env.step(actions)[1], dummy.step(actions)[1]
        raw.step(actions)
        told = raw.decisions
        np.testing.assert_allclose(rewards, told["delivered"] - price * told["dropped"], rtol=1e-6)
        assert np.array_equal(rewards, plain)
        missed += told["violated"].sum()
        assert (rewards[told["violated"].astype(bool)] <= 0.0).all()
    assert missed > 5


def test_the_multiplier_follows_the_violations():
    raw = make_native(LAIM, LANES, **QUEUE)
    env = LagrangianPenalties(make_native(LAIM, LANES, **QUEUE), limit=0.1, rate=0.5)
    dummy = LagrangianPenalties(make_dummy(LANES, **QUEUE), limit=0.1, rate=0.5)
    for lanes in (env, raw, dummy):
        lanes.seed(0)
        lanes.reset()
    multiplier = 1.0
    price = raw.get_attr("scenario")[0].weight_drop
    for actions in random_actions(7, 12):
        rewards, plain = env.step(actions)[1], dummy.step(actions)[1]
        raw.step(actions)
        told = raw.decisions
        expected = told["quality"] - price * told["dropped"] - multiplier * told["violated"]
        np.testing.assert_allclose(rewards, expected, rtol=1e-6)
        assert np.array_equal(rewards, plain)  # in the Zoo's batches, too
        multiplier = max(0.0, multiplier + 0.5 * (told["violated"].sum() - 0.1 * LANES))
        assert env.multiplier == dummy.multiplier == pytest.approx(multiplier)
    assert multiplier > 5.0
    exact = LagrangianPenalties(make_native(LAIM, LANES, "BudgetShareAction", **ONE), limit=0.1, rate=0.5)
    exact.reset()
    for _ in range(6):
        exact.step(np.ones((LANES, 1), np.float32))
    assert exact.multiplier == 0.0
    assert find_lagrangian(PayDelivered(exact)) is exact
    assert find_lagrangian(raw) is None
    for wrong in ({"limit": 0.0}, {"rate": -1.0}):
        with pytest.raises(InvalidInputError, match="positive"):
            LagrangianPenalties(raw, **wrong)
