"""Draws of few labels: balanced, disjoint, the same test items for all counts, within what the data can afford."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from withheld.data.few import affordable, few_label_splits, interval
from withheld.errors import InputError


def labels_of(*counts: int) -> np.ndarray:
    """So many items of each class, mixed."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(0).permutation(labels)


def test_a_fixed_test_part_is_always_tested() -> None:
    labels = labels_of(50, 50, 50)
    parts = np.where(np.arange(150) < 60, "test", "train")
    draws = few_label_splits(labels, parts, 5, 4)
    assert len(draws) == 4
    for draw in draws:
        assert draw.test.tolist() == list(range(60))
        assert np.bincount(labels[draw.train]).tolist() == [5, 5, 5]
        assert (parts[draw.train] == "train").all()
        assert draw.test_share is None
    assert not np.array_equal(draws[0].train, draws[1].train)
    limited = few_label_splits(labels, parts, 5, 3, test_limit=20)
    assert all(len(draw.test) == 20 for draw in limited)
    assert np.array_equal(limited[0].test, limited[2].test)


def test_val_is_tested_where_there_is_no_test_and_left_alone_where_there_is() -> None:
    labels = labels_of(30, 30)
    parts = np.array((["train"] * 3 + ["val"]) * 15)
    assert set(parts[few_label_splits(labels, parts, 1, 1)[0].test]) == {"val"}
    parts[:10] = "test"
    draw = few_label_splits(labels, parts, None, 1)[0]
    assert set(parts[draw.test]) == {"test"}
    assert set(parts[draw.train]) == {"train"}


def test_a_test_part_without_labels_is_no_test_part() -> None:
    labels = labels_of(20, 20)
    parts = np.where(np.arange(40) < 10, "test", "train")
    labels[:10] = -100
    draw = few_label_splits(labels, parts, 2, 1)[0]
    assert draw.test_share is not None
    assert (labels[draw.test] >= 0).all()


def test_otherwise_every_seed_tests_another_stratified_share() -> None:
    labels = labels_of(20, 20, 20, 20, 20)
    few, many = few_label_splits(labels, None, 1, [7, 8]), few_label_splits(labels, None, 10, [7, 8])
    for one, ten in zip(few, many, strict=True):
        assert np.bincount(labels[one.test]).tolist() == [6] * 5
        assert np.array_equal(one.test, ten.test)
        assert set(one.train) < set(ten.train)
        assert not set(ten.train) & set(ten.test)
        assert one.test_share == pytest.approx(30 / 70)
        assert one.seed in (7, 8)
    assert not np.array_equal(few[0].test, few[1].test)


def test_100_labels_in_all() -> None:
    labels = np.concatenate([labels_of(*[10] * 10), np.full(900, -100)])
    kept, sentences = affordable(labels, None, [1, 10, 100])
    assert kept == [1]
    assert len(sentences) == 2
    assert "only 0 of 10 classes" in sentences[0]
    draw = few_label_splits(labels, None, None, 1)[0]
    assert (len(draw.train), len(draw.test)) == (70, 30)
    assert (labels[draw.train] >= 0).all()


def test_very_unequal_classes() -> None:
    labels = labels_of(500, 300, 200, 4, 2, 1)
    names = ["many", "some", "several", "four", "two", "one"]
    kept, sentences = affordable(labels, None, [1, 10, 1000, None], names)
    assert kept == [1, 10, None]
    assert sentences[0] == "classes with a single labelled image were left out: one"
    assert "1000 labels per class were left out: only 0 of 5 classes" in sentences[1]
    assert sentences[2].endswith("give all they have: two (1), four (3)")
    draw = few_label_splits(labels, None, 10, 1)[0]
    assert np.bincount(labels[draw.train]).tolist() == [10, 10, 10, 3, 1]
    assert (np.bincount(labels[draw.test])[:5] >= 1).all()


def test_test_items_of_classes_never_trained_on_are_left_out_and_said() -> None:
    labels = np.array([0, 0, 1, 1, 0, 1, 2])
    parts = np.array(["train"] * 4 + ["test"] * 3)
    assert few_label_splits(labels, parts, 1, 1)[0].test.tolist() == [4, 5]
    assert affordable(labels, parts, [1], ["a", "b", "c"])[1] == [
        "classes with no labelled image in the train part were left out: c"
    ]


@pytest.mark.parametrize("labels", [[-100] * 5, [0] * 5, [0, 1], [0, 0, 0, 1], []])
def test_what_cannot_be_split(labels: list[int]) -> None:
    with pytest.raises(InputError, match="two or more labelled images"):
        few_label_splits(np.array(labels, int), None, 1, 1)


def test_wrong_counts() -> None:
    with pytest.raises(InputError, match="give at least 1"):
        few_label_splits(labels_of(5, 5), None, 0, 1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=2, max_size=8),
    st.one_of(st.none(), st.integers(1, 20)),
    st.integers(0, 5),
    st.booleans(),
)
def test_draws_of_any_data(counts: list[int], n: int | None, seed: int, with_parts: bool) -> None:
    labels = np.concatenate([labels_of(*counts), np.full(3, -100)])
    parts = np.random.default_rng(seed).choice(["train", "test", "val", ""], len(labels)) if with_parts else None
    try:
        draw = few_label_splits(labels, parts, n, [seed])[0]
    except InputError:
        return
    assert not set(draw.train) & set(draw.test)
    assert (labels[draw.train] >= 0).all()
    assert (labels[draw.test] >= 0).all()
    assert set(labels[draw.test]) <= set(labels[draw.train])
    assert n is None or (np.bincount(labels[draw.train]) <= n).all()
    assert len(draw.test) > 0
    again = few_label_splits(labels, parts, n, [seed])[0]
    assert np.array_equal(draw.train, again.train)


def test_intervals() -> None:
    values = [0.5, 0.6, 0.7, 0.6, 0.6]
    plain = 2.7764451 * np.std(values, ddof=1) / math.sqrt(5)
    assert interval(values) == pytest.approx(plain, rel=1e-6)
    assert interval(values, 0.5) == pytest.approx(plain * math.sqrt((1 / 5 + 0.5) / (1 / 5)), rel=1e-6)
    assert interval([0.5, 0.5]) == 0
    assert math.isnan(interval([0.5]))
