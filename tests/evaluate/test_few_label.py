"""Probes and neighbors against scikit-learn and closed forms."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize

from withheld.errors import InputError
from withheld.evaluate import few_label
from withheld.evaluate.few_label import LinearProbe, nearest_neighbors, neighbors_for, standard


def blobs(n: int, width: int, classes: int, seed: int = 0, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(classes, width)) * apart
    y = np.arange(n) % classes
    return (centers[y] + generator.normal(size=(n, width))).astype(np.float32), y


def test_the_probe_is_scikit_learns_logistic_regression_on_standardized_features():
    x, y = blobs(60, 8, 3)
    test, _ = blobs(40, 8, 3, seed=1)
    probe = LinearProbe(3).fit(x, y)
    mean, scale = standard(x)
    plain = LogisticRegression(C=probe.C, max_iter=1000, tol=1e-8).fit((x - mean) / scale, y)
    np.testing.assert_allclose(probe.probabilities(test), plain.predict_proba((test - mean) / scale), atol=2e-3)


def test_with_more_features_than_items_the_solution_is_the_same():
    x, y = blobs(12, 50, 3)
    test, _ = blobs(20, 50, 3, seed=1)
    probe = LinearProbe(3).fit(x, y)
    mean, scale = standard(x)
    plain = LogisticRegression(C=probe.C, max_iter=3000, tol=1e-9).fit((x - mean) / scale, y)
    np.testing.assert_allclose(probe.probabilities(test), plain.predict_proba((test - mean) / scale), atol=5e-3)


@pytest.mark.parametrize(("n", "width", "classes"), [(60, 8, 3), (12, 50, 3), (10, 6, 2), (9, 30, 2)])
def test_the_head_is_the_probe_as_a_layer(n, width, classes):
    x, y = blobs(n, width, classes)
    test, _ = blobs(20, width, classes, seed=1)
    probe = LinearProbe(classes).fit(x, y)
    mean, scale, weight, bias = probe.head()
    logits = (test - mean) / scale @ weight.T + bias
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(shares / shares.sum(axis=1, keepdims=True), probe.probabilities(test), atol=1e-5)


def test_a_class_without_labels_gets_probability_zero_and_is_unlikely_in_the_head():
    x, y = blobs(20, 6, 2)
    probe = LinearProbe(4).fit(x, y + 1)
    probabilities = probe.probabilities(x)
    assert probabilities.shape == (20, 4)
    assert np.all(probabilities[:, [0, 3]] == 0)
    mean, scale, weight, bias = probe.head()
    assert set(np.argmax((x - mean) / scale @ weight.T + bias, axis=1)) <= {1, 2}


def test_the_strength_is_fixed_for_few_labels_and_chosen_on_labelled_items_for_more(monkeypatch):
    x, y = blobs(9, 6, 3)
    assert LinearProbe(3).fit(x, y).C == few_label.FIXED
    noise = np.random.default_rng(0).normal(size=(90, 40)).astype(np.float32)
    weakest = LinearProbe(3).fit(noise, np.arange(90) % 3)
    assert few_label.GRID[0] == weakest.C
    seen = []
    fit = few_label._fit
    monkeypatch.setattr(few_label, "_fit", lambda z, y, c: seen.append(len(z)) or fit(z, y, c))
    LinearProbe(3).fit(*blobs(60, 6, 3))
    assert max(seen) == 60, "nothing but the labelled items may choose the strength"


def test_features_that_hardly_move_among_the_labelled_items_are_not_blown_up():
    x, y = blobs(30, 5, 3)
    x[:, 0] = 1.0
    x[0, 0] = 1.0 + 1e-6
    mean, scale = standard(x)
    assert scale[0] >= 0.05 * np.median(scale)
    assert standard(np.ones((4, 3)))[1].min() > 0
    again = x.copy()
    again[:, 0] = 2.0
    probe = LinearProbe(3).fit(x, y)
    assert (probe.probabilities(again).argmax(1) == probe.probabilities(x).argmax(1)).mean() > 0.9


def test_neighbors_agree_with_scikit_learn():
    x, y = blobs(50, 7, 4, apart=0.5)
    test, _ = blobs(30, 7, 4, seed=1, apart=0.5)
    votes = nearest_neighbors(x, y, test, 4, k=5)

    def weights(distance):
        return np.exp(-(distance**2) / 2 / 0.07)  # of unit vectors, similarity = 1 - distance ** 2 / 2

    peer = KNeighborsClassifier(5, weights=weights).fit(normalize(x), y)
    np.testing.assert_allclose(votes, peer.predict_proba(normalize(test)), atol=1e-5)
    assert np.allclose(votes.sum(axis=1), 1)


@pytest.mark.parametrize(("per_class", "k"), [(1, 1), (4, 1), (5, 5), (49, 5), (50, 20)])
def test_few_labels_have_few_neighbors(per_class, k):
    assert neighbors_for(np.repeat(np.arange(3), per_class)) == k


def test_one_neighbor_of_itself_is_itself():
    x, y = blobs(10, 5, 5)
    assert np.array_equal(nearest_neighbors(x, y, x, 5, k=1).argmax(axis=1), y)
    assert nearest_neighbors(x[:3], y[:3], x, 5, k=20).shape == (10, 5)


@pytest.mark.parametrize("learn", [lambda x, y: LinearProbe(3).fit(x, y), lambda x, y: nearest_neighbors(x, y, x, 3)])
def test_what_cannot_teach_is_said(learn):
    x, y = blobs(6, 4, 3)
    with pytest.raises(InputError, match="at least 2"):
        learn(x, np.zeros(6, np.int64))
    x[2, 1] = np.nan
    with pytest.raises(InputError, match=r"1 of 6 items are not finite.*item 2"):
        learn(x, y)


def test_neighbors_are_compared_a_few_at_a_time(monkeypatch):
    (x, y), (test, _) = blobs(2000, 8, 4), blobs(2000, 8, 4, seed=1)
    whole = nearest_neighbors(x, y, test, 4)
    monkeypatch.setattr(few_label, "COMPARED", 100_000)
    tracemalloc.start()
    np.testing.assert_allclose(nearest_neighbors(x, y, test, 4), whole, rtol=1e-12)
    assert tracemalloc.get_traced_memory()[1] < 8e6  # all similarities take 32 MB, and are sorted besides
    tracemalloc.stop()
