"""Training sweeps and their results, agents outside their training, and how agents are shipped."""
