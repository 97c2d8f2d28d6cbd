"""Checks of a data set before a network is trained on it."""
