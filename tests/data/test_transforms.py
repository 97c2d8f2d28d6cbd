"""Augmentation as the YAML names it: what it may do to labels, and on what it may depend."""

import random
import re
from pathlib import Path

import albumentations
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as TF

from segkit.config import load_config
from segkit.data.transforms import apply_transforms, build_transforms, output_size
from segkit.errors import UserError
from segkit.normalize import Normalize
from segkit.registry import register, unregister

MEAN = (0.485, 0.456, 0.406)
GREY = tuple(round(255 * m) for m in MEAN)
PALETTE = np.array([[250, 10, 10], [10, 240, 20], [20, 10, 250], [240, 240, 20]])

GEOMETRY = {
    "Affine": {"Affine": {"scale": [0.6, 0.8], "rotate": [-30, 30], "p": 1.0}},
    "Rotate": {"Rotate": {"limit": [40, 50], "p": 1.0}},
    "SafeRotate": {"SafeRotate": {"limit": [20, 60], "p": 1.0}},
    "Perspective": {"Perspective": {"scale": 0.2, "fit_output": True, "p": 1.0}},
    "ElasticTransform": {"ElasticTransform": {"alpha": 60, "p": 1.0}},
    "RandomScale": {"RandomScale": {"scale_limit": [-0.4, 0.6], "p": 1.0}},
    "Resize": {"Resize": {"height": 71, "width": 53}},
    "RandomResizedCrop": {"RandomResizedCrop": {"size": [50, 40], "p": 1.0}},
    "LongestMaxSize": {"LongestMaxSize": {"max_size": 41}},
    "PadIfNeeded": {"PadIfNeeded": {"min_height": 90, "min_width": 100}},
    "RandomCrop": {"RandomCrop": {"height": 80, "width": 50, "pad_if_needed": True}},
    "CropAndPad": {"CropAndPad": {"percent": [0.1, 0.2], "keep_size": True, "p": 1.0}},
    "GridDistortion": {"GridDistortion": {"p": 1.0}},
    "OpticalDistortion": {"OpticalDistortion": {"p": 1.0}},
    "D4": {"D4": {"p": 1.0}},
}
UNCOVERING = ("Affine", "Rotate", "SafeRotate", "Perspective", "PadIfNeeded", "RandomCrop")


def shipped_chains():
    """The chains of every shipped config, by name; once where several have the same."""
    seen = []
    for path in sorted((Path(__file__).parents[2] / "configs").glob("**/*.yaml")):
        data = load_config(path).data
        for kind in ("train", "eval"):
            chain = getattr(data, f"{kind}_transforms")
            if chain and chain not in seen:
                seen.append(chain)
                yield f"{path.stem}-{kind}", list(chain)


def shipped_transforms():
    """Every transform of every shipped config, alone and as the whole chain."""
    for name, chain in shipped_chains():
        yield pytest.param(chain, id=name)
        for i, spec in enumerate(chain):
            yield pytest.param([spec], id=f"{name}-{i}-{next(iter(spec))}")


CHAINS = [*shipped_transforms(), *(pytest.param([s], id=name) for name, s in GEOMETRY.items())]


def scene(void=False, height=64, width=80):
    """A mask of four classes, and the image that paints them."""
    mask = np.zeros((height, width), np.uint8)
    mask[8:36, 6:34] = 1
    mask[30:60, 40:76] = 2
    yy, xx = np.mgrid[:height, :width]
    mask[(yy - 18) ** 2 + (xx - 58) ** 2 < 150] = 3
    image = PALETTE[mask].astype(np.uint8)
    if void:
        mask[40:50, 4:14] = 255
        image[mask == 255] = GREY
    return image, mask


def build(*specs, mean=MEAN):
    return build_transforms(specs, mean, "data.train_transforms")


def away_from_edges(mask, distance):
    """Pixels whose neighbours up to a distance all have their label."""
    padded = np.pad(mask.astype(int), distance, constant_values=-1)
    height, width = mask.shape
    same = np.ones(mask.shape, bool)
    for dy in range(2 * distance + 1):
        for dx in range(2 * distance + 1):
            same &= padded[dy : dy + height, dx : dx + width] == mask
    return same


# What happens to labels


@pytest.mark.parametrize("chain", CHAINS)
def test_no_label_is_made_up_and_image_and_mask_stay_together(chain):
    image, mask = scene(void=True)
    built = build(*chain)
    colors = np.array([*PALETTE, GREY])
    for index in range(6):
        out, labels = apply_transforms(built, image, mask, (0, 0, index))
        assert out.shape[:2] == labels.shape
        assert out.dtype == labels.dtype == np.uint8
        assert set(np.unique(labels)) <= {0, 1, 2, 3, 255}
        assert len(np.unique(labels)) > 1

        far = ((out[:, :, None].astype(int) - colors) ** 2).sum(-1)
        nearest = np.where(far.argmin(-1) == 4, 255, far.argmin(-1))
        inside = away_from_edges(labels, 1)
        assert inside.mean() > 0.3
        assert np.array_equal(nearest[inside], labels[inside])


@pytest.mark.parametrize("name", UNCOVERING)
def test_uncovered_area_is_void_and_the_mean_colour(name):
    image, mask = scene()
    uncovered = 0
    for index in range(6):
        out, labels = apply_transforms(build(GEOMETRY[name]), image, mask, (0, 0, index))
        void = labels == 255
        uncovered += void.sum()
        inside = void & away_from_edges(labels, 1)
        assert (out[inside] == GREY).all()
    assert uncovered > 500


def test_padding_adds_exactly_the_missing_area():
    image, mask = scene()
    spec = {"PadIfNeeded": {"min_height": 90, "min_width": 100, "position": "top_left"}}
    out, labels = apply_transforms(build(spec), image, mask, (0, 0, 0))
    expected = np.full((90, 100), 255, np.uint8)
    expected[:64, :80] = mask
    assert np.array_equal(labels, expected)
    assert np.array_equal(out[:64, :80], image)
    assert (out[expected == 255] == GREY).all()


@pytest.mark.parametrize("angle", [20, 45, -70])
def test_rotation_covers_what_pillow_covers(angle):
    image, mask = scene()
    spec = {"Rotate": {"limit": [angle, angle], "p": 1.0}}
    _, labels = apply_transforms(build(spec), image, mask, (0, 0, 0))
    rotated = Image.fromarray(mask).rotate(angle, Image.Resampling.NEAREST, fillcolor=255)
    assert (labels == np.array(rotated)).mean() > 0.97
    assert (np.array(rotated) == 255).mean() > 0.1


REGISTERED = {
    "RandomScale up": {"RandomScale": {"scale_limit": [0.1, 0.5], "p": 1.0}},
    "RandomScale down": {"RandomScale": {"scale_limit": [-0.5, -0.1], "p": 1.0}},
    "Resize": {"Resize": {"height": 117, "width": 131}},
    "LongestMaxSize": {"LongestMaxSize": {"max_size": 61}},
    "SmallestMaxSize": {"SmallestMaxSize": {"max_size": 47}},
    "Affine": {"Affine": {"scale": [0.7, 1.2], "rotate": [-15, 15], "p": 1.0}},
    "Rotate": {"Rotate": {"limit": 30, "p": 1.0}},
    "Perspective": {"Perspective": {"scale": 0.1, "p": 1.0}},
    "SafeRotate": {"SafeRotate": {"limit": 30, "p": 1.0}},
    "RandomResizedCrop": {"RandomResizedCrop": {"size": [50, 60], "scale": [0.4, 1], "p": 1.0}},
    "RandomCrop": {"RandomCrop": {"height": 60, "width": 110, "pad_if_needed": True}},
    "PadIfNeeded": {"PadIfNeeded": {"min_height": 91, "min_width": 120}},
    "HorizontalFlip": {"HorizontalFlip": {"p": 1.0}},
    "VerticalFlip": {"VerticalFlip": {"p": 1.0}},
    "D4": {"D4": {"p": 1.0}},
}


@pytest.mark.parametrize("spec", REGISTERED.values(), ids=REGISTERED)
def test_masks_do_not_shift_against_images(spec):
    """OpenCV's plain nearest neighbour would move them by half a pixel on average."""
    mask = np.zeros((80, 96), np.uint8)
    mask[21:55, 25:69] = 1
    image = np.repeat(200 * mask[..., None], 3, axis=2)
    built = build(spec, mean=(0, 0, 0))

    def center(weights):
        yy, xx = np.mgrid[: weights.shape[0], : weights.shape[1]]
        return np.array([(weights * yy).sum(), (weights * xx).sum()]) / weights.sum()

    shifts = []
    for index in range(24):
        out, labels = apply_transforms(built, image, mask, (0, 0, index))
        shifts.append(center(labels == 1) - center(out[..., 0] / 200))
    assert np.abs(shifts).max() <= 0.51
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.25


# Whole chains as shipped, on images of any size

SHIPPED = dict(shipped_chains())
SIZES = ((4, 5), (37, 53), (96, 128), (131, 203), (401, 60))  # smaller than the crop, odd, tall
shipped = pytest.mark.parametrize("chain", SHIPPED.values(), ids=SHIPPED)
of_any_size = pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")


def crop_of(chain):
    """The size that the last crop gives, or None."""
    sizes = [
        (arguments["height"], arguments["width"])
        for spec in chain
        for arguments in spec.values()
        if "height" in (arguments or {})
    ]
    return sizes[-1] if sizes else None


@shipped
@of_any_size
def test_shipped_chains_give_the_size_asked_for_and_no_new_label(chain, size):
    rng = np.random.default_rng(0)
    built = build(*chain)
    for index in range(5):
        labels = rng.choice(256, rng.integers(1, 12), replace=False).astype(np.uint8)
        mask = rng.choice(labels, size)
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        out, mask_out = apply_transforms(built, image, mask, (0, 0, index))
        assert out.dtype == mask_out.dtype == np.uint8
        assert out.shape == (*mask_out.shape, 3)
        assert mask_out.shape == (crop_of(chain) or mask_out.shape)
        assert set(np.unique(mask_out)) <= {*np.unique(mask), 255}


@shipped
@of_any_size
@pytest.mark.parametrize("label", [0, 7])
def test_shipped_chains_pad_by_void_around_one_rectangle(chain, size, label):
    built = build(*chain)
    image, mask = np.zeros((*size, 3), np.uint8), np.full(size, label, np.uint8)
    limits = [(1 + np.array(s["RandomScale"]["scale_limit"])) for s in chain if "RandomScale" in s]
    for index in range(5):
        _, out = apply_transforms(built, image, mask, (0, 0, index))
        inside = out == label
        assert (out[~inside] == 255).all()
        rows, columns = inside.any(1).nonzero()[0], inside.any(0).nonzero()[0]
        for place, held, whole in zip((rows, columns), size, out.shape, strict=True):
            assert place[-1] - place[0] + 1 == len(place)
            if len(place) < whole:
                low, high = limits[0] * held if limits else (held, held)
                assert int(low) <= len(place) <= int(high) + 1
        assert inside.sum() == len(rows) * len(columns)


@shipped
@of_any_size
@pytest.mark.parametrize("across", [True, False])
def test_shipped_chains_keep_an_edge_of_image_and_mask_together(chain, size, across):
    """Half of the image is bright; bilinear scaling blurs its edge, but does not move it."""
    mask = np.zeros(size, np.uint8)
    half = mask[:, size[1] // 2 :] if across else mask[size[0] // 2 :]
    half[:] = 1
    image = np.repeat(80 + 60 * mask[..., None], 3, axis=2)  # no jitter makes it white
    built = build(*chain)
    shifts = [0.0]
    for index in range(12):
        out, labels = apply_transforms(built, image, mask, (0, 0, index))
        grey, valid = out.mean(-1), labels != 255
        if not {0, 1} <= set(np.unique(labels)):
            continue  # the crop missed the edge
        low, high = grey[valid].min(), grey[valid].max()
        line = valid.any(0).nonzero()[0][0] if not across else valid.any(1).nonzero()[0][0]
        grey, valid, labels = (a[line] if across else a[:, line] for a in (grey, valid, labels))
        bright = ((grey[valid] - low) / (high - low)).sum()
        shifts.append((labels[valid] == 1).sum() - bright)
    assert np.abs(shifts).max() <= 0.52
    assert len(shifts) > 3


def test_holes_in_the_image_keep_their_labels():
    spec = {"CoarseDropout": {"num_holes_range": [4, 4], "hole_height_range": [9, 9],
                              "hole_width_range": [9, 9], "p": 1.0}}  # fmt: skip
    image, mask = scene()
    out, labels = apply_transforms(build(spec), image, mask, (0, 0, 0))
    assert np.array_equal(labels, mask)
    assert (out[(out != image).any(-1)] == GREY).all()


@pytest.mark.parametrize("floats", [False, True], ids=["uint8", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("name", ["Affine", "Rotate", "RandomScale", "RandomCrop", "PadIfNeeded"])
def test_other_numbers_of_channels_pass_and_pad_by_their_mean(channels, name, floats):
    rng = np.random.default_rng(0)
    mean = tuple(np.linspace(0.2, 0.6, channels))
    image = rng.integers(0, 256, (64, 80, channels), dtype=np.uint8)
    image = image / np.float32(255) if floats else image
    mask = np.zeros((64, 80), np.uint8)
    built = build_transforms([GEOMETRY[name]], mean, "data.train_transforms", floats)
    out, labels = apply_transforms(built, image, mask, (0, 0, 0))
    assert out.shape == (*labels.shape, channels)
    assert out.dtype == image.dtype
    inside = (labels == 255) & away_from_edges(labels, 1)
    color = np.float32(mean) if floats else [round(255 * m) for m in mean]
    np.testing.assert_allclose(out[inside], np.broadcast_to(color, (inside.sum(), channels)))


@pytest.mark.parametrize("floats", [False, True], ids=["uint8", "float32"])
@pytest.mark.parametrize("channels", [5, 7])
@pytest.mark.parametrize("name", GEOMETRY)
def test_many_channels_pass(channels, name, floats):
    """OpenCV fills no more than four channels in colours of their own."""
    image, mask = scene()
    image = np.repeat(image[..., :1], channels, axis=2)
    image = image / np.float32(255) if floats else image
    mean = (0.1,) * channels
    built = build_transforms([GEOMETRY[name]], mean, "data.train_transforms", floats)
    out, labels = apply_transforms(built, image, mask, (0, 0, 0))
    assert out.shape == (*labels.shape, channels)
    inside = (labels != 255) & away_from_edges(labels, 1)
    assert np.ptp(out[inside].astype(float), axis=1).max() <= (1e-4 if floats else 1)


# On what it depends

RANDOM_CHAIN = [
    {"RandomScale": {"scale_limit": [-0.2, 0.4], "p": 1.0}},
    {"RandomCrop": {"height": 40, "width": 40, "pad_if_needed": True}},
    {"OneOf": {"transforms": [{"HorizontalFlip": {"p": 1.0}}, {"Rotate": {"p": 1.0}}], "p": 0.7}},
    {"ColorJitter": {"p": 0.8}},
    {"GaussNoise": {"p": 0.5}},
]


def draw(chain, key):
    image, mask = scene()
    return apply_transforms(chain, image, mask, key)


def same(left, right):
    return all(
        a.shape == b.shape and np.array_equal(a, b) for a, b in zip(left, right, strict=True)
    )


def test_the_outcome_is_a_function_of_the_key_alone():
    keys = [(seed, epoch, index) for seed in (0, 7) for epoch in (0, 1) for index in range(6)]
    chain = build(*RANDOM_CHAIN)
    first = {key: draw(chain, key) for key in keys}
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        fresh = build(*RANDOM_CHAIN)
        for key in random.sample(keys, len(keys)):
            assert same(draw(fresh, key), first[key])


def test_every_part_of_the_key_counts():
    chain = build(*RANDOM_CHAIN)
    for place in range(3):
        keys = [tuple(n if i == place else 3 for i in range(3)) for n in range(8)]
        drawn = [draw(chain, key) for key in keys]
        pairs = [(a, b) for a in range(8) for b in range(a)]
        assert sum(same(drawn[a], drawn[b]) for a, b in pairs) <= 2
    assert not same(draw(chain, (0, 1, 2)), draw(chain, (0, 2, 1)))


def test_the_global_random_state_is_left_alone():
    chain = build(*RANDOM_CHAIN)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    draw(chain, (0, 0, 0))
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


def test_no_transforms_change_nothing():
    image, mask = scene()
    out, labels = apply_transforms(build(), image, mask, (0, 0, 0))
    assert np.array_equal(out, image)
    assert np.array_equal(labels, mask)


def test_the_input_is_not_written_to():
    image, mask = scene()
    before = image.copy(), mask.copy()
    chain = build(*RANDOM_CHAIN)
    for index in range(6):
        apply_transforms(chain, image, mask, (0, 0, index))
    assert same((image, mask), before)


# Mistakes in the YAML

MISTAKES = {
    "unknown transform": (
        [{"HorizontalFlop": None}],
        ["[0]", "'HorizontalFlop'", "HorizontalFlip"],
    ),
    "unknown second": ([{"NoOp": None}, {"Rotat": None}], ["[1]", "'Rotat'", "'Rotate'"]),
    "unknown argument": ([{"Rotate": {"limt": 5}}], ["[0]: Rotate", "'limt'", "'limit'"]),
    "bad value": ([{"RandomCrop": {"height": -1, "width": 8}}], ["[0]: RandomCrop", "height"]),
    "missing value": ([{"RandomCrop": {"height": 8}}], ["[0]: RandomCrop", "width", "required"]),
    "two in one": ([{"NoOp": None, "Rotate": None}], ["[0]", "'Name: {argument: value}'"]),
    "no transform": ([{"OneOf": {"transforms": [3]}}], ["OneOf[0]", "'Name: {argument: value}'"]),
    "none in one": ([{}], ["[0]", "'Name: {argument: value}'"]),
    "Normalize": ([{"Normalize": None}], ["[0]", "Normalize", "data.mean and data.std", "take it"]),
    "ToTensorV2": ([{"ToTensorV2": None}], ["[0]", "ToTensorV2", "segkit itself"]),
    "interpolated masks": (
        [{"Affine": {"mask_interpolation": 1}}],
        ["[0]: Affine", "mask_interpolation is always 0", "take it out"],
    ),
    "resized masks": (
        [{"Resize": {"height": 9, "width": 9, "mask_interpolation": 1}}],
        ["[0]: Resize", "mask_interpolation is always 6", "take it out"],
    ),
    "filled masks": (
        [{"Rotate": {"fill_mask": 0}}],
        ["[0]: Rotate", "fill_mask is always 255", "take it out"],
    ),
    "inside OneOf": (
        [{"OneOf": {"transforms": [{"NoOp": None}, {"Rotat": None}]}}],
        ["[0].OneOf[1]", "'Rotat'", "'Rotate'"],
    ),
    "an argument inside OneOf": (
        [{"OneOf": {"transforms": [{"Rotate": {"fill_mask": 3}}]}}],
        ["[0].OneOf[0]: Rotate", "fill_mask"],
    ),
}


@pytest.mark.parametrize(("chain", "parts"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_names_its_place_and_the_way_out(chain, parts):
    with pytest.raises(UserError) as error:
        build(*chain)
    message = str(error.value)
    assert message.startswith("data.train_transforms[")
    for part in parts:
        assert part in message
    assert "\n" not in message
    assert len(message) < 400


def test_an_explicit_fill_is_kept():
    spec = {"Rotate": {"limit": [45, 45], "fill": [1, 2, 3], "p": 1.0}}
    image, mask = scene()
    out, labels = apply_transforms(build(spec), image, mask, (0, 0, 0))
    inside = (labels == 255) & away_from_edges(labels, 1)
    assert inside.any()
    assert (out[inside] == (1, 2, 3)).all()


@pytest.mark.parametrize("name", ["OneOf", "SomeOf", "Sequential", "RandomOrder"])
def test_compositions_nest(name):
    inner = [{"Rotate": {"limit": [45, 45], "p": 1.0}}]
    count = {"n": 1} if name in ("SomeOf", "RandomOrder") else {}
    spec = {name: {"transforms": [{"OneOf": {"transforms": inner, "p": 1.0}}], "p": 1.0, **count}}
    image, mask = scene()
    _, labels = apply_transforms(build(spec), image, mask, (0, 0, 0))
    _, alone = apply_transforms(build(inner[0]), image, mask, (0, 0, 0))
    assert np.array_equal(labels, alone)
    assert 255 in labels


def test_a_transform_in_a_composition_may_be_its_name_alone():
    (one_of,) = build({"OneOf": {"transforms": ["HorizontalFlip", {"Rotate": None}]}}).transforms
    assert [type(each).__name__ for each in one_of.transforms] == ["HorizontalFlip", "Rotate"]


# Normalisation


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (MEAN, (0.229, 0.224, 0.225)),
        ((0.5,), (0.25,)),
        ((0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8)),
    ],
)
def test_normalisation_equals_numpy_and_torchvision(mean, std):
    pixels = torch.randint(0, 256, (2, len(mean), 5, 7), dtype=torch.uint8)
    out = Normalize(mean, std)(pixels)
    assert out.dtype == torch.float32
    across = (1, -1, 1, 1)
    expected = (pixels.numpy() / 255 - np.reshape(mean, across)) / np.reshape(std, across)
    np.testing.assert_allclose(out.numpy(), expected, rtol=0, atol=1e-5)
    torchvisions = TF.normalize(pixels.float() / 255, mean, std)
    torch.testing.assert_close(out, torchvisions, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5, 0.5)), ((0.5,), (0.0,)), ((), ())])
def test_unfit_means_and_deviations_are_refused(mean, std):
    with pytest.raises(
        UserError, match=re.escape(f"data.std={list(std)}") + ".*one number a channel"
    ):
        Normalize(mean, std)


def test_normalisation_adds_nothing_to_a_state_dict():
    assert not Normalize(MEAN, MEAN).state_dict()


@pytest.fixture
def _brighter():
    """A transform that the user registers."""

    class Brighter(albumentations.ImageOnlyTransform):
        def __init__(self, by: int, p: float = 0.5):
            super().__init__(p)
            self.by = by

        def apply(self, img, **_):
            return img + self.by

    register("transform", "brighter")(Brighter)
    yield
    unregister("transform", "brighter")


@pytest.mark.usefixtures("_brighter")
def test_transforms_of_the_user_are_found_by_their_name():
    image, mask = scene()
    image = image.clip(0, 200)
    out, labels = apply_transforms(build({"brighter": {"by": 7, "p": 1.0}}), image, mask, (0, 0, 0))
    assert np.array_equal(out, image + 7)
    assert np.array_equal(labels, mask)


@pytest.mark.usefixtures("_brighter")
@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        (
            {"brightr": None},
            ["unknown transform 'brightr'; did you mean 'brighter'?", "of your own"],
        ),
        ({"brighter": {"bye": 1}}, ["[0]: brighter: unknown argument 'bye'; did you mean 'by'?"]),
        ({"brighter": None}, ["[0]: brighter: ", "by"]),
    ],
)
def test_mistakes_about_transforms_of_the_user_are_told_alike(spec, parts):
    with pytest.raises(UserError) as error:
        build(spec)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("specs", "size"),
    [
        ([], None),
        ([{"HorizontalFlip": None}], None),
        ([{"RandomCrop": {"height": 32, "width": 40}}, {"HorizontalFlip": {"p": 0.5}}], (32, 40)),
        (
            [{"Resize": {"height": 9, "width": 8}}, {"CenterCrop": {"height": 4, "width": 5}}],
            (4, 5),
        ),
        ([{"RandomResizedCrop": {"size": [64, 96]}}], (64, 96)),
        ([{"Resize": {"height": "auto", "width": 8}}], None),
        ([{"OneOf": {"transforms": [{"Resize": {"height": 9, "width": 8}}]}}], None),
    ],
)
def test_the_size_that_images_end_in(specs, size):
    assert output_size(specs) == size


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"OneOf": {"transforms": 5}}, "OneOf: transforms is 5; it must be a list"),
        ({"OneOf": {"transforms": [5]}}, r"OneOf\[0\]: write one transform as"),
        ({"OneOf": {"transforms": [{"ToGray": 5}]}}, r"OneOf\[0\] is {'ToGray': 5}; write a"),
        ({"OneOf": {"transforms": [{5: {}}]}}, r"OneOf\[0\] is {5: {}}; write a transform as"),
        ({"Resize": {"height": "x", "width": 3}}, "Resize: .*valid integer"),
    ],
)
def test_what_is_no_transform_is_told_at_any_depth(spec, told):
    with pytest.raises(UserError, match=told):
        build_transforms([spec], MEAN, "data.train_transforms")
