"""Camera, light and canvas: project points and colours of a street into the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.random import Generator

SKY, BUILDING, ROAD, PAVEMENT, TREE, CAR, PERSON, POLE = range(8)

OVERSAMPLING = 3  # odd, so that each pixel has a subpixel at its centre
FRAME = (120 * OVERSAMPLING, 160 * OVERSAMPLING)
NEAR = 0.7  # metres; whatever is closer to the camera is clipped

Colour = Sequence[float] | np.ndarray


def noise(rng: Generator, shape: tuple[int, int], *cells: int) -> np.ndarray:
    """Draw a smooth random float32 field of about unit variance.

    `cells` are the numbers of grains along the width, one for each octave that is summed.
    """
    height, width = shape
    total = np.zeros(shape, np.float32)
    for count in cells:
        grid = rng.standard_normal((max(2, round(count * height / width)), count), np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return total / np.float32(len(cells) ** 0.5)


def rectangle(left: float, low: float, right: float, high: float) -> np.ndarray:
    """Return the corners (4, 2) of a rectangle, in order."""
    return np.array([[left, low], [right, low], [right, high], [left, high]])


@dataclass(frozen=True)
class Camera:
    """Pinhole camera in a world with x to the right, y up and z along the street, in metres."""

    focal: float  # in pixels of the oversampled frame
    position: np.ndarray  # (3,)
    rotation: np.ndarray  # from world to camera axes, (3, 3)

    @classmethod
    def random(cls, rng: Generator) -> Camera:
        """Choose a position on the road, looking along it."""
        yaw, pitch, roll = np.radians(rng.uniform((-6, -2, -2), (6, 5, 2)))
        cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
        turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
        tilt = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
        lean = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        position = np.array([rng.uniform(-1.2, 1.8), rng.uniform(1.8, 2.9), 0.0])
        return cls(rng.uniform(115, 140) * OVERSAMPLING, position, lean @ tilt @ turn)

    def view(self, points: np.ndarray) -> np.ndarray:
        """Transform world points (N, 3) to camera axes; the third column is the depth."""
        return (np.asarray(points, float) - self.position) @ self.rotation.T

    def pixels(self, view: np.ndarray) -> np.ndarray:
        """Project points in camera axes (N, 3) to (x, y) in the oversampled frame."""
        centre = np.array([FRAME[1] / 2, FRAME[0] / 2])
        return centre + self.focal * view[:, :2] / view[:, 2:] * (1, -1)

    def ground_homography(self) -> np.ndarray:
        """Return the 3 x 3 matrix from (x, z, 1) on the ground to homogeneous pixels."""
        f, (height, width) = self.focal, FRAME
        matrix = np.array([[f, 0, width / 2], [0, -f, height / 2], [0, 0, 1]])
        shift = -self.rotation @ self.position
        return matrix @ np.stack([self.rotation[:, 0], self.rotation[:, 2], shift], axis=1)


@dataclass(frozen=True)
class Light:
    """Sun and haze."""

    sun: np.ndarray  # unit vector towards the sun
    strength: float  # of the sunlight, 0 to 1
    haze: np.ndarray  # colour of the air, RGB from 0 to 255
    visibility: float  # metres at which haze replaces 63 % of a colour

    @classmethod
    def random(cls, rng: Generator) -> Light:
        """Choose a time of day and the weather."""
        azimuth, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 1.1)
        sun = [np.cos(height) * np.sin(azimuth), np.sin(height), np.cos(height) * np.cos(azimuth)]
        skies = [(214, 222, 230), (198, 202, 206), (180, 200, 222), (228, 212, 190)]
        haze = np.array(skies[rng.integers(len(skies))]) * rng.uniform(0.85, 1.05)
        return cls(np.array(sun), rng.uniform(0.1, 1), np.clip(haze, 0, 245), rng.uniform(70, 220))

    def without_haze(self) -> Light:
        """Return the same light in clear air, for surfaces whose haze is added later."""
        return replace(self, visibility=1e9)

    def shade(self, normal: np.ndarray) -> float:
        """Return the brightness of a surface with this unit normal."""
        facing = max(0.0, float(normal @ self.sun))
        return 0.78 + self.strength * (0.45 * facing - 0.14)

    def through_air(self, image: np.ndarray, depth: np.ndarray | float) -> np.ndarray:
        """Add haze to an image (..., 3) that is `depth` (...) metres away; returns uint8."""
        clear = np.exp(-np.asarray(depth, np.float32) / np.float32(self.visibility))[..., None]
        arriving = image * clear + self.haze.astype(np.float32) * (1 - clear)
        return np.clip(arriving, 0, 255).astype(np.uint8)

    def tint(self, colour: Colour, depth: float, shade: float = 1.0) -> list[float]:
        """Shade one colour and add haze, without NumPy because a scene has hundreds of them."""
        clear = math.exp(-depth / self.visibility)
        pairs = zip(colour, self.haze.tolist(), strict=True)
        return [min(255.0, c * shade * clear + h * (1 - clear)) for c, h in pairs]


@dataclass(frozen=True)
class Canvas:
    """An image and its label mask, which are painted together in place, from far to near."""

    image: np.ndarray  # uint8 RGB of the oversampled frame, (*FRAME, 3)
    mask: np.ndarray  # uint8 class indices, FRAME
    camera: Camera
    light: Light

    def polygon(
        self, points: np.ndarray, colour: Colour, label: int | None, shade: float = 1.0
    ) -> None:
        """Fill a polygon of world points (N, 3); label None leaves the mask as it is."""
        view = clip_near(self.camera.view(points))
        if len(view) >= 3:
            depth = float(view[:, 2].sum()) / len(view)
            self.fill(self.camera.pixels(view), colour, label, depth, shade)

    def fill(
        self, pixels: np.ndarray, colour: Colour, label: int | None, depth: float, shade: float = 1
    ) -> None:
        """Fill a polygon of pixels (N, 2) of the frame."""
        corners = [np.round(np.asarray(pixels) * 16).astype(np.int32)]
        cv2.fillPoly(self.image, corners, self.light.tint(colour, depth, shade), shift=4)
        if label is not None:
            cv2.fillPoly(self.mask, corners, label, shift=4)

    def line(
        self, pixels: np.ndarray, colour: Colour, width: float, label: int | None, depth: float
    ) -> None:
        """Draw a round-ended polyline through pixels (N, 2) of the frame."""
        corners, thick = [np.round(pixels).astype(np.int32)], max(1, round(width))
        tint = self.light.tint(colour, depth)
        cv2.polylines(self.image, corners, False, tint, thick)
        if label is not None:
            cv2.polylines(self.mask, corners, False, label, thick)

    def paste(self, patch: np.ndarray, where: np.ndarray, left: int, top: int, label: int) -> None:
        """Copy a patch (h, w, 3), its top left corner at (left, top), where `where` is set."""
        height, width = where.shape
        rows = slice(max(0, top), max(0, min(FRAME[0], top + height)))
        columns = slice(max(0, left), max(0, min(FRAME[1], left + width)))
        inner = (
            slice(rows.start - top, max(rows.start, rows.stop) - top),
            slice(columns.start - left, max(columns.start, columns.stop) - left),
        )
        if where[inner].size:
            seen = where[inner].astype(bool)
            np.copyto(self.image[rows, columns], patch[inner], where=seen[..., None])
            self.mask[rows, columns][seen] = label

    def extent(self, corners: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int, int]]:
        """Project world points; return the pixels and their visible left, top, right and bottom."""
        pixels = self.camera.pixels(self.camera.view(corners))
        left, top = np.clip(np.floor(pixels.min(0)), 0, FRAME[::-1]).astype(int).tolist()
        right, bottom = np.clip(np.ceil(pixels.max(0)) + 1, 0, FRAME[::-1]).astype(int).tolist()
        return pixels, (left, top, right, bottom)

    def texture(self, corners: np.ndarray, texture: np.ndarray, label: int) -> None:
        """Warp a texture onto a world quad: top left, top right, bottom right, bottom left."""
        target, (left, top, right, bottom) = self.extent(corners)
        width, height = right - left, bottom - top
        h, w = texture.shape[:2]
        source = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
        target = (target - (left, top)).astype(np.float32)
        warp = cv2.getPerspectiveTransform(source, target)
        border = cv2.BORDER_REPLICATE
        patch = cv2.warpPerspective(texture, warp, (width, height), borderMode=border)
        inside = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(inside, np.round(target * 16).astype(np.int32), 1, shift=4)
        self.paste(patch, inside, left, top, label)


def clip_near(view: np.ndarray) -> np.ndarray:
    """Clip the part of a polygon that is closer than NEAR (Sutherland and Hodgman 1974)."""
    if view[:, 2].min() >= NEAR:
        return view
    kept = []
    for start, end in zip(view, np.roll(view, -1, axis=0), strict=True):
        if start[2] >= NEAR:
            kept.append(start)
        if (start[2] >= NEAR) != (end[2] >= NEAR):
            kept.append(start + (end - start) * (NEAR - start[2]) / (end[2] - start[2]))
    return np.array(kept).reshape(-1, 3)


class Thing(Protocol):
    """Anything that stands in a street: it has a depth, casts a shadow and paints itself."""

    @property
    def z(self) -> float:
        """Distance along the street, by which things are sorted."""

    def shadow(self) -> tuple[np.ndarray, float, float]:
        """Return the footprint (N, 2) in (x, z), and the lowest and highest height that shades."""

    def paint(self, canvas: Canvas, rng: Generator) -> None:
        """Paint the image and the mask."""
