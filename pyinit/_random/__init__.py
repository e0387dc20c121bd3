"""Where numbers come from: keys and generators, torch's own stream, orthogonal matrices."""
