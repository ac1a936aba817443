"""Real networks: cut, measured and turned into workloads; needs the extra `models` (torch and transformers)."""
