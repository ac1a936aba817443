"""What every test run needs before matplotlib, pygame or transformers are imported."""

import os
from importlib.util import find_spec

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach for the network

_NEEDED = ("rouge_score", "safetensors", "sklearn", "torch", "transformers")
_MISSING = [package for package in _NEEDED if find_spec(package) is None]
if _MISSING:  # tests of real networks need the extra `models`
    real = ("autoencoder", "laplacian", "weights")
    collect_ignore_glob = ["coinfer_gym/models/*", *(f"studies/lyu/test_{name}.py" for name in real)]


def pytest_report_header():
    """Tell which tests are left out."""
    return f"tests of real networks are left out: no {', '.join(_MISSING)}" if _MISSING else []
