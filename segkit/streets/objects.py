"""Things that stand in a drawn street: trees, persons and poles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from segkit.streets.canvas import (
    NEAR,
    OVERSAMPLING,
    PERSON,
    POLE,
    TREE,
    Canvas,
    Colour,
    noise,
    rectangle,
)


@dataclass(frozen=True)
class Tree:
    """A trunk and a ragged crown with gaps; lengths are in metres."""

    x: float
    z: float
    height: float
    width: float
    trunk: float  # height at which the crown begins
    shape: str  # of the crown: round or cone
    colour: Colour

    def shadow(self) -> tuple[np.ndarray, float, float]:
        """Return the crown as a disc, without its lowest and highest fifth."""
        turn = np.linspace(0, 2 * np.pi, 12)
        disc = np.stack([np.cos(turn), np.sin(turn)], 1) * self.width * 0.4
        rise = self.height - self.trunk
        return disc + (self.x, self.z), self.trunk + rise * 0.2, self.trunk + rise * 0.8

    def paint(self, canvas: Canvas, rng: Generator) -> None:
        """Paint the trunk, then the crown, a patch of thresholded noise."""
        levels = np.array([[self.x, h, self.z] for h in (0, self.trunk * 1.25, self.height)])
        view = canvas.camera.view(levels)
        if view[:, 2].min() < NEAR:
            return
        (foot, fork, top), depth = canvas.camera.pixels(view), float(view[0, 2])
        scale = canvas.camera.focal / depth
        thick = np.array([max(1.5, 0.13 * scale), 0])
        trunk = [foot - thick, foot + thick, fork + thick * 0.7, fork - thick * 0.7]
        canvas.fill(np.array(trunk), np.array([84, 70, 58]) * rng.uniform(0.7, 1.2), TREE, depth)
        crown = (round((self.height - self.trunk) * scale) + 2, round(self.width * scale) + 2)
        patch, where = self._crown(canvas, rng, crown)
        patch = canvas.light.through_air(patch, depth)
        canvas.paste(patch, where, round(top[0] - crown[1] / 2), round(top[1]), TREE)

    def _crown(
        self, canvas: Canvas, rng: Generator, size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        y = np.linspace(-1, 1, size[0], dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, size[1], dtype=np.float32)
        coarse, fine = noise(rng, size, 5), noise(rng, size, 11, 22)
        if self.shape == "cone":
            reach = np.maximum(np.abs(x) * 2 - (y + 1), (y - 0.8) * 2)
        else:
            reach = x**2 + y**2 - 0.75
        where = reach < 0.16 * coarse + 0.2 * fine
        side = float(canvas.camera.rotation[0] @ canvas.light.sun)
        lit = 0.8 + 0.22 * canvas.light.strength * (x * side - y * 0.6)
        lit = lit + 0.1 * coarse + 0.16 * fine
        return np.asarray(self.colour, np.float32) * np.clip(lit, 0.25, 1.5)[..., None], where


@dataclass(frozen=True)
class Person:
    """A walking figure, drawn upright in the plane of the picture; lengths are in metres."""

    x: float
    z: float
    height: float
    jacket: Colour
    trousers: Colour
    stride: float  # half the distance between the feet, as a share of the height
    coat: bool

    def shadow(self) -> tuple[np.ndarray, float, float]:
        """Return a narrow block."""
        return rectangle(-0.22, -0.1, 0.22, 0.1) + (self.x, self.z), 0, self.height

    def paint(self, canvas: Canvas, rng: Generator) -> None:
        """Paint legs, far arm, torso or coat, near arm, perhaps a bag, hair and head."""
        view = canvas.camera.view(np.array([[self.x, 0, self.z], [self.x, self.height, self.z]]))
        if view[:, 2].min() < NEAR:
            return
        (foot, head), depth = canvas.camera.pixels(view), float(view[0, 2])
        up, size = head - foot, float(np.hypot(*(head - foot)))
        across = np.array([-up[1], up[0]])

        def at(*places: tuple[float, float]) -> np.ndarray:
            return np.array([foot + up * y + across * x for x, y in places])

        skin = np.array([206, 160, 130]) * rng.uniform(0.45, 1.1)
        leg, arm = max(2.5, 0.105 * size), max(2.0, 0.075 * size)
        swing = self.stride * rng.choice([-1, 1])
        for side, shade in ((-1, 0.8), (1, 1.0)):
            step = at((0.05 * side, 0.5), (0.05 * side + swing * side * 0.6, 0.26),
                      (0.04 * side + swing * side, 0.03))  # fmt: skip
            canvas.line(step, np.asarray(self.trousers) * shade, leg, PERSON, depth)
        elbows = [(0.155 * side + swing * side * 0.4, 0.62) for side in (-1, 1)]
        hands = [(0.13 * side + swing * side * 0.9, 0.48) for side in (-1, 1)]
        dark = np.asarray(self.jacket) * 0.75
        canvas.line(at((-0.12, 0.79), elbows[0], hands[0]), dark, arm, PERSON, depth)
        low, flare = (0.3, 0.14) if self.coat else (0.47, 0.1)
        torso = at((-0.13, 0.82), (0.13, 0.82), (flare, low), (-flare, low))
        canvas.fill(torso, self.jacket, PERSON, depth)
        canvas.line(at((0.12, 0.79), elbows[1], hands[1]), dark, arm, PERSON, depth)
        if rng.random() < 0.3:
            bag = at((-0.06, 0.76), (0.09, 0.76), (0.09, 0.55), (-0.06, 0.55))
            canvas.fill(bag, rng.uniform(30, 200, 3), PERSON, depth)
        turn = np.linspace(0, 2 * np.pi, 10, endpoint=False)
        hair = rng.uniform(25, 120) * np.array([1, 0.85, 0.7])
        for middle, radius, colour in ((0.93, 0.075, hair), (0.905, 0.058, skin)):
            ring = zip(radius * np.cos(turn), middle + radius * np.sin(turn), strict=True)
            canvas.fill(at(*ring), colour, PERSON, depth)


@dataclass(frozen=True)
class Pole:
    """A lamp post, a sign post, traffic lights or a bare mast; lengths are in metres."""

    x: float
    z: float
    height: float
    kind: str  # lamp, sign, signal or mast
    colour: Colour
    reach: float  # signed length of the arm over the road, 0 for none

    def shadow(self) -> tuple[np.ndarray, float, float]:
        """Return a block as narrow as the post."""
        return rectangle(-0.07, -0.05, 0.07, 0.05) + (self.x, self.z), 0, self.height

    def paint(self, canvas: Canvas, rng: Generator) -> None:
        """Paint the post, one to three pixels of the picture wide, and what it carries."""
        tip = [self.x + self.reach, self.height + 0.15, self.z]
        points = [[self.x, 0, self.z], [self.x, self.height, self.z], tip]
        view = canvas.camera.view(np.array(points))
        if view[:, 2].min() < NEAR:
            return
        (foot, top, end), depth = canvas.camera.pixels(view), float(view[0, 2])
        scale = canvas.camera.focal / depth
        # Filling includes the outline, so a polygon of width w covers w + 1 subpixels.
        width = float(np.clip(0.14 * scale, OVERSAMPLING, 3 * OVERSAMPLING)) - 1
        half = np.array([width / 2, 0])
        post = np.array([foot - half, foot + half, top + half, top - half])
        canvas.fill(post, self.colour, POLE, depth)
        gleam = np.array([foot - half, foot, top, top - half])
        canvas.fill(gleam, np.asarray(self.colour) * 1.18, POLE, depth)
        if self.reach:
            canvas.line(np.array([top, end]), self.colour, max(3.0, width * 0.7), POLE, depth)
        if self.kind == "lamp":
            head = np.array([[-0.35, -0.05], [0.35, -0.05], [0.3, 0.14], [-0.3, 0.14]]) * scale
            canvas.fill(end + head, rng.choice([[70, 72, 75], [222, 218, 200]]), POLE, depth)
        elif self.kind == "sign":
            self._plate(canvas, rng, top, depth)
        elif self.kind == "signal":
            self._signal(canvas, rng, top, depth)

    def _plate(self, canvas: Canvas, rng: Generator, top: np.ndarray, depth: float) -> None:
        radius = max(5.0, 0.36 * canvas.camera.focal / depth)
        corners, start = ((16, 0.0), (3, np.pi / 2), (4, np.pi / 4))[rng.integers(3)]
        turn = start + np.linspace(0, 2 * np.pi, corners, endpoint=False)
        plate = np.stack([np.cos(turn), -np.sin(turn)], 1) * radius
        rims = [[186, 34, 38], [30, 74, 150], [225, 190, 40]]
        inner = [[232, 230, 226], [40, 90, 170], [235, 205, 60]]
        look = rng.integers(3)
        centre = top + np.array([0, radius * 0.6])
        canvas.fill(centre + plate, rims[look], POLE, depth)
        canvas.fill(centre + plate * 0.66, inner[look], POLE, depth)

    def _signal(self, canvas: Canvas, rng: Generator, top: np.ndarray, depth: float) -> None:
        scale = max(canvas.camera.focal / depth, 14.0)
        box = top + rectangle(-0.19, -0.1, 0.19, 0.85) * scale
        canvas.fill(box, (34, 36, 36), POLE, depth)
        lamps = [(225, 50, 40), (235, 180, 50), (60, 205, 110)]
        shining = int(rng.integers(3))
        centre = top + np.array([0, (0.08 + 0.29 * shining) * scale])
        canvas.fill(centre + rectangle(-0.1, -0.1, 0.1, 0.1) * scale, lamps[shining], POLE, depth)
