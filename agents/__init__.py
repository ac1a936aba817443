"""Learning agents: training, and acting with what was learned.

Run from a checkout, for example ``python -m agents.train --algo ppo``. Importing this package loads neither torch nor
stable-baselines3; `agents.train` does, `agents.policy` only to read a weight file.
"""
