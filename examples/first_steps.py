"""First steps: play one episode with random actions, one with random shares of the time, and one with exact optima."""

import gymnasium as gym

from coinfer_gym import solve_exact

# An action of LAIMShares-v0 is the share of its time that a task may use; the exact optimum decides the rest.
shares = gym.make("coinfer_gym:coinfer_gym/LAIMShares-v0", scenario="bert-multimodal", tasks=50)
# An action of LAIM-v0 is the whole decision: cut, retained ratios, power and clocks.
env = gym.make("coinfer_gym:coinfer_gym/LAIM-v0", scenario="bert-multimodal", tasks=50)
laim = env.unwrapped


def play(env, choose, seed=0):
    """Mean delivered quality of one episode; the seed alone fixes arrivals and channel."""
    env.reset(seed=seed)
    env.action_space.seed(seed)
    delivered, ended = [], False
    while not ended:
        _, _, terminated, truncated, info = env.step(choose())
        delivered.append(info["delivered"])
        ended = terminated or truncated
    return sum(delivered) / len(delivered)


env.reset(seed=0)
task = laim.problem()  # the optimization problem of the task at hand, in SI units
best = solve_exact(task)
print(f"The task has {task.delay_budget:.2f} s and {task.energy_budget:.3f} J.")
print(f"Best decision: cut {best.cut}, quality {best.quality:.3f}, {best.delay:.3f} s, {best.energy:.4f} J")

print(f"random actions: {play(env, env.action_space.sample):.3f}")
print(f"random shares:  {play(shares, shares.action_space.sample):.3f}")
print(f"exact optimum:  {play(env, lambda: laim.action(solve_exact(laim.problem()))):.3f}")
