"""Training: losses, optimisers and schedules, the loop, and what a run leaves behind."""
