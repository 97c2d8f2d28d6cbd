"""The report's numbers are NumPy's; it goes through JSON, onto the terminal and into a page."""

import io
import json
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from segkit.console import PlainConsole
from segkit.data.card import Card, load_card
from segkit.doctor.page import as_html
from segkit.doctor.report import lines, make_report, sizes_line, tables
from segkit.doctor.scan import list_splits, scan

LABELS = {"ground": 0, "box": 10, "bar": 20}


def examine(card, **settings):
    splits = list_splits(card, list(card.splits))
    scan(card, splits, None, **settings)
    return make_report(card, splits, ("train", "val")), splits


@pytest.fixture
def odd_set(tiny_set):
    """Sizes that differ, a class missing in some images, an image that cannot be read."""
    images, masks = (tiny_set.root / "train" / kind for kind in ("images", "masks"))
    for index, (height, width) in ((0, (30, 48)), (1, (40, 20))):
        for folder in (images, masks):
            path = folder / f"train_{index}.png"
            Image.open(path).crop((0, 0, width, height)).save(path)
    (images / "train_2.png").write_text("no image")
    (masks / "train_3.png").write_text("no mask")
    return tiny_set


def pixels_of(folder):
    found = []
    for path in sorted(folder.iterdir()):
        if path.read_bytes()[:2] != b"no":
            found.append(np.array(Image.open(path)))
    return found


def test_the_numbers_are_those_of_numpy(odd_set):
    report, _ = examine(load_card(odd_set.card))
    assert [summary.name for summary in report.splits] == ["train", "val"]
    for summary, pairs in zip(report.splits, (6, 3), strict=True):
        masks = pixels_of(odd_set.root / summary.name / "masks")
        images = pixels_of(odd_set.root / summary.name / "images")
        flat = np.concatenate([mask.ravel() for mask in masks])
        valid = [mask[mask != 99] for mask in masks]
        counts = {name: int((flat == raw).sum()) for name, raw in LABELS.items()}
        frequency = {
            name: counts[name] / sum(v.size for v in valid if (v == raw).any())
            for name, raw in LABELS.items()
        }
        assert summary.pairs == pairs
        assert summary.void == pytest.approx((flat == 99).mean())
        for entry in summary.classes:
            assert entry.pixels == counts[entry.name]
            assert entry.share == pytest.approx((flat[flat != 99] == LABELS[entry.name]).mean())
            assert entry.images == sum(bool((mask == LABELS[entry.name]).any()) for mask in masks)
            expected = np.median(list(frequency.values())) / frequency[entry.name]
            assert entry.weight == pytest.approx(expected, rel=1e-5)
        white = np.concatenate([image.reshape(-1, 3) for image in images]) / 255
        np.testing.assert_allclose(summary.mean, white.mean(0), atol=1e-5)
        np.testing.assert_allclose(summary.std, white.std(0), atol=1e-5)
        sizes = [image.shape[:2] for image in images]
        assert dict(summary.sizes) == {size: sizes.count(size) for size in sizes}
        assert summary.sizes[0][0] == (40, 48)
    assert [summary.classes[2].images for summary in report.splits] == [4, 3]  # one has no bar


@pytest.mark.parametrize(
    ("write", "white"),
    [
        (lambda p, a: np.save(p.with_suffix(".npy"), a.astype(np.uint16) * 16), 255 * 16),
        (lambda p, a: tifffile.imwrite(p.with_suffix(".tif"), np.float32(a / 255)), 1),
    ],
    ids=["16 bits", "float"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_channels_of_deep_images_are_shares_of_white(write, white, tiny_set):
    expected, _ = examine(load_card(tiny_set.card))
    for split in ("train", "val"):
        for path in list((tiny_set.root / split / "images").iterdir()):
            write(path, np.array(Image.open(path)))
            path.unlink()
    report, _ = examine(load_card(tiny_set.card, overrides=[f"image_max={white}"]))
    assert report.findings == []
    for found, summary in zip(report.splits, expected.splits, strict=True):
        np.testing.assert_allclose(found.mean, summary.mean, atol=1e-5)
        np.testing.assert_allclose(found.std, summary.std, atol=1e-5)


def test_channels_are_those_of_most_images(tiny_set):
    folder = tiny_set.root / "train/images"
    for index in (0, 4):
        path = folder / f"train_{index}.png"
        Image.open(path).convert("L").save(path)
    report, _ = examine(load_card(tiny_set.card))
    colour = [pixels for pixels in pixels_of(folder) if pixels.ndim == 3]
    expected = np.concatenate([pixels.reshape(-1, 3) for pixels in colour]) / 255
    assert len(colour) == 4
    np.testing.assert_allclose(report.splits[0].mean, expected.mean(0), atol=1e-5)


def test_each_pair_is_read_once_though_splits_overlap(odd_set):
    card = yaml.safe_load(odd_set.card.read_text())
    card["root"] = str(odd_set.root)
    card["splits"]["trainval"] = card["splits"]["train"]
    ticks = []
    report, splits = examine(Card.model_validate(card), on_pair=lambda: ticks.append(1))
    assert len(ticks) == 6 + 3 + 6  # as a progress bar expects
    train, _, both = splits
    assert all(a is b for a, b in zip(train.facts, both.facts, strict=True))
    assert report.splits[0].classes == report.splits[2].classes


def test_json_says_all_that_is_found(odd_set):
    report, _ = examine(load_card(odd_set.card))
    plain = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert (plain["card"], plain["root"]) == ("tiny", str(odd_set.root))
    severities = [finding["severity"] for finding in plain["findings"]]
    assert plain["errors"] == severities.count("error") == report.errors == 2
    assert plain["warnings"] == severities.count("warning") == report.warnings == 0
    for finding, told in zip(report.findings, plain["findings"], strict=True):
        assert told["text"] == finding.text
        assert told["examples"] == list(finding.examples)
        assert told["count"] == finding.count == 1
    train = plain["splits"][0]
    assert train["sizes"] == [[[40, 48], 3], [[30, 48], 1], [[40, 20], 1]]
    assert [entry["name"] for entry in train["classes"]] == list(LABELS)
    assert set(train["classes"][0]) == {"name", "pixels", "share", "images", "weight"}
    assert len(train["mean"]) == len(train["std"]) == 3


def test_the_terminal_shows_classes_sizes_and_findings(odd_set):
    report, _ = examine(load_card(odd_set.card))
    out = io.StringIO()
    for table in tables(report):
        PlainConsole(file=out, width=120).print(table)
    shown = out.getvalue()
    words = " ".join(shown.split())
    assert "train: 6 pairs, 3 sizes, heights 30 to 40, widths 20 to 48, 3 of 40x48 (H x W)" in words
    assert "val: 3 pairs, 40x48 (H x W)" in shown
    box = report.splits[0].classes[1]
    row = next(line for line in shown.splitlines() if " box " in line)
    assert all(n in row for n in (f"{100 * box.share:.2f}", f" {box.images} ", f"{box.weight:.4f}"))
    assert f"{report.splits[0].mean[0]:.4f}" in shown
    assert report.verdict == "2 errors, 0 warnings"
    severities = [severity for severity, _ in lines(report)]
    assert severities == ["error", "", "error", ""]


def test_five_examples_and_the_number_of_the_rest_are_told(tiny_set):
    for path in (tiny_set.root / "train/images").iterdir():
        path.write_text("no image")
    report, _ = examine(load_card(tiny_set.card))
    texts = [text for _, text in lines(report)]
    assert texts[0].startswith("images: train: 6 of 6 images")
    assert len(texts) == 7
    assert texts[-1] == "... and 1 more"
    assert sizes_line(report.splits[0]) == "no readable image"


def test_a_sound_set_is_told_so(tiny_set):
    report, _ = examine(load_card(tiny_set.card))
    assert (report.findings, report.errors, report.warnings) == ([], 0, 0)
    assert report.verdict == "nothing is wrong with it"


NAMES = ["[red]no <b>", "a, b: c", "no"]  # to rich, HTML and YAML they are more than words


def test_names_are_shown_as_they_are(tiny_set):
    card = yaml.safe_load(tiny_set.card.read_text())
    card["root"] = str(tiny_set.root)
    for entry, name in zip(card["classes"], NAMES, strict=True):
        entry["name"] = name
    card["label_map"] = dict(zip((0, 10, 20), NAMES, strict=True))
    report, splits = examine(Card.model_validate(card))
    out = io.StringIO()
    for table in tables(report):
        PlainConsole(file=out, width=120).print(table)
    assert all(name in out.getvalue() for name in NAMES)
    assert all(name in text_of(as_html(report, splits)) for name in NAMES)
    proposal = "label_map: " + report.findings[0].text.partition("label_map: ")[2]
    assert yaml.safe_load(proposal)["label_map"] == {**card["label_map"], 99: "ignore"}


def test_a_split_that_is_void_everywhere_or_of_odd_images_is_summed_up(tiny_set):
    for index, (width, height) in enumerate([(1, 1), (4000, 5), (3, 400)]):
        Image.new("RGB", (width, height)).save(tiny_set.root / f"val/images/val_{index}.png")
        mask = Image.new("L", (width, height), 99)
        mask.save(tiny_set.root / f"val/masks/val_{index}.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report, splits = examine(load_card(tiny_set.card))
    val = report.splits[1]
    assert val.void == 1
    assert [entry.weight for entry in val.classes] == [0, 0, 0]
    checks = {finding.check for finding in report.findings}
    assert checks >= {"empty masks", "constant", "missing classes", "void"}
    assert as_html(report, splits).count("data:image/webp") == 2 * (4 + 3)


class Page(HTMLParser):
    """What a browser would show, and the tags it would meet."""

    def __init__(self):
        super().__init__()
        self.text, self.tags = [], []

    def handle_data(self, data):
        self.text.append(data)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def text_of(html):
    page = Page()
    page.feed(html)
    return " ".join(" ".join(page.text).split())


def test_the_page_stands_alone_and_holds_all(odd_set):
    Image.open(odd_set.root / "train/images/train_4.png").save(
        odd_set.root / "val/images/val_0.png"
    )
    report, splits = examine(load_card(odd_set.card))
    html = as_html(report, splits)
    text = text_of(html)
    assert report.verdict in text
    for finding in report.findings:
        assert finding.text in text
        assert all(example in text for example in finding.examples)
    assert all(name in text for name in LABELS)
    assert "train: 6 pairs" in text
    page = Page()
    page.feed(html)
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe"} == set()
    sources = [value for _, a in page.tags for key, value in a.items() if key in ("src", "href")]
    # 4 of train's sound pairs and 3 of val, image and overlay each, and a pair for the leak
    assert len(sources) == 2 * (4 + 3) + 2
    assert all(source.startswith("data:image/webp;base64,") for source in sources)
    assert "http" not in text
    assert "url(" not in html
