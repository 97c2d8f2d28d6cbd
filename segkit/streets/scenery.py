"""The scenery of a street: the sky, the ground with its shadows, and the cables."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from segkit.streets.canvas import FRAME, OVERSAMPLING, PAVEMENT, ROAD, Canvas, Thing, noise
from segkit.streets.plan import Street


def paint_sky(canvas: Canvas, rng: Generator) -> None:
    """Paint the sky: haze at the horizon, blue or grey at the zenith, with clouds."""
    zeniths = [(96, 140, 196), (130, 164, 204), (158, 168, 178), (120, 130, 144)]
    zenith = np.array(zeniths[rng.integers(len(zeniths))])
    size = FRAME[0] // OVERSAMPLING, FRAME[1] // OVERSAMPLING  # it is smooth: painted small
    height = np.clip(np.linspace(1, -0.3, size[0]), 0, 1)[:, None, None]
    sky = canvas.light.haze * (1 - height) + zenith * height
    cloud = noise(rng, size, 3, 6, 13)
    cover = np.clip((cloud - rng.uniform(-0.6, 1.4)) * rng.uniform(0.5, 1.6), 0, 0.9)[..., None]
    cloud_colour = np.array([238, 238, 240]) * rng.uniform(0.75, 1.02)
    sky = np.clip(sky + (cloud_colour - sky) * cover, 0, 255).astype(np.uint8)
    canvas.image[:] = cv2.resize(sky, FRAME[::-1], interpolation=cv2.INTER_LINEAR)


def _strip(x0: float, x1: float, z0: float, z1: float) -> np.ndarray:
    """Return world points of a rectangle on the ground."""
    return np.array([[x0, 0, z0], [x1, 0, z0], [x1, 0, z1], [x0, 0, z1]])


def paint_ground(canvas: Canvas, rng: Generator, street: Street, things: list[Thing]) -> None:
    """Paint the ground: flat colours, then grain and shadows, then haze by depth."""
    f, turn = canvas.camera.focal, canvas.camera.rotation
    across = (np.arange(FRAME[1], dtype=np.float32) + 0.5 - FRAME[1] / 2) / f
    upward = (FRAME[0] / 2 - np.arange(FRAME[0], dtype=np.float32) - 0.5) / f
    drop = -(turn[0, 1] * across + turn[1, 1] * upward[:, None] + turn[2, 1]).astype(np.float32)
    below = drop > 1e-3
    flat = Canvas(canvas.image.copy(), canvas.mask, canvas.camera, canvas.light.without_haze())
    asphalt = np.array([98, 98, 102]) * rng.uniform(0.7, 1.35) + rng.normal(0, 3, 3)
    stone = np.array([142, 138, 132]) * rng.uniform(0.65, 1.15) + rng.normal(0, 4, 3)
    flat.image[below], flat.mask[below] = stone, PAVEMENT
    _paint_road(flat, rng, street, asphalt, stone)

    bright = _grain(canvas, rng, street)
    bright *= 1 - (0.25 + 0.3 * canvas.light.strength) * _shadows(canvas, things)
    rows = slice(int(np.argmax(below.any(1))), None)  # nothing to do above the horizon
    depth = np.float32(canvas.camera.position[1]) / np.maximum(drop[rows], 1e-2)
    lit = np.minimum(flat.image[rows] * bright[rows, :, None], 255)
    seen = canvas.light.through_air(lit, depth)
    np.copyto(canvas.image[rows], seen, where=below[rows, :, None])


def _paint_road(
    canvas: Canvas, rng: Generator, street: Street, asphalt: np.ndarray, stone: np.ndarray
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
    for _ in range(rng.integers(1, 6)):  # patches of new asphalt
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


def _grain(canvas: Canvas, rng: Generator, street: Street) -> np.ndarray:
    """Compute the brightness of the ground: blotches and slabs seen from above, then warped."""
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
    plan = plan.astype(np.float32)
    return cv2.warpPerspective(plan, warp, FRAME[::-1], borderMode=cv2.BORDER_REFLECT)


def _shadows(canvas: Canvas, things: list[Thing]) -> np.ndarray:
    """Compute how much the ground is in shadow, from 0 to 1 with soft edges."""
    flat = np.zeros((*FRAME, 3), np.uint8)
    paper = Canvas(flat, np.zeros(FRAME, np.uint8), canvas.camera, canvas.light.without_haze())
    sun = canvas.light.sun
    for thing in things:
        footprint, low, high = thing.shadow()
        shifts = [-sun[[0, 2]] / sun[1] * height for height in (low, high)]
        cloud = np.concatenate([footprint + shift for shift in shifts]).astype(np.float32)
        hull = cv2.convexHull(cloud)[:, 0]
        paper.polygon(np.insert(hull, 1, 0.0, axis=1), (255, 255, 255), None)
    return cv2.blur(flat[..., 0], (5, 5)) / np.float32(255)


def paint_cables(canvas: Canvas, rng: Generator, street: Street) -> None:
    """Paint wires across the street: thin, dark, and labelled as what is behind them."""
    for _ in range(rng.integers(0, 4)):
        z, height = rng.uniform(8, 30), rng.uniform(6, 9)
        along = np.linspace(-1, 1, 13)
        sag = height - rng.uniform(0.3, 1.2) * (1 - along**2)
        z = z + along * rng.choice([0.0, 4.0])
        view = canvas.camera.view(np.stack([along * street.front, sag, z], 1))
        width = max(1.0, 0.05 * canvas.camera.focal / float(z.mean()))
        canvas.line(canvas.camera.pixels(view), (40, 40, 42), width, None, float(z.mean()))
