"""Verdicts over several models: p values, their adjustment, and how often they are false."""

import csv
import io
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from segkit.comparison.differences import (
    degrees_of_freedom,
    differences,
    holm,
    p_of_interval,
)
from segkit.comparison.export import difference_csv
from segkit.comparison.results import Compared
from segkit.evaluation.intervals import LEVEL, percentiles
from segkit.evaluation.results import Headline


def closed_testing(ps):
    """Adjust by the definition: the largest Bonferroni p of all intersections of hypotheses."""
    everything = range(len(ps))
    adjusted = [0.0] * len(ps)
    for size in range(1, len(ps) + 1):
        for chosen in combinations(everything, size):
            p = min(1.0, size * min(ps[index] for index in chosen))
            for index in chosen:
                adjusted[index] = max(adjusted[index], p)
    return adjusted


@pytest.mark.parametrize("count", range(9))
def test_holm_is_closed_testing(count):
    rng = np.random.default_rng(count)
    for _ in range(20):
        ps = rng.beta(0.3, 1, count).round(2).tolist()  # small ones, and ties
        assert holm(ps) == pytest.approx(closed_testing(ps))


def test_p_agrees_with_the_interval():
    assert p_of_interval((-0.04, 0.0), 7.0) == pytest.approx(1 - LEVEL)
    assert p_of_interval((0.0, 0.02), 3.5) == pytest.approx(1 - LEVEL)
    assert p_of_interval((-0.03, 0.03), 7.0) == 1
    assert p_of_interval((-0.02, -0.02), np.inf) == 0
    assert p_of_interval((0.0, 0.0), np.inf) == 1
    assert p_of_interval((np.nan, np.nan), np.nan) == 1


@pytest.mark.parametrize("size", [4, 30])
def test_p_is_that_of_students_t_test(size):
    sample = np.random.default_rng(0).normal(0.7, 1, size)
    test = stats.ttest_1samp(sample, 0)
    interval = test.confidence_interval(LEVEL)
    assert p_of_interval(tuple(interval), size - 1) == pytest.approx(test.pvalue)


def test_degrees_of_freedom_are_welchs():
    one, other = np.random.default_rng(0).normal(0, [[1.0], [3.0]], (2, 5))
    sources = [(each.var(ddof=1) / 5, 4) for each in (one, other)]
    assert degrees_of_freedom(sources) == pytest.approx(
        stats.ttest_ind(one, other, equal_var=False).df
    )
    assert degrees_of_freedom([(0.0, 4), (0.0, 4)]) == np.inf


def drawn(rng, models, runs, run_spread, images=60, samples=2000):
    """Results of models as good as each other but for the given shifts, on the same images."""
    draws = rng.multinomial(images, np.full(images, 1 / images), size=samples) / images
    shared = rng.normal(0, 0.3, images)
    results = []
    for number, shift in enumerate(models):
        own = shared + rng.normal(0, 0.1, images)
        found = []
        for run in rng.normal(shift, run_spread, runs):
            of_samples = draws @ own + run
            headline = Headline(own.mean() + run, percentiles(of_samples), of_samples)
            found.append(SimpleNamespace(headlines={"miou": headline}, blocks=images))
        results.append(Compared(f"m{number}", None, 0.0, 0, found))
    return results


def false_verdicts(trials, models, **options):
    """How often any of equally good models is called worse: adjusted, and by the interval."""
    rng = np.random.default_rng(0)
    adjusted = alone = to_best = 0
    for _ in range(trials):
        found = differences(drawn(rng, [0.0] * models, **options), "miou")
        adjusted += any(d.verdict.startswith("worse") for d in found)
        alone += any(d.interval[1] < 0 for d in found)
        to_best += min(holm([d.p for d in found])) <= 1 - LEVEL
    return adjusted / trials, to_best / trials, alone / trials


def test_equal_models_are_rarely_told_apart():
    adjusted, to_best, alone = false_verdicts(150, 6, runs=1, run_spread=0, samples=500)
    assert adjusted <= 0.08
    assert to_best > 0.08  # the best is chosen from the same data
    assert alone > 0.25


@pytest.mark.slow
@pytest.mark.parametrize(
    ("models", "runs", "run_spread"),
    # the 190 pairs of 20 models take a minute
    [
        (2, 1, 0.0),
        (5, 1, 0.0),
        (2, 3, 0.015),
        (5, 3, 0.015),
        (2, 3, 0.1),
        (5, 3, 0.1),
        (20, 3, 0.1),
    ],
)
def test_one_comparison_in_twenty_calls_any_of_equal_models_worse(models, runs, run_spread):
    trials = 400
    adjusted, _, _ = false_verdicts(trials, models, runs=runs, run_spread=run_spread)
    assert adjusted <= 0.05 + 2 * (0.05 * 0.95 / trials) ** 0.5


def test_p_of_three_runs_is_no_smaller_than_it_should_be():
    rng, trials = np.random.default_rng(0), 600
    ps = []
    for _ in range(trials):
        [difference] = differences(drawn(rng, [0, 0], 3, 0.1, images=20, samples=300), "miou")
        ps.append(difference.p)
    assert np.mean(np.array(ps) <= 0.01) <= 0.02  # by tails of the normal distribution, 0.03


def constant(name, *values):
    """A model whose runs have these values, on whatever images."""
    runs = [
        SimpleNamespace(
            headlines={"miou": Headline(value, (value, value), np.full(500, value))}, blocks=60
        )
        for value in values
    ]
    return Compared(name, None, 0.0, 0, runs)


def test_p_allows_for_how_few_runs_and_images_there_are():
    values = (0.70, 0.71, 0.74), (0.66, 0.67, 0.67)
    [difference] = differences([constant("a", *values[0]), constant("b", *values[1])], "miou")
    degrees = stats.ttest_ind(*values, equal_var=False).df
    assert difference.p == pytest.approx(p_of_interval(difference.interval, degrees))
    [difference] = differences(drawn(np.random.default_rng(0), [0, -0.02], 1, 0, 12), "miou")
    assert difference.p == pytest.approx(p_of_interval(difference.interval, 11))


def test_a_clear_difference_is_told_among_many():
    rng = np.random.default_rng(0)
    found = differences(drawn(rng, [0.0] * 19 + [-0.3], 3, 0.01), "miou")
    verdicts = {d.name: d.verdict for d in found}
    assert verdicts.pop("m19") == "worse"
    assert set(verdicts.values()) == {"not distinguishable"}


def test_verdicts_are_adjusted_over_all_pairs():
    rng = np.random.default_rng(3)
    results = drawn(rng, [0.0, -0.04, -0.05, -0.2], 1, 0)
    ps = {}
    for one, other in combinations(results, 2):
        [difference] = differences([one, other], "miou")
        assert difference.adjusted_p == difference.p  # a family of one
        ps[one.name, other.name] = difference.p
    expected = dict(zip(ps, closed_testing(list(ps.values())), strict=True))
    for difference in differences(results, "miou"):
        assert difference.adjusted_p == pytest.approx(expected["m0", difference.name], rel=0.1)


def test_models_of_too_few_runs_are_not_in_the_family():
    rng = np.random.default_rng(0)
    good, bad = drawn(rng, [0.0, -0.3], 3, 0.01)
    few = Compared("few", None, 0.0, 0, bad.runs[:2])
    found = differences([good, bad, few], "miou")
    assert [(d.name, d.p is None) for d in found] == [("m1", False), ("few", True)]
    assert found[0].adjusted_p == found[0].p
    assert found[1].adjusted_p is None


def test_csv_holds_both_p_values():
    rng = np.random.default_rng(0)
    results = drawn(rng, [0.0, -0.2, -0.1], 3, 0.01)
    few = Compared("few", None, 0.0, 0, results[2].runs[:2])
    found = {"miou": differences([*results, few], "miou")}
    rows = {
        row["model"]: row for row in csv.DictReader(io.StringIO(difference_csv(found, results)))
    }
    assert list(rows) == ["m1", "m2", "few"]
    for difference in found["miou"]:
        row = rows[difference.name]
        assert (row["score"], row["best"], row["verdict"]) == ("miou", "m0", difference.verdict)
        assert float(row["difference"]) == difference.value
    assert float(rows["m1"]["p"]) == found["miou"][0].p < float(rows["m1"]["adjusted_p"])
    assert [rows["few"][key] for key in ("low", "high", "p", "adjusted_p")] == [""] * 4
