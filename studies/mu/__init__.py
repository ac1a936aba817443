"""Figures 6 to 11, Table IV and claims M1 to M8 of Mu et al., and the networks measured for them."""
