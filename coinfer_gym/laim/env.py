"""LAIM-v0: co-inference of a large AI model (LAIM) over a fading channel with a queue, one decision per task."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coinfer_gym.envs.actions import clip_action
from coinfer_gym.envs.base import Setup, TaskEnv
from coinfer_gym.envs.lanes import Lanes, Steps
from coinfer_gym.envs.vector import TaskVectorEnv
from coinfer_gym.errors import InvalidInputError
from coinfer_gym.laim import dynamics, spaces
from coinfer_gym.laim.decision import Decision, check_decision
from coinfer_gym.laim.optimum import solve_exact
from coinfer_gym.laim.outcome import Choice, fits, spend
from coinfer_gym.laim.problem import Problem
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.physics import from_db
from coinfer_gym.records import Records


class LAIMLanes(Lanes):
    """Lanes of LAIM-v0.

    Parameters
    ----------
    scenario : Scenario
    count : int
        Number of lanes.
    parallel : bool
        Spread the lanes over all cores.

    Raises
    ------
    InvalidInputError
        If there is no lane, or no decision meets the largest budgets even in the best channel.
    """

    steps = Steps(dynamics.step_lanes, dynamics.step_lanes_parallel)

    def __init__(self, scenario: Scenario, count: int | None, parallel: bool = False) -> None:
        super().__init__(
            scenario, scenario.tables, spaces.ACTION_NAMES, dynamics.INFO_NAMES, dynamics.INFO, count, parallel
        )
        check_budgets(scenario, self.rules)


class LAIMEnv(TaskEnv):
    """Cut, prune, clock and send one inference task after another.

    ## Description
    A device and an edge server run one neural network together. Tasks arrive over time and wait in a finite queue while
    the channel fades. Each step serves the task at the head. A slower decision gives a better answer, but makes the
    next task wait. The world (arrival times and channel gains) is drawn at reset and does not depend on the actions, so
    two policies with the same seed play in the same world.

    ## Action Space
    ``Box(-1, 1, (6,), float32)``. A component outside this range is clipped and counted in
    ``info["clipped"]``; NaN is an error.

    | index | name | -1 | 1 | scale |
    |---|---|---|---|---|
    | 0 | cut | 0, on the server | J, on the device | a quarter for each end, equal bins between them |
    | 1 | retained_device | retained_device_min | 1 | share of the scale to the power of 1.5 |
    | 2 | retained_server | retained_server_min | 1 | share of the scale to the power of 1.5 |
    | 3 | power | power_min | power_max | linear in W |
    | 4 | frequency_device | frequency_device_min | frequency_device_max | linear in the square |
    | 5 | frequency_server | frequency_server_min | frequency_server_max | linear in the square |

    A decision may not fit into the memories of device and server. The task then runs at the nearest cut that fits at
    the least ratios, with ratios lowered to fit. ``info["limited"]`` is then 1, and ``info`` describes this run.

    ## Observation Space
    ``Box(-1, 1, (7,), float32)``, clipped. A quantity that the scenario does not vary is constant.

    | index | name | -1 | 1 |
    |---|---|---|---|
    | 0 | gain of the channel in dB as observed | lower end of its range | upper end |
    | 1 | tasks waiting behind the head | 0 | queue_capacity |
    | 2 | age of the task at the head | 0 | delay budget |
    | 3 | estimate of the arrival rate | 0 | twice the highest rate |
    | 4 | delay budget, logarithmic | lower end of its range | upper end |
    | 5 | energy budget, logarithmic | lower end of its range | upper end |
    | 6 | battery | empty | full, or mains power |

    ## Rewards
    ``quality (1 - m_T) (1 - m_E) - w_T m_T - w_E m_E - w_drop drops``. A task that meets both budgets is paid its
    quality. Beyond a budget, the reward falls without a jump to a penalty of at most the budget's weight:
    ``m_T = m(age/T0 - 1)`` and ``m_E = m(E/E0 - 1)``, where ``m(x) = 3x/(1 + 3x)`` for an excess ``x > 0``, otherwise
    0. The age is the task's at its end, waiting and service included. Drops are the tasks lost since the last decision,
    in the queue or abandoned in service.

    ``info`` names the parts: ``quality``; ``delivered``, the quality that counts in evaluations (0 after a miss); the
    raw excesses ``cost_delay`` and ``cost_energy``; the losses ``dropped`` and ``abandoned``; and the quantities in SI
    units that `coinfer_gym.laim.dynamics.INFO_NAMES` lists.

    ## Starting State
    The first task stands at the head of an otherwise empty queue.

    ## Episode End
    The episode is truncated when all its tasks were served or lost. The last observation shows one more task, because
    the process itself would go on. There is no termination.

    ## Arguments
    ``scenario`` is the name of a shipped scenario (default ``bert-multimodal``) or the path of your own YAML file.
    Every field of `coinfer_gym.laim.scenario.Scenario` is also a keyword, for example
    ``quality="magnitude_pruning"``, ``arrivals="one_at_a_time"`` or ``delay_budget=0.3``.

    ## Vectorized environment
    ``gym.make_vec("coinfer_gym/LAIM-v0", num_envs=1024, vectorization_mode="vector_entry_point")``. Lane `i` of a batch
    seeded ``s`` equals the single environment seeded ``s + i``, exactly.

    ## Version History
    - v0: first version.
    """

    setup = Setup("bert-multimodal", Scenario, LAIMLanes)
    scenario: Scenario

    def problem(self) -> Problem:
        """Problem P1 of the task at the head, from what the agent observes (`coinfer_gym.envs.lanes.Lanes.tasks`)."""
        return self.scenario.problem(*(float(each[0]) for each in self.tasks()))

    def action(self, decision: Decision) -> NDArray[np.float32]:
        """Action for a decision or a solution, up to the rounding of float32."""
        check_decision(decision, self.scenario.workload)
        return spaces.encode(self.scenario.tables, decision)

    def decision(self, action: NDArray[np.float32]) -> Decision:
        """Decision for an action, in SI units."""
        clipped = clip_action(action, len(spaces.ACTION_NAMES))[None]
        return Decision(*spaces.decode(self.scenario.tables, clipped, 0))

    def _build_viewer(self) -> Any:
        from coinfer_gym.envs.viewer import Viewer  # pictures need the extra "render"
        from coinfer_gym.laim.picture import LAIMSubject

        return Viewer(LAIMSubject(self.scenario), self.metadata["render_fps"])


class LAIMVectorEnv(TaskVectorEnv):
    """Many lanes of `LAIMEnv`. Parameters are those of `coinfer_gym.envs.vector.TaskVectorEnv`."""

    single = LAIMEnv
    scenario: Scenario


def check_budgets(scenario: Scenario, rules: Records) -> None:
    """Raise `InvalidInputError` if no decision meets the largest budgets even in the best channel."""
    delay_budget = max(scenario.delay_budget_range or (scenario.delay_budget,))
    energy_budget = max(scenario.energy_budget_range or (scenario.energy_budget,))
    gain = from_db(float(rules["gain_db_high"][0]))
    if _is_easy(scenario, gain, delay_budget, energy_budget):
        return
    best = solve_exact(scenario.problem(gain, delay_budget, energy_budget))
    if best.feasible:
        return
    needs = {"delay_budget": (delay_budget, best.delay_needed), "energy_budget": (energy_budget, best.energy_needed)}
    name = min(needs, key=lambda key: needs[key][1] / needs[key][0])
    given, needed = needs[name]
    unit = "s" if name == "delay_budget" else "J"
    remedy = "Raise both budgets." if math.isinf(needed) else f"In the best channel a task needs {needed:.4g} {unit}."
    raise InvalidInputError(name, given, f"No decision meets both budgets. {remedy}")


def _is_easy(scenario: Scenario, gain: float, delay_budget: float, energy_budget: float) -> bool:
    """Whether one of a few decisions meets the budgets. This saves compiling the exact optimum."""
    least = scenario.retained_device_min, scenario.retained_server_min
    highest = scenario.power_max, scenario.frequency_device_max, scenario.frequency_server_max
    for speed in (1.0, 0.7, 0.4, 0.2):
        controls = (*least, *(speed * end for end in highest))
        for cut in range(scenario.cuts):
            delay, energy = spend(scenario.tables, gain, Choice(cut, *controls))
            in_budgets = delay <= delay_budget and energy <= energy_budget
            if in_budgets and fits(scenario.tables.cuts[cut], *least):
                return True
    return False
