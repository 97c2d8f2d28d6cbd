"""segkit: semantic segmentation in which the decoder is the variable."""

__version__ = "0.1.0"
