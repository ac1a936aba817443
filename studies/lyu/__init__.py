"""Figures 2 to 6 and claims L1 to L11 of Lyu et al., "The Larger the Merrier?"."""
