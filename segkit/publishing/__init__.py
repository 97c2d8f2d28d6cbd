"""Publishing: a run as a folder that the hub shows, and that loads like a checkpoint."""

from segkit.publishing.folder import write_model_folder
from segkit.publishing.page import model_page

__all__ = ["model_page", "write_model_folder"]
