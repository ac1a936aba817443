"""Layerwise-v0: co-inference of an image network pruned layer by layer, over a fading channel with a queue of tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from coinfer_gym.envs.actions import clip_action
from coinfer_gym.envs.base import Setup, TaskEnv
from coinfer_gym.envs.lanes import Lanes, Steps
from coinfer_gym.envs.vector import TaskVectorEnv
from coinfer_gym.layerwise import dynamics, spaces
from coinfer_gym.layerwise.problem import LayerwiseDecision, LayerwiseProblem
from coinfer_gym.layerwise.scenario import LayerwiseScenario


class LayerwiseLanes(Lanes):
    """`count` lanes of Layerwise-v0; `parallel` spreads them over all cores."""

    steps = Steps(dynamics.step_lanes, dynamics.step_lanes_parallel)

    def __init__(self, scenario: LayerwiseScenario, count: int | None, parallel: bool = False) -> None:
        network, model = scenario.network, dynamics.build_model(scenario)
        names = spaces.action_names(network), dynamics.info_names(network)
        super().__init__(scenario, model, *names, dynamics.info_type(network), count, parallel)


class LayerwiseEnv(TaskEnv):
    """Cut, prune layer by layer, compress, clock and send one image after another.

    ## Description
    A device and a server share an image network. For each task the agent decides where to cut the network, how strongly
    to prune each group of layers, how far an encoder compresses the uploaded feature, and the transmit power and clock
    of the device (Mu et al.). The aim is low latency. The predicted accuracy may be at most ``accuracy_loss`` below
    that of the unpruned network.

    Arrivals, queue, channel and battery are those of LAIM-v0 (large AI models, `coinfer_gym.laim.env.LAIMEnv`).
    Arrivals and channel are drawn at reset, so all policies with the same seed meet the same world.

    ## Action Space
    ``Box(-1, 1, (G + 4,), float32)`` for G groups. A component outside this range is clipped and counted in
    ``info["clipped"]``; NaN is an error.

    | index | name | -1 | 1 | scale |
    |---|---|---|---|---|
    | 0 | cut | the fastest | the slowest | bins by rank, as wide as 1, 1/2, 1/3, ... |
    | 1..G | retained_<group> | retained_min | 1 | one minus the cube of the distance to the upper end |
    | G + 1 | compression | one channel | all channels, without a codec, from 0.75 on | two cubics that meet at -0.25 |
    | G + 2 | power | power_min | power_max | linear in W |
    | G + 3 | frequency_device | frequency_device_min | frequency_device_max | linear in the square |

    Cuts are ranked by the delay of a task at the mean gain whose other components are 0; ``info["cut"]`` is the number
    of the cut in the order of the network. At -0.25 the encoder sends as little as the accuracy allows while nothing is
    pruned. ``action`` finds the components of a decision, and ``decision`` the decision of an action.

    ## Observation Space
    ``Box(-1, 1, (7,), float32)``, the same as in LAIM-v0: gain, queue, age of the task, arrival rate, both budgets,
    battery.

    ## Rewards
    ``quality (1 - m_T) (1 - m_E) (1 - m_A) - w_T m_T - w_E m_E - w_A m_A - w_drop drops``, as in LAIM-v0. Quality is
    ``[1 - age/T0]+``, where ``age`` is the time from the task's arrival to its end. A is the predicted accuracy:
    ``m_A = 120x/(1 + 120x)`` for a shortfall ``x = 1 - A/A_min``, so 0.7 points cost about half. A shortfall of up to
    1e-5 does not count. ``info`` has the same parts as in LAIM-v0, and ``cost_accuracy``.

    ## Starting State
    The first task stands at the head of an otherwise empty queue.

    ## Episode End
    The episode is truncated when all its tasks were served or lost. There is no termination.

    ## Arguments
    ``scenario`` names a shipped world, ``network-device-link`` (`coinfer_gym.layerwise.scenario`; default
    ``alexnet-rpi4b-4g``), or your own YAML file. Every field of `coinfer_gym.layerwise.scenario.LayerwiseScenario` is a
    keyword, for example ``channel="trace", channel_trace="my/trace.csv"``.

    ## Vectorized environment
    ``gym.make_vec("coinfer_gym/Layerwise-v0", num_envs=1024, vectorization_mode="vector_entry_point")``. Lane `i` of a
    batch seeded ``s`` equals the single environment seeded ``s + i``, exactly.

    ## Version History
    - v0: first version.
    """

    setup = Setup("alexnet-rpi4b-4g", LayerwiseScenario, LayerwiseLanes)
    scenario: LayerwiseScenario

    def problem(self) -> LayerwiseProblem:
        """The latency problem of the task at the head of the queue, with the gain and budgets the agent knows of."""
        return self.scenario.problem(*(float(each[0]) for each in self.tasks()))

    def action(self, decision: LayerwiseDecision) -> NDArray[np.float32]:
        """Action of a decision or solution: the same network, and power and clock up to the rounding of float32."""
        problem = self.scenario.problem(1.0)
        return spaces.encode(problem.hardware, self.scenario.action_scale, problem.decision(problem.row(decision)))

    def decision(self, action: NDArray[np.float32]) -> LayerwiseDecision:
        """Decision of an action, in SI units, with the shares of channels that it keeps and sends."""
        row = clip_action(action, len(self.lanes.action_names))[None]
        problem = self.scenario.problem(1.0)
        design = np.empty_like(row)
        spaces.decode(self.scenario.network.tables, self.scenario.action_scale, problem.hardware, row, 0, design, 0)
        return problem.decision(design[0])

    def _build_viewer(self) -> Any:
        from coinfer_gym.envs.viewer import Viewer  # pictures need the extra "render"
        from coinfer_gym.layerwise.picture import LayerwiseSubject

        return Viewer(LayerwiseSubject(self.scenario), self.metadata["render_fps"])


class LayerwiseVectorEnv(TaskVectorEnv):
    """Many lanes of `LayerwiseEnv`. Parameters are those of `coinfer_gym.envs.vector.TaskVectorEnv`."""

    single = LayerwiseEnv
    scenario: LayerwiseScenario
