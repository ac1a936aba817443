"""How every command ends: what goes wrong is one line on the terminal and an exit status, not a traceback."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps

from coinfer_gym.errors import InvalidInputError
from coinfer_gym.extras import explain


def command_line(module: str, arguments: Sequence[str]) -> str:
    """The command that runs a module with some arguments, as a shell takes it."""
    return shlex.join(["python", "-m", module, *arguments])


def command(
    name: str, interrupted: str = "interrupted", errors: tuple[type[Exception], ...] = ()
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Decorate the `main` of a command: errors that a user can mend end with one line that begins with its name.

    The exit status is 2 for bad input, a missing extra and `errors`, 1 for a file that the system refuses or output
    that nobody reads (which shows nothing), and 130 for Ctrl-C, which shows `interrupted` unless the exception has a
    text.
    """
    bad_input: tuple[type[Exception], ...] = (InvalidInputError, *errors)

    def decorate(main: Callable[..., int]) -> Callable[..., int]:
        @wraps(main)
        def run(arguments: Sequence[str] | None = None) -> int:
            try:
                status = main(arguments)
                sys.stdout.flush()
                return status
            except bad_input as error:
                status, text = 2, str(error)
            except ImportError as error:
                status, text = 2, explain(error) or ""
                if not text:
                    raise
            except BrokenPipeError:
                status, text = 1, ""
            except OSError as error:
                path = f"{error.filename}: " if error.filename else ""
                status, text = 1, f"{path}{error.strerror or error}"
            except KeyboardInterrupt as stop:
                status, text = 130, str(stop) or interrupted
            try:
                if text:
                    print(f"{name}: {' '.join(text.split())}", file=sys.stderr)
                sys.stdout.flush()
            except OSError:
                # Nobody reads the output, or its disk is full: the interpreter would say so once more as it ends.
                with suppress(OSError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return status

        return run

    return decorate
