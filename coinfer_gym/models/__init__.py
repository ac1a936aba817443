"""Real networks: cut, pruned, measured and turned into workloads; needs the extra `models` (torch and transformers)."""

from importlib.util import find_spec

if any(find_spec(package) is None for package in ("safetensors", "torch", "transformers")):
    hint = "pip install 'coinfer-gym[models]' (in a checkout: pip install '.[models]')"
    raise ImportError(f"Real models need torch, transformers and safetensors: {hint}")
