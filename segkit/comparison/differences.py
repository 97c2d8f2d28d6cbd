"""Which differences between models are more than chance.

The verdicts of one score are adjusted for their number by Holm's step-down procedure (1979). Its
family is all pairs of models and not just those with the best, because the best is chosen from the
same data: if all models are equal, the largest difference to the best is the largest of all pairs.
With 20 equal models, Holm over the comparisons with the best calls at least one of them worse in
25 % of all trials, over all pairs in 5 % (see tests/comparison/test_differences.py). The guarantee:
with a probability of 95 %, all the verdicts "worse" of one score are right.

Multiple comparisons with the best (Hsu 1981) need smaller differences, but guarantee less: that
the best model is not excluded. One that is as good as the best may be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit

from segkit.comparison.results import Compared
from segkit.evaluation.intervals import LEVEL, Interval, percentiles
from segkit.evaluation.scores import Shares

MIN_RUNS = 3  # of a model; from 2, an interval may hold the truth only 80 % of the time


class Difference(NamedTuple):
    """How much less a contestant's mean is than the best one's.

    Args:
        name: of the contestant.
        value: share of one.
        interval: of 95 %, for this difference alone; None for too few images or runs.
        verdict: in words: what the adjusted p says, or what there is too little of.
        p: of no difference, two-sided, for this difference alone; None as the interval.
        adjusted_p: by Holm over all pairs of models.
    """

    name: str
    value: float
    interval: Interval | None
    verdict: str
    p: float | None = None
    adjusted_p: float | None = None


class _Drawn(NamedTuple):
    """A model's mean over its runs in each bootstrap sample.

    Args:
        of_images: if images alone are drawn.
        of_both: if runs are drawn too.
        variance: of the mean, because runs differ.
        runs: their number.
    """

    of_images: Shares
    of_both: Shares
    variance: float
    runs: int


def best(results: Sequence[Compared], headline: str) -> Compared:
    """Return the result of the highest mean."""
    return max(results, key=lambda result: result.mean(headline))


def differences(results: Sequence[Compared], headline: str, seed: int = 0) -> list[Difference]:
    """Compare all with the one of the highest mean, which is left out.

    Paired: each bootstrap sample draws the same images for all. Runs are drawn too, as another
    seed is another model; `widening` makes up for how few they are. There is no interval from
    fewer than `MIN_BLOCKS` blocks of images or `MIN_RUNS` runs of either model, except that a
    single run of each is compared by images alone: as these two, not as what they are runs of.
    Pairs without an interval are not in the family that verdicts are adjusted for.
    """
    generator = np.random.default_rng(seed)
    drawn = {result.name: _draw(result, headline, generator) for result in results}
    first = best(results, headline)
    others = [result for result in results if result is not first]
    enough_images = first.runs[0].headlines[headline].interval is not None
    tests = {
        (one.name, other.name): _test(drawn[one.name], drawn[other.name], first.runs[0].blocks)
        for one, other in combinations([first, *others], 2)
        if enough_images and _enough_runs(drawn[one.name].runs, drawn[other.name].runs)
    }
    adjusted = dict(zip(tests, holm([p for _, p in tests.values()]), strict=True))
    found = []
    for other in others:
        value, pair = other.mean(headline) - first.mean(headline), (first.name, other.name)
        if pair not in tests:
            lacking = "runs" if enough_images else "images"
            found.append(Difference(other.name, value, None, f"too few {lacking} to tell"))
            continue
        interval, p = tests[pair]
        is_worse = interval[1] < 0 and adjusted[pair] <= 1 - LEVEL
        verdict = "worse" if is_worse else "not distinguishable"
        if drawn[other.name].runs == 1:
            verdict += " (these two runs alone)"
        found.append(Difference(other.name, value, interval, verdict, p, adjusted[pair]))
    return found


def _enough_runs(one: int, other: int) -> bool:
    return (one, other) == (1, 1) or min(one, other) >= MIN_RUNS


def _draw(result: Compared, headline: str, generator: np.random.Generator) -> _Drawn:
    samples = np.stack([run.headlines[headline].samples for run in result.runs])  # (runs, samples)
    runs = len(samples)
    drawn = generator.integers(runs, size=samples.shape)
    mean = samples.mean(0)
    deviation = np.take_along_axis(samples, drawn, axis=0).mean(0) - mean
    variance = float(result.values(headline).var(ddof=1)) / runs if runs > 1 else 0.0
    return _Drawn(mean, mean + widening(runs) * deviation, variance, runs)


def widening(runs: int) -> float:
    """Return how much further from their mean drawn runs must lie for an interval to be of 95 %.

    Drawn runs vary by `(runs - 1) / runs` of their true variance, which is itself a guess from few:
    Student's t for two models of so many runs. Where normally distributed runs vary more than the
    images do, the interval of a difference then holds the truth 94 to 96 % of the time. If the runs
    of one model do not vary at all, it is 80 % for 2 runs, 89 % for 3 and 90 % for 4.
    """
    if runs == 1:
        return 1.0  # it does not deviate
    student = stdtrit(2 * (runs - 1), (1 + LEVEL) / 2) / ndtri((1 + LEVEL) / 2)
    return float(student * math.sqrt(runs / (runs - 1)))


def _test(one: _Drawn, other: _Drawn, blocks: int) -> tuple[Interval, float]:
    """Return the interval of how much the other is above the one, and the p of no difference."""
    interval = percentiles(other.of_both - one.of_both)
    # each source of chance with its degrees of freedom; the blocks of images are shared
    sources = [
        (float(np.nanvar(other.of_images - one.of_images)), blocks - 1),
        (one.variance, max(one.runs - 1, 1)),
        (other.variance, max(other.runs - 1, 1)),
    ]
    return interval, p_of_interval(interval, degrees_of_freedom(sources))


def degrees_of_freedom(sources: Sequence[tuple[float, int]]) -> float:
    """Return those of a sum of estimated variances, each given with its own (Satterthwaite 1946).

    It is infinite if nothing varies.

    >>> degrees_of_freedom([(2.0, 9)]), degrees_of_freedom([(1.0, 2), (1.0, 2)])
    (9.0, 4.0)
    """
    total = sum(variance for variance, _ in sources)
    scattered = sum(variance**2 / degrees for variance, degrees in sources)
    return total**2 / scattered if scattered > 0 else math.inf


def p_of_interval(interval: Interval, degrees: float) -> float:
    """Return the two-sided p of no difference, from the interval of a difference.

    It is `1 - LEVEL` if an end of the interval is at 0, and so agrees with it; further out it
    follows Student's t (Altman and Bland 2011, with t for the normal distribution). Counting the
    bootstrap samples beyond 0 cannot serve here: 2000 of them resolve no p below 0.001, while 20
    models want 0.05 / 190, and more samples would be no better, since `widening` holds at 95 %
    alone. With three runs of either model, a counted p of 0.001 occurs in 2 % of all trials.
    """
    low, high = interval
    middle, half = (low + high) / 2, (high - low) / 2
    if not half > 0:  # nothing varies, or nothing was scored
        return 0.0 if abs(middle) > 0 else 1.0
    return float(2 * stdtr(degrees, -stdtrit(degrees, (1 + LEVEL) / 2) * abs(middle) / half))


def holm(ps: Sequence[float]) -> list[float]:
    """Adjust p values by Holm's step-down procedure, for any dependence between them.

    Those of at most 0.05 are then false together in 5 % of all cases at the most.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, least = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        least = max(least, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = least
    return adjusted
