"""Ends a command by one line where Ctrl-C meets its imports, which take seconds; `command` does so from `main` on."""

import sys
from types import TracebackType


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print(f"{_module}: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


_module = dict(zip(sys.orig_argv, sys.orig_argv[1:], strict=False)).get("-m", "")
if _module.split(".")[0] in ("agents", "baselines", "benchmarks", "coinfer_gym", "studies"):
    sys.excepthook = _tell
