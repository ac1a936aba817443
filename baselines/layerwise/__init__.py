"""The framework of Mu et al. with Algorithm 1, and the schemes that it is compared with."""
