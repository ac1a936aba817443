"""How every command ends: bad input, a full disk and Ctrl-C are one line on the terminal and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import wraps

from coinfer_gym.errors import InvalidInputError


def command(name: str, interrupted: str = "interrupted") -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Decorate the `main` of a command: errors that a user can mend end with one line that begins with its name.

    The exit status is 2 for bad input, 1 for a file that the system refuses, and 130 for Ctrl-C, which shows
    `interrupted`.
    """

    def decorate(main: Callable[..., int]) -> Callable[..., int]:
        @wraps(main)
        def run(arguments: Sequence[str] | None = None) -> int:
            try:
                return main(arguments)
            except InvalidInputError as error:
                status, text = 2, str(error)
            except OSError as error:
                status, text = 1, f"{error.filename or 'a file'}: {error.strerror or error}"
            except KeyboardInterrupt:
                status, text = 130, interrupted
            print(f"{name}: {' '.join(text.split())}", file=sys.stderr)
            return status

        return run

    return decorate
