"""segkit browse as a user runs it: a sheet of the samples that training begins with."""

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from segkit.config import load_config
from segkit.data.card import load_card
from segkit.data.dataset import build_dataset
from segkit.data.epoch_batches import EpochBatches
from segkit.data.reader import SampleReader
from segkit.drawing import samples as sheets

AUGMENT = [
    {"RandomCrop": {"height": 32, "width": 40}},
    {"HorizontalFlip": {"p": 0.5}},
    {"ColorJitter": {"p": 1.0}},
]


@pytest.fixture
def drawn(monkeypatch):
    """Note what is drawn, as (image, mask, name), and draw it."""
    samples = []
    draw = sheets.draw_sheet

    def noting(path, shown, classes, title):
        samples.extend(shown)
        draw(path, shown, classes, title)

    monkeypatch.setattr(sheets, "draw_sheet", noting)
    return samples


def size_of(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return image.size


def test_the_sheet_shows_what_the_network_sees(tiny_config, browse, drawn, tmp_path, capsys):
    settings = {"data.train_transforms": AUGMENT, "seed": 3}
    path, sheet = tiny_config(settings), tmp_path / "sheet.png"
    assert browse(path, "--count", 5, "--out", sheet) == 0
    config = load_config(path)
    reader = SampleReader(load_card(config.data.card), "train")
    dataset = build_dataset(config, reader, augment=True, mean=config.data.mean)
    keys = next(iter(EpochBatches(len(dataset), 5, seed=config.seed)))  # as training's first epoch
    assert len(drawn) == 5
    assert keys != [(0, index) for index in range(5)]  # in its order
    for (epoch, index), (image, mask, name) in zip(keys, drawn, strict=True):
        expected = dataset.sample(index, epoch)
        assert name == expected.name
        assert image.shape == (3, 32, 40)
        assert torch.equal(image, expected.image)
        assert torch.equal(mask, expected.mask)
    assert all(400 < side < 2500 for side in size_of(sheet))
    assert f"5 samples of tiny train, as the network sees them: {sheet}" in capsys.readouterr().out


def test_the_samples_are_those_of_trainings_first_batches(
    tiny_config, browse, drawn, train, monkeypatch, tmp_path
):
    from segkit.training.step import Step

    seen = []
    step = Step.__call__
    monkeypatch.setattr(Step, "__call__", lambda self, g: (seen.extend(g), step(self, g))[1])
    path = tiny_config({"data.train_transforms": AUGMENT, "train.epochs": 1})
    assert browse(path, "--out", tmp_path / "sheet.png") == 0
    assert train(path) == 0
    images = torch.cat([batch.images for batch in seen])
    assert torch.equal(torch.stack([image for image, _, _ in drawn]), images)


def test_raw_shows_the_files(tiny_config, tiny_set, browse, drawn, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert browse(tiny_config({"data.train_transforms": AUGMENT}), "--raw") == 0
    assert size_of(tmp_path / "tiny_train_raw.png")
    assert "as on disk" in capsys.readouterr().out
    assert sorted(name for _, _, name in drawn) == [f"train_{n}" for n in range(6)]
    for image, _, name in drawn:
        file = tiny_set.root / "train/images" / f"{name}.png"
        np.testing.assert_array_equal(image, np.array(Image.open(file)))


def test_another_split_is_not_augmented(tiny_config, tiny_set, browse, drawn, tmp_path):
    crop = [{"CenterCrop": {"height": 24, "width": 32}}]
    config = tiny_config({"data.train_transforms": AUGMENT, "data.eval_transforms": crop})
    assert browse(config, "--split", "val", "--out", tmp_path / "a.png") == 0
    assert [name for _, _, name in drawn] == ["val_0", "val_1", "val_2"]
    for image, _, name in drawn:
        file = tiny_set.root / "val/images" / f"{name}.png"
        cropped = np.array(Image.open(file))[8:32, 8:40]
        np.testing.assert_array_equal(image.permute(1, 2, 0), cropped)


@pytest.mark.parametrize(
    ("count", "names"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (50, [0, 1, 2])]
)
def test_the_count_is_at_most_the_set(count, names, tiny_config, browse, drawn, tmp_path):
    out = tmp_path / "a.png"
    assert browse(tiny_config(), "--split", "val", "--count", count, "--out", out) == 0
    assert [name for _, _, name in drawn] == [f"val_{n}" for n in names]
    assert all(200 < side < 3000 for side in size_of(out))


def replace_images(tiny_set, channels):
    for split in ("train", "val"):
        for path in list((tiny_set.root / split / "images").iterdir()):
            pixels = np.array(Image.open(path))[..., [0, 1, 2, 1, 0][:channels]]
            path.unlink()
            metadata = {"axes": "YXS"} if channels > 1 else None
            pixels = pixels if channels > 1 else pixels[..., 0]
            tifffile.imwrite(
                path.with_suffix(".tif"), pixels, photometric="minisblack", metadata=metadata
            )


@pytest.mark.parametrize("raw", [[], ["--raw"]])
@pytest.mark.parametrize("channels", [1, 5])
def test_any_number_of_channels_is_shown(
    channels, raw, tiny_config, tiny_set, browse, drawn, tmp_path
):
    replace_images(tiny_set, channels)
    settings = {"model.in_channels": channels, "data.mean": "auto", "data.std": "auto"}
    assert browse(tiny_config(settings), "--out", tmp_path / "a.png", *raw) == 0
    expected = (40, 48, channels) if raw else (channels, 40, 48)
    assert {image.shape for image, _, _ in drawn} == {expected}
    assert size_of(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--split", "vall"], ["unknown split 'vall'", "'val'"]),
        (["--count", "0"], ["--count is 0", "1 or more"]),
        (["--count", "-3"], ["--count is -3"]),
        (["--out", "{folder}/no/sheet.png"], ["cannot write", "no/sheet.png"]),
        (["--out", "{folder}/sheet.xyz"], ["cannot write", "sheet.xyz", "png"]),
        (["--set", "data.crd=x"], ["did you mean 'card'"]),
    ],
)
def test_misuse_is_told_in_a_sentence(arguments, parts, tiny_config, browse, tmp_path, capsys):
    arguments = [argument.format(folder=tmp_path) for argument in arguments]
    assert browse(tiny_config(), *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert all(part in err for part in parts), err


def test_without_a_suffix_it_is_a_png(tiny_config, browse, tmp_path, capsys):
    assert browse(tiny_config(), "--count", 1, "--out", tmp_path / "sheet") == 0
    assert f"{tmp_path}/sheet.png\n" in capsys.readouterr().out
    assert size_of(tmp_path / "sheet.png")


def test_a_count_that_is_no_number_is_refused(tiny_config, browse):
    with pytest.raises(SystemExit) as left:
        browse(tiny_config(), "--count", "many")
    assert left.value.code == 2
