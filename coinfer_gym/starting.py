"""Ends a command by one line where Ctrl-C or a missing extra stops its imports; `command` does so from `main` on."""

import sys
from types import TracebackType

from coinfer_gym.extras import explain


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    text = "interrupted" if isinstance(error, KeyboardInterrupt) else None
    if isinstance(error, ImportError):
        text = explain(error)
    if text is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"{_module}: {text}", file=sys.stderr)


_module = dict(zip(sys.orig_argv, sys.orig_argv[1:], strict=False)).get("-m", "")
if _module.split(".")[0] in ("agents", "baselines", "benchmarks", "coinfer_gym", "studies"):
    sys.excepthook = _tell
