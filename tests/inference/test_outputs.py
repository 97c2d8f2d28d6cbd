"""What is written reads back as what was predicted, in the labels of every card."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.data.card import Card
from segkit.data.label_map import LabelMap
from segkit.drawing.masks import overlay
from segkit.errors import UserError
from segkit.inference import Prediction
from segkit.inference import outputs as module
from segkit.inference.inputs import Source
from segkit.inference.outputs import (
    Outputs,
    Unwritable,
    Writer,
    check_outputs,
    is_case_blind,
    map_bands,
    output_paths,
)
from segkit.labels import Classes

LABEL_MAPS = {
    "indices": {0: "a", 1: "b", 2: "c"},
    "values": {7: "a", 11: "b", 200: "c", 255: "ignore"},
    "0 and 255": {0: "a", 255: "b", 128: "c"},
    "several for one": {4: "a", 3: "a", 9: "b", 10: "c", 0: "ignore"},
    "16 bits": {0: "a", 1000: "b", 65535: "c"},
    "void in 16 bits": {0: "a", 1: "b", 2: "c", 65535: "ignore"},
    "colours": {"0 0 0": "a", "128 64 0": "b", "1 2 3": "c", "255 255 255": "ignore"},
}
COLORS = [(10, 20, 30), (200, 0, 0), (0, 0, 250)]


def make_card(label_map):
    classes = [{"name": n, "color": c} for n, c in zip("abc", COLORS, strict=True)]
    splits = {"train": {"images": "i", "masks": "m"}}
    return Card.model_validate(
        {"name": "set", "root": "/", "classes": classes, "label_map": label_map, "splits": splits}
    )


def writer_of(out, card, *outputs):
    classes = Classes(card.class_names, card.colors)
    return Writer(out, classes, Outputs(*outputs), card)


@pytest.fixture
def prediction():
    rng = np.random.default_rng(0)
    mask = torch.from_numpy(rng.integers(0, 3, (37, 53), np.uint8))
    shares = torch.from_numpy(rng.random((3, 37, 53), np.float32)).half()
    return Prediction(mask, None, shares)


@pytest.mark.parametrize("label_map", LABEL_MAPS.values(), ids=LABEL_MAPS)
def test_masks_read_back_as_predicted(label_map, prediction, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", 500)
    card = make_card(label_map)
    writer_of(tmp_path, card).write(Path("x"), np.zeros((37, 53, 3), np.uint8), prediction)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    path = tmp_path / "x.png"
    assert (LabelMap(card).read(path) == prediction.mask.numpy()).all()
    with Image.open(path) as picture:
        if isinstance(next(iter(label_map)), str):
            assert picture.mode == "RGB"
            return
        if max(label_map) > 255:
            assert picture.mode == "I;16"
            return
        assert picture.mode == "P"
        shown = np.array(picture.convert("RGB"))
    assert (shown == np.array(COLORS, np.uint8)[prediction.mask.numpy()]).all()


def test_pictures_and_probabilities(prediction, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", 500)
    card = make_card(LABEL_MAPS["values"])
    writer = writer_of(tmp_path / "a/b", card, True, True, True)
    writer.begin()
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    writer.write(Path("sub/v1.0"), image, prediction)
    mask = prediction.mask.numpy()
    found = {str(path.relative_to(tmp_path / "a/b")) for path in tmp_path.rglob("*.*")}
    assert found == {
        "legend.png",
        "sub/v1.0.png",
        "sub/v1.0_overlay.png",
        "sub/v1.0_color.png",
        "sub/v1.0_probabilities.npz",
    }
    folder = tmp_path / "a/b/sub"
    colors = np.array(Image.open(folder / "v1.0_color.png"))
    assert (colors == np.array(COLORS, np.uint8)[mask]).all()
    laid = np.array(Image.open(folder / "v1.0_overlay.png"))
    assert (laid == overlay(image, mask, COLORS)).all()
    with np.load(folder / "v1.0_probabilities.npz", allow_pickle=False) as held:
        assert held["probabilities"].dtype == np.float16
        assert (held["probabilities"] == prediction.probabilities.numpy()).all()
        assert held["classes"].tolist() == ["a", "b", "c"]


def test_a_legend_shows_every_colour(tmp_path):
    writer_of(tmp_path, make_card(LABEL_MAPS["values"]), False, True).begin()
    picture = np.array(Image.open(tmp_path / "legend.png").convert("RGB"))
    assert min(picture.shape[:2]) > 60
    for color in COLORS:
        assert (picture == color).all(-1).sum() > 50


def test_a_write_that_fails_leaves_nothing_and_the_old_file(prediction, tmp_path, monkeypatch):
    writer = writer_of(tmp_path, make_card(LABEL_MAPS["values"]))
    image = np.zeros((37, 53, 3), np.uint8)
    writer.write(Path("x"), image, prediction)
    before = (tmp_path / "x.png").read_bytes()

    errors = []

    def save(self, path, **options):
        path.write_bytes(b"half")
        raise errors[-1]

    monkeypatch.setattr(Image.Image, "save", save)
    for error, expected in (
        (OSError(28, "No space left on device"), Unwritable),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ):
        errors.append(error)
        with pytest.raises(expected):
            writer.write(Path("x"), image, prediction)
        with pytest.raises(expected):
            writer.write(Path("y"), image, prediction)
        assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
        assert (tmp_path / "x.png").read_bytes() == before


def test_large_images_are_painted_map_bands(monkeypatch):
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", 40)
    calls = []

    def double(x):
        calls.append(x.shape)
        return (2 * x).astype(np.uint16)

    x = np.arange(23 * 7).reshape(23, 7)
    assert (map_bands(double, x) == 2 * x).all()
    assert calls == [(5, 7)] * 4 + [(3, 7)]


def sources(*names):
    return [Source(Path(name), Path(name).with_suffix("")) for name in names]


def test_results_that_would_overwrite_each_other_are_refused(tmp_path):
    everything = Outputs(True, True, True)

    def check(*names, outputs):
        check_outputs(sources(*names), tmp_path, outputs)

    check("a.png", "b.png", "sub/a.png", "a.mp4", outputs=everything)
    for names in (
        ("a.png", "a.jpg"),
        ("a.png", "a_overlay.png"),
        ("a_probabilities.npy", "a_color.png", "a.jpg"),
        ("a.mp4", "a.avi"),
        ("a.mp4", "a/000000.png"),
        ("legend.jpg",),
    ):
        with pytest.raises(UserError, match="would both be written to"):
            check(*names, outputs=everything)
    check("a.png", "a_overlay.png", "legend.jpg", outputs=Outputs())
    assert not list(tmp_path.iterdir())


def test_an_input_is_never_overwritten(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for out in (tmp_path, tmp_path / "link", tmp_path / "sub/.."):
        with pytest.raises(UserError, match=r"a\.png is an input; name another folder with --out"):
            check_outputs([Source(tmp_path / "a.png", Path("a"))], out, Outputs())
    check_outputs([Source(tmp_path / "a.png", Path("a"))], tmp_path / "out", Outputs())


@pytest.mark.parametrize("blind", [True, False])
def test_names_that_differ_by_case_alone(blind, tmp_path):
    """A disk that knows no case is played by a link to the folder."""
    out = tmp_path / "out1"
    out.mkdir()
    if blind:
        (tmp_path / "OUT1").symlink_to(out)
    (out / "IMG.PNG").touch()
    own = [Source(out / "IMG.PNG", Path("IMG"))]
    both = sources("A.jpg", "a.png")
    for these, words in ((own, r"IMG\.png is an input"), (both, "would both be written to")):
        with pytest.raises(UserError, match=words) if blind else nullcontext():
            check_outputs(these, out, Outputs())


def test_a_path_without_letters_tells_of_no_case():
    assert not is_case_blind(Path("/123/4"))


def test_targets_of_a_video():
    [source] = sources("clip.mp4")
    out = Path("out")
    assert output_paths(source, out, Outputs()) == [out / "clip"]
    assert output_paths(source, out, Outputs(True, True)) == [
        out / "clip",
        out / "clip.mp4",
        out / "clip_color.mp4",
    ]


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(UserError, match="is no folder that can be written to"):
            check_outputs(sources("a.png"), out, Outputs())
        with pytest.raises(UserError, match="cannot write into"):
            writer_of(out, make_card(LABEL_MAPS["values"])).begin()


def test_without_raw_labels_masks_hold_class_indices(prediction, tmp_path):
    Writer(tmp_path, Classes(("a", "b", "c"), tuple(COLORS))).write_mask(Path("x"), prediction)
    mask = prediction.mask.numpy()
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.mode == "P"
        assert (np.array(picture) == mask).all()
        assert (np.array(picture.convert("RGB")) == np.array(COLORS, np.uint8)[mask]).all()


def test_probabilities_that_were_not_predicted_are_asked_for(prediction, tmp_path):
    writer = Writer(tmp_path, Classes.numbered(3), Outputs(probabilities=True))
    with pytest.raises(UserError, match="predict with probabilities=True"):
        writer.write_mask(Path("x"), Prediction(prediction.mask))
