"""Reports of what was done, as values, text and files."""
