"""Evaluation with a model whose predictions are painted into its images."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from segkit.data.dataset import Sample
from segkit.data.epoch_batches import EpochBatches
from segkit.data.loader import Loader
from segkit.errors import UserError
from segkit.evaluation import images
from segkit.evaluation.calibration import BINS
from segkit.evaluation.images import evaluate_images, predict_samples
from segkit.hardware import Hardware
from segkit.inference import Prediction, Predictor
from segkit.losses import CrossEntropy, Dice

CLASSES = 5
CPU = Hardware(torch.device("cpu"), "fp32", "for the tests")
PLAIN = {"mean": (0.0,), "std": (1 / 255,), "hardware": CPU}  # leaves pixel values as they are


class Painted(nn.Module):
    """Predicts what the pixels of the image say."""

    stride = 1

    def __init__(self, fails_at=-1):
        super().__init__()
        self.calls = 0
        self.fails_at = fails_at
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x):
        assert not self.training
        assert not self.norm.training
        assert not torch.is_grad_enabled()
        self.calls += 1
        if self.calls == self.fails_at:
            raise ZeroDivisionError
        return nn.functional.one_hot(x[:, 0].round().long(), CLASSES).movedim(-1, 1).float()


class Scenes(torch.utils.data.Dataset):
    def __init__(self, sizes, void=0.1, seed=0):
        rng = np.random.default_rng(seed)
        self.targets, self.predictions = [], []
        for size in sizes:
            target = rng.integers(0, CLASSES - 1, size)  # the last class is only predicted
            wrong = rng.random(size) < 0.4
            self.predictions.append(np.where(wrong, rng.integers(0, CLASSES, size), target))
            self.targets.append(np.where(rng.random(size) < void, 255, target))

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        pixels = torch.from_numpy(self.predictions[index].astype(np.uint8))
        target = torch.from_numpy(self.targets[index].astype(np.uint8))
        return Sample(pixels[None], target, f"scene {index:02}")

    def expected(self):
        target = np.concatenate([t.ravel() for t in self.targets])
        prediction = np.concatenate([p.ravel() for p in self.predictions])
        valid = target != 255
        return confusion_matrix(target[valid], prediction[valid], labels=range(CLASSES))


def evaluated(dataset, batch_size, workers=0, shuffle=False, model=None, **options):
    loader = Loader(dataset, EpochBatches(len(dataset), batch_size, shuffle=shuffle), workers)
    return evaluate_images(Predictor(model or Painted(), **PLAIN), loader, CLASSES, **options)


MIXED = [(4, 6), (7, 5), (4, 6), (3, 3), (7, 5), (4, 6), (6, 4)]


@pytest.mark.parametrize("sizes", [[(8, 9)] * 7, MIXED], ids=["one size", "mixed sizes"])
def test_any_batch_size_and_order_gives_the_matrix_of_scikit_learn(sizes):
    dataset = Scenes(sizes)
    expected = dataset.expected()
    every_scores = set()
    for batch_size, workers, shuffle in [(1, 0, False), (3, 0, True), (4, 1, False), (64, 0, True)]:
        found = evaluated(dataset, batch_size, workers, shuffle)
        assert found.matrix.dtype == torch.int64
        assert found.matrix.device.type == "cpu"
        assert np.array_equal(found.matrix, expected)
        assert found.names == tuple(f"scene {index:02}" for index in range(7))
        each = [
            confusion_matrix(t[t != 255], p[t != 255], labels=range(CLASSES))
            for t, p in zip(dataset.targets, dataset.predictions, strict=True)
        ]
        assert np.array_equal(found.matrices[:, :-1], each)
        void = [
            np.bincount(p[t == 255], minlength=CLASSES)
            for t, p in zip(dataset.targets, dataset.predictions, strict=True)
        ]
        assert np.array_equal(found.matrices[:, -1], void)
        every_scores.add(repr(found.scores))  # to the last digit; nan is not itself
    assert len(every_scores) == 1
    scores = found.scores
    assert scores.pixel_accuracy == pytest.approx(expected.trace() / expected.sum())
    assert scores.iou[CLASSES - 1] == 0


@pytest.mark.parametrize("sizes", [[(8, 9)] * 7, MIXED], ids=["one size", "mixed sizes"])
def test_the_loss_is_that_of_all_pixels_at_once(sizes):
    dataset, weights = Scenes(sizes), [1.0, 2.0, 0.5, 3.0, 0.0]
    logits, targets = (
        torch.from_numpy(np.concatenate([each.ravel() for each in images]))
        for images in (dataset.predictions, dataset.targets)
    )
    logits = nn.functional.one_hot(logits.long(), CLASSES).double()
    expected = nn.functional.cross_entropy(
        logits, targets.long(), torch.tensor(weights).double(), ignore_index=255
    )
    losses = [
        evaluated(
            dataset, batch_size, shuffle=shuffle, loss=CrossEntropy(class_weights=weights)
        ).loss
        for batch_size, shuffle in [(1, False), (4, True)]
    ]
    assert losses[0] == pytest.approx(expected.item(), rel=1e-6)
    assert losses[0] == losses[1]
    assert evaluated(dataset, 1).loss is None


def test_a_loss_over_images_is_the_mean_over_images():
    dataset = Scenes(MIXED)
    each = []
    for index in range(len(dataset)):
        pixels, target, _ = dataset[index]
        logits = nn.functional.one_hot(pixels.long(), CLASSES).movedim(-1, 1).float()
        each.append(Dice()(logits, target[None].long()).item())
    assert evaluated(dataset, 2, loss=Dice()).loss == pytest.approx(np.mean(each), rel=1e-6)


def test_an_all_void_split_gives_nan_and_no_exception():
    found = evaluated(Scenes([(4, 4)] * 3, void=1.1), 2)
    assert found.matrix.sum() == 0
    assert np.isnan(found.scores.miou)


def test_void_images_among_others_change_nothing():
    dataset = Scenes([(4, 4)] * 4)
    dataset.targets[1][:] = 255
    assert np.array_equal(evaluated(dataset, 1).matrix, dataset.expected())


def test_each_image_is_reported():
    seen = []
    evaluated(Scenes(MIXED), 3, on_image=lambda: seen.append(1))
    assert len(seen) == 7


def test_no_figure_depends_on_the_batch():
    """Not even where the network itself would: here it says how many images it sees."""

    class Counting(Painted):
        def forward(self, x):
            scores = torch.zeros(len(x), CLASSES, *x.shape[2:])
            scores[:, len(x) % CLASSES] = 1
            return scores

    dataset = Scenes([(4, 4)] * 4)
    alone, together = (evaluated(dataset, size, model=Counting()) for size in (1, 4))
    assert torch.equal(alone.matrices, together.matrices)


def test_boundaries_and_calibration_are_counted_when_asked_for():
    dataset = Scenes(MIXED)
    plain = evaluated(dataset, 2)
    assert plain.boundary is plain.calibration is None
    one, other = (
        evaluated(dataset, size, shuffle=size == 4, boundaries=True, calibration=True)
        for size in (1, 4)
    )
    pairs = zip((*one.boundary, one.calibration), (*other.boundary, other.calibration), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert all(len(array) == len(dataset) for array in one.boundary)
    pixels, hits, confidence = one.calibration.T
    assert pixels.sum() == one.matrix.sum()
    assert hits.sum() == one.matrix.diagonal().sum()
    share = np.e / (np.e + CLASSES - 1)  # the softmax of a one-hot vector
    assert pixels[int(share * BINS)] == pixels.sum()
    assert confidence.sum() == pytest.approx(share * pixels.sum())


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_put_back(training):
    model = Painted().train(training)
    evaluated(Scenes(MIXED), 3, model=model)
    assert model.training == model.norm.training == training


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_put_back_after_an_exception(training):
    model = Painted(fails_at=2).train(training)
    with pytest.raises(ZeroDivisionError):
        evaluated(Scenes(MIXED), 3, model=model)
    assert model.training == training
    assert torch.is_grad_enabled()

    class Broken(Scenes):
        def __getitem__(self, index):
            raise UserError("cannot be read")

    with pytest.raises(UserError, match="cannot be read"):
        evaluated(Broken(MIXED), 3, model=model)
    assert model.training == training


def test_evaluation_does_not_train_the_norms():
    model = Painted().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    evaluated(Scenes(MIXED), 3, model=model)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


class Pairs(Scenes):
    """A data set of one's own: pairs of tensors, without names."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return sample.image.float(), sample.mask.long()


def test_a_plain_loader_of_pairs_gives_the_same_counts():
    sizes = [(4, 6)] * 12
    named = evaluated(Scenes(sizes), 5, boundaries=True, calibration=True)
    loader = torch.utils.data.DataLoader(Pairs(sizes), batch_size=5)
    plain = Predictor(Painted(), hardware=CPU)  # its images need no normalisation
    found = evaluate_images(plain, loader, CLASSES, boundaries=True, calibration=True)
    assert list(found.names) == [f"{index:06}" for index in range(12)]
    order = [found.names.index(f"{index:06}") for index in range(12)]
    assert torch.equal(found.matrices[order], named.matrices)
    assert np.array_equal(found.boundary.f1[order], named.boundary.f1)
    np.testing.assert_allclose(found.calibration, named.calibration)


def test_images_that_should_be_normalised_are_told_from_those_that_are():
    loader = torch.utils.data.DataLoader(Scenes([(4, 6)] * 2))
    with pytest.raises(UserError, match=r"uint8.*pass mean and std"):
        evaluate_images(Predictor(Painted(), hardware=CPU), loader, CLASSES)


def test_an_empty_loader_is_refused():
    with pytest.raises(UserError, match="no image to evaluate"):
        evaluate_images(Predictor(Painted(), **PLAIN), [], CLASSES)


def test_samples_are_predicted_one_by_one():
    scenes = Scenes(MIXED)
    rows = list(predict_samples(Predictor(Painted(), **PLAIN), scenes, [3, 0]))
    for index, (image, target, prediction) in zip((3, 0), rows, strict=True):
        assert torch.equal(image, scenes[index].image)
        assert torch.equal(target, scenes[index].mask)
        assert np.array_equal(prediction, scenes.predictions[index])


class Mps(TorchDispatchMode):
    """Refuses what Apple's GPUs do not compute: float64, and counting whole numbers."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device.type == "mps":
            assert result.dtype != torch.float64, "MPS has no float64"
        return result


def test_nothing_is_counted_on_mps(monkeypatch):
    counted_on = []

    def bincount(values, minlength):
        counted_on.append(values.device.type)
        return torch.zeros(minlength, dtype=torch.int64)

    monkeypatch.setattr(torch, "bincount", bincount)
    with FakeTensorMode(), Mps():
        logits = torch.zeros(CLASSES, 6, 5, device="mps")
        found = Prediction(logits.argmax(0).to(torch.uint8), logits=logits)
        counts = images.count("a", found, torch.zeros(6, 5), CLASSES, loss=CrossEntropy())
    assert counted_on == ["cpu"]
    assert (counts.loss.device.type, counts.loss.dtype) == ("cpu", torch.float64)
