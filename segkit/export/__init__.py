"""Trained models as files for other runtimes, kept only if they agree with the checkpoint."""
