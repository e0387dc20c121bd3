"""Looking inside: whether a model is initialized, what its tensors hold, and where signals and gradients die."""
