"""Colours that are chosen for classes: apart from each other, from white and from those given."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageCms

from segkit.data.card import Card
from segkit.data.colors import distinct_colors

OKABE_ITO = [  # as published, black first
    "000000", "e69f00", "56b4e9", "009e73", "f0e442", "0072b2", "d55e00", "cc79a7",
]  # fmt: skip


def lab(colors):
    """CIELAB coordinates by Pillow's colour management."""
    image = Image.fromarray(np.array([colors], np.uint8))
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    pixels = np.array(ImageCms.profileToProfile(image, *profiles, outputMode="LAB"))[0]
    return np.column_stack([pixels[:, 0] / 2.55, pixels[:, 1:].astype(np.int8)])


def nearest(colors):
    places = lab(colors)
    return min(np.linalg.norm(a - b) for a, b in itertools.combinations(places, 2))


def card_of(classes):
    names = [entry if isinstance(entry, str) else entry["name"] for entry in classes]
    card = {"name": "c", "root": "c", "splits": {}, "label_map": dict(enumerate(names))}
    return Card.model_validate({**card, "classes": classes})


def test_names_alone_get_a_palette_for_all_eyes():
    card = card_of([f"class {index}" for index in range(8)])
    assert ["{:02x}{:02x}{:02x}".format(*color) for color in card.colors] == OKABE_ITO
    assert Card.model_validate(card.model_dump()) == card


@pytest.mark.parametrize(("count", "apart"), [(20, 18), (60, 8), (253, 2)])
def test_many_colours_differ(count, apart):
    chosen = distinct_colors(count)
    assert chosen == distinct_colors(count)
    assert len({*chosen, (0, 0, 0), (255, 255, 255)}) == count + 2
    assert nearest([*chosen, (0, 0, 0), (255, 255, 255)]) >= apart


def test_colours_keep_away_from_those_given():
    given = (231, 158, 2)  # nearly the first of the palette
    card = card_of(["ground", {"name": "a", "color": list(given)}, "b", {"name": "c"}])
    assert card.colors[:2] == ((0, 0, 0), given)
    assert (230, 159, 0) not in card.colors
    assert nearest(card.colors) > 15


@pytest.mark.parametrize("first", [{"name": "a", "color": [9, 200, 9]}, "a"])
def test_black_is_for_the_first_class_alone(first):
    colors = card_of([first, "b", "c"]).colors
    assert ((0, 0, 0) in colors) == isinstance(first, str)
    taken = card_of([first, {"name": "b", "color": [0, 0, 0]}]).colors
    assert taken[1] == (0, 0, 0) != taken[0]
