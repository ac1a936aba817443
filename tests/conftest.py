"""What every test run needs before numba, matplotlib, pygame or transformers are imported."""

import os
import runpy
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent

if "NUMBA_CACHE_DIR" not in os.environ:
    _cache_folder = runpy.run_path(str(_ROOT / "scripts" / "numba_cache.py"))["cache_folder"]
    os.environ["NUMBA_CACHE_DIR"] = str(_cache_folder())

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach for the network
