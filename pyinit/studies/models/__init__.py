"""Networks of pyinit's own studies."""
