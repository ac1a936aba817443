"""A cell: four phones share a band and a server by four rules; every task gets its exact optimum at its shares."""

import gymnasium as gym

from coinfer_gym import solve_exact

env = gym.make("coinfer_gym:coinfer_gym/Cell-v0", scenario="cell-4", tasks=20)
cell = env.unwrapped


def play(rule, worlds=2):
    """Delivered quality of a task, and the share of tasks that were lost; a lost task delivers nothing."""
    delivered, decided, lost = 0.0, 0, 0.0
    for seed in range(worlds):
        env.reset(seed=seed)
        ended = False
        while not ended:
            band, server = (min(rule(free), free) for free in cell.free)
            best = solve_exact(cell.problem(band, server))  # P1 of the task at hand with these shares
            _, _, _, ended, info = env.step(cell.action(best, band, server))
            delivered, decided, lost = delivered + info["delivered"], decided + 1, lost + info["dropped"]
    return delivered / (decided + lost), lost / (decided + lost)


RULES = {
    "all that is free": lambda free: free,
    "equal shares": lambda free: 1.0 / cell.devices,
    "half of what is free": lambda free: max(0.5 * free, cell.scenario.share_min),
    "a quarter of what is free": lambda free: max(0.25 * free, cell.scenario.share_min),
}
for name, rule in RULES.items():
    quality, lost = play(rule)
    print(f"{name:<25} quality {quality:.3f}, lost {100.0 * lost:.0f} % of the tasks")
