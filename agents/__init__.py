"""Learning agents: training, and acting with what was learned.

Run from a checkout, for example ``python -m agents.train --algo ppo``. Importing this package loads neither torch nor
stable-baselines3; `agents.train` does, `agents.policy` only to read a weight file.
"""

from importlib.util import find_spec

from coinfer_gym.extras import install

if find_spec("stable_baselines3") is None:
    raise ImportError(f"The agents need Stable-Baselines3: {install('agents')}")
