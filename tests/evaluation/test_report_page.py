"""The report's page, parsed, and in a browser where there is one."""

import base64
import csv
import io
import json
import math
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from segkit.config.load import dump_config, parse_config
from segkit.data.card import Card
from segkit.data.dataset import Sample
from segkit.data.epoch_batches import EpochBatches
from segkit.data.loader import Loader
from segkit.drawing.masks import VOID_COLOR, colorize
from segkit.errors import UserError
from segkit.evaluation import evaluate_images, summarize_evaluation
from segkit.evaluation.report import write_report
from segkit.evaluation.report.confusion import NUMBERED
from segkit.evaluation.report.plots import Frame
from segkit.evaluation.results import HEADLINES
from segkit.evaluation.scores import percent
from segkit.evaluation.target import EvaluationTarget
from segkit.files import check_folder
from segkit.hardware import Hardware
from segkit.inference import Predictor, Tiles

VOID = 255
RED = (200, 0, 0)
SIZE = (24, 32)  # H, W
NASTY = ("<script>alert(1)</script>", "a\"b'c & d", "plain")
CONFIG = parse_config(
    {
        "run_dir": "runs/x",
        "data": {"card": "card.yaml"},
        "model": {"encoder": {"name": "vgg11_bn"}, "decoder": {"name": "unet"}},
        "train": {"epochs": 1, "optimizer": {"name": "adamw", "lr": 0.001}},
    },
    "the tests",
)


class Painted(nn.Module):
    """Predicts the class that an image has for red, with a confidence that green gives."""

    stride = 1

    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes

    def forward(self, x):
        hot = nn.functional.one_hot(x[:, 0].round().long(), self.num_classes)
        return hot.movedim(-1, 1) * (1 + x[:, 1:2] / 64)


class Scenes(torch.utils.data.Dataset):
    """Pairs of truth and prediction in the order given, whatever their names."""

    def __init__(self, card, scenes):
        self.card, self.split, self.scenes = card, "val", scenes
        self.pairs = SimpleNamespace(names=[name for name, _, _ in scenes])

    def __len__(self):
        return len(self.scenes)

    def __getitem__(self, key):
        name, truth, prediction = self.scenes[key[1] if isinstance(key, tuple) else key]
        pixels = np.random.default_rng(len(name)).integers(0, 256, (*truth.shape, 3))
        pixels[..., 0] = prediction
        image = torch.from_numpy(pixels.astype(np.uint8)).movedim(-1, 0)
        return Sample(image, torch.from_numpy(truth.astype(np.uint8)), name)


class Page(HTMLParser):
    """A page as a flat list of elements: tag, attributes, the text inside."""

    VOID_TAGS = ("meta", "link", "img", "br", "line", "path", "rect")

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.text = text
        self.feed(text)
        assert not self.open, "tags left open"

    def handle_starttag(self, tag, attrs):
        element = SimpleNamespace(tag=tag, attrs=dict(attrs), text="", within=tuple(self.open))
        self.elements.append(element)
        if tag not in self.VOID_TAGS:
            self.open.append(element)

    def handle_endtag(self, tag):
        if tag not in self.VOID_TAGS:
            assert self.open.pop().tag == tag

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID_TAGS:
            self.open.pop()

    def handle_data(self, data):
        for element in self.open:
            element.text += data

    def all(self, tag, inside=None, **attrs):
        return [
            e
            for e in self.elements
            if e.tag == tag
            and (inside is None or inside in e.within)
            and all((e.attrs.get(k) or "").split()[:1] == [v] for k, v in attrs.items())
        ]

    def rows(self, table):
        body = self.all("tbody", inside=table)[0]
        return [
            [e for e in self.elements if e.within and e.within[-1] is row and e.tag in ("td", "th")]
            for row in self.all("tr", inside=body)
        ]


def card_of(names, **keys):
    rng = np.random.default_rng(5)
    return Card.model_validate(
        {
            "name": "scenes",
            "root": "/nowhere",
            "splits": {"val": {"images": "i", "masks": "m"}},
            "classes": [
                {"name": name, "color": rng.integers(0, 256, 3).tolist()} for name in names
            ],
            "label_map": dict(enumerate(names)),
            "source": "https://example.org/set?a=1&b=2",
            **keys,
        }
    )


def blobs(rng, num_classes, size=SIZE):
    coarse = rng.integers(0, num_classes, (-(-size[0] // 8), -(-size[1] // 8)))
    return np.kron(coarse, np.ones((8, 8), np.int64))[: size[0], : size[1]]


def scenes_of(errors, num_classes, size=SIZE, seed=0):
    """Images by name, with that share of wrong pixels; None: all void."""
    rng = np.random.default_rng(seed)
    scenes = []
    for name, share in errors.items():
        truth = blobs(rng, num_classes, size)
        wrong = rng.random(size) < (share or 0)
        prediction = np.where(wrong, (truth + 1) % num_classes, truth)
        truth[:, :3] = VOID
        if share is None:
            truth[:] = VOID
        scenes.append((name, truth, prediction))
    return scenes


def make(folder, class_names, scenes, figures="{}", inference=None, **keys):
    """Write a report; gives its page, parsed, and what it was made from."""
    card = card_of(class_names, **keys)
    dataset = Scenes(card, scenes)
    hardware = Hardware(torch.device("cpu"), "fp32", "for the tests")
    predictor = Predictor(
        Painted(len(class_names)),
        mean=(0.0,) * 3,
        std=(1 / 255,) * 3,
        hardware=hardware,
        **(inference or {}),
        origin="runs/<x>/checkpoints/best.pt, epoch 3",
    )
    target = EvaluationTarget(predictor, CONFIG, dataset, {})
    loader = Loader(dataset, EpochBatches(len(dataset), 1, shuffle=False), 0)
    found = evaluate_images(predictor, loader, len(class_names), boundaries=True, calibration=True)
    results = summarize_evaluation(
        found, card.class_names, card.sequences, foreground=card.foreground
    )
    path = write_report(folder, found, results, target, figures)
    page = Page(path.read_text(encoding="utf-8"))
    return SimpleNamespace(
        page=page, path=path, found=found, results=results, target=target, card=card
    )


ERRORS = {"z<b>0": 0.5, "y&1": 0.02, "x2": 0.3, "all void": None, 'w"3': 0.15}  # not in order


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return make(tmp_path_factory.mktemp("three"), NASTY, scenes_of(ERRORS, 3))


@pytest.fixture(scope="module")
def thirty(tmp_path_factory):
    names = [f"class {i} of a long name" if i % 7 == 3 else f"c{i}" for i in range(30)]
    scenes = scenes_of({f"image_{i:03}": 0.05 * (i % 12) for i in range(12)}, 30, (64, 80))
    return make(tmp_path_factory.mktemp("thirty"), names, scenes)


@pytest.fixture(scope="module")
def absent(tmp_path_factory):
    """Class 2 is nowhere, class 3 only predicted, and classes 0 and 1 differ."""
    rng = np.random.default_rng(1)
    truth, prediction = rng.integers(0, 2, SIZE), rng.integers(0, 2, SIZE)
    prediction[0, :5] = 3
    names = ("ten", "two", "nowhere", "only predicted")
    return make(tmp_path_factory.mktemp("absent"), names, [("a", truth, prediction)])


@pytest.fixture(scope="module")
def void(tmp_path_factory):
    return make(tmp_path_factory.mktemp("void"), NASTY, scenes_of({"a": None, "b": None}, 3))


def pictures(report):
    """Give name -> kind -> (RGB, element)."""
    found = {}
    for article in report.page.all("article"):
        heading = report.page.all("h4", inside=article)[0].text
        name = heading[: heading.rindex(": mIoU")]
        assert name not in found, "an image twice"
        found[name] = {}
        for figure in report.page.all("figure", inside=article):
            img = report.page.all("img", inside=figure)[0]
            kind = report.page.all("figcaption", inside=figure)[0].text
            data = base64.b64decode(img.attrs["src"].removeprefix("data:image/webp;base64,"))
            picture = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
            found[name][kind] = (picture, img)
    return found


def tile_of(page, key):
    return page.all("li", **{"data-figure": key})[0]


def test_nothing_comes_from_the_network(three, thirty):
    for report in (three, thirty):
        for element in report.page.elements:
            for name, value in element.attrs.items():
                if name in ("src", "href", "srcset", "action", "poster", "xlink:href", "data"):
                    assert value.startswith(("data:", "#")), (element.tag, name, value[:80])
                assert "url(" not in (value or "")
        assert "url(" not in report.page.text
        assert "@import" not in report.page.text


@pytest.mark.parametrize("name", ["three", "thirty", "absent", "void"])
def test_the_class_table_has_the_numbers_of_the_results(name, request):
    report = request.getfixturevalue(name)
    page, results, scores = report.page, report.results, report.results.scores
    table = page.all("table", **{"class": "classes"})[0]
    titles = [e.text.replace("\xa0", " ") for e in page.all("button", inside=table)]
    columns = {
        "IoU %": scores.iou,
        "Dice %": scores.dice,
        "precision %": scores.precision,
        "accuracy (recall) %": scores.recall,
        "boundary F1 %": results.boundary_f1,
        "boundary IoU %": results.boundary_iou,
        "of truth %": results.target_share,
        "of prediction %": results.predicted_share,
    }
    assert titles == ["#", "class", *columns, "support px"]
    rows = page.rows(table)
    assert [row[1].text for row in rows] == list(results.class_names)
    for c, row in enumerate(rows):
        assert [cell.text for cell in row[2:-1]] == [percent(v[c]) for v in columns.values()]
        for cell, values in zip(row[2:-1], columns.values(), strict=True):
            shown = cell.attrs["data-value"]
            assert shown == "" if np.isnan(values[c]) else float(shown) == values[c]
        assert row[-1].text == f"{scores.support[c]:,}"
        swatch = page.all("span", inside=row[1])[0]
        assert swatch.attrs["style"] == f"background:rgb{report.card.colors[c]}"


@pytest.mark.parametrize("name", ["three", "thirty", "absent", "void"])
def test_headline_figures_with_intervals(name, request):
    report = request.getfixturevalue(name)
    shown = [e.attrs["data-figure"] for e in report.page.all("li") if "data-figure" in e.attrs]
    assert shown[0] == "miou"
    assert shown == [name for name in HEADLINES if name != "foreground_iou"]
    for key in shown:
        tile = tile_of(report.page, key)
        headline = report.results.headlines[key]
        value, interval = headline.value, headline.interval
        unit = "" if math.isnan(value) else " %"
        assert report.page.all("b", inside=tile)[0].text == percent(value) + unit
        written = [e.text for e in report.page.all("span", inside=tile, **{"class": "interval"})]
        if interval is None or math.isnan(interval[0]):
            assert written == []
        else:
            assert written == [f"95 %: {percent(interval[0])} to {percent(interval[1])}"]
    scores = report.results.scores
    present = f"{scores.classes_present} of {len(scores.iou)} classes present"
    assert present in tile_of(report.page, "miou").text


def test_a_single_image_has_no_intervals(absent):
    assert "95 %:" not in absent.page.text
    assert "No intervals: 1 image, and fewer than 10 are too few." in absent.page.text
    assert "There are no intervals: from fewer than 10 independent images" in absent.page.text
    assert "3 of 4 classes present" in tile_of(absent.page, "miou").text
    assert len(pictures(absent)) == 1


@pytest.mark.parametrize("foreground", [None, "background"])
def test_two_classes_show_the_foreground(tmp_path, foreground):
    rng = np.random.default_rng(3)
    truths = [(rng.random(SIZE) < 0.1).astype(int) for _ in range(12)]
    scenes = [
        (f"{i}", t, np.where(rng.random(SIZE) < 0.05, 1 - t, t)) for i, t in enumerate(truths)
    ]
    report = make(tmp_path, ("background", "crack"), scenes, foreground=foreground)
    shown = [e for e in report.page.all("li") if "data-figure" in e.attrs]
    assert [e.attrs["data-figure"] for e in shown[:2]] == ["foreground_iou", "miou"]
    of_background, of_crack = report.results.scores.iou
    assert of_crack + 0.2 < of_background
    iou = of_background if foreground else of_crack
    assert f"{percent(iou)} %" in shown[0].text
    assert f"class ‘{foreground or 'crack'}’" in shown[0].text
    low, high = map(float, re.search(r"95 %: ([\d.]+) to ([\d.]+)", shown[0].text).groups())
    assert low < 100 * iou < high
    assert tile_of(report.page, "miou").attrs["class"] == shown[0].attrs["class"] == "tile main"


def test_warnings_and_the_baseline(three, void, tmp_path):
    assert not three.page.all("p", **{"class": "warning"})
    baseline = three.page.all("p", id="baseline")[0].text
    assert percent(three.results.baseline.miou) in baseline
    assert percent(three.results.baseline.pixel_accuracy) in baseline
    assert three.results.class_names[three.results.majority] in baseline
    assert "nothing to judge" in void.page.all("p", **{"class": "warning"})[0].text
    truth = blobs(np.random.default_rng(0), 3)
    majority = np.full(SIZE, np.bincount(truth.flat).argmax())
    constant = make(tmp_path, NASTY, [("a", truth, majority)])
    assert "no better" in constant.page.all("p", **{"class": "warning"})[0].text


def test_a_split_all_void_is_shown_as_such(void):
    assert not void.page.all("img", **{"class": "exact"})
    assert not void.page.all("svg")
    assert not void.page.all("dialog")
    assert "nan" not in re.sub(r"<(style|script)>.*?</\1>", "", void.page.text, flags=re.S).lower()


def test_names_are_escaped(three):
    assert len(three.page.all("script")) == 1
    for element in three.page.all("b"):
        assert "data-figure" in element.within[-1].attrs
    assert "z<b>0" in pictures(three)
    matrix = three.page.all("div", **{"aria-label": "confusion"})[0]
    heads = three.page.all("th", inside=matrix, scope="col")
    assert [e.attrs["title"] for e in heads[1:]] == list(NASTY)
    assert "runs/<x>/checkpoints/best.pt, epoch 3" in three.page.all("header")[0].text


@pytest.mark.parametrize("name", ["three", "thirty", "absent"])
def test_the_confusion_matrix(name, request):
    report = request.getfixturevalue(name)
    matrix = report.found.matrix.numpy()
    table = next(
        t
        for t in report.page.all("table")
        if any(e.attrs.get("aria-label") == "confusion matrix" for e in t.within)
    )
    names = report.results.class_names
    for t, row in enumerate(report.page.rows(table)):
        assert row[0].text == names[t]
        for p, cell in enumerate(row[1:]):
            share = matrix[t, p] / matrix[t].sum() if matrix[t].sum() else float("nan")
            if share > 0:
                assert cell.attrs["title"] == (
                    f"true {names[t]}, predicted {names[p]}: {percent(share)} % "
                    f"({matrix[t, p]:,} px)"
                )
                assert cell.attrs["style"] == f"--s:{share**0.5:.3f}"
                assert cell.text == (percent(share) if share >= 0.0005 else "")
            else:
                assert "title" not in cell.attrs
                assert cell.text == ("n/a" if math.isnan(share) and t == p else "")
    off = [(matrix[t, p], t, p) for t in range(len(names)) for p in range(len(names)) if t != p]
    pixels, t, p = max(off)
    told = next(e for e in report.page.all("table") if e.attrs.get("class") == "words nowrap")
    first = [cell.text for cell in report.page.rows(told)[0]]
    assert first[3] == f"{pixels:,}"
    assert matrix[names.index(first[0]), names.index(first[1])] == pixels


def test_many_classes_make_a_dense_matrix_without_numbers(tmp_path):
    count = NUMBERED + 1
    scenes = scenes_of({"a": 0.1, "b": 0.2}, count, (64, 64))
    page = make(tmp_path, [f"c{i}" for i in range(count)], scenes).page
    inside = next(e for e in page.all("div") if "dense" in (e.attrs.get("class") or ""))
    cells = page.all("td", inside=inside)
    assert len(cells) == count**2
    assert not any(e.text for e in cells if "title" in e.attrs)
    assert any("title" in e.attrs for e in cells)


def test_predicted_against_true(three, absent):
    for report in (three, absent):
        rows = report.page.all("ul", **{"class": "shares"})[0]
        results = report.results
        widest = max(results.target_share.max(), results.predicted_share.max())
        for c, row in enumerate(report.page.all("li", inside=rows)):
            both = results.target_share[c], results.predicted_share[c]
            assert row.text.strip().endswith(" / ".join(map(percent, both)))
            bars = [e.attrs["style"] for e in report.page.all("i", inside=row)]
            assert bars == [f"width:{100 * share / widest:.2f}%" for share in both]


def test_a_class_that_is_never_predicted_is_named(tmp_path):
    truth = np.arange(24 * 32).reshape(SIZE) % 3
    prediction = np.where(truth == 1, 0, truth)
    page = make(tmp_path, ("a", "lost", "c"), [("x", truth, prediction)]).page
    assert "Never predicted though in the truth: lost." in page.text


def test_the_plots_say_and_draw_the_numbers(three):
    results = three.results
    trimap, reliability = (e.text for e in three.page.all("desc"))
    for pixels in (1, 3, 5, 10, 20):
        assert f"{percent(results.trimap[pixels])} % within {pixels} px" in trimap
    assert percent(results.scores.miou) in trimap
    error = percent(results.calibration.error)
    assert f"calibration error {error} %" in reliability
    confidence = np.nansum(results.calibration.share * results.calibration.confidence)
    assert f"mean confidence {percent(confidence)} %" in reliability
    assert f"accuracy {percent(results.scores.pixel_accuracy)} %" in reliability
    first, second = three.page.all("svg")
    points = three.page.all("circle", inside=first)
    assert len(points) == len(results.trimap)
    places = [(float(e.attrs["cx"]), -float(e.attrs["cy"])) for e in points]
    assert np.corrcoef([p[0] for p in places], list(results.trimap))[0, 1] == pytest.approx(1)
    heights = list(results.trimap.values())
    assert np.corrcoef([p[1] for p in places], heights)[0, 1] == pytest.approx(1, abs=1e-4)
    dots = three.page.all("circle", inside=second)
    there = results.calibration.share > 0
    assert len(dots) == there.sum()
    drawn = np.array([[float(e.attrs["cx"]), float(e.attrs["cy"])] for e in dots])
    frame = Frame((0, 0), (1, 1))
    pairs = zip(results.calibration.confidence, results.calibration.accuracy, strict=True)
    expected = [(frame.x(c), frame.y(a)) for c, a in pairs if not np.isnan(c)]
    assert drawn == pytest.approx(np.array(expected))


def test_frames_map_corners_to_corners():
    frame = Frame((1, 0.2), (20, 0.8))
    assert (frame.x(1), frame.x(20)) == (40, 350)
    assert (frame.y(0.2), frame.y(0.8)) == (212, 10)
    assert frame.rules == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


def test_pictures_show_what_they_say(three):
    found = pictures(three)
    by_name = {name: maps for name, *maps in three.target.dataset.scenes}
    for name, shown in found.items():
        truth, prediction = by_name[name]
        for picture, img in shown.values():
            assert picture.shape == (*SIZE, 3)
            assert (int(img.attrs["height"]), int(img.attrs["width"])) == SIZE
            assert name in img.attrs["alt"]
            assert (img.attrs["loading"], img.attrs["decoding"]) == ("lazy", "async")
        assert len({img.attrs["alt"] for _, img in shown.values()}) == 4
        assert np.array_equal(shown["truth"][0], colorize(truth, three.card.colors))
        assert np.array_equal(shown["prediction"][0], colorize(prediction, three.card.colors))
        errors = shown["errors"][0]
        wrong = (truth != prediction) & (truth != VOID)
        assert wrong.any()
        assert np.array_equal((errors == RED).all(-1), wrong)
        assert len(np.unique(errors[truth == VOID], axis=0)) == 1
        right = errors[(truth == prediction)]
        assert (right >= 175).all()
        assert not (right == errors[0, 0]).all(-1).any(), "void looks like nothing else"
        share = wrong.sum() / (truth != VOID).sum()
        assert f"{percent(share)} % of the labelled pixels" in shown["errors"][1].attrs["alt"]
    for img in three.page.all("img"):
        assert "alt" in img.attrs


def test_large_images_shrink_without_blur(tmp_path):
    report = make(tmp_path, NASTY, scenes_of({"a": 0.2}, 3, (70, 1400)))
    shown = pictures(report)["a"]
    for picture, img in shown.values():
        assert picture.shape == (32, 640, 3)
        assert (img.attrs["width"], img.attrs["height"]) == ("640", "32")
    palette = {*report.card.colors, VOID_COLOR}
    for kind in ("truth", "prediction"):
        assert set(map(tuple, shown[kind][0].reshape(-1, 3).tolist())) <= palette


def test_the_worst_come_first_and_the_best_last(three, thirty):
    for report in (three, thirty):
        scores = dict(zip(report.found.names, report.results.image_miou.tolist(), strict=True))
        judged = sorted((v, k) for k, v in scores.items() if not math.isnan(v))
        best = min(3, len(judged) // 3)
        worst = min(6, len(judged) - best)
        values = [v for v, _ in judged]
        shown = list(pictures(report))
        assert [scores[name] for name in shown] == values[:worst] + values[::-1][:best]
        assert "all void" not in shown
        headings = [e.text for e in report.page.all("h4")]
        for name, heading in zip(shown, headings, strict=True):
            assert heading.startswith(f"{name}: mIoU {percent(scores[name])} %")
        assert [e.text for e in report.page.all("h3")][-2:] == ["Worst", "Best"]
    assert list(pictures(three)) == ["z<b>0", "x2", 'w"3', "y&1"]


def test_legend_conventions_config_and_origin(three):
    page = three.page
    legend = page.all("ul", **{"aria-label": "colours"})[0]
    assert [e.text for e in page.all("li", inside=legend)] == [*NASTY, "void"]
    voids = [e for e in page.all("li") if e.text.startswith("void")]
    shown = [page.all("span", inside=e)[0].attrs["style"] for e in voids]
    assert shown == [f"background:rgb{VOID_COLOR}"] * 2  # of the masks, and of the error maps
    wide = next(e for e in page.all("table") if e.attrs.get("class") == "words wide")
    assert [[cell.text for cell in row] for row in page.rows(wide)] == [
        [each.rule, each.used_by, percent(each.value)] for each in three.results.conventions
    ]
    assert page.all("pre")[0].text == dump_config(CONFIG)
    facts = dict(
        zip((e.text for e in page.all("dt")), (e.text for e in page.all("dd")), strict=True)
    )
    assert facts["device"] == str(three.target.predictor.backend)
    assert facts["source"] == three.card.source
    assert f"torch {torch.__version__.split('+')[0]}" in facts["packages"]


def test_other_ways_of_predicting_are_told(three, tmp_path):
    facts = [e.text for e in three.page.all("dt")]
    assert "averaged over" not in facts
    inference = {"tiles": Tiles(16, "blend"), "flip": True, "scales": (0.5, 1.0)}
    page = make(tmp_path, NASTY, scenes_of(ERRORS, 3), inference=inference).page
    told = [e.text for e in page.all("dd")]
    assert "in tiles of 16 px, blend" in told
    assert str(Tiles("auto")) == "in tiles as large as memory allows, exact"
    assert "x 0.5; x 0.5, mirrored; x 1; x 1, mirrored" in told


def test_how_intervals_were_made(thirty, tmp_path):
    text = " ".join(thirty.page.text.split())
    assert "95 %: intervals by bootstrap over 12 images;" in text
    assert "the middle 95 % of 2,000 bootstrap samples" in text
    assert "from the 12 images, which are taken as independent." in text
    scenes = scenes_of({f"a_{i:03}": 0.1 for i in range(100)}, 2, (8, 8))
    video = make(tmp_path, ("a", "b"), scenes, sequences="^([^_]+)_")
    text = " ".join(video.page.text.split())
    assert "95 %: intervals by bootstrap over 10 blocks of 10 consecutive images;" in text
    assert "from the 100 images in blocks of 10 consecutive ones" in text


def test_the_folder_is_filled_and_filled_again(tmp_path):
    folder = tmp_path / "a" / "b"
    for text in ("old", json.dumps({"miou": 1})):
        report = make(folder, NASTY, scenes_of(ERRORS, 3), text)
    assert report.path == folder / "report.html"
    assert sorted(p.name for p in folder.iterdir()) == [
        "classes.csv",
        "images.csv",
        "metrics.json",
        "report.html",
    ]
    assert (folder / "metrics.json").read_text() == text
    with (folder / "classes.csv").open(newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == list(NASTY)
    with (folder / "images.csv").open(newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == sorted(ERRORS)


def test_a_full_disk_leaves_the_old_report(tmp_path, monkeypatch):
    make(tmp_path, NASTY, scenes_of(ERRORS, 3), "old")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"No space left on device.*--report"):
        make(tmp_path, NASTY, scenes_of(ERRORS, 3), "new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_the_folder_is_tried_beforehand(tmp_path):
    check_folder(None)
    check_folder(tmp_path / "new" / "one")
    assert list((tmp_path / "new" / "one").iterdir()) == []
    file = tmp_path / "file"
    file.write_text("kept")
    for path in (file, file / "below"):
        with pytest.raises(UserError, match=f"{path}.*name another") as error:
            check_folder(path)
        assert "\n" not in str(error.value)
    assert file.read_text() == "kept"


# --- in a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Open a report; at the end, nothing may have gone wrong or been fetched."""
    opened, wrong, fetched = [], [], []

    def go(report, width=1200, mode="light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=mode, offline=True
        )
        tab = context.new_page()
        tab.on("console", lambda message: wrong.append(message.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("request", lambda request: fetched.append(request.url))
        tab.goto(Path(report.path).as_uri())
        opened.append(context)
        return tab

    yield go
    for context in opened:
        context.close()
    assert wrong == []
    assert [url for url in fetched if not url.startswith(("file:", "data:"))] == []


def test_pictures_have_an_edge_on_a_page_of_their_colour(visit, three):
    shadow = "e => getComputedStyle(e).boxShadow"
    assert visit(three).locator(".zoom img").first.evaluate(shadow) != "none"


def test_every_picture_loads(visit, three, void):
    tab = visit(three)
    for picture in tab.query_selector_all("article img"):
        picture.scroll_into_view_if_needed()
        picture.evaluate("img => img.decode()")
    sizes = tab.evaluate("[...document.querySelectorAll('article img')].map(i => i.naturalWidth)")
    assert sizes == [SIZE[1]] * 16
    visit(void)


COLUMN = "i => [...document.querySelectorAll('.classes tbody tr')].map(r => r.cells[i].innerText)"
SORTED = "[...document.querySelectorAll('.classes thead th')].map(h => h.getAttribute('aria-sort'))"


def test_a_click_sorts(visit, absent):
    tab = visit(absent)
    tab.click(".classes th:nth-child(3) button")
    shown = tab.evaluate(COLUMN, 2)
    assert shown[-1] == "n/a"
    assert [float(v) for v in shown[:-1]] == sorted(map(float, shown[:-1]), reverse=True)
    assert tab.evaluate(SORTED) == [None, None, "descending"] + [None] * 8
    tab.click(".classes th:nth-child(3) button")
    again = tab.evaluate(COLUMN, 2)
    assert again == [*shown[:-1][::-1], "n/a"]
    assert tab.evaluate(SORTED)[2] == "ascending"
    tab.click(".classes th:nth-child(11) button")
    support = [int(v.replace(",", "")) for v in tab.evaluate(COLUMN, 10)]
    assert support == sorted(absent.results.scores.support, reverse=True)
    tab.click(".classes th:first-child button")
    assert tab.evaluate(COLUMN, 0) == ["0", "1", "2", "3"]


def test_enter_sorts(visit, absent):
    tab = visit(absent)
    tab.focus(".classes th:nth-child(2) button")
    tab.keyboard.press("Enter")
    assert tab.evaluate(COLUMN, 1) == ["nowhere", "only predicted", "ten", "two"]
    assert tab.evaluate(SORTED)[1] == "ascending"
    tab.keyboard.press("Enter")
    assert tab.evaluate(COLUMN, 1) == ["two", "ten", "only predicted", "nowhere"]
    tab.keyboard.press("Tab")  # reaches the next header
    tab.keyboard.press("Enter")
    assert tab.evaluate(SORTED)[2] == "descending"
    outline = tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


@pytest.mark.parametrize("width", [320, 400])
@pytest.mark.parametrize("name", ["three", "thirty"])
def test_a_phone_scrolls_no_page_sideways(visit, name, width, request):
    tab = visit(request.getfixturevalue(name), width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("document.querySelector('.confusion').scrollWidth") > 0
    if name == "thirty":
        inside = "(e => e.scrollWidth > e.clientWidth)(document.querySelector('.confusion'))"
        assert tab.evaluate(inside)


CONTRASTS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = (color) => { const [r, g, b] = color.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const found = [];
  for (const e of document.querySelectorAll('td, th, p, span, b, dt, dd, li, h2, a, button')) {
    if (!e.textContent.trim()) continue;
    let behind = e;
    while (behind && rgb(getComputedStyle(behind).backgroundColor)[3] === 0)
      behind = behind.parentElement;
    const [x, y] = [rgb(getComputedStyle(e).color), rgb(getComputedStyle(behind).backgroundColor)]
      .map(light).sort((a, b) => b - a);
    found.push([(x + 0.05) / (y + 0.05), e.tagName + ' ' + e.textContent.trim().slice(0, 30)]);
  }
  return found.sort((a, b) => a[0] - b[0])[0];
}"""


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_stands_out(visit, thirty, mode):
    contrast, where = visit(thirty, mode=mode).evaluate(CONTRASTS)
    assert contrast >= 4.5, where


def test_dark_mode_is_dark_and_print_is_not(visit, three):
    background = "getComputedStyle(document.body).backgroundColor"
    assert visit(three, mode="light").evaluate(background) == "rgb(255, 255, 255)"
    tab = visit(three, mode="dark")
    assert tab.evaluate(background) == "rgb(24, 27, 31)"
    tab.emulate_media(media="print", color_scheme="dark")
    assert tab.evaluate(background) == "rgb(255, 255, 255)"


def test_pictures_enlarge_by_key(visit, three):
    tab = visit(three)
    tab.focus(".zoom")
    tab.keyboard.press("Enter")
    alt = "document.querySelector('dialog img').alt"
    assert tab.evaluate("document.querySelector('dialog').open")
    assert tab.evaluate(alt) == "image z<b>0"
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate(alt) == "truth of z<b>0"
    for _ in range(2):
        tab.keyboard.press("ArrowLeft")
    assert tab.evaluate(alt).startswith("errors in y&1")
    tab.keyboard.press("Escape")
    assert not tab.evaluate("document.querySelector('dialog').open")
    focused = "document.activeElement.querySelector('img')?.alt.startsWith('errors in y&1')"
    tab.wait_for_function(focused, timeout=5000)  # the dialog tells of its end a moment later


def test_a_cell_tells_its_numbers(visit, thirty):
    tab = visit(thirty)
    cell = tab.query_selector(".confusion td.right[title]")
    cell.click()
    assert tab.text_content("#cell") == cell.get_attribute("title")
