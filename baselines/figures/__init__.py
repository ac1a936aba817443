"""The figures of the papers that these baselines recompute: ``python -m baselines.figures``."""
