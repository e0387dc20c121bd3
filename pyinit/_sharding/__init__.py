"""What a process holds of a larger tensor, and what the processes that share it must have alike."""
