"""Knowledge of torch: where tensors lie, who else has to see a call, and torch's own functions."""
