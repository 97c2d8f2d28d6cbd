"""The things that stand in a drawn street: trees, cars, persons and poles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segkit.data.streets_canvas import (
    CAR,
    NEAR,
    OVERSAMPLING,
    PERSON,
    POLE,
    TREE,
    Canvas,
    Colour,
    noise,
)


@dataclass(frozen=True)
class Tree:
    """A trunk and a ragged crown with gaps; `shape` is round or cone."""

    x: float
    z: float
    height: float
    width: float
    trunk: float  # height at which the crown begins
    shape: str
    colour: Colour

    def shadow(self) -> tuple[np.ndarray, float, float]:
        """The crown as a disc between its lowest and highest third."""
        turn = np.linspace(0, 2 * np.pi, 12)
        disc = np.stack([np.cos(turn), np.sin(turn)], 1) * self.width * 0.4
        rise = self.height - self.trunk
        return disc + (self.x, self.z), self.trunk + rise * 0.2, self.trunk + rise * 0.8

    def paint(self, canvas: Canvas, rng: np.random.Generator) -> None:
        """Trunk, then the crown as a patch of noise cut at a threshold."""
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
        self, canvas: Canvas, rng: np.random.Generator, size: tuple[int, int]
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
class Car:
    """A body and a cabin as two frustums; heading 0 drives away from the camera."""

    x: float
    z: float
    heading: float
    size: tuple[float, float, float]  # width, height, length
    van: bool
    colour: Colour

    def _world(self, local: np.ndarray) -> np.ndarray:
        """Points (..., 3) in (across, up, along) of the car as world points."""
        c, s = np.cos(self.heading), np.sin(self.heading)
        across, up, along = np.moveaxis(np.asarray(local, float), -1, 0)
        x, z = self.x + across * c + along * s, self.z - across * s + along * c
        return np.stack([x, up, z], -1)

    def _ground(self) -> np.ndarray:
        w, half = self.size[0] / 2, self.size[2] / 2
        corners = [[-w, 0, -half], [w, 0, -half], [w, 0, half], [-w, 0, half]]
        return self._world(np.array(corners))

    def shadow(self) -> tuple[np.ndarray, float, float]:
        """The ground plan up to the height of the roof."""
        return self._ground()[:, [0, 2]], 0, self.size[1] * 0.9

    def paint(self, canvas: Canvas, rng: np.random.Generator) -> None:
        """The dark ground beneath, the body with lamps and wheels, then the cabin with windows."""
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

    def _frustum(
        self,
        low: tuple[float, float, float],
        high: tuple[float, float, float],
        y0: float,
        y1: float,
    ) -> np.ndarray:
        """Eight world corners from two rectangles given as (half width, rear, front)."""
        corners = [
            [side * w, y, end]
            for (w, rear, front), y in ((low, y0), (high, y1))
            for side, end in ((-1, rear), (1, rear), (1, front), (-1, front))
        ]
        return self._world(np.array(corners))

    def _visible(self, canvas: Canvas, corners: np.ndarray) -> list[tuple[int, np.ndarray, float]]:
        """Faces turned to the camera: 0 rear, 1 right, 2 front, 3 left, 4 top."""
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
    """A part of a quad (corners around it, bottom edge first), given in shares of its sides."""
    shares = [(left, low), (right, low), (right, high), (left, high)]
    lower, upper = face[1] - face[0], face[2] - face[3]
    starts = [(face[0] + u * lower, face[3] + u * upper, v) for u, v in shares]
    return np.array([a + (b - a) * v for a, b, v in starts])


@dataclass(frozen=True)
class Person:
    """A walking figure, drawn upright in the plane of the picture."""

    x: float
    z: float
    height: float
    jacket: Colour
    trousers: Colour
    stride: float  # half the distance of the feet as a share of the height
    coat: bool

    def shadow(self) -> tuple[np.ndarray, float, float]:
        """A narrow block."""
        corners = [[-0.22, -0.1], [0.22, -0.1], [0.22, 0.1], [-0.22, 0.1]]
        return np.array(corners) + (self.x, self.z), 0, self.height

    def paint(self, canvas: Canvas, rng: np.random.Generator) -> None:
        """Legs, far arm, torso or coat, near arm, head and hair, perhaps a bag."""
        view = canvas.camera.view(np.array([[self.x, 0, self.z], [self.x, self.height, self.z]]))
        if view[:, 2].min() < NEAR:
            return
        foot, head = canvas.camera.pixels(view)
        depth, size = float(view[0, 2]), float(np.hypot(*(head - foot)))
        up = head - foot
        across = np.array([-up[1], up[0]])

        def at(*places: tuple[float, float]) -> np.ndarray:
            return np.array([foot + up * y + across * x for x, y in places])

        dark = np.asarray(self.jacket) * 0.75
        skin = np.array([206, 160, 130]) * rng.uniform(0.45, 1.1)
        leg, arm = max(2.5, 0.105 * size), max(2.0, 0.075 * size)
        swing = self.stride * rng.choice([-1, 1])
        for side, shade in ((-1, 0.8), (1, 1.0)):
            step = at((0.05 * side, 0.5), (0.05 * side + swing * side * 0.6, 0.26),
                      (0.04 * side + swing * side, 0.03))  # fmt: skip
            canvas.line(step, np.asarray(self.trousers) * shade, leg, PERSON, depth)
        elbows = [(0.155 * side + swing * side * 0.4, 0.62) for side in (-1, 1)]
        hands = [(0.13 * side + swing * side * 0.9, 0.48) for side in (-1, 1)]
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
    """A lamp post, a sign post, traffic lights or a bare mast; the arm reaches over the road."""

    x: float
    z: float
    height: float
    kind: str  # lamp, sign, signal or mast
    colour: Colour
    reach: float  # signed length of the arm, 0 for none

    def shadow(self) -> tuple[np.ndarray, float, float]:
        """A strip as narrow as the post."""
        corners = [[-0.07, -0.05], [0.07, -0.05], [0.07, 0.05], [-0.07, 0.05]]
        return np.array(corners) + (self.x, self.z), 0, self.height

    def paint(self, canvas: Canvas, rng: np.random.Generator) -> None:
        """The post is never thinner than one pixel of the picture, nor thicker than three."""
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
        canvas.fill(np.array([foot - half, foot + half, top + half, top - half]),
                    self.colour, POLE, depth)  # fmt: skip
        gleam = np.array([foot - half, foot, top, top - half])
        canvas.fill(gleam, np.asarray(self.colour) * 1.18, POLE, depth)
        if self.reach:
            canvas.line(np.array([top, end]), self.colour, max(3.0, width * 0.7), POLE, depth)
        if self.kind == "lamp":
            head = (
                end + np.array([[-0.35, -0.05], [0.35, -0.05], [0.3, 0.14], [-0.3, 0.14]]) * scale
            )
            canvas.fill(head, rng.choice([[70, 72, 75], [222, 218, 200]]), POLE, depth)
        elif self.kind == "sign":
            self._plate(canvas, rng, top, depth)
        elif self.kind == "signal":
            self._signal(canvas, rng, top, depth)

    def _plate(
        self, canvas: Canvas, rng: np.random.Generator, top: np.ndarray, depth: float
    ) -> None:
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

    def _signal(
        self, canvas: Canvas, rng: np.random.Generator, top: np.ndarray, depth: float
    ) -> None:
        scale = max(canvas.camera.focal / depth, 14.0)
        box = np.array([[-0.19, -0.1], [0.19, -0.1], [0.19, 0.85], [-0.19, 0.85]]) * scale
        canvas.fill(top + box, (34, 36, 36), POLE, depth)
        lamps = [(225, 50, 40), (235, 180, 50), (60, 205, 110)]
        shining = int(rng.integers(3))
        lamp = np.array([[-0.1, -0.1], [0.1, -0.1], [0.1, 0.1], [-0.1, 0.1]]) * scale
        centre = top + np.array([0, (0.08 + 0.29 * shining) * scale])
        canvas.fill(centre + lamp, lamps[shining], POLE, depth)
