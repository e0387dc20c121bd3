"""What this process holds of tensors that are spread over several, and how it is filled."""
