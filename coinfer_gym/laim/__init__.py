"""LAIM-v0 (Lyu et al.): a large AI model cut once and pruned on both sides; environment, problem P1, exact optimum."""
