"""Looking inside: whether a model is initialized, what its signals do, and what training does to it."""
