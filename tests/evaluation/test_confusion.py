"""The counts of pairs of classes, against torchmetrics'."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchmetrics.functional.classification import multiclass_confusion_matrix

from segkit.evaluation import confusion
from segkit.evaluation.confusion import CHUNK, count_pairs


def pair(num_classes, size, target_dtype=torch.uint8):
    generator = torch.Generator().manual_seed(num_classes)
    prediction, target = (
        torch.randint(num_classes, size, dtype=torch.uint8, generator=generator) for _ in range(2)
    )
    target[torch.rand(size, generator=generator) < 0.2] = 255
    return prediction, target.to(target_dtype)


@pytest.mark.parametrize("num_classes", [2, 19, 150, 255])
@pytest.mark.parametrize("size", [(1, 1), (40, 50), (CHUNK // 512, 513)])
def test_the_counts_are_those_of_torchmetrics(num_classes, size):
    prediction, target = pair(num_classes, size)
    void = target == 255
    expected = multiclass_confusion_matrix(
        prediction.long(), target.long(), num_classes, ignore_index=255 if void.any() else None
    )
    found = count_pairs(prediction, target, num_classes)
    assert found.dtype == torch.int64
    assert torch.equal(found[:-1], expected)
    assert found[-1].tolist() == [int((prediction[void] == k).sum()) for k in range(num_classes)]
    assert found.sum() == target.numel()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_it_does_not_matter_how_pixels_are_cut(dtype, chunk, monkeypatch):
    prediction, target = pair(5, (9, 7), dtype)
    expected = count_pairs(prediction, target, 5)
    monkeypatch.setattr(confusion, "CHUNK", chunk)
    assert torch.equal(count_pairs(prediction, target, 5), expected)
    assert torch.equal(count_pairs(prediction.T, target.T, 5), expected)


class Largest(TorchDispatchMode):
    """Keeps the size of the largest tensor that is made."""

    size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.size = max(self.size, result.untyped_storage().nbytes())
        return result


@pytest.mark.usefixtures("deterministic_algorithms")
def test_deterministic_counting_takes_no_more_memory(monkeypatch):
    monkeypatch.setattr(confusion, "CHUNK", 1000)
    prediction, target = pair(19, (200, 500))
    with Largest() as largest:
        found = count_pairs(prediction, target, 19)
    assert largest.size == prediction.numel()  # one byte a pixel: the inputs themselves
    known = target != 255
    expected = multiclass_confusion_matrix(prediction[known].long(), target[known].long(), 19)
    assert torch.equal(found[:-1], expected)
