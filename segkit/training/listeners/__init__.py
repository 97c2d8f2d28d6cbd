"""What watches a training run: console, run folder, curves, samples, TensorBoard."""

from segkit.experiment import Experiment
from segkit.training.listeners.base import Listener
from segkit.training.listeners.console import ConsoleLog
from segkit.training.listeners.nonfinite import KeepNonFinite
from segkit.training.listeners.pictures import Pictures
from segkit.training.listeners.run_folder import RunFolder
from segkit.training.listeners.tensorboard import TensorBoard

__all__ = ["Listener", "RunFolder", "default_listeners"]


def default_listeners(folder: RunFolder | None, experiment: Experiment) -> list[Listener]:
    """Return what watches every run: the console and, with a folder, all that fills it."""
    if folder is None:
        return [ConsoleLog()]
    path = folder.path
    pictures = Pictures(path)
    own = [folder, ConsoleLog(path / "train.log"), pictures, KeepNonFinite(path)]
    return own + ([TensorBoard(path, pictures)] if experiment.train.tensorboard else [])
