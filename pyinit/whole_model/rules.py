"""Rules: an ordered list of what matches a parameter and what fills it."""
