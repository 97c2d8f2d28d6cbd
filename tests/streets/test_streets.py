"""The built-in data set: repeatable scenes, sound masks, and a folder that is whole or absent."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit import streets
from segkit.data.card import load_card
from segkit.errors import UserError
from segkit.streets.canvas import FRAME, OVERSAMPLING, POLE, Camera, Canvas, Light
from segkit.streets.objects import Pole

NAMES = [name for name, _ in streets.CLASSES]


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    return [streets.draw_scene(0, "train", index) for index in range(12)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streets, "SPLITS", {"train": 2, "val": 1, "test": 1})


def runs(row: np.ndarray) -> np.ndarray:
    """Lengths of the runs of True in a row."""
    steps = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
    return steps[1::2] - steps[::2]


def test_a_scene_is_the_same_whenever_it_is_drawn(scenes: list) -> None:
    for index in (7, 3):
        image, mask = streets.draw_scene(0, "train", index)
        np.testing.assert_array_equal(image, scenes[index][0])
        np.testing.assert_array_equal(mask, scenes[index][1])


@pytest.mark.parametrize("other", [(1, "train", 0), (0, "val", 0), (0, "test", 0), (0, "train", 1)])
def test_seed_split_and_index_each_give_another_scene(scenes: list, other: tuple) -> None:
    mask = streets.draw_scene(*other)[1]
    assert (mask != scenes[0][1]).mean() > 0.1


def test_shapes_types_and_labels(scenes: list) -> None:
    for image, mask in scenes:
        assert (image.shape, image.dtype) == ((120, 160, 3), np.uint8)
        assert (mask.shape, mask.dtype) == ((120, 160), np.uint8)
        assert set(np.unique(mask)) <= {*range(8), streets.VOID}
        assert image.std() > 15


def test_every_class_takes_a_fair_share(scenes: list) -> None:
    masks = np.stack([mask for _, mask in scenes])
    share = {name: (masks == index).mean() for index, name in enumerate(NAMES)}
    assert min(share.values()) > 0.01
    assert 0.015 < share["pole"] < 0.06
    assert share["building"] > 0.15
    assert share["road"] > 0.15
    assert (masks == streets.VOID).mean() < 0.1
    assert all((mask == POLE).any() for mask in masks)


def test_the_world_is_upright(scenes: list) -> None:
    rows = np.arange(120)[:, None] * np.ones(160)
    masks = [mask for _, mask in scenes]
    height = {name: np.concatenate([rows[m == i] for m in masks]).mean()
              for i, name in enumerate(NAMES)}  # fmt: skip
    assert height["sky"] < height["building"] < height["pavement"]
    assert height["tree"] < height["person"] < height["road"]


def test_seams_run_between_large_regions_and_spare_thin_things() -> None:
    frame = np.zeros(FRAME, np.uint8)
    frame[:, 60 * OVERSAMPLING :] = NAMES.index("building")
    frame[:, 100 * OVERSAMPLING : 101 * OVERSAMPLING] = POLE
    mask = streets._seams(frame)
    assert (mask[:, 59] == streets.VOID).all()
    assert (mask == streets.VOID).sum() == 120
    assert (mask[:, 100] == POLE).all()
    assert (mask == POLE).sum() == 120


@pytest.mark.parametrize("z", [4.0, 7.0, 12.0, 25.0, 60.0])
@pytest.mark.parametrize("x", [-1.3, 0.07])
def test_a_post_is_one_to_three_pixels_wide_in_every_row(x: float, z: float) -> None:
    rng = np.random.default_rng(0)
    camera = Camera(130.0 * OVERSAMPLING, np.array([0, 1.6, 0]), np.eye(3))
    image, mask = np.full((*FRAME, 3), 200, np.uint8), np.zeros(FRAME, np.uint8)
    light = Light(np.array([0, 1.0, 0]), 0.5, np.full(3, 200.0), 200)
    Pole(x, z, 5.0, "mast", (90, 90, 90), 0.0).paint(Canvas(image, mask, camera, light), rng)

    small = mask[OVERSAMPLING // 2 :: OVERSAMPLING, OVERSAMPLING // 2 :: OVERSAMPLING] == POLE
    rows = np.flatnonzero(small.any(1))
    assert len(rows) == rows[-1] - rows[0] + 1 >= 9
    widths = [runs(row) for row in small[rows]]
    assert all(len(width) == 1 and 1 <= width[0] <= 3 for width in widths)
    assert image[mask == POLE].mean() < 180
    assert (image[mask != POLE] == 200).all()


def test_most_pole_rows_in_scenes_are_thin(scenes: list) -> None:
    widths = np.concatenate([runs(row) for _, mask in scenes for row in mask == POLE])
    assert (widths <= 3).mean() > 0.8  # the rest are plates, lamps, arms and posts side by side


def test_generate_writes_what_draw_scene_draws(tmp_path: Path, small: None) -> None:
    root = tmp_path / "deep" / "streets"
    streets.generate(root)
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))
    assert files == [
        f"{split}/{kind}/{index:04d}.png"
        for split, count in sorted(streets.SPLITS.items())
        for kind in ("images", "masks")
        for index in range(count)
    ]
    assert [path.name for path in root.parent.iterdir()] == ["streets"]
    for split, index in (("train", 1), ("val", 0)):
        image, mask = streets.draw_scene(0, split, index)
        with Image.open(root / split / "images" / f"{index:04d}.png") as stored:
            assert stored.mode == "RGB"
            np.testing.assert_array_equal(np.asarray(stored), image)
        with Image.open(root / split / "masks" / f"{index:04d}.png") as stored:
            assert stored.mode == "P"
            palette = stored.getpalette()
            np.testing.assert_array_equal(np.asarray(stored), mask)
        assert palette is not None
        assert palette[:24] == [value for _, colour in streets.CLASSES for value in colour]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_an_interrupted_generate_leaves_nothing(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    draw = streets.draw_scene

    def interrupted(seed: int, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        if split == "val":
            raise error
        return draw(seed, split, index)

    monkeypatch.setattr(streets, "draw_scene", interrupted)
    with pytest.raises(error):
        streets.generate(tmp_path / "streets")
    assert list(tmp_path.iterdir()) == []


def test_a_second_generate_does_nothing(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    streets.generate(tmp_path / "streets")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr(streets, "draw_scene", None)  # a call would fail
    streets.generate(tmp_path / "streets")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_faster_of_two_processes_wins(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, write = tmp_path / "streets", streets._write_split

    def overtaken(folder: Path, seed: int, split: str, count: int) -> None:
        write(folder, seed, split, count)
        write(root / split, seed, split, count)  # the other process

    monkeypatch.setattr(streets, "_write_split", overtaken)
    streets.generate(root)
    assert [path.name for path in tmp_path.iterdir()] == ["streets"]
    assert len(list(root.rglob("*.png"))) == 8


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, small: None) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="no complete set of streets"):
        streets.generate(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_the_card_names_and_paints_what_is_drawn():
    card = load_card(Path(__file__).parents[2] / "datasets/streets.yaml")
    assert tuple((entry.name, entry.color) for entry in card.classes) == streets.CLASSES
    assert card.label_map == {
        **{index: name for index, (name, _) in enumerate(streets.CLASSES)},
        streets.VOID: "ignore",
    }
