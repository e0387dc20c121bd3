"""Random numbers: generators and keys, distributions, torch's own stream, orthogonal matrices."""
