"""The clairvoyant optimum of an episode: what a policy that knows the world could earn, bounded from both sides.

With the world known an episode is a longest path through (task, time). Tasks are served in their order, each from when
the last one is done, or from its own arrival. The gain is that of the coherence block in which service starts. A task
whose deadline passes while it waits is lost. What is chosen is how long each service takes; that decides its quality,
which `baselines.clairvoyant.table` tabulates.

**Upper bound** (`recursion`). Time is a grid of step ``h``. Let ``V_i(t)`` be what tasks ``i, i+1, ...`` can earn from
time `t` on. The recursion

    U_i(t) = max over e of  q(e - t) + U_(i+1)(e),      e in the grid, at the next arrival and at the deadline

is evaluated for `t` in the grid and at the task's arrival. Draw the plane of start and finish as triangles whose
corners are these pairs. Inside a triangle ``e - t`` spans at most `h`, and `q` is the best quality raised by what a
concave function can rise above its chords over that span: interpolated over the triangle it never falls short of the
quality. Interpolate ``U_(i+1)`` between its points, too. The weights of a triangle's corners at either grid time add up
to the weights that the interpolation of ``U_i`` gives these times; so if ``U_(i+1)`` bounds ``V_(i+1)``, then ``U_i``
bounds ``V_i``. The error is of second order in `h`, except for tasks of the least delay. Where the coherence block
changes both gains are tried, and the better counts. The tolerance of the environment is granted (a budget exceeded by
1e-5 counts as met), and a task may be given up, which takes from the fastest decision to the patience.

Some rules are relaxed, so that the bound stays one:

- A service may take longer than its decision needs.
- A full queue turns tasks away, which the recursion would have to serve. Where that can happen it runs twice. In the
  first run every task that can meet a full queue (`queue_capacity` others came within the delay budget before it) may
  be skipped at no cost; in the second none may. Whoever serves a task for so long that the queue can fill up goes over
  from the second run to the first.
- Where a task is always waiting, one that is given up may take no time.
- Of a **battery** only the sum is kept (`battery`): over the episode the device cannot spend more than the battery held
  at first and harvested since. The sum has a price: for every ``lambda >= 0``, ``max sum(q_i - lambda e_i) +
  lambda supply`` bounds the optimum, by weak duality, and the least of the prices tried is reported. The energy of a
  task is taken in brackets, each with the quality of its upper end and the cost of its lower end. This bound is proven
  like the other, but not tight: it lets the device borrow energy that it will harvest later, and keep what a full
  battery cannot take.

**Lower bound** (`plan`). The finishing times that the recursion prefers are followed from the first arrival on. Every
decision is the exact optimum of its task for the time it is to take, its delay moves the clock, and the exact qualities
are summed. `ClairvoyantPolicy` plays this in the environment and earns it. With a battery the plan is that without one,
at a smaller energy budget for all tasks, the best of some.
"""

from baselines.clairvoyant.bounds import ClairvoyantPolicy, ClairvoyantResult, clairvoyant_optimum
from baselines.clairvoyant.plan import Service

__all__ = ["ClairvoyantPolicy", "ClairvoyantResult", "Service", "clairvoyant_optimum"]
