"""The built-in data set `streets`: street scenes drawn from a seed and written as PNG files.

A scene is a flat world seen by a pinhole camera: a road between two pavements and two rows of
buildings, with trees, cars, persons and poles on it. Shape and location distinguish the
classes; colour alone does not, because walls are as grey as roads and glass is as blue as the sky.
Thin lines other than poles (cables, drainpipes, lane marks) take the label of what is behind them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from PIL import Image

from segkit.errors import UserError
from segkit.streets.buildings import paint_backdrop
from segkit.streets.canvas import FRAME, OVERSAMPLING, PERSON, POLE, SKY, Camera, Canvas, Light
from segkit.streets.plan import plan_buildings, plan_things, plan_yard_trees
from segkit.streets.scenery import paint_cables, paint_ground, paint_sky

CLASSES: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("sky", (70, 130, 180)),
    ("building", (70, 70, 70)),
    ("road", (128, 64, 128)),
    ("pavement", (244, 35, 232)),
    ("tree", (107, 142, 35)),
    ("car", (0, 0, 142)),
    ("person", (220, 20, 60)),
    ("pole", (250, 170, 30)),
)
VOID = 255
SPLITS = {"train": 256, "val": 64, "test": 64}
SPLIT_NUMBERS = {"train": 0, "val": 1, "test": 2}  # part of the seed: never renumber


def draw_scene(seed: int, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one scene; the pixels depend on the arguments alone.

    Args:
        seed: of the data set.
        split: `train`, `val` or `test`.
        index: number of the scene within its split.

    Shape:
        image uint8 (120, 160, 3), RGB; mask uint8 (120, 160), class indices, VOID on seams.
    """
    rng = np.random.default_rng([seed, SPLIT_NUMBERS[split], index])
    light, camera = Light.random(rng), Camera.random(rng)
    image = np.empty((*FRAME, 3), np.uint8)
    canvas = Canvas(image, np.full(FRAME, SKY, np.uint8), camera, light)
    street, row = plan_buildings(rng)
    things = plan_things(rng, street)
    row += plan_yard_trees(rng, street)

    paint_sky(canvas, rng)
    paint_ground(canvas, rng, street, [*row, *things])
    paint_backdrop(canvas, rng)
    # The buildings stand behind everything on the street, so each group is sorted separately.
    for thing in sorted(row, key=lambda thing: -thing.z):
        thing.paint(canvas, rng)
    paint_cables(canvas, rng, street)
    for thing in sorted(things, key=lambda thing: -thing.z):
        thing.paint(canvas, rng)
    return _photograph(image, rng), _seams(canvas.mask)


def _photograph(image: np.ndarray, rng: Generator) -> np.ndarray:
    """Downsample the frame and imitate a camera: vignette, white balance, blur and noise."""
    size = FRAME[1] // OVERSAMPLING, FRAME[0] // OVERSAMPLING
    photo = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    y, x = np.mgrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j]
    photo *= (1 - rng.uniform(0, 0.12) * (x**2 + y**2))[..., None].astype(np.float32)
    gains = rng.uniform(0.84, 1.12) * rng.uniform(0.93, 1.07, 3)
    photo = 255 * (np.clip(photo * gains / 255, 0, 1) ** rng.uniform(0.85, 1.2))
    photo = cv2.GaussianBlur(photo, (3, 3), rng.uniform(0.25, 0.6))
    photo += rng.standard_normal(photo.shape, np.float32) * rng.uniform(1.5, 5)
    return np.clip(np.round(photo), 0, 255).astype(np.uint8)


def _seams(frame: np.ndarray) -> np.ndarray:
    """Downsample the labels and void one pixel along the borders of large regions.

    Poles and persons are only a few pixels wide, so their borders stay as they are.
    """
    centres = slice(OVERSAMPLING // 2, None, OVERSAMPLING)
    mask = frame[centres, centres].copy()
    large = (mask != POLE) & (mask != PERSON)
    seam = np.zeros_like(large)
    seam[:, :-1] |= (mask[:, :-1] != mask[:, 1:]) & large[:, :-1] & large[:, 1:]
    seam[:-1] |= (mask[:-1] != mask[1:]) & large[:-1] & large[1:]
    mask[seam] = VOID
    return mask


def generate(root: Path, seed: int = 0) -> None:
    """Write `root/{train,val,test}/{images,masks}/0000.png ...`, unless they exist already.

    The folder appears complete or not at all: it is written under a temporary name and renamed.
    Where it is a mounted volume, the same holds for each split.

    Args:
        root: folder to create, with its parents.
        seed: determines all scenes.

    Raises:
        UserError: `root` holds other files, or only a part of the data set.
    """
    if _is_complete(root):
        return
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise UserError(f"{root} exists but is no complete set of streets; move it out of the way")
    is_mounted = os.path.ismount(root)  # a volume cannot be replaced, nor may the folder above it
    place = root if is_mounted else root.parent
    place.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(dir=place, prefix=f".{root.name}-"))
    try:
        draft = holder / root.name  # a subfolder, because mkdtemp's is private to this user
        for split, count in SPLITS.items():
            _write_split(draft / split, seed, split, count)
        if is_mounted:
            for split in SPLITS:
                os.replace(draft / split, root / split)
            return
        if root.exists():
            root.rmdir()  # Windows moves no folder onto another
        os.replace(draft, root)
    except OSError:
        if not _is_complete(root):  # otherwise another process was faster
            raise
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _is_complete(root: Path) -> bool:
    return all(
        len(list((root / split / kind).glob("*.png"))) == count
        for split, count in SPLITS.items()
        for kind in ("images", "masks")
    )


def _write_split(folder: Path, seed: int, split: str, count: int) -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    palette = [value for _, colour in CLASSES for value in colour] + [0] * (768 - 3 * len(CLASSES))

    def write(index: int) -> None:
        image, mask = draw_scene(seed, split, index)
        Image.fromarray(image).save(folder / "images" / f"{index:04d}.png")
        indexed = Image.fromarray(mask).convert("P")
        indexed.putpalette(palette)
        indexed.save(folder / "masks" / f"{index:04d}.png")

    with ThreadPoolExecutor() as pool:  # OpenCV and NumPy release the GIL
        list(pool.map(write, range(count)))
