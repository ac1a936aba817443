"""Random wrong, odd and extreme inputs, and random problems for the exact optimum: ``python -m studies.fuzz``."""
