"""The latency framework of Mu et al.: a network pruned layer by layer, cut, and its feature compressed."""
