"""What every test run needs before matplotlib, pygame or transformers are imported."""

import os
from importlib.util import find_spec

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach for the network

if any(find_spec(package) is None for package in ("rouge_score", "safetensors", "sklearn", "torch", "transformers")):
    # Tests of real networks need the extra `models`.
    real = ("autoencoder", "laplacian", "weights")
    collect_ignore_glob = ["coinfer_gym/models/*", *(f"studies/lyu/test_{name}.py" for name in real)]
