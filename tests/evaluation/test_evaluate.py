"""`segkit.evaluate`: any model and loader, against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import segkit
from segkit.errors import UserError
from segkit.inference import Preprocess, Tiles

CLASSES = 3


class Wrapped(nn.Module):
    """A model as torchvision's, that returns a mapping."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return {"out": self.model(images), "aux": None}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, CLASSES, 1))


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(14, 3, 9, 11, generator=generator)
    masks = torch.randint(0, CLASSES, (14, 9, 11), generator=generator)
    masks[:, 0] = 255
    return TensorDataset(images, masks)


@pytest.mark.parametrize("wrap", [nn.Identity, Wrapped])
def test_scores_are_those_of_scikit_learn_whatever_the_batch(wrap, model, data):
    images, masks = data.tensors
    model.eval()
    with torch.no_grad():
        predicted = torch.cat([model(image[None]).argmax(1) for image in images])
    model.train()
    known = masks != 255
    expected = jaccard_score(masks[known], predicted[known], average=None)
    wrapped = wrap(model) if wrap is Wrapped else model
    for batch in (1, 5):
        scores = segkit.evaluate(wrapped, DataLoader(data, batch_size=batch), num_classes=CLASSES)
        assert scores.iou == pytest.approx(expected)
        assert scores.miou == pytest.approx(expected.mean())
        assert scores.pixel_accuracy == pytest.approx(
            accuracy_score(masks[known], predicted[known])
        )
        low, high = scores.interval("miou")
        assert low < scores.miou < high
        assert model.training  # its mode is as it was


def test_the_table_is_text_under_any_names(model, data):
    scores = segkit.evaluate(model, DataLoader(data, batch_size=4), num_classes=CLASSES)
    assert scores.class_names == ("0", "1", "2")
    text = scores.table(["sky", "road", "car"])
    lines = text.splitlines()
    assert lines[0] == "14 images, in %"
    assert f"{100 * scores.iou[1]:.1f}" in next(line for line in lines if "road" in line)
    with pytest.raises(UserError, match="2 class names for 3 classes"):
        scores.table(["sky", "road"])
    named = segkit.evaluate(
        model, DataLoader(data, batch_size=4), CLASSES, class_names=["sky", "road", "car"]
    )
    assert named.table() == text


def test_bytes_need_mean_and_std(model, data):
    images, masks = data.tensors
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.2, 0.3)
    pixels = (images * 40 + 120).clamp(0, 255).byte()
    normalised = (pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    loader = [(pixels, masks)]
    with pytest.raises(UserError, match="pass mean and std"):
        segkit.evaluate(model, loader, CLASSES)
    found = segkit.evaluate(model, loader, CLASSES, mean=mean, std=std)
    expected = segkit.evaluate(model, [(normalised, masks)], CLASSES)
    assert found.miou == pytest.approx(expected.miou, abs=0.01)


def test_few_images_have_no_interval_and_unknown_headlines_are_told(model, data):
    images, masks = data.tensors
    scores = segkit.evaluate(model, [(images[:3], masks[:3])], CLASSES)
    assert scores.interval("miou") is None
    with pytest.raises(UserError, match="did you mean 'miou'"):
        scores.interval("mioU")


def test_blocks_of_consecutive_images_follow_the_loaders_order(model, data):
    scores = segkit.evaluate(model, DataLoader(data, batch_size=4), CLASSES, block=7)
    assert (scores.block, scores.blocks) == (7, 2)
    assert scores.images == 14


def test_mistakes_are_told(model, data):
    with pytest.raises(UserError, match="no image to evaluate"):
        segkit.evaluate(model, [], CLASSES)
    with pytest.raises(UserError, match="a loader must yield"):
        segkit.evaluate(model, [np.zeros(3)], CLASSES)
    with pytest.raises(UserError, match="colours for 3 classes"):
        segkit.Predictor(model, class_names=["a", "b", "c"], colors=[(0, 0, 0)])


def test_a_predictor_says_what_it_knows(model):
    predictor = segkit.Predictor(model, class_names=["a", "b", "c"])
    assert predictor.classes.names == ("a", "b", "c")
    assert len(set(predictor.classes.colors)) == 3
    assert predictor.backend.hardware.precision == "fp32"
    mask = predictor(np.zeros((5, 7, 3), np.float32)).mask
    assert tuple(mask.shape) == (5, 7)
    with pytest.raises(UserError, match="no attribute 'stride'"):
        segkit.Predictor(model, tiles=Tiles(64), preprocess=Preprocess(3))
