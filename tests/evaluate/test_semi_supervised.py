"""A mixture that learns from labelled and unlabelled items."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from withheld.errors import InputError
from withheld.evaluate import semi_supervised
from withheld.evaluate.few_label import LinearProbe
from withheld.evaluate.semi_supervised import FIXED, GRID, SemiSupervisedMixture, Setting


def clusters(n=600, seed=0):
    random = np.random.default_rng(seed)
    y = random.integers(3, size=n)
    return np.array([[0, 0, 0], [4, 0, 0], [0, 4, 0]])[y] + random.normal(size=(n, 3)), y


def test_unlabelled_items_help_where_classes_are_clusters():
    gains = []
    for seed in range(5):
        x, y = clusters(seed=seed)
        few = np.array([np.flatnonzero(y == k)[0] for k in range(3)])
        rest = np.setdiff1d(np.arange(600), few)
        found = SemiSupervisedMixture(3).fit(x[few], y[few], x[rest[:400]]).probabilities(x[rest[400:]])
        alone = LinearProbe(3).fit(x[few], y[few]).probabilities(x[rest[400:]])
        gains.append((found.argmax(1) == y[rest[400:]]).mean() - (alone.argmax(1) == y[rest[400:]]).mean())
    assert np.mean(gains) > 0.03


def test_without_unlabelled_items_it_is_linear_discriminant_analysis():
    x, y = load_digits(return_X_y=True)
    found = SemiSupervisedMixture(10).fit(x[:1000], y[:1000], x[:0])
    assert (found.probabilities(x[1000:]).argmax(1) == y[1000:]).mean() > 0.9
    flat = SemiSupervisedMixture(10, grid=(Setting(20, "tied", 0.0),)).fit(x[:1000], y[:1000], x[:0])
    z = flat._turned(x)
    theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(z[:1000], y[:1000])
    assert (flat.probabilities(x[1000:]).argmax(1) == theirs.predict(z[1000:])).mean() > 0.98


def test_how_much_they_count_is_chosen_where_labels_allow():
    x, y = clusters()
    random = np.random.default_rng(0)
    misleading = random.normal(size=(3000, 3)) @ np.diag([0.1, 6, 6]) + 2
    found = SemiSupervisedMixture(3).fit(x[:60], y[:60], misleading)
    assert found.setting in GRID
    assert (found.probabilities(x[60:]).argmax(1) == y[60:]).mean() > 0.85


def test_a_class_without_labels_gets_no_probability():
    x, y = clusters()
    found = SemiSupervisedMixture(4).fit(x[:100], y[:100], x[100:200]).probabilities(x[200:])
    assert found.shape == (400, 4)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert not found[:, 3].any()


def test_bad_features_are_named():
    x, y = clusters()
    with pytest.raises(InputError, match="class"):
        SemiSupervisedMixture(3).fit(x[:5], np.zeros(5, int), x)


def test_of_very_many_classes_nothing_is_chosen(monkeypatch):
    generator = np.random.default_rng(0)
    centers, y = generator.normal(size=(200, 8)) * 9, np.repeat(np.arange(200), 10)
    x = (centers[y] + generator.normal(size=(2000, 8))).astype(np.float32)
    fits: list[Setting] = []
    fit = semi_supervised._fit
    monkeypatch.setattr(semi_supervised, "_fit", lambda *given: (fits.append(given[3]), fit(*given))[1])
    found = SemiSupervisedMixture(200).fit(x, y, x[:700])
    assert fits == [FIXED]
    assert (found.probabilities(x).argmax(axis=1) == y).mean() > 0.9
