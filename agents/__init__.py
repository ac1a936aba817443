"""Learning agents: training, and acting with what was learned.

Run from a checkout, for example ``python -m agents.train --algo ppo``. Importing this package loads neither torch nor
stable-baselines3; `agents.train` does, `agents.policy` only to read a weight file.
"""

from importlib.util import find_spec

import coinfer_gym  # noqa: F401  # Ctrl-C during further imports is one line

if find_spec("stable_baselines3") is None:
    raise ImportError("The agents need the extra 'agents': pip install '.[agents]' in the checkout.")
