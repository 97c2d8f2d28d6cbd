"""One optimiser step: the gradient of a global batch, whoever computed which part of it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from segkit.data.batch import Batch
from segkit.errors import UserError
from segkit.experiment import Experiment
from segkit.losses import mean_loss
from segkit.model import all_logits, logits_of
from segkit.training.agreement import Agreed, Agreement
from segkit.training.as_stored import as_stored
from segkit.training.filling_in import filling_in
from segkit.training.state import TrainingState

NORMS = (nn.modules.batchnorm._BatchNorm, nn.SyncBatchNorm)


class NonFinite(Exception):
    """Loss or gradient are not finite, once more than is tolerated.

    Args:
        batches: of this process.
        loss: its part, which may be finite.
    """

    def __init__(self, batches: Sequence[Batch], loss: Tensor) -> None:
        super().__init__()
        self.batches, self.loss = batches, loss


class Step:
    """Takes optimiser steps.

    The loss of a step is that of its global batch: sums over the batches of all processes, divided
    by normalizers that are known from the targets beforehand. So it does not matter how the global
    batch is cut, but for batch norm.

    On CUDA, nothing waits for the device, unless the gradient is scaled or steps may be passed
    over: a step that is not finite changes no weight, and is told after the next step.
    """

    def __init__(self, state: TrainingState, experiment: Experiment) -> None:
        self.state = state
        self.train = experiment.train
        self.compile = experiment.compile
        self.hardware = experiment.hardware
        self.processes = experiment.processes
        self.normalize = experiment.normalize
        self.loss = experiment.loss
        self.parameters = [p for p in state.model.parameters() if p.requires_grad]
        self.network: Any = None  # the model as it is called: in DDP, compiled
        self.frozen: bool | None = None
        self.nonfinite = 0  # steps in a row
        self.agreement = Agreement(self.processes, self.hardware, self._may_be_late(state))
        self.agreed = Agreed()  # what was learnt with the newest step
        # of the step that is not told yet
        self.before: tuple[Sequence[Batch], Tensor] = ((), torch.zeros(()))

    def _may_be_late(self, state: TrainingState) -> bool:
        # torch's fused optimisers can leave out a step on the device
        can_leave_out = getattr(state.optimizer, "_step_supports_amp_scaling", False)
        at_once = self.train.skip_nonfinite or state.scaler.is_enabled()
        return self.hardware.device.type == "cuda" and can_leave_out and not at_once

    def begin_epoch(self, epoch: int) -> None:
        """Set training mode, and freeze or thaw the encoder as configured."""
        model, train = self.state.model, self.train
        model.train()
        encoder_module = getattr(model, "encoder", nn.Module())
        frozen = epoch < train.freeze_encoder_epochs
        if frozen != self.frozen:
            self.frozen = frozen
            encoder = set(encoder_module.parameters())
            for parameter in self.parameters:
                parameter.requires_grad_(not (frozen and parameter in encoder))
            self.network = self._wrap(model)
        if frozen or train.freeze_norm:
            for module in encoder_module.modules():
                if isinstance(module, NORMS):
                    module.eval()

    def _wrap(self, model: nn.Module) -> Any:
        """Have gradients averaged over the processes, and the model compiled."""
        network: Any = torch.compile(model) if self.compile else model
        if self.processes.count == 1:
            return network
        device = self.hardware.device
        with warnings.catch_warnings():
            # it shall be called forward_sync_buffers, which torch 2.11 does not know
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(
                network,
                device_ids=[device.index] if device.type == "cuda" else None,
                broadcast_buffers=False,  # see TrainingState.broadcast_buffers
            )

    def __call__(self, batches: Sequence[Batch]) -> Tensor:
        """Take a step and return the loss of this process' part, on the device.

        Args:
            batches: of this process, as many as any other has; void ones fill up.
        """
        state = self.state
        masks = [self.hardware.copy(batch.masks) for batch in batches]
        normalizer = torch.stack([self.loss.normalizer(mask.long()) for mask in masks]).sum(0)
        self.processes.all_reduce(normalizer)
        state.optimizer.zero_grad(set_to_none=True)
        statistics = []  # of batch norm, which takes in a batch before one knows what it is worth
        if self.train.skip_nonfinite:
            statistics = [buffer.clone() for buffer in state.model.buffers()]
        total = torch.zeros((), device=self.hardware.device)
        for number, (batch, mask) in enumerate(zip(batches, masks, strict=True)):
            with self._synchronising(number == len(batches) - 1):
                total += self.backward(batch, mask.long(), normalizer)
        state.scaler.unscale_(state.optimizer)
        unsound, self.agreed = self.agreement.reduce(self._unsound(total, self._gradient_norm()))
        told = batches, total
        if self.agreement.late:
            told, self.before = self.before, told
            state.optimizer.found_inf = unsound  # type: ignore[attr-defined]
        if self.agreed.unsound:
            self._pass_over(*told)
            total = torch.zeros_like(total)  # the epoch's mean stays a number
            for buffer, before in zip(state.model.buffers(), statistics, strict=True):
                buffer.copy_(before)
        else:
            self.nonfinite = 0
            with as_stored(state.optimizer):
                state.scaler.step(state.optimizer)
            state.update_average()
        state.scaler.update()
        state.schedule.step()
        return total

    def settle(self) -> None:
        """Wait for what is not told yet.

        Raises:
            NonFinite: loss or gradient of the last step.
        """
        if self.agreement.read().unsound:
            self._pass_over(*self.before)

    def backward(self, batch: Batch, target: Tensor, normalizer: Tensor) -> Tensor:
        """Add the gradient of a batch to that of the step, and return its part of the loss.

        Args:
            batch: of this process.
            target: its masks, int64, on the device.
            normalizer: of the step, see `Loss`.
        """
        filling = filling_in(self.state.model) if batch.is_void else nullcontext()
        # the images of training have one size
        with filling, self.hardware.autocast(search=True):
            outputs = all_logits(self.network(self._load(batch.images)))
            with torch.autocast(self.hardware.device.type, enabled=False):
                losses = [
                    mean_loss(self.loss.terms(logits, target), normalizer) for logits in outputs
                ]
                loss = supervised(losses)
            # DDP takes the mean over the processes, but the parts of a loss add up
            self.state.scaler.scale(loss * self.processes.count).backward()
        return loss.detach()

    def _load(self, images: Tensor) -> Tensor:
        """Bring images to the device as bytes, and normalise them there."""
        pixels = self.hardware.load(images)
        if self.normalize is not None:
            pixels = self.normalize(pixels)
        elif pixels.dtype == torch.uint8:
            raise UserError(
                "some images are floats and some are uint8, which come unnormalised; have the "
                "dataset return one kind, or pass mean and std to the experiment"
            )
        return pixels

    def _synchronising(self, last: bool) -> AbstractContextManager[None]:
        """Exchange gradients with the last batch of a step alone."""
        if last or not isinstance(self.network, DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[None] = self.network.no_sync()
        return context

    def _gradient_norm(self) -> Tensor:
        """Measure the gradient, and clip it as configured."""
        trained = [p for p in self.parameters if p.grad is not None]
        if self.train.clip_norm:
            return clip_grad_norm_(trained, self.train.clip_norm)
        gradients = [p.grad for p in trained if p.grad is not None]
        return torch.stack(torch._foreach_norm(gradients)).norm()

    def _unsound(self, loss: Tensor, norm: Tensor) -> Tensor:
        """Return more than zero if the step may not be taken, on the device."""
        scaler = self.state.scaler
        # with fp16, gradients overflow now and then, and the scaler passes over such steps itself
        overflow = scaler.is_enabled() and scaler.get_scale() > 1
        bad = (~torch.isfinite(loss)).float()
        return bad if overflow else bad + (~torch.isfinite(norm)).float()

    def _pass_over(self, batches: Sequence[Batch], loss: Tensor) -> None:
        """Count a step that is not finite, and drop its gradient."""
        self.nonfinite += 1
        if self.nonfinite > self.train.skip_nonfinite:
            raise NonFinite(batches, loss)
        self.state.optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def largest_logit(self, batches: Sequence[Batch]) -> float:
        """Compute the largest absolute logit of batches; nan if one is nan."""
        with self.hardware.autocast():
            logits = [logits_of(self.state.model(self._load(batch.images))) for batch in batches]
        return max(float(one.float().abs().max()) for one in logits)


def supervised(losses: Sequence[Tensor]) -> Tensor:
    """Weigh the losses of deep supervision, each by half of the one before it.

    Source: Isensee et al. 2021 (nnU-Net).
    """
    weights = [0.5**number for number in range(len(losses))]
    weighted = [w * loss for w, loss in zip(weights, losses, strict=True)]
    return torch.stack(weighted).sum() / sum(weights)
