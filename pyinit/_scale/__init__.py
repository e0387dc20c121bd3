"""How wide a layer's numbers are: fans and gains."""
