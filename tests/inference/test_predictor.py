"""A checkpoint and an image are enough, and give what evaluation saw."""

import socket

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from segkit.checkpoint import (
    find_checkpoint,
    load_checkpoint,
    restore_config,
    save_checkpoint,
)
from segkit.config import load_config
from segkit.data.card import load_card
from segkit.data.dataset import build_dataset
from segkit.data.epoch_batches import EpochBatches
from segkit.data.images import read_image
from segkit.data.loader import Loader
from segkit.data.reader import SampleReader
from segkit.errors import UserError
from segkit.evaluation import evaluate_images
from segkit.hardware import Hardware
from segkit.inference import Predictor, Tiles
from segkit.inference.preprocess import Preprocess, as_tensor
from segkit.model import build_model

CPU = Hardware(torch.device("cpu"), "fp32", "for the tests")


@pytest.fixture
def checkpoint(tiny_config, tmp_path):
    """Write the checkpoint of an untrained network; call it with overrides of the experiment."""

    def write(overrides=None, **of_card):
        config = load_config(tiny_config(overrides))
        card = load_card(config.data.card).model_copy(update=of_card)
        torch.manual_seed(0)
        model = build_model(config.model, card.num_classes)
        nn.init.normal_(model.decoder.head.weight)
        path = tmp_path / "run/checkpoints/best.pt"
        content = {"config": config.model_dump(), "card": card.model_dump(), "epoch": 1}
        save_checkpoint(path, {**content, "model": model.state_dict(), "scores": None})
        return tmp_path / "run"

    return write


def val_images(tiny_set):
    return sorted((tiny_set.root / "val/images").iterdir())


OPTIONS = [{}, {"flip": True}, {"scales": (0.75, 1.0)}, {"tiles": Tiles(32, "blend")}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_masks_are_those_that_evaluation_scored(options, checkpoint, tiny_set, monkeypatch):
    transforms = [{"CLAHE": {"p": 1.0}}]
    run = checkpoint({"data.eval_transforms": transforms, "data.batch_size": 3})
    predictor = Predictor.load(run, "cpu", **options)
    content = load_checkpoint(find_checkpoint(run))
    config = restore_config(content, run)
    reader = SampleReader(predictor.card, "val")
    dataset = build_dataset(config, reader, augment=False, mean=config.data.mean)
    scored = {}

    def keep(self, *args, **kwargs):
        found = segment(self, *args, **kwargs)
        scored[len(scored)] = found.mask
        return found

    segment = Predictor.segment
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "segment", keep)
        loader = Loader(dataset, EpochBatches(3, 3, shuffle=False))
        evaluate_images(predictor, loader, predictor.card.num_classes)
    assert len(scored) == 3
    fresh = Predictor.load(run, "cpu", **options)
    classes = set()
    for index, path in enumerate(val_images(tiny_set)):
        mask = fresh(read_image(path)).mask
        assert mask.dtype == torch.uint8
        assert torch.equal(mask, scored[index])
        classes |= set(mask.unique().tolist())
    assert len(classes) > 1


def test_prediction_opens_no_socket(checkpoint, tiny_set, monkeypatch):
    run = checkpoint()
    content = torch.load(run / "checkpoints/best.pt", weights_only=True)
    content["config"]["model"]["encoder"]["weights"] = "imagenet"  # which the file replaces
    torch.save(content, run / "checkpoints/best.pt")

    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    predictor = Predictor.load(run, "cpu")
    assert predictor(read_image(val_images(tiny_set)[0])).mask.shape == (40, 48)


def test_modes_are_put_back_module_by_module(network, predictor_of, image):
    model = network(name="unet", widths=[8, 8, 8, 8])
    model.train()
    model.encoder.features[1].eval()  # a batch norm that is frozen
    before = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    predictor_of(model)(image((33, 40)))
    assert [module.training for module in model.modules()] == before
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())

    def fail(*_):
        assert not model.training
        assert not torch.is_grad_enabled()
        raise ZeroDivisionError

    model.register_forward_pre_hook(fail)
    with pytest.raises(ZeroDivisionError):
        predictor_of(model)(image((33, 40)))
    assert [module.training for module in model.modules()] == before
    assert torch.is_grad_enabled()


def plain_average(model, pixels, flip, scales):
    """Average probabilities over views, as one would write it down."""
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    total, count = 0, 0
    for scale in scales:
        size = [max(1, round(length * scale)) for length in x.shape[-2:]]
        scaled = F.interpolate(x, size, mode="bilinear", align_corners=False)
        for mirrored in (False, True)[: 1 + flip]:
            with torch.no_grad():
                found = model(scaled.flip(-1) if mirrored else scaled).softmax(1)
            found = found.flip(-1) if mirrored else found
            total = total + F.interpolate(found, x.shape[-2:], mode="bilinear", align_corners=False)
            count += 1
    return total[0] / count


@pytest.mark.parametrize("scales", [(1.0,), (0.5,), (0.75, 1.0, 1.6)], ids=str)
@pytest.mark.parametrize("flip", [False, True])
def test_probabilities_are_averaged_over_views(flip, scales, network, predictor_of, image):
    model = network(name="unet", widths=[8, 8, 8, 8]).eval()
    pixels = image((45, 70))
    expected = plain_average(model, pixels, flip, scales)
    found = predictor_of(model, flip=flip, scales=scales)(
        pixels, confidence=True, probabilities=True
    )
    highest, mask = expected.max(0)
    torch.testing.assert_close(found.confidence, highest, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.probabilities.float(), expected, atol=1e-3, rtol=0)
    assert found.probabilities.dtype == torch.float16
    assert torch.equal(found.mask, mask.byte())


def test_flipping_tells_a_symmetric_network_nothing_new(network, predictor_of, image):
    model = network(name="unet", widths=[8, 8, 8, 8])
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = (module.weight + module.weight.flip(-1)).detach() / 2
    pixels = image((48, 64))  # a multiple of the stride, else padding is on one side
    plain = predictor_of(model)(pixels, confidence=True)
    flipped = predictor_of(model, flip=True)(pixels, confidence=True)
    assert len(plain.mask.unique()) > 1
    assert torch.equal(plain.mask, flipped.mask)
    torch.testing.assert_close(plain.confidence, flipped.confidence, atol=1e-5, rtol=0)


def test_bytes_and_shares_give_the_same_at_another_scale(network, predictor_of):
    model = network(name="unet", widths=[8, 8, 8, 8])
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    predictor = predictor_of(model, scales=(0.7, 1.0))
    a = predictor(pixels, confidence=True)
    b = predictor((pixels / np.float32(255)).astype(np.float32), confidence=True)
    torch.testing.assert_close(a.confidence, b.confidence, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "transform", [{"Resize": {"height": 50, "width": 62}}, {"LongestMaxSize": {"max_size": 30}}]
)
def test_a_mask_has_the_size_of_the_image_whatever_was_resized(transform, checkpoint, tiny_set):
    predictor = Predictor.load(checkpoint({"data.eval_transforms": [transform]}), "cpu")
    pixels = read_image(val_images(tiny_set)[0])
    found = predictor(pixels, confidence=True, probabilities=True)
    assert found.mask.shape == found.confidence.shape == (40, 48)
    assert found.probabilities.shape == (3, 40, 48)
    assert found.probabilities.dtype == torch.float16
    inner = predictor.segment(as_tensor(predictor.preprocess(pixels)), probabilities=True)
    assert inner.mask.shape != (40, 48)
    # nearest, by centres; no centre falls between two cells here
    rows, columns = (
        ((np.arange(n) + 0.5) * m / n).astype(int)
        for n, m in zip((40, 48), inner.mask.shape, strict=True)
    )
    assert torch.equal(found.mask, inner.mask[rows][:, columns])
    expected = F.interpolate(inner.probabilities[None].float(), (40, 48), mode="bilinear")[0]
    torch.testing.assert_close(found.probabilities.float(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "transform",
    [
        {"RandomCrop": {"height": 32, "width": 32}},
        {"HorizontalFlip": {}},
        {"PadIfNeeded": {"min_height": 64, "min_width": 64}},
        {"OneOf": {"transforms": [{"VerticalFlip": {}}]}},
    ],
    ids=lambda transform: next(iter(transform)),
)
def test_transforms_that_move_pixels_are_refused(transform, checkpoint, tiny_set):
    predictor = Predictor.load(checkpoint({"data.eval_transforms": [transform]}), "cpu")
    with pytest.raises(UserError, match=f"{next(iter(transform))}, which prediction cannot undo"):
        predictor(read_image(val_images(tiny_set)[0]))


def test_what_is_left_to_chance_goes_alike_each_time(checkpoint, tiny_set):
    transforms = [{"ColorJitter": {"p": 1.0}}]
    predictor = Predictor.load(checkpoint({"data.eval_transforms": transforms}), "cpu")
    pixels = read_image(val_images(tiny_set)[0])
    first = predictor(pixels, confidence=True).confidence
    assert torch.equal(predictor(pixels, confidence=True).confidence, first)


def test_wrong_images_are_refused(checkpoint):
    predictor = Predictor.load(checkpoint(), "cpu")
    for shape in ((40, 48, 4), (40, 48, 2), (2, 40, 48, 3), (0, 48, 3), (0, 48), ()):
        with pytest.raises(UserError, match=r"takes images \(H, W, 3\), but got one of shape"):
            predictor(np.zeros(shape, np.uint8))
    for dtype in (np.float32, np.float64, np.uint16, bool):
        with pytest.raises(UserError, match=f"pixels as bytes, but got {np.dtype(dtype)}"):
            predictor(np.zeros((40, 48, 3), dtype))


def test_grey_and_deep_images(checkpoint):
    grey = {"model.in_channels": 1, "data.mean": [0.5], "data.std": [0.2]}
    predictor = Predictor.load(checkpoint(grey, image_max=4095.0), "cpu")
    pixels = np.random.default_rng(0).random((40, 48), np.float32)
    found = predictor(pixels)
    assert torch.equal(predictor(pixels[..., None]).mask, found.mask)
    with pytest.raises(UserError, match="float32, shares of 4095, but got uint16"):
        predictor(np.zeros((40, 48), np.uint16))


@pytest.mark.parametrize("white", [None, 255.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_rgb_become_each_other_as_in_files(channels, white, checkpoint, tmp_path):
    settings = {
        "model.in_channels": channels,
        "data.mean": [0.5] * channels,
        "data.std": [0.2] * channels,
    }
    predictor = Predictor.load(checkpoint(settings, image_max=white), "cpu")
    size = (40, 48) if channels == 3 else (40, 48, 3)
    pixels = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    as_read = read_image(tmp_path / "image.png", channels, white)
    assert as_read.shape == (40, 48, channels)
    expected = predictor(as_read, probabilities=True)
    if white:
        pixels = pixels.astype(np.float32) / np.float32(white)
    for given in (pixels, pixels[:, ::-1].copy()[:, ::-1]):
        assert np.array_equal(predictor.preprocess(given), as_read)
        found = predictor(given, probabilities=True)
        assert torch.equal(found.probabilities, expected.probabilities)


def test_an_array_may_be_read_only_mirrored_or_a_list(checkpoint):
    predictor = Predictor.load(checkpoint(), "cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    expected = predictor(pixels[:, ::-1].copy()).mask
    assert torch.equal(predictor(pixels[:, ::-1]).mask, expected)
    pixels.setflags(write=False)
    before = pixels.copy()
    assert torch.equal(predictor(torch.from_numpy(pixels.copy())).mask, predictor(pixels).mask)
    assert (pixels == before).all()


@pytest.mark.filterwarnings("error")
def test_a_memory_map_is_read_tile_by_tile(checkpoint, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)
    np.save(tmp_path / "image.npy", pixels)
    run = checkpoint()
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    for options in ({}, {"tiles": Tiles(32)}, {"tiles": Tiles(32, "blend")}):
        predictor = Predictor.load(run, "cpu", **options)
        assert torch.equal(predictor(mapped).mask, predictor(pixels).mask)


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, 11.0), (float("nan"),), (-1.0,)])
def test_scales_out_of_range_are_refused(scales, network):
    model = network(name="unet", widths=[8, 8, 8, 8])
    with pytest.raises(UserError, match="scales must be"):
        Predictor(model, hardware=CPU, scales=scales)


def test_nothing_is_computed_that_was_not_asked_for(network, predictor_of, image):
    model = network(name="unet", widths=[8, 8, 8, 8])
    for tiles in (None, Tiles(32, "blend")):
        found = predictor_of(model, tiles=tiles)(image((40, 50)))
        assert found.confidence is None
        assert found.probabilities is None


def test_a_missing_or_damaged_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no checkpoint"):
        Predictor.load(tmp_path / "none.pt", "cpu")
    with pytest.raises(UserError, match="holds no checkpoint"):
        Predictor.load(tmp_path, "cpu")
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match="damaged"):
        Predictor.load(tmp_path / "bad.pt", "cpu")


class Shades(nn.Module):
    """Predicts by the brightness of a pixel, from no more than that."""

    def forward(self, x):
        light = x.mean(1)
        return torch.stack([light, 1 - light, light.new_full(light.shape, 0.55)], 1)


class Held(Shades):
    """Returns its logits as torchvision's models do."""

    def forward(self, x):
        return {"out": super().forward(x), "aux": x}


@pytest.mark.parametrize("model", [Shades(), Held()], ids=["logits", "mapping"])
def test_any_module_serves(model, predictor_of, image):
    pixels = image((33, 50))
    expected = Shades()(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0].argmax(0).byte()
    assert len(expected.unique()) == 3
    for options in ({}, {"tiles": Tiles(16, "blend")}, {"flip": True}):
        assert torch.equal(predictor_of(model, **options)(pixels).mask, expected)
    with pytest.raises(UserError, match=r"no attribute 'stride'.*mode blend"):
        predictor_of(model, tiles=Tiles(16))


def test_what_sees_the_whole_image_is_not_cut_exactly(network, predictor_of):
    model = network(name="unet", widths=[8, 8, 8, 8])
    model.decoder.sees_all = True
    with pytest.raises(UserError, match=r"sees_all.*mode blend"):
        predictor_of(model, tiles=Tiles(64))
    predictor_of(model, tiles=Tiles(64, "blend"))


def test_images_that_come_normalised_are_not_normalised_again(network, image):
    model = network(name="unet", widths=[8, 8, 8, 8])
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    pixels = image((40, 50))
    expected = Predictor(model, mean=mean, std=std, hardware=CPU)(pixels, confidence=True)
    normalised = ((pixels - np.float32(mean)) / np.float32(std)).astype(np.float32)
    found = Predictor(model, hardware=CPU)(normalised, confidence=True)
    torch.testing.assert_close(found.confidence, expected.confidence, atol=1e-5, rtol=0)
    with pytest.raises(UserError, match=r"pass mean and std"):
        Predictor(model)(np.zeros((40, 50, 3), np.uint8))
    with pytest.raises(UserError, match=r"preprocess=Preprocess\(channels\)"):
        Predictor(model, tiles=Tiles(64))
    Predictor(model, tiles=Tiles(64), preprocess=Preprocess(3))


def test_a_tensor_is_segmented_as_its_array_is_predicted(network, predictor_of, image):
    predictor = predictor_of(network(name="unet", widths=[8, 8, 8, 8]), scales=(0.7, 1.0))
    pixels = image((41, 50))
    expected = predictor(pixels, confidence=True)
    plain = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    for tensor in (plain, plain.contiguous(memory_format=torch.contiguous_format), plain[None][0]):
        found = predictor.segment(tensor, confidence=True)
        assert torch.equal(found.mask, expected.mask)
        assert torch.equal(found.confidence, expected.confidence)


def test_memory_that_is_mapped_is_viewed_and_never_written(tmp_path):
    np.save(tmp_path / "image.npy", np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    tensor = as_tensor(mapped)
    assert tensor.data_ptr() == mapped.ctypes.data
    assert tensor.shape == (3, 4, 5)
