"""What a difference between models is worth."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from segkit.comparison.differences import differences
from segkit.comparison.export import (
    difference_line,
    difference_table,
    main_table,
    ranked,
)
from segkit.comparison.report import compared
from segkit.comparison.results import Compared
from segkit.evaluation.results import HEADLINES, Headline
from segkit.receptive_field import Reach
from segkit.tables import as_markdown

SAMPLES = 4000
REACH = Reach(3, 3, 7)


def result(name, *runs, reach=REACH, samples=SAMPLES):
    """A model whose runs have these mIoUs, each given by a value and its bootstrap samples."""
    found = []
    for value, drawn in runs:
        drawn = np.broadcast_to(drawn, samples)
        headline = Headline(value, (0.0, 1.0), drawn)
        found.append(
            SimpleNamespace(
                headlines=dict.fromkeys(("miou", "pixel_accuracy", "boundary_f1"), headline),
                scores=SimpleNamespace(iou=(value, np.nan)),
                class_names=("sky", "road"),
                label=HEADLINES.get,
                blocks=100,
            )
        )
    summary = SimpleNamespace(parameters=1_500_000, macs=2.5e9, reach=reach, size=(96, 128))
    return Compared(name, summary, 0.25, 300_000_000, found)


def test_images_that_are_hard_for_all_do_not_widen_a_difference():
    shared = np.random.default_rng(0).normal(0, 0.1, SAMPLES)
    good, bad = result("good", (0.7, 0.7 + shared)), result("bad", (0.68, 0.68 + shared))
    [difference] = differences([bad, good], "miou")
    assert difference.name == "bad"
    assert difference.value == pytest.approx(-0.02)
    assert difference.interval == pytest.approx((-0.02, -0.02))
    assert difference.verdict == "worse (these two runs alone)"


def test_images_drawn_at_random_make_a_difference_uncertain():
    rng = np.random.default_rng(0)
    good, bad = (
        result(name, (value, rng.normal(value, 0.03, SAMPLES)))
        for name, value in (("good", 0.7), ("bad", 0.68))
    )
    [difference] = differences([good, bad], "miou")
    low, high = difference.interval
    # the difference of two normal values
    assert low == pytest.approx(-0.02 - 1.96 * 0.03 * 2**0.5, abs=0.005)
    assert high == pytest.approx(-0.02 + 1.96 * 0.03 * 2**0.5, abs=0.005)
    assert difference.verdict == "not distinguishable (these two runs alone)"


def test_runs_that_differ_among_themselves_make_a_difference_uncertain():
    same = result("same", *[(0.70, 0.70)] * 3)
    mixed = result("mixed", (0.60, 0.60), (0.66, 0.66), (0.78, 0.78))
    [difference] = differences([same, mixed], "miou")
    assert difference.value == pytest.approx(-0.02)
    # three of one run are drawn in 1 of 27 samples each, and lie 1.73 times as far out
    factor = stats.t.ppf(0.975, 4) / stats.norm.ppf(0.975) * (3 / 2) ** 0.5
    assert difference.interval == pytest.approx((-0.02 - 0.08 * factor, -0.02 + 0.10 * factor))
    assert difference.verdict == "not distinguishable"


def covered(models, trials=300):
    """How often the interval holds that models are equal; of each, the spread of its three runs."""
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(trials):
        results = []
        for spread in models:
            values = rng.normal(0.5, spread, 3)
            results.append(result(f"{len(results)}", *((v, v) for v in values), samples=500))
        [difference] = differences(results, "miou", seed=trial)
        low, high = difference.interval
        held += low <= 0 <= high
    return held / trials


def test_intervals_of_three_runs_hold_the_truth():
    assert 0.92 <= covered([0.02, 0.02]) <= 0.98  # 80 % without the widening
    assert covered([0.02, 0.0]) > 0.85


def test_two_runs_are_too_few_to_tell():
    three = result("three", *[(0.70, 0.70)] * 3)
    for other in (result("two", *[(0.5, 0.5)] * 2), result("one", (0.5, 0.5))):
        [difference] = differences([three, other], "miou")
        assert difference.interval is None
        assert difference_line(difference) == "-20.0: too few runs to tell"
    few = [result(name, *[(value, value)] * 2) for name, value in (("a", 0.6), ("b", 0.5))]
    assert [d.verdict for d in differences(few, "miou")] == ["too few runs to tell"]


def test_the_best_is_the_one_of_the_highest_mean():
    results = [
        result("a", (0.5, 0.5)),
        result("b", (0.8, 0.8), (0.4, 0.4)),
        result("c", (0.6, 0.6)),
    ]
    # b and c are equal on average, the first one counts as the best
    assert [d.name for d in differences(results, "miou")] == ["a", "c"]
    assert [r.name for r in ranked(results)] == ["b", "c", "a"]


def test_without_intervals_nothing_can_be_told():
    lonely = result("lonely", (0.5, 0.5))
    lonely.runs[0].headlines["miou"] = Headline(0.5, None, np.full(SAMPLES, 0.5))
    other = result("other", (0.4, 0.4))
    [difference] = differences([lonely, other], "miou")
    assert difference.interval is None
    assert difference_line(difference) == "-10.0: too few images to tell"


def test_tables_say_mean_deviation_and_verdict():
    good = result("good", (0.70, 0.70), (0.71, 0.71), (0.72, 0.72))
    bad = result("bad", *[(0.5, 0.5)] * 3, reach=None)
    rows = main_table([bad, good])
    assert [row[0] for row in rows] == ["model", "good", "bad"]
    assert rows[1][1:7] == ["1.5", "2.50", "7", "0.250", "300", "71.0 ± 1.0"]
    assert rows[2][3] == "all"
    found = {"miou": differences([bad, good], "miou")}
    assert difference_table(found, [bad, good]) == [
        ["model", "mIoU, points to good"],
        ["good", "best"],
        ["bad", "-21.0 [-22.7, -19.3]: worse"],
    ]
    single = main_table([result("one", (0.5, 0.5))])
    assert single[1][7] == "50.0"


def test_of_two_classes_the_foreground_is_compared_by_its_name():
    results = [result("good", (0.7, 0.7)), result("bad", (0.5, 0.5))]
    for run in (run for each in results for run in each.runs):
        run.headlines["foreground_iou"] = run.headlines["miou"]
        run.label = lambda name: "IoU of cell" if name == "foreground_iou" else HEADLINES[name]
    assert main_table(results)[0][6:] == [
        "IoU of cell %", "pixel accuracy %", "mIoU %", "boundary F1 %",
    ]  # fmt: skip
    assert list(compared(results).values()) == ["IoU of cell", "mIoU", "boundary F1"]
    found = {"foreground_iou": differences(results, "foreground_iou")}
    assert difference_table(found, results)[0][1] == "IoU of cell, points to good"


def test_markdown_keeps_its_columns():
    assert as_markdown([["a", "b|c"], ["1", "2"]]) == "| a | b\\|c |\n|---|---|\n| 1 | 2 |\n"
