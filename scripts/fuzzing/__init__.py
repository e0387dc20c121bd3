"""The parts of ``scripts/fuzz.py``: random cases for pyinit's kernels, judged by independent references."""
