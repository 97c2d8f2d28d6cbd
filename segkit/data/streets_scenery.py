"""The scenery of a drawn street: sky, ground with its shadows, buildings and cables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from segkit.data.streets_canvas import (
    BUILDING,
    FRAME,
    PAVEMENT,
    ROAD,
    Canvas,
    Colour,
    Light,
    Thing,
    noise,
)


@dataclass(frozen=True)
class Street:
    """Half the width of the road, the width of a pavement, and the gaps between the buildings."""

    half: float
    pavement: float
    gaps: list[tuple[int, float, float, bool]]  # side, from z, to z, whether a road leads in

    @property
    def front(self) -> float:
        """Distance of the facades from the middle of the road."""
        return self.half + self.pavement


@dataclass(frozen=True)
class Facade:
    """The look of a building; all its walls share it."""

    kind: str  # brick, plaster or glass
    colour: Colour
    trim: Colour
    pane: Colour
    window: tuple[float, float]  # share of the bay's width and of the floor's height
    bay: float
    floor: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Facade:
        """Pick a look."""
        kind = str(rng.choice(["plaster", "brick", "glass"], p=[0.5, 0.32, 0.18]))
        palette = {
            "plaster": [(200, 190, 168), (150, 150, 150), (186, 158, 120), (118, 114, 110),
                        (206, 202, 196), (160, 122, 100), (140, 150, 164), (130, 140, 118)],
            "brick": [(142, 78, 62), (120, 82, 68), (164, 112, 88), (98, 90, 86)],
            "glass": [(112, 140, 168), (146, 168, 190), (92, 112, 130)],
        }[kind]  # fmt: skip
        colour = np.array(palette[rng.integers(len(palette))]) * rng.uniform(0.8, 1.12)
        colour = colour + rng.normal(0, 6, 3)
        pane = np.array([52, 60, 70]) + rng.uniform(0, 1) * np.array([70, 85, 100])
        share = (0.9, 0.8) if kind == "glass" else (rng.uniform(0.35, 0.65), rng.uniform(0.45, 0.6))
        trim = colour * rng.choice([0.72, 1.2])
        return cls(kind, colour, trim, pane, share, rng.uniform(1.7, 3), rng.uniform(2.8, 3.4))

    def texture(self, rng: np.random.Generator, length: float, height: float) -> np.ndarray:
        """A wall of length x height metres as float image, uint8 range, ground at the bottom."""
        scale = min(16.0, 200 / max(length, height))
        size = (max(8, round(height * scale)), max(8, round(length * scale)))
        grain = 1 + 0.05 * noise(rng, size, 3, 40)
        wall = np.asarray(self.colour, np.float32) * grain[..., None]
        if self.kind == "brick":
            wall[:: max(2, round(scale * 0.25))] *= 0.86
        bays = max(1, round(length / self.bay))
        floors = max(1, round(height / self.floor))
        for floor in range(floors):
            for bay in range(bays):
                self._window(wall, rng, (bay / bays, floor / floors, 1 / bays, 1 / floors))
        self._trim(wall, rng, bays, floors)
        return np.clip(wall, 0, 255)

    def _window(
        self, wall: np.ndarray, rng: np.random.Generator, cell: tuple[float, float, float, float]
    ) -> None:
        height, width = wall.shape[:2]
        x, y = (cell[0] + cell[2] / 2) * width, (cell[1] + cell[3] * 0.45) * height
        half = self.window[0] * cell[2] * width / 2, self.window[1] * cell[3] * height / 2
        left, right = round(x - half[0]), max(round(x - half[0]) + 1, round(x + half[0]))
        top, bottom = round(y - half[1]), max(round(y - half[1]) + 1, round(y + half[1]))
        base = self.colour if self.kind == "glass" else self.pane
        pane = np.asarray(base, np.float32) * rng.uniform(0.75, 1.15)
        if self.kind != "glass":
            wall[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = self.trim
        rows = wall[top:bottom, left:right].shape[0]
        wall[top:bottom, left:right] = pane * np.linspace(1.15, 0.85, rows)[:, None, None]

    def _trim(self, wall: np.ndarray, rng: np.random.Generator, bays: int, floors: int) -> None:
        """Cornices, pilasters and drainpipes: thin upright lines that are no poles."""
        height, width = wall.shape[:2]
        wall[: max(1, height // 40)] = self.trim
        for bay in range(1, bays):
            if rng.random() < (0.6 if self.kind == "glass" else 0.25):
                wall[:, round(bay * width / bays)] = np.asarray(self.trim) * rng.uniform(0.7, 1.1)
        if rng.random() < 0.5:  # a shop front
            top = height - round(0.75 * height / floors)
            wall[top : height - 2, 2:-2] *= 0.25
            wall[top : height - 2, 2:-2] += 0.75 * np.asarray(self.pane) * rng.uniform(0.6, 1.2)
            wall[top - 2 : top] = rng.uniform(40, 220, 3)
            wall[top : height - 2, :: max(3, width // bays)] = self.trim


def paint_wall(
    canvas: Canvas, rng: np.random.Generator, look: Facade, ends: np.ndarray, height: float
) -> None:
    """Paint an upright wall between two ground points (2, 2) in (x, z), left end first."""
    along = ends[1] - ends[0]
    length = float(np.hypot(*along))
    normal = np.array([along[1], 0, -along[0]]) / length
    texture = look.texture(rng, length, height) * canvas.light.shade(normal)
    (x0, z0), (x1, z1) = ends
    quad = np.array([[x0, height, z0], [x1, height, z1], [x1, 0, z1], [x0, 0, z0]])
    depth = np.linspace(z0, z1, texture.shape[1], dtype=np.float32)
    texture = canvas.light.through_air(texture, depth).astype(np.uint8)
    canvas.texture(quad, texture, BUILDING)


@dataclass(frozen=True)
class Building:
    """A box beside the street (side -1 left, 1 right) with its facade in the plane `x`."""

    side: int
    x: float
    z: float
    length: float
    height: float
    look: Facade
    roof: float  # height of the pitched roof, 0 for a flat one

    def shadow(self) -> tuple[np.ndarray, float, float]:
        """The whole box."""
        x, far = self.x + 10 * self.side, self.z + self.length
        corners = [[self.x, self.z], [self.x, far], [x, far], [x, self.z]]
        return np.array(corners), 0, self.height

    def paint(self, canvas: Canvas, rng: np.random.Generator) -> None:
        """Roof first, then the wall that faces the camera, then the facade on the street."""
        near, far, deep = self.z, self.z + self.length, self.x + 9 * self.side
        if self.roof:
            ridge, top = self.x + 4.5 * self.side, self.height + self.roof
            slope = [[self.x, self.height, near], [self.x, self.height, far], [ridge, top, far]]
            colour = rng.choice([[130, 75, 60], [88, 86, 90], [110, 95, 85]])
            canvas.polygon(np.array([*slope, [ridge, top, near]]), colour, BUILDING, 0.95)
            gable = [[self.x, self.height, near], [ridge, top, near], [deep, self.height, near]]
            canvas.polygon(np.array(gable), self.look.colour, BUILDING, 0.8)
        front = np.array([[self.x, near], [deep, near]])
        street = np.array([[self.x, near], [self.x, far]])
        paint_wall(canvas, rng, self.look, front[:: self.side], self.height)
        paint_wall(canvas, rng, self.look, street[:: -self.side], self.height)


def paint_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    zeniths = [(96, 140, 196), (130, 164, 204), (158, 168, 178), (120, 130, 144)]
    zenith = np.array(zeniths[rng.integers(len(zeniths))])
    height = np.clip(np.linspace(1, -0.3, FRAME[0]), 0, 1)[:, None, None]
    sky = (canvas.light.haze * (1 - height) + zenith * height).astype(np.float32)
    cloud = noise(rng, FRAME, 3, 6, 13)
    cover = np.clip((cloud - rng.uniform(-0.6, 1.4)) * rng.uniform(0.5, 1.6), 0, 0.9)[..., None]
    cloud_colour = np.array([238, 238, 240]) * rng.uniform(0.75, 1.02)
    canvas.image[:] = np.clip(sky + (cloud_colour - sky) * cover, 0, 255)


def _flat(*points: tuple[float, float]) -> np.ndarray:
    """Ground points (x, z) as world points."""
    return np.array([[x, 0.0, z] for x, z in points])


def _strip(x0: float, x1: float, z0: float, z1: float) -> np.ndarray:
    return _flat((x0, z0), (x1, z0), (x1, z1), (x0, z1))


def paint_ground(
    canvas: Canvas, rng: np.random.Generator, street: Street, things: list[Thing]
) -> None:
    """Flat paint first, then grain and cast shadows over all of it, then haze by depth."""
    f, turn, position = canvas.camera.focal, canvas.camera.rotation, canvas.camera.position
    across = (np.arange(FRAME[1]) + 0.5 - FRAME[1] / 2) / f
    upward = (FRAME[0] / 2 - np.arange(FRAME[0]) - 0.5) / f
    drop = -(turn[0, 1] * across[None] + turn[1, 1] * upward[:, None] + turn[2, 1])
    below = drop > 1e-3
    ground = Canvas(canvas.image.copy(), canvas.mask, canvas.camera, _clear(canvas.light))
    asphalt = np.array([98, 98, 102]) * rng.uniform(0.7, 1.35) + rng.normal(0, 3, 3)
    stone = np.array([142, 138, 132]) * rng.uniform(0.65, 1.15) + rng.normal(0, 4, 3)
    ground.image[below], canvas.mask[below] = stone, PAVEMENT
    _paint_road(ground, rng, street, asphalt, stone)

    bright = _grain(canvas, rng, street)
    bright *= 1 - (0.25 + 0.3 * canvas.light.strength) * _shadows(canvas, things)
    depth = np.minimum(position[1] / np.maximum(drop, 1e-3), 400)
    lit = np.clip(ground.image * bright[..., None], 0, 255)
    np.copyto(
        canvas.image, canvas.light.through_air(lit, depth).astype(np.uint8), where=below[..., None]
    )


def _clear(light: Light) -> Light:
    """The same light without haze, for what gets its haze later."""
    return Light(light.sun, light.strength, light.haze, 1e9)


def _paint_road(
    canvas: Canvas, rng: np.random.Generator, street: Street, asphalt: np.ndarray, stone: np.ndarray
) -> None:
    w = street.half
    canvas.polygon(_strip(-w, w, -1, 400), asphalt, ROAD)
    for side, near, far, road in street.gaps:
        if road:
            canvas.polygon(_strip(side * w, side * 60, near + 0.8, far - 0.8), asphalt, ROAD)
    for side in (-1, 1):  # kerbs, broken by the side streets
        ends = [0.0, *(z for s, a, b, r in street.gaps if r and s == side for z in (a, b)), 400.0]
        for near, far in zip(ends[::2], ends[1::2], strict=True):
            top = _strip(side * w, side * (w + 0.16), near, far)
            canvas.polygon(top, np.clip(stone * 1.18, 0, 255), PAVEMENT)
            canvas.polygon(_strip(side * (w - 0.07), side * w, near, far), stone * 0.6, PAVEMENT)
    for _ in range(rng.integers(1, 6)):  # mended asphalt
        x, z = rng.uniform(-w, w - 1), rng.uniform(3, 25)
        right = min(w - 0.1, x + rng.uniform(0.6, 2))
        shade = rng.choice([0.78, 0.88, 1.12])
        canvas.polygon(_strip(x, right, z, z + rng.uniform(0.8, 4)), asphalt * shade, ROAD)
    white = np.array([214, 212, 204]) * rng.uniform(0.8, 1.05)
    start, period = rng.uniform(0, 4), rng.uniform(4.5, 7)
    for z in np.arange(start, 90, period):
        canvas.polygon(_strip(-0.08, 0.08, z, z + period * 0.45), white, ROAD)
    if rng.random() < 0.4:
        for side in (-1, 1):
            canvas.polygon(_strip(side * (w - 0.45), side * (w - 0.33), -1, 200), white, ROAD)
    if rng.random() < 0.35:  # a zebra crossing
        z = rng.uniform(7, 15)
        for x in np.arange(-w + 0.4, w - 0.7, 1.0):
            canvas.polygon(_strip(x, x + 0.5, z, z + 2.8), white, ROAD)


def _grain(canvas: Canvas, rng: np.random.Generator, street: Street) -> np.ndarray:
    """Brightness of the ground: a plan seen from above, with blotches and slabs, then warped."""
    scale, span, length = 10, 30, 45  # pixels per metre; metres across and along
    size = (length * scale, span * scale)
    plan = 1 + 0.05 * noise(rng, size, 4, 12) + 0.06 * noise(rng, size, 60, span * scale)
    edge = round(street.half * scale)
    slab = rng.integers(8, 16)
    for side in (slice(0, size[1] // 2 - edge), slice(size[1] // 2 + edge, None)):
        plan[::slab, side] *= 0.82
        plan[:, side][:, ::slab] *= 0.86
    from_plan = np.array([[1 / scale, 0, -span / 2], [0, 1 / scale, 0], [0, 0, 1]])
    warp = canvas.camera.ground_homography() @ from_plan
    return cv2.warpPerspective(
        plan, warp, FRAME[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )


def _shadows(canvas: Canvas, things: list[Thing]) -> np.ndarray:
    """Where the sun is kept from the ground, 0 to 1 with soft edges."""
    flat = np.zeros((*FRAME, 3), np.uint8)
    paper = Canvas(flat, np.zeros(FRAME, np.uint8), canvas.camera, _clear(canvas.light))
    sun = canvas.light.sun
    for thing in things:
        footprint, low, high = thing.shadow()
        shifts = [-sun[[0, 2]] / sun[1] * height for height in (low, high)]
        cloud = np.concatenate([footprint + shift for shift in shifts]).astype(np.float32)
        hull = cv2.convexHull(cloud)[:, 0]
        paper.polygon(np.insert(hull, 1, 0.0, axis=1), (255, 255, 255), None)
    return cv2.blur(flat[..., 0], (5, 5)).astype(np.float32) / 255


def paint_backdrop(canvas: Canvas, rng: np.random.Generator) -> None:
    """Distant fronts that close the view behind the street."""
    x = -70.0
    while x < 70:
        width, z = rng.uniform(9, 18), rng.uniform(72, 95)
        if rng.random() < 0.85:
            ends = np.array([[x, z], [x + width, z]])
            paint_wall(canvas, rng, Facade.random(rng), ends, rng.uniform(5, 15))
        x += width


def paint_cables(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """Wires across the street: thin, dark, and labelled as what is behind them."""
    for _ in range(rng.integers(0, 4)):
        z, height = rng.uniform(8, 30), rng.uniform(6, 9)
        along = np.linspace(-1, 1, 13)
        sag = height - rng.uniform(0.3, 1.2) * (1 - along**2)
        z = z + along * rng.choice([0.0, 4.0])
        view = canvas.camera.view(np.stack([along * street.front, sag, z], 1))
        width = max(1.0, 0.05 * canvas.camera.focal / float(z.mean()))
        canvas.line(canvas.camera.pixels(view), (40, 40, 42), width, None, float(z.mean()))
