"""What to say of a step that the memory of the GPU does not suffice for."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from segkit.data.batch import Batch
from segkit.errors import OutOfMemory
from segkit.training.step import Step


def explain_shortage(step: Step, batches: Sequence[Batch]) -> OutOfMemory:
    """Build the error that ends the run; it tries out how many images do fit."""
    batch = max(batches, key=lambda batch: batch.images.numel())
    count, _, height, width = batch.images.shape
    fitting = count // 2
    # other processes would have to take part in a trial
    while step.processes.count == 1 and fitting and not _fits(step, batch, fitting):
        fitting //= 2
    if fitting:
        accumulate = -(-count // fitting) * step.train.accumulate
        way_out = (
            f"{'try' if step.processes.count > 1 else 'there is enough for'} {fitting}: set "
            f"data.batch_size={fitting} train.accumulate={accumulate} for steps of the same images"
        )
    else:
        way_out = "not even for one: take smaller crops in data.train_transforms"
    return OutOfMemory(
        f"{step.hardware.name} has too little memory to train on {count} images of "
        f"{height}x{width} at once; {way_out}, or recompute the encoder by "
        "model.encoder.checkpointing=true; checkpoints stay as they were"
    )


def _fits(step: Step, batch: Batch, count: int) -> bool:
    """Return whether there is memory for the gradient of so many of the images."""
    step.state.optimizer.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()
    part = Batch(batch.images[:count], batch.masks[:count], batch.names[:count])
    target = step.hardware.copy(part.masks).long()
    try:
        step.backward(part, target, step.loss.normalizer(target))
    except torch.cuda.OutOfMemoryError:
        return False
    return True
