"""Rules that share out a cell, and what no rule exceeds there."""
