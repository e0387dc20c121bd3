"""Fills and orthogonal matrices on CUDA devices."""
