"""The buildings of a street: facades with windows, boxes with roofs, a distant backdrop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from segkit.streets.canvas import BUILDING, NEAR, Canvas, Colour, noise, rectangle


@dataclass(frozen=True)
class Facade:
    """The appearance of a building, which all its walls share."""

    kind: str  # brick, plaster or glass
    colour: Colour
    trim: Colour
    pane: Colour
    window: tuple[float, float]  # share of the bay's width and of the floor's height
    bay: float  # width in metres
    floor: float  # height in metres

    @classmethod
    def random(cls, rng: Generator) -> Facade:
        """Choose an appearance."""
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

    def texture(self, rng: Generator, length: float, height: float, scale: float) -> np.ndarray:
        """Draw a wall of length x height metres, `scale` pixels a metre, float32 from 0 to 255."""
        scale = min(scale, 200 / max(length, height))
        size = (max(8, round(height * scale)), max(8, round(length * scale)))
        grain = 1 + 0.05 * noise(rng, size, 3, 40)
        wall = np.array(self.colour, np.float32) * grain[..., None]
        if self.kind == "brick":
            wall[:: max(2, round(scale * 0.25))] *= np.float32(0.86)
        bays, floors = max(1, round(length / self.bay)), max(1, round(height / self.floor))
        self._windows(wall, rng, bays, floors)
        self._trim(wall, rng, bays, floors)
        return wall

    def _windows(self, wall: np.ndarray, rng: Generator, bays: int, floors: int) -> None:
        """Paint a framed window in each bay of each floor, with panes of random brightness."""
        grid = []
        axes = zip(wall.shape[:2], (floors, bays), self.window[::-1], strict=True)
        for pixels, cells, share in axes:
            cell, inside = np.divmod((np.arange(pixels) + 0.5) * cells / pixels, 1)
            off_centre = np.abs(inside - 0.5) - share / 2
            grid.append((cell.astype(int), off_centre < 0, off_centre < 1.3 * cells / pixels))
        (row, pane_row, frame_row), (column, pane_column, frame_column) = grid
        pane = np.asarray(self.colour if self.kind == "glass" else self.pane, np.float32)
        light = rng.uniform(0.7, 1.2, (floors, bays)).astype(np.float32)
        if self.kind != "glass":
            wall[np.ix_(frame_row, frame_column)] = self.trim
        lit = light[np.ix_(row[pane_row], column[pane_column])]
        wall[np.ix_(pane_row, pane_column)] = pane * lit[..., None]

    def _trim(self, wall: np.ndarray, rng: Generator, bays: int, floors: int) -> None:
        """Paint cornices, pilasters and drainpipes: thin upright lines that are not poles."""
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
    canvas: Canvas, rng: Generator, look: Facade, ends: np.ndarray, height: float
) -> None:
    """Paint a vertical wall between two ground points (2, 2) in (x, z), left end first."""
    (x0, z0), (x1, z1) = ends
    quad = np.array([[x0, height, z0], [x1, height, z1], [x1, 0, z1], [x0, 0, z0]])
    if canvas.camera.view(quad)[:, 2].min() < NEAR:
        return  # the wall is beside the camera, out of sight
    _, (left, top, right, bottom) = canvas.extent(quad)
    if left >= right or top >= bottom:
        return
    along = ends[1] - ends[0]
    length = float(np.hypot(*along))
    normal = np.array([along[1], 0, -along[0]]) / length
    scale = 0.6 * canvas.camera.focal / min(z0, z1)  # more than one texel per final pixel
    texture = look.texture(rng, length, height, min(16, scale)) * canvas.light.shade(normal)
    depth = np.linspace(z0, z1, texture.shape[1], dtype=np.float32)
    canvas.texture(quad, canvas.light.through_air(texture, depth), BUILDING)


@dataclass(frozen=True)
class Building:
    """A box beside the street, with its facade in the plane `x`; lengths are in metres."""

    side: int  # -1 left, 1 right
    x: float
    z: float
    length: float
    height: float
    look: Facade
    roof: float  # height of the pitched roof, 0 for a flat one

    def shadow(self) -> tuple[np.ndarray, float, float]:
        """Return the whole box."""
        x, far = self.x + 10 * self.side, self.z + self.length
        return rectangle(self.x, self.z, x, far), 0, self.height

    def paint(self, canvas: Canvas, rng: Generator) -> None:
        """Paint the roof, then the wall that faces the camera, then the facade on the street."""
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


def paint_backdrop(canvas: Canvas, rng: Generator) -> None:
    """Paint distant buildings that close the view at the end of the street."""
    x = -70.0
    while x < 70:
        width, z = rng.uniform(9, 18), rng.uniform(72, 95)
        if rng.random() < 0.85:
            ends = np.array([[x, z], [x + width, z]])
            paint_wall(canvas, rng, Facade.random(rng), ends, rng.uniform(5, 15))
        x += width
