"""Makes a plan of a recipe and rules, and carries it out."""
