"""The cars of a street."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from segkit.streets.canvas import CAR, NEAR, Canvas, Colour

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Car:
    """A body and a cabin, both frustums; lengths are in metres."""

    x: float
    z: float
    heading: float  # radians; 0 drives away from the camera
    size: Triple  # width, height, length
    van: bool  # whether the cabin extends to the rear
    colour: Colour

    def _world(self, local: ArrayLike) -> np.ndarray:
        """Convert points (..., 3) in the car's axes (across, up, along) to world points."""
        c, s = np.cos(self.heading), np.sin(self.heading)
        across, up, along = np.moveaxis(np.asarray(local, float), -1, 0)
        x, z = self.x + across * c + along * s, self.z - across * s + along * c
        return np.stack([x, up, z], -1)

    def _ground(self) -> np.ndarray:
        w, half = self.size[0] / 2, self.size[2] / 2
        return self._world([[-w, 0, -half], [w, 0, -half], [w, 0, half], [-w, 0, half]])

    def shadow(self) -> tuple[np.ndarray, float, float]:
        """Return the ground plan, up to just below the roof."""
        return self._ground()[:, [0, 2]], 0, self.size[1] * 0.9

    def paint(self, canvas: Canvas, rng: Generator) -> None:
        """Paint the dark ground beneath, the body with lamps and wheels, the cabin with windows."""
        if canvas.camera.view(self._ground())[:, 2].min() < NEAR:
            return
        width, height, length = self.size
        w, half, belt = width / 2, length / 2, height * 0.58
        canvas.polygon(self._ground(), (34, 34, 36), None)
        body = self._frustum((w, -half, half), (w * 0.96, -half, half), 0.2, belt)
        ends = (-half, half * 0.75) if self.van else (-half * 0.96, half * 0.42)
        roof = (-half, half * 0.5) if self.van else (-half * 0.72, half * 0.1)
        cabin = self._frustum((w * 0.95, *ends), (w * 0.78, *roof), belt, height)
        glass = canvas.light.haze * 0.3 + rng.uniform(10, 45)
        for index, face, shade in self._visible(canvas, body):
            canvas.polygon(face, self.colour, CAR, shade)
            if index in (0, 2):
                self._end(canvas, face, rear=index == 0)
            elif index in (1, 3):
                self._wheels(canvas, w if index == 1 else -w, half)
        for index, face, shade in self._visible(canvas, cabin):
            canvas.polygon(face, self.colour, CAR, shade)
            panes = {0: [(0.1, 0.9)], 2: [(0.08, 0.92)], 1: [(0.1, 0.48), (0.54, 0.88)]}
            for left, right in panes.get(1 if index == 3 else index, []):
                canvas.polygon(inset(face, left, right, 0.12, 0.86), glass, CAR)

    def _frustum(self, low: Triple, high: Triple, y0: float, y1: float) -> np.ndarray:
        """Compute eight world corners from two rectangles given as (half width, rear, front)."""
        corners = [
            [side * w, y, end]
            for (w, rear, front), y in ((low, y0), (high, y1))
            for side, end in ((-1, rear), (1, rear), (1, front), (-1, front))
        ]
        return self._world(corners)

    def _visible(self, canvas: Canvas, corners: np.ndarray) -> list[tuple[int, np.ndarray, float]]:
        """List the faces that the camera sees: 0 rear, 1 right, 2 front, 3 left, 4 top."""
        sides = [[i, (i + 1) % 4, (i + 1) % 4 + 4, i + 4] for i in range(4)]
        found = []
        for index, order in enumerate([*sides, [4, 5, 6, 7]]):
            face = corners[order]
            normal = np.cross(face[1] - face[0], face[3] - face[0])
            normal /= np.linalg.norm(normal)
            normal *= np.sign(normal @ (face.mean(0) - corners.mean(0)))
            if normal @ (canvas.camera.position - face.mean(0)) > 0:
                found.append((index, face, canvas.light.shade(normal)))
        return found

    def _end(self, canvas: Canvas, face: np.ndarray, *, rear: bool) -> None:
        lamp = (190, 36, 30) if rear else (236, 232, 205)
        for left, right in ((0.03, 0.2), (0.8, 0.97)):
            canvas.polygon(inset(face, left, right, 0.5, 0.8), lamp, CAR)
        canvas.polygon(inset(face, 0.36, 0.64, 0.3, 0.48), (214, 210, 196), CAR)
        canvas.polygon(inset(face, 0.0, 1.0, 0.0, 0.14), (46, 46, 48), CAR)
        for left, right in ((0.04, 0.18), (0.82, 0.96)):
            canvas.polygon(inset(face, left, right, -0.28, 0.0), (26, 26, 28), CAR)

    def _wheels(self, canvas: Canvas, across: float, half: float) -> None:
        turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        for along in (-0.62 * half, 0.62 * half):
            for radius, colour in ((0.34, (28, 28, 30)), (0.18, (140, 140, 145))):
                y, z = 0.34 + radius * np.sin(turn), along + radius * np.cos(turn)
                wheel = np.stack([np.full(12, across), y, z], 1)
                canvas.polygon(self._world(wheel), colour, CAR)


def inset(face: np.ndarray, left: float, right: float, low: float, high: float) -> np.ndarray:
    """Cut out a part of a quad, given as shares of its sides; its bottom edge comes first."""
    shares = [(left, low), (right, low), (right, high), (left, high)]
    lower, upper = face[1] - face[0], face[2] - face[3]
    starts = [(face[0] + u * lower, face[3] + u * upper, v) for u, v in shares]
    return np.array([a + (b - a) * v for a, b, v in starts])
