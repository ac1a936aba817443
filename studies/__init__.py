"""The papers' figures and claims, measurements and sweeps: to be reproduced by readers, never needed by users."""

import coinfer_gym  # noqa: F401  # Ctrl-C during further imports is one line
