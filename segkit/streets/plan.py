"""The layout of a street: where everything stands, before anything is painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from segkit.streets.buildings import Building, Facade
from segkit.streets.canvas import Thing
from segkit.streets.car import Car
from segkit.streets.objects import Person, Pole, Tree

CAR_PAINTS = [
    *[(200, 200, 204), (226, 226, 224), (120, 122, 126), (48, 50, 54), (90, 110, 130)],
    *[(150, 30, 34), (40, 62, 120), (44, 74, 52), (196, 180, 150), (190, 140, 40)],
]


@dataclass(frozen=True)
class Street:
    """The dimensions of a street, in metres."""

    half: float  # half the width of the road
    pavement: float  # width of each pavement
    # between the buildings: side (-1 left, 1 right), near z, far z, whether a side street leads in
    gaps: list[tuple[int, float, float, bool]]

    @property
    def front(self) -> float:
        """Distance of the facades from the middle of the road, in metres."""
        return self.half + self.pavement


def plan_buildings(rng: Generator) -> tuple[Street, list[Thing]]:
    """Lay out the street and the two rows of buildings along it."""
    street = Street(rng.uniform(3.0, 4.2), rng.uniform(2.6, 4.2), [])
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


def plan_yard_trees(rng: Generator, street: Street) -> list[Thing]:
    """Place trees in the gaps between buildings that have no side street."""
    return [
        _tree(rng, side * (street.front + rng.uniform(1.5, 6)), rng.uniform(near + 1, far))
        for side, near, far, road in street.gaps
        if not road
        for _ in range(3)
    ]


def _tree(rng: Generator, x: float, z: float) -> Tree:
    height = rng.uniform(4.5, 8.5)
    shape = "cone" if rng.random() < 0.25 else "round"
    width, trunk = height * rng.uniform(0.42, 0.62), height * rng.uniform(0.25, 0.38)
    greens = [(64, 92, 46), (84, 112, 52), (48, 72, 48), (108, 118, 58), (142, 108, 52)]
    colour = np.array(greens[rng.integers(len(greens))]) * rng.uniform(0.8, 1.2)
    if shape == "cone":
        trunk *= 0.4
    return Tree(x, z, height, width, trunk, shape, colour)


def plan_things(rng: Generator, street: Street) -> list[Thing]:
    """Place everything that stands on the road and the pavements."""
    return [*_cars(rng, street), *_poles(rng, street), *_persons(rng, street),
            *_street_trees(rng, street)]  # fmt: skip


def _car(rng: Generator, x: float, z: float, heading: float) -> Car:
    van = bool(rng.random() < 0.2)
    size = (1.95, rng.uniform(1.9, 2.3), 4.8) if van else (1.8, rng.uniform(1.4, 1.6), 4.2)
    colour = np.array(CAR_PAINTS[rng.integers(len(CAR_PAINTS))]) * rng.uniform(0.85, 1.1)
    return Car(x, z, heading, size, van, colour)


def _cars(rng: Generator, street: Street) -> list[Thing]:
    cars: list[Car] = []
    for side in (-1, 1):
        z = rng.uniform(9, 16) if rng.random() < 0.7 else 100
        while z < 45:  # parked along the kerb
            heading = (0.0 if side > 0 else np.pi) + rng.normal(0, 0.03)
            cars.append(_car(rng, side * (street.half - 1.0), z, heading))
            z += rng.uniform(6, 20)
    for _ in range(rng.integers(0, 3)):
        side, z = rng.choice([-1, 1]), rng.uniform(10, 35)
        x = side * max(0.9, street.half - 3.0)
        if all(abs(car.x - x) > 1.95 or abs(car.z - z) > 6 for car in cars):
            cars.append(_car(rng, x, z, 0.0 if side > 0 else np.pi))
    for side, near, far, road in street.gaps:
        if road and near > 7 and rng.random() < 0.5:  # leaving the side street
            cars.append(_car(rng, side * (street.half + 0.6), (near + far) / 2, side * np.pi / 2))
    return list(cars)


def _poles(rng: Generator, street: Street) -> list[Thing]:
    poles: list[Thing] = []
    paints = [(92, 94, 96), (140, 142, 142), (58, 74, 62), (60, 58, 60), (112, 92, 74)]
    paint = np.array(paints[rng.integers(len(paints))])
    lamp, reach = rng.uniform(4.5, 7), rng.choice([0.0, 1.2, 1.8])
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


def _persons(rng: Generator, street: Street) -> list[Thing]:
    if rng.random() < 0.15:
        return []
    persons: list[Thing] = []
    for _ in range(3 + rng.poisson(4)):
        side, z = rng.choice([-1, 1]), rng.uniform(5.5, 21)
        x = side * (street.half + rng.uniform(0.5, street.pavement - 0.3))
        if rng.random() < 0.3:
            x = rng.uniform(-0.8, 0.8) * street.half
        jacket, trousers = rng.uniform(25, 215, 3), rng.uniform(0.5, 1.2) * np.array([58, 62, 78])
        if rng.random() < 0.4:
            jacket = np.full(3, jacket.mean()) + rng.normal(0, 8, 3)
        stride, coat = rng.uniform(0.03, 0.13), bool(rng.random() < 0.3)
        height = rng.uniform(1.15, 1.4) if rng.random() < 0.12 else rng.uniform(1.6, 1.95)
        persons.append(Person(x, z, height, jacket, trousers, stride, coat))
    return persons


def _street_trees(rng: Generator, street: Street) -> list[Thing]:
    trees: list[Thing] = []
    for side in (-1, 1):
        z = rng.uniform(7, 16)
        while rng.random() < 0.72 and z < 50:
            trees.append(_tree(rng, side * (street.half + 0.9), z))
            z += rng.uniform(7, 14)
    return trees
