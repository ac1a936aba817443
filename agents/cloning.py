"""Fit the actor of an agent to demonstrations, by gradient descent on weighted errors of its actions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from agents.demonstrations import ImitationConfig, Samples
from agents.hyperparameters import ALGORITHMS
from agents.runs import build_env
from coinfer_gym._compile import kernel
from coinfer_gym.laim import spaces
from coinfer_gym.laim.outcome import Tables, spend
from coinfer_gym.laim.scenario import Scenario
from coinfer_gym.laim.wrappers import act_within

__all__ = ["Loss", "budget_sensitivity", "fit"]

_STEP = 0.005  # of an action, for differences of the budgets that it uses
_LITTLE, _MOST_WEIGHT = 1e-12, 20.0  # next to nothing may be left of a budget, and then no error matters
_PULL = 0.003  # weight of the teacher's own choice beside the losses of all times: enough where these are equal
_CUT_WEIGHT = 10.0  # a wrong cut costs the task, but most errors are in the few tasks between two cuts


def fit(config: ImitationConfig, samples: Samples) -> tuple[Any, float]:
    """Policy of the run, fitted to the decisions of a teacher, and its mean loss; critic and values are untrained."""
    torch.set_num_threads(config.target.threads)
    policy = _build_policy(config)
    loss = Loss(config, samples)
    batch = min(config.batch_size, len(samples))
    steps = config.epochs * (len(samples) // batch)
    optimizer = torch.optim.Adam(policy.parameters(), config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(config.seed)
    with tqdm(total=steps, unit="step", disable=None) as bar:
        for _ in range(config.epochs):
            order = torch.randperm(len(samples), generator=generator)
            for k in range(0, len(samples) - batch + 1, batch):
                optimizer.zero_grad()
                torch.autograd.backward(loss.of(policy, order[k : k + batch]).mean())
                optimizer.step()
                schedule.step()
                bar.update()
    return policy, loss.mean(policy)


def _build_policy(config: ImitationConfig) -> Any:
    """A new policy of the run's algorithm; the global random state stays as it is."""
    run = config.target
    env = build_env(run, 1)
    find: Any = ALGORITHMS[run.algo]
    chosen = run.load_hyperparameters().build_arguments(env.action_space)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        make = find.policy_aliases[chosen["policy"]]
        policy = make(env.observation_space, env.action_space, lambda _: 0.0, **chosen["policy_kwargs"])
    with torch.no_grad():
        if hasattr(policy, "log_std"):
            policy.log_std.fill_(config.log_std)
        elif hasattr(policy.actor, "log_std"):
            policy.actor.log_std.weight.zero_()
            policy.actor.log_std.bias.fill_(config.log_std)
    return policy


class Loss:
    """Errors of an actor against samples, each weighted by what it costs.

    In the environment's own actions an error of a component counts by how much of both budgets it moves: a percent of a
    clock matters where most time is spent, and not at all where nothing runs. Every value in the bin of a cut means
    that cut, and so an error counts from half a bin on.

    In shares of the budgets, a teacher that says what all times lose is learned from by these losses.
    """

    def __init__(self, config: ImitationConfig, samples: Samples) -> None:
        scenario = build_env(config.target, 1, bare=True).get_attr("scenario")[0]
        shares = config.learns_shares
        self._by_losses = shares and samples.losses.shape[1] > 1
        slack = 0.0 if shares else 0.5 / scenario.cuts
        if shares:
            size = build_env(config.target, 1).action_space.sample().size
            taken = samples.actions[:, len(spaces.ACTION_NAMES) :]  # of a cell's band and server
            targets = np.hstack([2.0 * samples.shares[:, : size - taken.shape[1]] - 1.0, taken])
            weights = np.full_like(targets, _PULL if self._by_losses else 1.0)
        elif config.target.family.keeps_budgets:
            within = 2.0 * np.minimum(samples.shares, 1.0 - config.margin) - 1.0
            gain, delay_budget, energy_budget = samples.tasks.T.copy()
            tasks = gain, delay_budget, energy_budget
            targets = act_within(scenario.problem(1.0), tasks, within).astype(np.float64)
            weights = budget_sensitivity(scenario, samples.tasks, targets)
        else:
            targets = samples.actions.astype(np.float64)
            weights = np.ones_like(targets)
        if not shares:
            weights[:, 0] = _CUT_WEIGHT
        self._observations, self._targets, self._weights, self._slack, self._times, self._losses = (
            torch.from_numpy(np.asarray(array, np.float32))
            for array in (
                samples.observations,
                targets,
                weights,
                slack * np.eye(1, targets.shape[1]),
                samples.times,
                samples.losses,
            )
        )

    def of(self, policy: Any, chosen: torch.Tensor) -> torch.Tensor:
        """Loss of some samples, shape (n, n_act)."""
        # `predict` cannot be differentiated
        actions: torch.Tensor = policy._predict(self._observations[chosen], deterministic=True)
        errors = ((actions - self._targets[chosen]).abs() - self._slack).clamp(min=0.0) * self._weights[chosen]
        return errors + self._loss_of_time(actions, chosen) if self._by_losses else errors

    def _loss_of_time(self, actions: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """What the chosen shares of time lose against the best, by linear interpolation, shape (n, 1)."""
        times, losses = self._times[chosen], self._losses[chosen]
        share = torch.minimum(torch.maximum(0.5 * (actions[:, :1] + 1.0), times[:, :1]), times[:, -1:])
        above = torch.searchsorted(times, share.detach(), right=True).clamp(1, times.shape[1] - 1)
        left, right = times.gather(1, above - 1), times.gather(1, above)
        low, high = losses.gather(1, above - 1), losses.gather(1, above)
        return low + (high - low) * (share - left) / (right - left).clamp(min=_LITTLE)

    def mean(self, policy: Any) -> float:
        """Mean loss over all samples."""
        with torch.no_grad():
            return float(self.of(policy, torch.arange(len(self._targets))).mean())


def budget_sensitivity(
    scenario: Scenario, tasks: NDArray[np.float64], actions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Shares of both budgets that a unit of each component of an action moves, shape (n, 6); 0 for the cut.

    Each row of `tasks` is the gain, the delay budget in s and the energy budget in J.
    """
    weights = np.zeros(actions.shape)
    _differentiate(scenario.tables, tasks, actions, np.empty((1, actions.shape[1])), weights)
    return weights


@kernel
def _differentiate(
    tables: Tables,
    tasks: NDArray[np.float64],
    actions: NDArray[np.float64],
    trial: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> None:
    """Central differences of the used shares of both budgets; `trial` is room for one action."""
    for i in range(tasks.shape[0]):
        for k in range(1, actions.shape[1]):
            time, energy = 0.0, 0.0
            for sign in (-1.0, 1.0):
                for j in range(actions.shape[1]):
                    trial[0, j] = actions[i, j]
                trial[0, k] = min(1.0, max(-1.0, actions[i, k] + sign * _STEP))
                spent = spend(tables, tasks[i, 0], spaces.decode(tables, trial, 0))
                time += sign * spent[0]
                energy += sign * spent[1]
            moved = abs(time) / max(tasks[i, 1], _LITTLE) + abs(energy) / max(tasks[i, 2], _LITTLE)
            weights[i, k] = min(0.5 * moved / _STEP, _MOST_WEIGHT)
