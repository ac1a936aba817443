"""Real networks: cut, pruned, measured and turned into workloads; needs the extra `models` (torch and transformers)."""

from importlib.util import find_spec

from coinfer_gym.extras import install

if any(find_spec(package) is None for package in ("safetensors", "torch", "transformers")):
    raise ImportError(f"Real models need torch, transformers and safetensors: {install('models')}")
