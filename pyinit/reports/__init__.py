"""What was done, as values, text and files."""
