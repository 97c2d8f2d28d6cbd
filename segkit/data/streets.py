"""The built-in data set `streets`: street scenes drawn from a seed and written as PNG files.

A scene is a flat world seen by a pinhole camera: a road between two pavements and two rows of
buildings, with trees, cars, persons and poles on it. Shape and place tell the classes apart; colour
alone does not, for walls are as grey as roads and glass is as blue as the sky. Thin lines that are
no poles (cables, drainpipes, lane marks) belong to whatever is behind them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segkit.data.streets_objects import (
    FRAME,
    OVERSAMPLING,
    PAVEMENT,
    PERSON,
    POLE,
    ROAD,
    Building,
    Camera,
    Canvas,
    Car,
    Facade,
    Light,
    Person,
    Pole,
    Thing,
    Tree,
    noise,
    paint_wall,
)

CLASSES: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("sky", (110, 170, 225)),
    ("building", (140, 70, 60)),
    ("road", (125, 75, 140)),
    ("pavement", (230, 160, 200)),
    ("tree", (80, 145, 50)),
    ("car", (30, 50, 150)),
    ("person", (225, 40, 60)),
    ("pole", (240, 215, 70)),
)
VOID = 255
SPLITS = {"train": 256, "val": 64, "test": 64}
SPLIT_NUMBERS = {"train": 0, "val": 1, "test": 2}  # part of the seed: never renumber


def draw_scene(seed: int, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one scene; the same arguments give the same pixels, whatever was drawn before.

    Shape:
        image uint8 (120, 160, 3) RGB; mask uint8 (120, 160), class indices and VOID on seams.
    """
    rng = np.random.default_rng([seed, SPLIT_NUMBERS[split], index])
    light, camera = _light(rng), _camera(rng)
    image = np.empty((*FRAME, 3), np.uint8)
    canvas = Canvas(image, np.zeros(FRAME, np.uint8), camera, light)
    street, row = _buildings(rng)
    things = _things(rng, street)
    row += _yard_trees(rng, street)

    paint_sky(canvas, rng)
    paint_ground(canvas, rng, street, [*row, *things])
    paint_backdrop(canvas, rng)
    # The rows stand behind everything between them, so each group is sorted on its own.
    for thing in sorted(row, key=lambda thing: -thing.z):
        thing.paint(canvas, rng)
    paint_cables(canvas, rng, street)
    for thing in sorted(things, key=lambda thing: -thing.z):
        thing.paint(canvas, rng)
    return _photograph(image, rng), _seams(canvas.mask)


def _light(rng: np.random.Generator) -> Light:
    azimuth, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 1.1)
    sun = [np.cos(height) * np.sin(azimuth), np.sin(height), np.cos(height) * np.cos(azimuth)]
    skies = [(214, 222, 230), (198, 202, 206), (180, 200, 222), (228, 212, 190)]
    haze = np.array(skies[rng.integers(len(skies))]) * rng.uniform(0.85, 1.05)
    return Light(np.array(sun), rng.uniform(0.1, 1), np.clip(haze, 0, 245), rng.uniform(70, 220))


def _camera(rng: np.random.Generator) -> Camera:
    yaw, pitch, roll = np.radians(rng.uniform((-6, -3, -2), (6, 4, 2)))
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    tilt = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    lean = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    position = np.array([rng.uniform(-0.8, 2.0), rng.uniform(1.5, 2.4), 0.0])
    return Camera(rng.uniform(120, 150) * OVERSAMPLING, position, lean @ tilt @ turn)


def _buildings(rng: np.random.Generator) -> tuple[Street, list[Thing]]:
    """The plan of the street and the two rows of buildings along it."""
    street = Street(rng.uniform(3.4, 5.0), rng.uniform(2.4, 4.0), [])
    row: list[Thing] = []
    for side in (-1, 1):
        z = 3.0
        while z < 62:
            if rng.random() < 0.28:
                gap = rng.uniform(6, 11)
                street.gaps.append((side, z, z + gap, bool(rng.random() < 0.5)))
                z += gap
            length, floors = rng.uniform(7, 15), rng.integers(2, 6)
            look, x = Facade.random(rng), side * (street.front + rng.uniform(0, 0.8))
            roof = rng.uniform(1.5, 3.5) if rng.random() < 0.4 and look.kind != "glass" else 0.0
            row.append(Building(side, x, z, length, floors * look.floor, look, roof))
            z += length
    return street, row


def _yard_trees(rng: np.random.Generator, street: Street) -> list[Thing]:
    yards = [gap for gap in street.gaps if not gap[3]]
    return [
        _tree(rng, side * (street.front + rng.uniform(1.5, 6)), rng.uniform(near + 1, far))
        for side, near, far, _ in yards
        for _ in range(3)
    ]


def _tree(rng: np.random.Generator, x: float, z: float) -> Tree:
    height = rng.uniform(4.5, 8.5)
    shape = "cone" if rng.random() < 0.25 else "round"
    width, trunk = height * rng.uniform(0.42, 0.62), height * rng.uniform(0.25, 0.38)
    greens = [(64, 92, 46), (84, 112, 52), (48, 72, 48), (108, 118, 58), (142, 108, 52)]
    colour = np.array(greens[rng.integers(len(greens))]) * rng.uniform(0.8, 1.2)
    if shape == "cone":
        trunk *= 0.4
    return Tree(x, z, height, width, trunk, shape, colour)


def _things(rng: np.random.Generator, street: Street) -> list[Thing]:
    """Everything that stands on road and pavements."""
    return [*_cars(rng, street), *_poles(rng, street), *_persons(rng, street),
            *_street_trees(rng, street)]  # fmt: skip


def _car(rng: np.random.Generator, x: float, z: float, heading: float) -> Car:
    van = bool(rng.random() < 0.2)
    size = (1.95, rng.uniform(1.9, 2.3), 4.8) if van else (1.8, rng.uniform(1.4, 1.6), 4.2)
    paints = [(200, 200, 204), (120, 122, 126), (48, 50, 54), (150, 30, 34), (40, 62, 120),
              (44, 74, 52), (196, 180, 150), (226, 226, 224), (90, 110, 130), (190, 140, 40)]  # fmt: skip
    colour = np.array(paints[rng.integers(len(paints))]) * rng.uniform(0.85, 1.1)
    return Car(x, z, heading, size, van, colour)


def _cars(rng: np.random.Generator, street: Street) -> list[Thing]:
    cars: list[Car] = []
    for side in (-1, 1):
        z = rng.uniform(6, 12)
        while z < 45 and rng.random() < 0.85:  # parked along the kerb
            heading = (0.0 if side > 0 else np.pi) + rng.normal(0, 0.03)
            cars.append(_car(rng, side * (street.half - 1.1), z, heading))
            z += rng.uniform(5.5, 16)
    for _ in range(rng.integers(0, 3)):
        side, z = rng.choice([-1, 1]), rng.uniform(9, 35)
        x = side * min(street.half * 0.38, street.half - 3.1)
        if all(abs(car.x - x) > 1.95 or abs(car.z - z) > 6 for car in cars):
            cars.append(_car(rng, x, z, 0.0 if side > 0 else np.pi))
    for side, near, far, road in street.gaps:
        if road and near > 7 and rng.random() < 0.5:  # coming out of the side street
            cars.append(_car(rng, side * (street.half + 0.6), (near + far) / 2, side * np.pi / 2))
    return list(cars)


def _poles(rng: np.random.Generator, street: Street) -> list[Thing]:
    poles: list[Thing] = []
    paints = [(92, 94, 96), (140, 142, 142), (58, 74, 62), (60, 58, 60), (112, 92, 74)]
    paint = np.array(paints[rng.integers(len(paints))])
    lamp = rng.uniform(4.5, 7)
    reach = rng.choice([0.0, 1.2, 1.8])
    for side in (-1, 1):
        kerb, z = side * (street.half + 0.4), rng.uniform(6, 11)
        while z < 50:
            poles.append(Pole(kerb, z, lamp, "lamp", paint, -side * reach))
            z += rng.uniform(7, 13)
    for kind in rng.choice(["sign", "sign", "signal", "mast"], rng.integers(2, 7)):
        side, z = rng.choice([-1, 1]), rng.uniform(6.5, 20)
        height = {"sign": rng.uniform(2.3, 2.9), "signal": 2.6, "mast": rng.uniform(3, 6)}[kind]
        x, colour = side * (street.half + 0.55), np.array([128, 130, 132]) * rng.uniform(0.5, 1.3)
        poles.append(Pole(x, z, height, str(kind), np.clip(colour, 0, 200), 0.0))
    return poles


def _persons(rng: np.random.Generator, street: Street) -> list[Thing]:
    if rng.random() < 0.15:
        return []
    persons: list[Thing] = []
    for _ in range(2 + rng.poisson(4)):
        side, z = rng.choice([-1, 1]), rng.uniform(5.5, 21)
        x = side * (street.half + rng.uniform(0.5, street.pavement - 0.3))
        if rng.random() < 0.25:
            x = rng.uniform(-0.8, 0.8) * street.half
        jacket, trousers = rng.uniform(25, 215, 3), rng.uniform(0.5, 1.2) * np.array([58, 62, 78])
        if rng.random() < 0.4:
            jacket = np.full(3, jacket.mean()) + rng.normal(0, 8, 3)
        stride, coat = rng.uniform(0.03, 0.17), bool(rng.random() < 0.3)
        height = rng.uniform(1.15, 1.4) if rng.random() < 0.12 else rng.uniform(1.6, 1.95)
        persons.append(Person(x, z, height, jacket, trousers, stride, coat))
    return persons


def _street_trees(rng: np.random.Generator, street: Street) -> list[Thing]:
    trees: list[Thing] = []
    for side in (-1, 1):
        z = rng.uniform(7, 16)
        while rng.random() < 0.72 and z < 50:
            trees.append(_tree(rng, side * (street.half + 0.9), z))
            z += rng.uniform(7, 14)
    return trees


def _photograph(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shrink the frame and add what a camera adds: vignette, white balance, blur and noise."""
    size = FRAME[1] // OVERSAMPLING, FRAME[0] // OVERSAMPLING
    photo = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    y, x = np.mgrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j]
    photo *= (1 - rng.uniform(0, 0.12) * (x**2 + y**2))[..., None].astype(np.float32)
    gains = rng.uniform(0.78, 1.12) * rng.uniform(0.93, 1.07, 3)
    photo = 255 * (np.clip(photo * gains / 255, 0, 1) ** rng.uniform(0.85, 1.2))
    photo = cv2.GaussianBlur(photo, (3, 3), rng.uniform(0.25, 0.6))
    photo += rng.standard_normal(photo.shape, np.float32) * rng.uniform(1.5, 5)
    return np.clip(np.round(photo), 0, 255).astype(np.uint8)


def _seams(frame: np.ndarray) -> np.ndarray:
    """Shrink the labels and void one pixel along the borders of large regions.

    Poles and persons are only a few pixels wide, so their borders stay as they are.
    """
    middle = OVERSAMPLING // 2
    mask = frame[middle::OVERSAMPLING, middle::OVERSAMPLING].copy()
    large = (mask != POLE) & (mask != PERSON)
    seam = np.zeros_like(large)
    seam[:, :-1] |= (mask[:, :-1] != mask[:, 1:]) & large[:, :-1] & large[:, 1:]
    seam[:-1] |= (mask[:-1] != mask[1:]) & large[:-1] & large[1:]
    mask[seam] = VOID
    return mask


def generate(root: Path, seed: int = 0) -> None:
    """Write `root/{train,val,test}/{images,masks}/0000.png ...`, unless `root` exists already.

    The folder appears complete or not at all: it is drawn next to its place and renamed.

    Args:
        root: folder to create; its parents are created too.
        seed: another seed gives other scenes.
    """
    if root.exists():
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{root.name}-"))
    try:
        for split, count in SPLITS.items():
            _write_split(draft / split, seed, split, count)
        draft.chmod(0o755)  # mkdtemp keeps others out
        os.replace(draft, root)
    except OSError:
        if not root.exists():  # else another process was faster, and its scenes are the same
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_split(folder: Path, seed: int, split: str, count: int) -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    palette = [0] * 768
    for index, (_, colour) in enumerate(CLASSES):
        palette[3 * index : 3 * index + 3] = colour
    for index in range(count):
        image, mask = draw_scene(seed, split, index)
        Image.fromarray(image).save(folder / "images" / f"{index:04d}.png")
        indexed = Image.fromarray(mask).convert("P")
        indexed.putpalette(palette)
        indexed.save(folder / "masks" / f"{index:04d}.png")
