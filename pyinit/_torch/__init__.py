"""What pyinit needs to know of torch: tensors' memory, who else has to see a call, torch's own functions."""
