"""segkit similar: what it lists, draws and writes, and what it says of files it cannot read."""

import json
import re

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from segkit.commands import main
from segkit.descriptors import Describer
from segkit.drawing.similar import draw_similar
from segkit.streets import draw_scene


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Six scenes, and copies of the first: mirrored, smaller as a JPEG, and in 16 bits."""
    folder = tmp_path_factory.mktemp("photos")
    scenes = [draw_scene(0, "train", index)[0] for index in range(6)]
    (folder / "below").mkdir()
    for index, scene in enumerate(scenes):
        Image.fromarray(scene).save(folder / f"{index}.png")
    first = Image.fromarray(scenes[0])
    first.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "below/mirrored.png")
    first.resize((120, 90)).save(folder / "smaller.jpg", quality=90)
    tifffile.imwrite(folder / "deep.tif", scenes[0].astype(np.uint16) * 257)
    (folder / ".hidden.png").write_text("no image")
    return folder


@pytest.fixture
def similar(monkeypatch, tmp_path):
    """Run the command with a tiny encoder in an empty folder; gives its exit code."""
    monkeypatch.chdir(tmp_path)
    tiny = ("--encoder", "lenet", "--weights", "null", "--device", "cpu")
    return lambda *arguments: main(["similar", *map(str, arguments), *tiny])


def listed(out):
    return [
        (name, float(number))
        for number, name in re.findall(r"^ *(-?\d\.\d{3})  (.*)$", out, re.MULTILINE)
    ]


def test_copies_come_first_with_their_similarity(photos, similar, tmp_path, capsys):
    assert similar(photos / "0.png", photos, "--count", 4, "--json", "list.json") == 0
    out = capsys.readouterr().out
    names, numbers = zip(*listed(out), strict=True)
    expected = [str(photos / file) for file in ("deep.tif", "smaller.jpg", "below/mirrored.png")]
    assert sorted(names[:3]) == sorted(expected)
    assert list(numbers) == sorted(numbers, reverse=True)
    assert numbers[0] > 0.999
    assert "lenet with random weights; CPU" in out
    assert "the nearest of 8 images, drawn: 0_similar.png" in out
    report = json.loads((tmp_path / "list.json").read_text())
    assert [(e["file"], round(e["similarity"], 3)) for e in report["nearest"]] == listed(out)
    assert (report["encoder"], report["weights"], report["skipped"]) == ("lenet", None, [])
    assert {path.name for path in tmp_path.iterdir()} == {"0_similar.png", "list.json"}


def test_the_numbers_are_cosines_of_descriptors(photos, similar, capsys):
    assert similar(photos / "1.png", photos, "--count", 20) == 0
    found = dict(listed(capsys.readouterr().out))
    assert len(found) == 8  # all but itself
    describer = Describer("lenet", None, "cpu")
    first, other = (describer(np.array(Image.open(photos / f"{n}.png"))) for n in (1, 4))
    cosine = torch.nn.functional.cosine_similarity(*map(torch.from_numpy, (first, other)), dim=0)
    assert found[str(photos / "4.png")] == pytest.approx(float(cosine), abs=6e-4)


def test_a_broken_file_is_told_and_skipped(photos, similar, tmp_path, capsys):
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "broken.png").write_text("no image")
    Image.open(photos / "2.png").save(folder / "sound.png")
    assert similar(photos / "2.png", folder, "--json", tmp_path / "list.json") == 1
    out, err = capsys.readouterr()
    assert [name for name, _ in listed(out)] == [str(folder / "sound.png")]
    first, last = err.splitlines()
    assert first.startswith(f"skipped {folder}/broken.png: cannot be read")
    assert last == "1 of 2 files skipped"
    report = json.loads((tmp_path / "list.json").read_text())
    assert report["skipped"] == [str(folder / "broken.png")]


def test_its_own_picture_is_not_found(photos, similar, tmp_path, capsys):
    for file in ("0.png", "1.png"):
        (tmp_path / file).write_bytes((photos / file).read_bytes())
    for _ in range(2):
        assert similar("0.png", ".") == 0
        assert [name for name, _ in listed(capsys.readouterr().out)] == ["1.png"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["{photos}/no.png", "{photos}"], ["no.png", "cannot be read"]),
        (["{photos}/0.png", "{photos}/no"], ["there is no folder", "name one that holds images"]),
        (["{photos}/0.png", "{empty}"], ["holds no other image", "name another folder"]),
        (["{photos}/0.png", "{broken}"], ["none of these images can be read"]),
        (["{photos}/0.png", "{photos}", "--out", "no/a.png"], ["cannot write no/a.png"]),
        (["{photos}/0.png", "{photos}", "--json", "no/a.json"], ["cannot write no/a.json"]),
    ],
)
def test_mistakes_are_told_in_a_sentence(arguments, parts, photos, similar, tmp_path, capsys):
    known = {"photos": photos, "empty": tmp_path / "empty", "broken": tmp_path / "broken"}
    for name in ("empty", "broken"):
        known[name].mkdir()
    (known["broken"] / "broken.png").write_text("no image")
    assert similar(*(argument.format(**known) for argument in arguments)) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith("error: ")
    assert all(part in errors[-1] for part in parts), errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "empty"]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--encoder", "lenett"], ["unknown encoder 'lenett'", "did you mean 'lenet'"]),
        (["--encoder", "lenet"], ["weights is imagenet", "use weights: null"]),
        (["--weights", "no.pth"], ["there is no weight file no.pth"]),
    ],
)
def test_encoders_and_weights_that_are_not_there(options, parts, photos, capsys, monkeypatch):
    assert main(["similar", str(photos / "0.png"), str(photos), *options]) == 2
    err = capsys.readouterr().err
    assert all(part in err for part in parts), err


def test_without_network_a_failed_download_is_told(photos, capsys, monkeypatch, tmp_path):
    def fail(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    words = ["similar", str(photos / "0.png"), str(photos), "--encoder", "resnet18"]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "could not download https://" in err
    assert "no route to host" in err


# The picture


@pytest.mark.parametrize(("count", "cells"), [(1, (1, 2)), (4, (1, 5)), (8, (2, 6)), (9, (3, 6))])
def test_the_picture_grows_with_what_was_found(count, cells, tmp_path):
    red, blue = (np.full((40, 40, 3), color, np.uint8) for color in ((250, 0, 0), (0, 0, 250)))
    found = [(blue, "a/very/long/folder/name/{$x}.png")] * count
    draw_similar(tmp_path / "a.png", (red, "query.png"), found, [0.5] * count)
    drawn = np.array(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    height, width = drawn.shape[:2]
    assert height / cells[0] == pytest.approx(255, abs=5)
    assert width / cells[1] == pytest.approx(230, abs=5)
    is_red, is_blue = ((drawn == color).all(-1) for color in ((250, 0, 0), (0, 0, 250)))
    one = is_blue.sum() / count
    assert one > 200**2
    assert is_red.sum() == pytest.approx(one * min(cells[0], 2) ** 2, rel=0.2)
    assert np.nonzero(is_red)[1].max() < np.nonzero(is_blue)[1].min()
