"""Stochastic dynamic programming (DP): the best rule on what can be observed of one task and the queue behind it.

The tasks that reach the head of the queue form a semi-Markov decision process. Its state is the gain, the age `w` of
the task, how many wait behind it, with bursty arrivals the belief that a burst is on, and with a battery its level. A
service of `T` seconds earns ``Q(g, T)``, the exact optimum. Meanwhile tasks arrive, those whose deadline passes are
lost, and the oldest of the rest is the next head. What is maximised is the mean quality per task, lost ones included:
relative value iteration on

    h(x) = max over T of  Q(g, T) - rho (1 + lost) + E h(x')

Given the age of the head and the number of tasks behind it, Poisson arrivals have come uniformly since the head did,
so that age and number are all that the queue tells. With two phases that holds only nearly: a belief that changed
within the time that the queue spans makes later arrivals more likely. The expectation over arrivals is a mean over
sampled futures, the same for all service times (`futures`). That over the channel comes from transition matrices
between levels of the gain, counted on paths drawn from the scenario (`model`).
"""

from baselines.stochastic.policy import StochasticDP

__all__ = ["StochasticDP"]
