"""What follows what in a model."""
