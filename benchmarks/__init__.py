"""Speed of the parts, measured as medians and ratios within one run: `python -m benchmarks`."""
