"""What `segkit new` reads off a folder, and that what it writes works as it stands."""

import numpy as np
import pytest
import yaml
from PIL import Image

from segkit.commands import main
from segkit.config import load_config
from segkit.data.card import load_card
from segkit.data.reader import SampleReader
from segkit.errors import UserError
from segkit.starter import survey, write_starter

SIZE = (48, 64)
RNG = np.random.default_rng(0)


def picture(channels=3, dtype=np.uint8, size=SIZE, high=256):
    shape = (*size, channels) if channels > 1 else size
    return RNG.integers(0, high, shape).astype(dtype)


def masks_of(*values, size=SIZE):
    return np.resize(np.array(values, np.uint8), size)


@pytest.fixture
def place(tmp_path):
    """Put pairs into folders; gives the two folders."""

    def put(pairs, images="images", masks="masks", suffix=".png"):
        for name, (image, mask) in pairs.items():
            for folder, stem, array in ((images, name, image), (masks, name, mask)):
                if array is None:
                    continue
                path = tmp_path / folder / f"{stem}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                if suffix == ".npy":
                    np.save(path, array)
                else:
                    Image.fromarray(array).save(path)
        return tmp_path / images, tmp_path / masks

    return put


def starter(folders, home):
    """Write for the data; gives the config, its card, and the texts of both."""
    experiment, card = write_starter(home, survey(*folders))
    config = load_config(experiment)
    return config, load_card(config.data.card), experiment.read_text(), card.read_text()


def test_binary_masks_of_255(place, tmp_path):
    folders = place({f"{i:02}": (picture(1), masks_of(0, 255, 255)) for i in range(10)})
    config, card, _, text = starter(folders, tmp_path / "cells")
    assert card.label_map == {0: "background", 255: "thing"}
    assert "0: background  # 33.33% of the pixels" in text
    assert card.foreground == "background"  # the rarer one
    assert config.model.in_channels == 1
    assert (config.data.mean, config.data.std) == ("auto", "auto")
    assert [len(SampleReader(card, split, 1)) for split in ("train", "val")] == [8, 2]


def test_class_indices_with_void(place, tmp_path):
    folders = place({f"{i}": (picture(), masks_of(0, 1, 2, 255)) for i in range(5)})
    _, card, _, _ = starter(folders, tmp_path / "new")
    assert card.label_map == {0: "class_0", 1: "class_1", 2: "class_2", 255: "ignore"}
    assert card.foreground is None


def test_colours_become_the_classes_colours(place, tmp_path):
    colors = np.array([[0, 0, 0], [200, 30, 10], [10, 160, 60]], np.uint8)
    folders = place({f"{i}": (picture(), colors[masks_of(0, 1, 2)]) for i in range(5)})
    _, card, _, _ = starter(folders, tmp_path / "new")
    assert card.colors == ((0, 0, 0), (10, 160, 60), (200, 30, 10))
    assert card.by_color


def test_deep_images_of_many_channels(place, tmp_path):
    pairs = {f"{i}": (picture(5, np.uint16, high=4000), masks_of(0, 1)) for i in range(5)}
    config, card, _, _ = starter(place(pairs, suffix=".npy"), tmp_path / "new")
    assert (config.model.in_channels, card.image_max) == (5, 4095)


def test_splits_that_folders_name(place, tmp_path):
    for split, count in (("train", 4), ("valid", 2), ("test", 1)):
        pairs = {f"{split}{i}": (picture(), masks_of(0, 1)) for i in range(count)}
        place(pairs, f"images/{split}", f"masks/{split}")
    folders = tmp_path / "images", tmp_path / "masks"
    _, card, _, _ = starter(folders, tmp_path / "new")
    assert [len(SampleReader(card, s, 3)) for s in ("train", "val", "test")] == [4, 2, 1]
    assert not list((tmp_path / "new").glob("*.txt"))


def test_a_training_folder_alone_is_shared_out_and_test_kept(place, tmp_path):
    for split, count in (("train", 10), ("test", 3)):
        pairs = {f"{split}{i}": (picture(), masks_of(0, 1)) for i in range(count)}
        place(pairs, f"images/{split}", f"masks/{split}")
    _, card, _, _ = starter((tmp_path / "images", tmp_path / "masks"), tmp_path / "new")
    assert [len(SampleReader(card, s, 3)) for s in ("train", "val", "test")] == [8, 2, 3]


@pytest.mark.parametrize(
    ("image", "mask"), [("{}", "{}_mask"), ("{}_photo", "{}_mask"), ("img-{}", "img-{}_L")]
)
def test_suffixes_are_found(image, mask, place, tmp_path):
    for i in range(5):
        place({image.format(f"{i}7"): (picture(), None)})
        place({mask.format(f"{i}7"): (None, masks_of(0, 1))})
    folders = tmp_path / "images", tmp_path / "masks"
    _, card, _, _ = starter(folders, tmp_path / "new")
    assert len(SampleReader(card, "train", 3)) == 4


def test_images_and_masks_in_one_folder(place, tmp_path):
    for i in range(5):
        place({f"a{i}": (picture(), None), f"a{i}_mask": (masks_of(0, 1), None)}, images="all")
    folder = tmp_path / "all"
    _, card, _, _ = starter((folder, folder), tmp_path / "new")
    assert len(SampleReader(card, "train", 3)) == 4


def test_files_without_a_partner_are_told_and_left_out(place, tmp_path, capsys):
    place({f"{i}": (picture(), masks_of(0, 1)) for i in range(5)})
    place({"lonely": (picture(), None), "stray": (None, masks_of(0, 1))})
    images, masks = tmp_path / "images", tmp_path / "masks"
    home = tmp_path / "new"
    assert main(["new", str(home), "--data", str(images), str(masks)]) == 0
    assert "2 files have no partner" in capsys.readouterr().out
    text = (home / "card.yaml").read_text()
    assert "lonely, stray" in text
    assert len(SampleReader(load_card(home / "card.yaml"), "train", 3)) == 4


def video(frames, seed):
    """A scene that moves by three pixels a frame."""
    scene = np.random.default_rng(seed).normal(size=(6, 60))
    scene = np.kron(scene, np.ones((8, 8))) * 60 + 128
    return [scene[:, 3 * i : 3 * i + 64].clip(0, 255).astype(np.uint8) for i in range(frames)]


def test_videos_are_found_by_names_and_looks(place, tmp_path):
    pairs = {
        f"{name}_{i:03}": (frame, masks_of(0, 1))
        for seed, name in enumerate("abcdef")
        for i, frame in enumerate(video(60, seed))
    }
    _, card, _, _ = starter(place(pairs), tmp_path / "new")
    assert card.sequences == r"^(.*?)\d+$"
    sides = [{p.name[0] for p in SampleReader(card, s, 1).pairs} for s in ("train", "val")]
    assert not sides[0] & sides[1]
    noise = {f"a_{i:03}": (picture(1), masks_of(0, 1)) for i in range(60)}
    _, card, _, _ = starter(place(noise, "noise", "noise_masks"), tmp_path / "other")
    assert card.sequences is None


@pytest.mark.parametrize(
    ("share", "loss"),
    [
        (1, {"name": "cross_entropy_dice", "class_weights": "none"}),
        (8, {"name": "cross_entropy", "class_weights": "sqrt_median_frequency"}),
        (40, {"name": "cross_entropy", "class_weights": "none"}),
    ],
)
def test_rare_classes_get_a_loss_that_names_them(share, loss, place, tmp_path):
    mask = masks_of(*[1] * share, *[0] * (100 - share), size=(100, 100))
    pairs = {f"{i}": (picture(size=(100, 100)), mask) for i in range(5)}
    config, _, _, _ = starter(place(pairs), tmp_path / "new")
    assert config.train.loss.model_dump() | loss == config.train.loss.model_dump()


def test_large_images_are_cropped_and_come_several_times(place, tmp_path):
    pairs = {f"{i}": (picture(1, size=(512, 600)), masks_of(0, 1, size=(512, 600))) for i in "ab"}
    config, _, _, _ = starter(place(pairs), tmp_path / "new")
    crop = next(t["RandomCrop"] for t in config.data.train_transforms if "RandomCrop" in t)
    assert (crop["height"], crop["width"], config.data.repeat) == (192, 192, 8)


MISTAKES = {
    "no folder": (lambda place, at: (at / "no", at), "there is no folder"),
    "nothing pairs": (
        lambda place, at: place({"a": (picture(), None), "b": (None, masks_of(0, 1))}),
        "no image in .* has a mask of its name",
    ),
    "one label": (
        lambda place, at: place({"a": (picture(), masks_of(7))}),
        "hold 1 different labels, of which no classes can be made",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_used_is_told(mistake, place, tmp_path):
    make, text = MISTAKES[mistake]
    with pytest.raises(UserError, match=text):
        survey(*make(place, tmp_path))


def test_nothing_is_overwritten(place, tmp_path, capsys):
    images, masks = place({f"{i}": (picture(), masks_of(0, 1)) for i in range(5)})
    command = ["new", str(tmp_path / "new"), "--data", str(images), str(masks)]
    assert main(command) == 0
    card = tmp_path / "new/card.yaml"
    card.write_text(card.read_text() + "# mine\n")
    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err
    assert card.read_text().endswith("# mine\n")


def test_without_folders_it_looks_beside_and_says_what_to_type(place, tmp_path, capsys):
    place({f"{i}": (picture(), masks_of(0, 1)) for i in range(5)}, "set/images", "set/masks")
    assert main(["new", str(tmp_path / "set")]) == 0
    out = capsys.readouterr().out
    assert f"train    segkit train {tmp_path / 'set/set.yaml'}" in out
    card = yaml.safe_load((tmp_path / "set/card.yaml").read_text())
    assert card["root"] == "."
    assert main(["new", str(tmp_path / "empty")]) == 2
    assert "--data IMAGES MASKS" in capsys.readouterr().err
    assert not (tmp_path / "empty").exists()


def test_what_it_writes_trains_as_it_stands(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images, masks = place({f"{i}": (picture(1), masks_of(0, 255)) for i in range(5)})
    assert main(["new", "cells", "--data", str(images), str(masks)]) == 0
    small = ["train.epochs=1", "data.repeat=1", "data.workers=0", "model.encoder.width=0.125"]
    small += ["model.decoder.widths=[8,8,8,8]"]
    assert main(["check-data", "cells/cells.yaml"]) in (0, 1)
    assert main(["train", "cells/cells.yaml", "--device", "cpu", "--set", *small]) == 0
    assert main(["eval", "runs/cells", "--device", "cpu"]) == 0
