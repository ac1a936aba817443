"""What a reader redoes and a user never needs: the papers' figures and claims, measurements, sweeps."""

import coinfer_gym  # noqa: F401  # Ctrl-C during further imports is one line
