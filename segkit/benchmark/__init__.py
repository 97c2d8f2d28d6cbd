"""Speed and learning-rate measurements; nothing is left behind."""
