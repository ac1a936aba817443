"""How many samples a test takes: fewer with ``NUMBA_DISABLE_JIT=1``, where formulas are interpreted and slow."""

import numba


def samples(count):
    """`count`, or a fifteenth of it where formulas are interpreted."""
    return max(2, count // 15) if numba.config.DISABLE_JIT else count
