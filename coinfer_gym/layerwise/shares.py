"""LayerwiseShares-v0: Layerwise-v0 in which every action is accurate enough, as environments of an id of their own."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorActionWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from coinfer_gym._compile import kernel
from coinfer_gym.envs.actions import check_actions
from coinfer_gym.envs.base import SharesEnv, unit_box
from coinfer_gym.envs.interval import component, component_of_clock
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.layerwise import spaces
from coinfer_gym.layerwise.controls import fastest_load
from coinfer_gym.layerwise.designs import FREQUENCY, POWER
from coinfer_gym.layerwise.env import LayerwiseEnv, LayerwiseVectorEnv
from coinfer_gym.layerwise.network import NetworkTables
from coinfer_gym.layerwise.predictor import write_features
from coinfer_gym.layerwise.problem import evaluate
from coinfer_gym.layerwise.scenario import LayerwiseScenario
from coinfer_gym.layerwise.trees import TreeTables, predict_row
from coinfer_gym.records import Records

STEPS = 32
"""Designs that are tried between the unpruned network and the one that is wished for."""


class LayerwiseSharesEnv(SharesEnv, gym.ActionWrapper[NDArray[np.float32], Any, NDArray[np.float32]]):
    """Layerwise-v0 whose action divides the allowed loss of accuracy among the groups of layers and the encoder.

    The action is ``Box(-1, 1, (G + 1,), float32)``: how far to prune each group and to compress the feature. These are
    the components ``retained_<group>`` and ``compression`` of the plain action on their own scales, where 1 means not
    at all. At each cut the network is pruned and compressed in this direction as far as the minimum accuracy allows.
    Power and clock are the fastest within the energy budget, and the fastest cut is taken. So every action meets the
    accuracy, and the energy budget if the network can at any cut. All else is
    `coinfer_gym.layerwise.env.LayerwiseEnv`, which ``env.unwrapped`` returns.

    Parameters
    ----------
    **options
        As for `LayerwiseEnv`.
    """

    metadata = LayerwiseEnv.metadata

    def __init__(self, /, **options: Any) -> None:
        self._layerwise = LayerwiseEnv(**options)
        super().__init__(self._layerwise)
        self._planner = _Planner(self._layerwise.scenario)
        self.action_space = unit_box(self._planner.names)

    def action(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """The fastest accurate design in the wished direction, as an action of Layerwise-v0.

        Raises
        ------
        InvalidInputError
            If the action has another shape or a NaN.
        """
        problem = self._layerwise.problem()
        wishes = check_actions(action, self.action_space.shape or ())[None]
        row: NDArray[np.float32] = self._planner.act(wishes, [problem.gain], [problem.energy_budget])[0]
        return row


class LayerwiseSharesVectorEnv(VectorActionWrapper):
    """Many lanes of `LayerwiseSharesEnv`; arguments as for `coinfer_gym.layerwise.env.LayerwiseVectorEnv`."""

    def __init__(self, /, **options: Any) -> None:
        self._layerwise = LayerwiseVectorEnv(**options)
        super().__init__(self._layerwise)
        self._planner = _Planner(self._layerwise.scenario)
        self.single_action_space = unit_box(self._planner.names)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def actions(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """The fastest accurate designs in the wished directions as actions of Layerwise-v0."""
        wishes = check_actions(actions, self.action_space.shape or (), self._layerwise.ended)
        gain, _, energy = self._layerwise.lanes.tasks()
        return self._planner.act(wishes, gain, energy)


class _Planner:
    """Turns wishes into actions of one scenario."""

    def __init__(self, scenario: LayerwiseScenario) -> None:
        self.names = spaces.action_names(scenario.network)[1:-2]  # without cut, power and clock
        self._problem = scenario.problem(1.0)
        self._scale = scenario.action_scale

    def act(self, wishes: NDArray[Any], gain: Any, energy: Any) -> NDArray[np.float32]:
        """Actions, shape (n, G + 4), of wishes, shape (n, G + 1), for tasks of some gains and energy budgets in J."""
        if np.isnan(wishes).any():
            raise InvalidInputError("action", math.nan, "Give numbers in [-1, 1].")
        p, components = self._problem, len(self.names) + 3
        actions = np.ones((len(wishes), components), np.float32)
        _plan(
            (p.network.tables, self._scale, p.hardware, p.predictor.tables),
            p.accuracy_min,
            np.clip(wishes.astype(np.float64), -1.0, 1.0),
            np.asarray(gain),
            np.asarray(energy),
            actions,
            Scratch(
                np.ones((1, components)),
                np.ones((1, components)),
                np.empty((1, len(p.predictor.features))),
            ),
        )
        return actions


class Scratch(NamedTuple):
    """Arrays of one row that a search works in: an action, its design, and what predicts its accuracy."""

    action: NDArray[np.float64]
    design: NDArray[np.float64]
    features: NDArray[np.float64]


@kernel
def _plan(
    model: tuple[NetworkTables, Records, Records, TreeTables],
    accuracy_min: float,
    wishes: NDArray[np.float64],
    gains: NDArray[np.float64],
    energies: NDArray[np.float64],
    actions: NDArray[np.float32],
    scratch: Scratch,
) -> None:
    """Write the fastest accurate design in the direction of every wish to its row of `actions`.

    Where none is within the energy budget, it is the one of least energy.
    """
    network, scale, hardware, predictor = model
    h = hardware[0]
    action, design, features = scratch
    for i in range(wishes.shape[0]):
        least_delay, least_energy = math.inf, math.inf
        for rank in range(scale.shape[0]):
            action[0, 0] = scale[rank].middle
            for step in range(STEPS, -1, -1):
                for k in range(wishes.shape[1]):  # rounded first, so that what is judged here is what will run
                    action[0, k + 1] = np.float32(1.0 - step / STEPS * (1.0 - wishes[i, k]))
                spaces.decode(network, scale, hardware, action, 0, design, 0)
                delay, power, clock = fastest_load(network, hardware, gains[i], energies[i], design, 0)
                if delay >= least_delay and least_delay < math.inf:
                    break  # what is pruned less takes longer still
                design[0, POWER], design[0, FREQUENCY] = power, clock
                outcome = evaluate(network, hardware, design, 0, gains[i])
                write_features(network, design, 0, 0.0, features)
                if predict_row(predictor, features, 0) < accuracy_min:
                    continue
                energy = outcome[3] + outcome[4] + outcome[5]
                if delay < least_delay or (least_delay == math.inf and energy < least_energy):
                    least_delay, least_energy = delay, energy
                    for k in range(wishes.shape[1] + 1):
                        actions[i, k] = action[0, k]
                    actions[i, POWER] = component(power, h.power_min, h.power_max)
                    actions[i, FREQUENCY] = component_of_clock(clock, h.frequency_device_min, h.frequency_device_max)
                break
