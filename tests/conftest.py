"""What every test run needs before matplotlib, pygame or transformers are imported."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach for the network
