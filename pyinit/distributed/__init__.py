"""Models beyond one machine: the same weights at any world size."""
