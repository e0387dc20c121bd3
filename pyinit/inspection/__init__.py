"""Looking inside: what a network's tensors hold, and where signals and gradients die."""
