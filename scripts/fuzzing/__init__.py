"""Random cases for pyinit's kernels, judged against independent references: the parts of ``scripts/fuzz.py``."""
