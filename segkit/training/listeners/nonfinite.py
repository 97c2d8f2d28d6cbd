"""What to say and keep of a step whose loss or gradient is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from segkit.data.batch import Batch
from segkit.errors import UserError
from segkit.files import replacing
from segkit.optim import learning_rate
from segkit.training.listeners.base import Listener, Run
from segkit.training.step import NonFinite, Step


class KeepNonFinite(Listener):
    """Writes the batches and the facts to `nonfinite_RANK.pt` in the folder of the run."""

    every_process = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_nonfinite(self, trainer: Run, batches: Sequence[Batch]) -> str:
        """Write the file, and return where it is."""
        path = self.folder / f"nonfinite_{trainer.experiment.processes.rank}.pt"
        content = {"images": [b.images for b in batches], "masks": [b.masks for b in batches]}
        with replacing(path) as temporary:
            torch.save({**_facts(trainer.step, batches), **content}, temporary)
        return f"the batch is kept in {path}"


def explain_nonfinite(step: Step, found: NonFinite, remarks: Sequence[str]) -> UserError:
    """Build the error that ends the run, with the remarks of the listeners.

    All processes call it, and get the words of the first whose loss is not finite.
    """
    facts, processes = _facts(step, found.batches), step.processes
    is_finite = bool(torch.isfinite(found.loss))
    place = "" if is_finite or processes.count == 1 else f" in process {processes.rank}"
    ends = ", ".join([*remarks, "checkpoints stay as they were"])
    words = (
        f"loss or gradient are not finite in epoch {facts['epoch']} at step {facts['step']}"
        f"{place}: learning rate {facts['lr']:.2e}, gradient scale {facts['scale']:g}, largest "
        f"logit {facts['largest_logit']:.3g}, samples {', '.join(facts['names'])}; lower "
        "train.optimizer.lr, clip by train.clip_norm, use precision fp32, or pass over such steps "
        f"by train.skip_nonfinite; {ends}"
    )
    _, first = min(processes.all_gather((is_finite, words)), key=lambda one: one[0])
    return UserError(first)


def _facts(step: Step, batches: Sequence[Batch]) -> dict[str, Any]:
    state = step.state
    return {
        "epoch": state.progress.epoch + 1,
        "step": state.progress.step + (0 if step.agreement.late else 1),
        "names": [name for batch in batches for name in batch.names],
        "lr": learning_rate(state.optimizer),
        "scale": state.scaler.get_scale(),
        "largest_logit": step.largest_logit(batches),
    }
