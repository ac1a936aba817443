"""Speed of the parts, measured as medians and ratios within one run: `python -m benchmarks`."""

import coinfer_gym  # noqa: F401  # Ctrl-C during further imports is one line
