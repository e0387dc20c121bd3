"""What the public functions of ``pyinit.functional`` and ``pyinit.nn`` are made of."""
