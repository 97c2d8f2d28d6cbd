"""Copies that the hash misses are found by descriptors, once each; frames of a video are not."""

import json

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from segkit.commands import main
from segkit.data.card import Card, load_card
from segkit.doctor.checks import check
from segkit.doctor.look_alikes import ALIKE, SHRINKAGE, describe_splits, look_alikes, whiten
from segkit.doctor.scan import list_splits, scan
from segkit.streets import CLASSES, VOID, draw_scene

NAMES = [name for name, _ in CLASSES]
COUNTS = {"train": 12, "val": 6}
NO_VIDEO = -1


class Symmetric:
    """Describes an image by a thumbnail of it and its mirror image, laid over each other."""

    name = "a thumbnail"
    size = (32, 32)

    def __init__(self):
        self.calls = 0

    def __call__(self, image):
        self.calls += 1
        small = cv2.resize(image, self.size, interpolation=cv2.INTER_AREA).astype(np.float32)
        vector = (small + small[:, ::-1]).ravel()
        return vector / np.linalg.norm(vector)


class Rows(Symmetric):
    """Describes an image by the mean colours of rows, to which the frames of a pan are alike."""

    size = (1, 60)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    root = tmp_path_factory.mktemp("sound")
    for split, count in COUNTS.items():
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            image, mask = draw_scene(0, split, index)
            Image.fromarray(image).save(root / split / "images" / f"{index}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{index}.png")
    return root


@pytest.fixture
def town(sound, tmp_path):
    """Write a card of street scenes; gives it and a function that adds a pair to a split."""
    for path in sorted(sound.rglob("*.png")):
        copy = tmp_path / path.relative_to(sound)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    card = {
        "name": "town",
        "root": str(tmp_path),
        "classes": [{"name": name, "color": list(color)} for name, color in CLASSES],
        "label_map": {**dict(enumerate(NAMES)), VOID: "ignore"},
        "splits": {s: {"images": f"{s}/images", "masks": f"{s}/masks"} for s in COUNTS},
    }
    (tmp_path / "town.yaml").write_text(yaml.safe_dump(card))

    def add(name, change, index=3):
        image, mask = draw_scene(0, "train", index)
        Image.fromarray(np.ascontiguousarray(change(image))).save(
            tmp_path / "val/images" / f"{name}.png"
        )
        Image.fromarray(np.ascontiguousarray(change(mask))).save(
            tmp_path / "val/masks" / f"{name}.png"
        )

    return tmp_path / "town.yaml", add


def mirrored(pixels):
    return pixels[:, ::-1]


def examine(card, describer=None):
    card = card if isinstance(card, Card) else load_card(card)
    splits = list_splits(card, list(card.splits))
    scan(card, splits, None)
    if describer:
        describe_splits(card, splits, describer)
    return [f for f in check(card, splits, ("train", "val")) if f.check != "single class"]


def test_a_mirrored_copy_is_found_on_request(town):
    card, add = town
    add("mirror", mirrored)
    assert examine(card) == []  # the hash does not see it
    (found,) = examine(card, Symmetric())
    assert (found.severity, found.check, found.split) == ("warning", "look-alikes", "train and val")
    assert found.count == 1
    assert found.examples[0].startswith("3 | mirror  ")
    assert "1 of 7 images of val look to a thumbnail like one of train: " in found.text
    assert f"whitened descriptors is {ALIKE} or more" in found.text
    [(first, second)] = found.pictures
    assert first.endswith("train/images/3.png")
    assert second.endswith("val/images/mirror.png")


@pytest.mark.slow
def test_scenes_that_only_share_a_style_are_not_found(town):
    assert examine(town[0], Symmetric()) == []


@pytest.mark.slow
def test_what_the_hash_has_found_is_not_told_again(town):
    card, add = town
    add("same", lambda pixels: pixels)
    add("trimmed", lambda pixels: pixels[1:-1, 1:-1], index=2)
    add("mirror", mirrored, index=7)
    found = {f.check: f for f in examine(card, Symmetric())}
    assert found.keys() == {"leak", "near leak", "look-alikes"}
    assert [found[kind].count for kind in found] == [1, 1, 1]
    assert found["look-alikes"].examples[0].startswith("7 | mirror")


@pytest.mark.slow
def test_each_image_is_described_once_though_splits_share_it(town):
    path, _ = town
    card = yaml.safe_load(path.read_text())
    card["splits"]["trainval"] = card["splits"]["train"]
    describer = Symmetric()
    examine(Card.model_validate(card), describer)
    assert describer.calls == sum(COUNTS.values())


@pytest.mark.slow
def test_an_image_that_cannot_be_read_is_left_out(town):
    path, add = town
    add("mirror", mirrored)
    (path.parent / "val/images/0.png").write_text("no image")
    found = examine(path, Symmetric())
    assert {f.check for f in found} == {"images", "look-alikes"}


# Vectors


def test_whitening_is_that_of_the_principal_components():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((50, 8)) * np.arange(1, 9) + 5
    centred = vectors - vectors.mean(0)
    covariance = centred.T @ centred / 50
    ridge = SHRINKAGE * np.trace(covariance) / 8
    # a similarity does not depend on the basis: it is x' (C + r)^-1 y, of unit length
    inverse = np.linalg.inv(covariance + ridge * np.eye(8))
    products = centred @ inverse @ centred.T
    lengths = np.sqrt(np.diag(products))
    white = whiten(vectors.astype(np.float32))
    np.testing.assert_allclose(white @ white.T, products / np.outer(lengths, lengths), atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_or_equal_vectors_are_no_trouble(count):
    for vectors in (np.eye(3, 8), np.ones((3, 8))):
        given = vectors[:count].astype(np.float32)
        assert np.isfinite(whiten(given)).all()


def test_each_image_comes_once_with_its_nearest_and_frames_of_a_video_do_not():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((300, 128)).astype(np.float32)
    b = rng.standard_normal((600, 128)).astype(np.float32)
    b[7] = a[3] + 0.2 * rng.standard_normal(128)
    b[500] = a[4]
    a[9] = a[3] + 0.5 * rng.standard_normal(128)  # also like b[7], but less
    videos_a, videos_b = np.full(300, NO_VIDEO), np.full(600, NO_VIDEO)
    found = look_alikes(a, b, videos_a, videos_b)
    planted = [(pair.a, pair.b) for pair in found if pair.likeness > 0.9]
    assert planted == [(4, 500), (3, 7)]
    videos_a[[3, 4]] = 0, 1
    videos_b[[7, 500]] = 0, 0
    found = look_alikes(a, b, videos_a, videos_b)
    # a[4] is of another video than b[500]; for b[7] the other one remains
    assert [(pair.a, pair.b) for pair in found if pair.likeness > 0.7] == [(4, 500), (9, 7)]


def test_frames_of_a_video_that_goes_on_are_left_to_that_finding(town):
    """Of a camera that pans over coloured noise, at first in train and then in val."""
    card, add = town
    rng = np.random.default_rng(0)
    land = cv2.GaussianBlur(rng.standard_normal((60, 300, 3)), (0, 0), 5)
    land = (128 + 400 * land).clip(0, 255).astype(np.uint8)
    mask = np.arange(60 * 80, dtype=np.uint8).reshape(60, 80) % 8
    for split, frames in (("train", range(40)), ("val", range(42, 62))):
        for frame in frames:
            folder, file = card.parent / split, f"drive_{frame:03}.png"
            Image.fromarray(land[:, 3 * frame : 3 * frame + 80]).save(folder / "images" / file)
            Image.fromarray(mask).save(folder / "masks" / file)
    add("mirror", mirrored)
    add("drive", mirrored, index=5)  # no frame, though its name begins as theirs do
    found = {f.check: f for f in examine(card, Rows())}
    assert "'drive_'" in found["scene"].text
    told = {name.partition("  ")[0] for name in found["look-alikes"].examples}
    assert {"3 | mirror", "5 | drive"} <= told
    assert not any("drive_" in name for name in told)


# The command


def test_the_command_takes_an_encoder(town, tmp_path, capsys):
    card, add = town
    add("mirror", mirrored)
    report, page = tmp_path / "report.json", tmp_path / "report.html"
    words = ["check-data", str(card), "--json", str(report), "--html", str(page)]
    assert main(words) == 0
    assert "look-alikes" not in report.read_text()
    tiny = ["--encoder", "lenet", "--weights", "null", "--device", "cpu"]
    assert main([*words, *tiny]) == 0
    [found] = [f for f in json.loads(report.read_text())["findings"] if f["check"] == "look-alikes"]
    assert "look to lenet with random weights like one of train" in found["text"]
    assert found["examples"][0].startswith("3 | mirror  ")
    assert found["text"] in capsys.readouterr().out
    assert page.read_text(encoding="utf-8").count('alt="val/images/mirror.png"') == 1


def test_weights_without_an_encoder_are_a_mistake(town, capsys):
    assert main(["check-data", str(town[0]), "--weights", "null"]) == 2
    assert "add --encoder" in capsys.readouterr().err
