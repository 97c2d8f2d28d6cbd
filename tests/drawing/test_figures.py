"""Figures and pages: what is drawn, where, and how they fail."""

from types import SimpleNamespace

import jinja2
import numpy as np
import pytest
import torch
from PIL import Image

from segkit.drawing.costs import draw_costs
from segkit.drawing.curves import draw_curves
from segkit.drawing.figures import draw_legend
from segkit.drawing.lr_range import draw_range_test
from segkit.drawing.masks import ERROR_COLOR, VOID_COLOR, error_map, overlay
from segkit.drawing.pages import render
from segkit.drawing.predictions import draw_predictions
from segkit.drawing.samples import draw_sheet
from segkit.errors import UserError
from segkit.labels import Classes

CLASSES = Classes(("sky", "road", "car"), ((0, 120, 250), (120, 60, 120), (250, 200, 0)))
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (3, 20, 30), np.uint8)
TARGET = RNG.integers(0, 3, (20, 30), np.uint8)
TARGET[:, :4] = 255
PREDICTION = np.where(RNG.random((20, 30)) < 0.3, 0, TARGET % 3).astype(np.uint8)


def tensors():
    return tuple(map(torch.from_numpy, (IMAGE, TARGET, PREDICTION)))


def holds(path, color):
    return (np.array(Image.open(path).convert("RGB")) == color).all(-1).sum()


def test_an_error_map_shows_errors_and_void():
    painted = error_map(*tensors())
    void = TARGET == 255
    wrong = (TARGET != PREDICTION) & ~void
    assert (painted[wrong] == ERROR_COLOR).all()
    assert (painted[void] == VOID_COLOR).all()
    right = painted[~wrong & ~void]
    assert (right == right[:, :1]).all()  # grey
    assert (right >= 175).all()
    assert wrong.sum()
    assert len(right)


def test_tensors_are_channels_first_and_arrays_channels_last():
    image, target, prediction = tensors()
    array = IMAGE.transpose(1, 2, 0)
    assert (error_map(array, TARGET, PREDICTION) == error_map(image, target, prediction)).all()
    assert (overlay(array, TARGET, CLASSES.colors) == overlay(image, target, CLASSES.colors)).all()


def test_predictions_show_errors_and_the_legend(tmp_path):
    draw_predictions(tmp_path / "a.png", [tensors(), tensors()], CLASSES)
    for color in (*CLASSES.colors, ERROR_COLOR, VOID_COLOR):
        assert holds(tmp_path / "a.png", color) > 50
    right = (IMAGE, TARGET, np.where(TARGET == 255, 0, TARGET))
    draw_predictions(tmp_path / "b.png", [tuple(map(torch.from_numpy, right))], CLASSES)
    assert holds(tmp_path / "b.png", ERROR_COLOR) == 0


def test_a_sheet_has_bars_and_a_legend_of_all_classes(tmp_path):
    image, target, _ = tensors()
    draw_sheet(tmp_path / "a.png", [(image, target, "a"), (image, target, "b")], CLASSES, "two")
    array = IMAGE.transpose(1, 2, 0)
    draw_sheet(tmp_path / "b.png", [(array, TARGET, "a"), (array, TARGET, "b")], CLASSES, "two")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    for color in (*CLASSES.colors, VOID_COLOR):
        assert holds(tmp_path / "a.png", color) > 50


WHITE = Classes(("background", "cell"), ((0, 0, 0), (255, 255, 255)))


def dark(path):
    return np.array(Image.open(path).convert("L")) < 128


def test_a_white_class_has_a_bar_on_white_paper(tmp_path):
    white = np.full((20, 30, 3), 255, np.uint8), np.ones((20, 30), np.uint8), ""
    draw_sheet(tmp_path / "a.png", [white], WHITE, "")
    drawn = dark(tmp_path / "a.png")
    assert (drawn.mean(1) > 0.9).sum() >= 2  # the long sides of the frame


def test_a_white_class_has_a_curve_on_white_paper(tmp_path):
    rows = [{"epoch": e, "loss": 1.0, "lr": 1.0, "miou": 0.5, "iou/cell": 0.2} for e in range(1, 6)]
    for epochs in (1, 5):  # a point and a line
        draw_curves(tmp_path / "cell.png", rows[:epochs], WHITE)
        without = [{k: v for k, v in row.items() if k != "iou/cell"} for row in rows]
        draw_curves(tmp_path / "none.png", without[:epochs], WHITE)
        more = dark(tmp_path / "cell.png").sum() - dark(tmp_path / "none.png").sum()
        assert more > 15 * epochs


def history(epochs):
    keys = ("loss", "lr", "pixel_accuracy", "mean_accuracy", "miou")
    ious = {f"iou/{name}": 0.5 for name in CLASSES.names}
    return [{"epoch": e, **dict.fromkeys(keys, 0.5 / e), **ious} for e in range(1, epochs + 1)]


@pytest.mark.parametrize("epochs", [1, 5])
def test_curves_have_the_colours_of_the_classes(epochs, tmp_path):
    draw_curves(tmp_path / "curves.png", history(epochs), CLASSES)
    assert holds(tmp_path / "curves.png", CLASSES.colors[2]) > 5  # drawn last, over the others


def test_curves_show_the_validation_loss_where_there_is_one(tmp_path):
    orange = (255, 127, 14)  # matplotlib's tab:orange, also that of the mean accuracy
    few = {"pixel_accuracy", "mean_accuracy", "miou"}
    rows = [{k: v for k, v in row.items() if k not in few} for row in history(5)]
    draw_curves(tmp_path / "without.png", rows, CLASSES)
    assert not holds(tmp_path / "without.png", orange)
    rows[1]["val_loss"], rows[3]["val_loss"] = 0.1, 0.4  # validated every other epoch
    draw_curves(tmp_path / "with.png", rows, CLASSES)
    assert holds(tmp_path / "with.png", orange) > 50


@pytest.mark.parametrize("suggestion", [None, 0.01])
def test_a_range_test_marks_what_it_suggests(suggestion, tmp_path):
    rates = np.geomspace(1e-4, 1, 30).tolist()
    losses = [2 - i / 30 for i in range(30)]
    test = SimpleNamespace(rates=rates, losses=losses, smoothed=losses, suggestion=suggestion)
    draw_range_test(tmp_path / "lr.png", test, 0.1, "a test")
    red = (214, 39, 40)  # matplotlib's tab:red
    assert (holds(tmp_path / "lr.png", red) > 100) == bool(suggestion)


@pytest.mark.parametrize("name", ["lr.xyz", "none/lr.png"])
def test_a_figure_that_cannot_be_written_is_refused(name, tmp_path):
    empty = SimpleNamespace(rates=[], losses=[], smoothed=[], suggestion=None)
    with pytest.raises(UserError, match=f"cannot write .*{name}"):
        draw_range_test(tmp_path / name, empty, 0.1, "")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_without_suffix_is_a_png(tmp_path):
    draw_legend(tmp_path / "legend", CLASSES)
    with Image.open(tmp_path / "legend") as picture:
        assert picture.format == "PNG"


def test_costs_are_drawn_for_one_run_and_for_several(tmp_path):
    runs = [np.array([0.5]), np.array([0.6, 0.7, np.nan])]
    drawn = draw_costs(["a", "b"], {"GMAC": [1, 2], "s": [3, 4]}, {"mIoU": runs, "F1": runs})
    assert drawn.startswith(b"\x89PNG")
    relabelled = draw_costs(["a", "b"], {"G": [1, 2], "s": [3, 4]}, {"mIoU": runs, "F1": runs})
    assert relabelled != drawn  # the costs are named
    assert draw_costs(["a"], {"GMAC": [1]}, {"mIoU": runs[:1]}).startswith(b"\x89PNG")


def test_a_page_that_lacks_a_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="title"):
        render("segkit.comparison", "comparison.html.j2")
