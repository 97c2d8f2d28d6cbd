"""Names from files in figures: drawn letter by letter, in each figure there is."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hostile import hostile_texts
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from segkit.console import printable
from segkit.drawing.costs import draw_costs
from segkit.drawing.curves import draw_curves
from segkit.drawing.figures import draw_legend, figure_text
from segkit.drawing.lr_range import draw_range_test
from segkit.drawing.predictions import draw_predictions
from segkit.drawing.samples import draw_sheet
from segkit.drawing.similar import draw_similar
from segkit.labels import Classes

pytestmark = pytest.mark.filterwarnings("ignore:Glyph:UserWarning")


def pixels(text, **options):
    figure = Figure((4, 0.5))
    canvas = FigureCanvasAgg(figure)
    figure.text(0.02, 0.4, text, **options)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., 0]


def test_texts_are_drawn_letter_by_letter():
    texts = ["a", "_a", *(t for t in hostile_texts(60) if "$" in t or "\\" in t)]
    for text in texts:
        plain = printable(text)
        plain = f" {plain}" if plain.startswith("_") else plain
        drawn, expected = pixels(figure_text(text)), pixels(plain, parse_math=False)
        assert (drawn == expected).all(), ascii(text)


def test_every_class_is_in_the_legend():
    figure = Figure()
    names = ["_nolegend_", "_", "road", "$a$"]
    for name in names:
        figure.subplots().plot([0, 1], label=figure_text(name))
    _, labels = zip(*(axis.get_legend_handles_labels() for axis in figure.axes), strict=True)
    assert len([label for each in labels for label in each]) == len(names)


NAMES = ("$\\frac{$", "_hidden", "$x^{$ [/x]", "\ud800", "=1+1", "\\", "a\nb", "$$$", "\udcff道路")


def test_every_figure_takes_any_name(tmp_path):
    classes = Classes.named(NAMES)
    count = len(NAMES)
    image = torch.zeros(3, 8, 9, dtype=torch.uint8)
    mask = torch.arange(72).reshape(8, 9).remainder(count).to(torch.uint8)
    history = [{"epoch": 1, "loss": 1.0, **{f"iou/{name}": 0.5 for name in NAMES}}]
    test = SimpleNamespace(rates=[1, 2], losses=[1, 2], smoothed=[1, 2], suggestion=None)
    draw_legend(tmp_path / "legend.png", classes, NAMES[0])
    draw_curves(tmp_path / "curves.png", history, classes)
    draw_predictions(tmp_path / "predictions.png", [(image, mask, mask)], classes)
    samples = [(image, mask.numpy(), name) for name in NAMES]
    draw_sheet(tmp_path / "sheet.png", samples, classes, NAMES[0])
    draw_range_test(tmp_path / "range.png", test, 1.0, NAMES[0])
    picture = image.permute(1, 2, 0).numpy()
    found = [(picture, name) for name in NAMES]
    draw_similar(tmp_path / "similar.png", (picture, NAMES[0]), found, [0.5] * count)
    scores = {NAMES[0]: [np.array([0.5])] * count}
    assert draw_costs(NAMES, {NAMES[2]: [1.0] * count}, scores).startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 6
