"""The causal bound: what no policy without knowledge of the future can exceed, by information relaxation.

The clairvoyant (`baselines.clairvoyant`) knows every arrival and every fade in advance, so part of its lead cannot be
won. Brown, Smith and Sun ("Information relaxations and duality in stochastic dynamic programs", 2010) let it keep its
knowledge and charge it for using it. A decision at time `t` that ends at `e` is charged

    z = W - E[W | all that happened until t],

where `W` is about the value of the state that follows. Whoever does not know the future pays 0 in the mean, whatever
`W` is, so a policy earns in the mean what it earns less its penalties; and no plan earns more than the best one,
penalties paid, in each world. The mean over worlds of this best penalised plan therefore bounds every policy. With ``W
= 0`` it is the clairvoyant's bound. A factor of all penalties (`scale`) leaves them valid.

**Why the charges are valid.**

- An action is continuous, but given the task and the start it touches the future only through the time `e` at which
  the device is free again, and `e` is certain once it is chosen. So the charge is a function of the start and of `e`.
- Time is a grid of cells. `W` looks at the world at the end of the cell in which `e` lies, and the expectation knows
  everything until the end of the cell in which `t` lies. That is more than is known at `t`, and the mean of what is
  charged is still 0 given what is known at `t`. `W` may be any random number; it ignores that a full queue turns tasks
  away. Where nobody waits at `e`, `W` looks at the next arrival: that is when the next decision is due, and what is
  learnt while the device idles would be free otherwise. An arrival after many coherence blocks has a constant value.
- All that happened until then is every arrival, and of the channel both components of the fading and the shadowing in
  every block so far (`history`). An agent sees less, so its actions are known, too. The phase of bursty arrivals is
  not part of it: `W` is linear in the belief, the probability of a burst given the arrivals, so that its expectation
  follows from the chances of (arrivals, phase) given the phase now, weighted by the belief now.
- The expectations are integrals and not samples (`foresight`): matrix exponentials and Gauss-Legendre quadrature over
  arrivals, on cells in which all is smooth; Gauss-Hermite quadrature over the fading, and closed forms over the
  shadowing. Where the channel's path repeats, its future is known, and counts as known.
- The values behind `W` (`values`) come from dynamic programming on the gain, the ages of the two oldest tasks, the
  number of waiting tasks and the phase. What they leave out makes the bound looser and never wrong. They jump where a
  task becomes too old to be served. A plan could aim at the difference between that and the true jump, so `W` takes
  tasks for somewhat younger.

**Why the recursion bounds the best plan** (`recursion`). Let the start lie in cell `c` and the end in cell `m`. The
charge is constant there. What follows is bounded by a line between both ends of cell `m`, and the quality, raised as
in `baselines.clairvoyant`, by a line along each edge of two triangles; so the most that is earned is bounded by a line
between both ends of cell `c`. A deadline within a cell ends it. The tolerance of budgets is granted. A service may
take longer than its decision needs, a task may be given up, and one that can meet a full queue may be skipped at no
cost. The charges stop at the last tasks, and a service longer than the delay budget is charged as one that is not.
"""

from baselines.causal_bound.bound import causal_bound, causal_bounds, penalties

__all__ = ["causal_bound", "causal_bounds", "penalties"]
