"""CUDA tensors."""
