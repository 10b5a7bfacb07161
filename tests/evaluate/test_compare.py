"""Paired differences and label multiples against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from withheld.evaluate.compare import FLOOR, SCRATCH, Row, Worth, difference, worth_in_labels


def row(kind: str = FLOOR, **by_labels: list[float]) -> Row:
    made = Row(kind, kind)
    for labels, values in by_labels.items():
        for seed, value in enumerate(values):
            made.add(int(labels[1:]), seed, [value])
    return made


def test_the_interval_is_students_t_of_the_paired_differences():
    gap = difference(row(n10=[0.8, 0.7, 0.9]), row(n10=[0.6, 0.6, 0.7]), 10)
    gaps = np.array([0.2, 0.1, 0.2])
    half = 4.302653 * gaps.std(ddof=1) / math.sqrt(3)
    assert gap.mean == pytest.approx(gaps.mean())
    assert (gap.low, gap.high) == pytest.approx((gaps.mean() - half, gaps.mean() + half), rel=1e-5)
    assert (gap.first, gap.second, gap.seeds) == (pytest.approx(0.8), pytest.approx(0.6333333), 3)


def test_a_resampled_holdout_widens_the_interval():
    a, b = row(n10=[0.8, 0.7, 0.9]), row(n10=[0.6, 0.6, 0.7])
    fixed, resampled = difference(a, b, 10), difference(a, b, 10, test_share=3 / 7)
    ratio = (resampled.high - resampled.mean) / (fixed.high - fixed.mean)
    assert ratio == pytest.approx(math.sqrt((1 / 3 + 3 / 7) / (1 / 3)))


def test_seeds_that_happen_to_agree_make_no_certainty():
    a, b = Row("a", FLOOR), Row("b", FLOOR)
    for seed in range(2):  # two seeds, each a point better on six of ten items and worse on four
        a.add(10, seed, [1] * 6 + [0] * 4, range(10 * seed, 10 * seed + 10))
        b.add(10, seed, [0] * 6 + [1] * 4, range(10 * seed, 10 * seed + 10))
    gap = difference(a, b, 10, test_share=3 / 7)
    each = np.array([1] * 12 + [-1] * 8)
    half = 1.959964 * each.std(ddof=1) / math.sqrt(20)
    assert (gap.low, gap.high) == pytest.approx((0.2 - half, 0.2 + half))
    assert not gap.better


@pytest.mark.parametrize("test_share", [None, 3 / 7])
def test_items_that_all_agree_leave_open_how_rare_others_are(test_share):
    """Of a share as far as Wilson's interval goes; of a difference of 0 as far as Tango's score says it may be."""
    z, n, a, b = 1.959964, 50, Row("a", FLOOR), Row("b", FLOOR)
    for seed in range(5):
        a.add(10, seed, [1] * n)
        b.add(10, seed, [1] * n)
    center, wide = (1 + z**2 / (2 * n)) / (1 + z**2 / n), z / (1 + z**2 / n) * math.sqrt(z**2 / (4 * n**2))
    assert a.half(10, test_share) == pytest.approx(1 - (center - wide))  # 92.9 to 100 %
    gap = difference(a, b, 10, test_share)
    assert gap.low == -gap.high
    assert n * gap.high / math.sqrt(n * gap.high * (1 - gap.high)) == pytest.approx(z)
    assert not gap.better
    assert not gap.worse
    one = Row("one", FLOOR)
    one.add(10, 0, [1] * n)
    assert math.isnan(one.half(10, test_share))


def test_the_interval_covers_draws_of_labels_and_of_tested_items():
    """Two rows that are equally good on the items there could be: how often the interval holds the true difference of 0."""
    rng = np.random.default_rng(0)
    held, held_by_draws_alone, trials = 0, 0, 600
    for _ in range(trials):
        a, b = Row("a", FLOOR), Row("b", FLOOR)
        easy_a, easy_b = rng.random(80), rng.random(80)  # how likely each of 80 tested items is told right
        for seed in range(5):
            luck = rng.normal(0, 0.05, 2)  # of the draw of labels
            a.add(10, seed, rng.random(80) < easy_a + luck[0])
            b.add(10, seed, rng.random(80) < easy_b + luck[1])
        gap = difference(a, b, 10)
        held += gap.low <= 0 <= gap.high
        draws = np.subtract(list(a.values(10).values()), list(b.values(10).values()))
        held_by_draws_alone += abs(draws.mean()) <= 2.776445 * draws.std(ddof=1) / math.sqrt(5)
    assert held_by_draws_alone / trials < 0.88
    assert 0.94 <= held / trials <= 1


def test_only_common_seeds_and_common_items_are_compared():
    a, b = Row("a", FLOOR), Row("b", FLOOR)
    a.add(1, 0, [1, 1, 0, 0], [2, 4, 6, 8])
    b.add(1, 0, [0, 0, 1], [4, 5, 6])
    a.add(1, 1, [1, 1], [1, 2])
    b.add(1, 1, [1, 1], [1, 2])
    b.add(1, 2, [0], [1])
    gap = difference(a, b, 1)
    assert (gap.first, gap.second, gap.seeds) == (0.75, 0.75, 2)
    assert difference(a, b, 10) is None
    a.add(5, 0, [1], [1])
    b.add(5, 0, [1], [2])
    with pytest.raises(ValueError, match="no common item"):
        difference(a, b, 5)


def test_one_seed_has_no_interval_and_is_neither_better_nor_worse():
    gap = difference(row(n1=[0.9]), row(n1=[0.1]), 1)
    assert gap.mean == pytest.approx(0.8)
    assert math.isnan(gap.low)
    assert not gap.better
    assert not gap.worse


CURVE = row(SCRATCH, n1=[0.2, 0.2], n10=[0.4, 0.4], n100=[0.8, 0.8])


@pytest.mark.parametrize(
    ("accuracy", "labels", "expected"),
    [
        (0.6, 10, Worth(math.sqrt(10), False)),
        (0.5, 10, Worth(10**0.25, False)),
        (0.6, 1, Worth(math.sqrt(1000), False)),
        (0.8, 10, Worth(10.0, False)),
        (0.81, 10, Worth(10.0, True)),
        (0.4, 10, None),
        (0.3, 10, None),
        (0.9, 100, None),
        (0.9, 5, None),
    ],
)
def test_labels_are_read_off_the_baselines_curve(accuracy, labels, expected):
    found = worth_in_labels(accuracy, labels, CURVE)
    if expected is None:
        assert found is None
    else:
        assert found.beyond == expected.beyond
        assert found.times == pytest.approx(expected.times)


def test_a_curve_that_dips_is_read_where_it_first_reaches_the_accuracy():
    dips = row(SCRATCH, n1=[0.2], n10=[0.5], n50=[0.45], n100=[0.6])
    assert worth_in_labels(0.5, 1, dips).times == pytest.approx(10)
    assert 50 < worth_in_labels(0.55, 1, dips).times < 100


def test_seeds_can_be_forgotten():
    made = row(n1=[0.1, 0.2, 0.3])
    made.keep([0, 2])
    assert made.values(1) == {0: 0.1, 2: 0.3}
    assert made.mean(1) == pytest.approx(0.2)
