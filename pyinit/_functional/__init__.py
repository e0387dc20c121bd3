"""The parts that ``pyinit.functional`` and ``pyinit.nn`` are built from."""
