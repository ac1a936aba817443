"""Many trainings side by side, what they show, and the agents that are shipped."""
