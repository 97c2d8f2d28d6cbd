"""Trained models as files for other runtimes, left behind only if they agree with the checkpoint."""
