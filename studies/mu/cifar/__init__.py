"""Image networks of Mu et al. on CIFAR-10: train, prune filters, compress the feature sent, measure (`models`)."""
