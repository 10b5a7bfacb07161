"""Self-training: against scikit-learn and closed forms, and that unlabelled items help where they can and do no harm else."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_moons
from sklearn.semi_supervised import LabelSpreading

from withheld.data.few import FewLabels
from withheld.errors import InputError
from withheld.evaluate import self_trained
from withheld.evaluate.compare import PRETRAINED, Row
from withheld.evaluate.few_label import LinearProbe
from withheld.evaluate.self_training import WAYS, SelfTraining, nearest, neighbor_graph, principal, propagated


def graph_of(z, k):
    return neighbor_graph(*nearest(z, z, k + 1))


def test_the_graph_is_that_of_the_formula():
    z = np.random.default_rng(0).normal(size=(30, 5))
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    weights = np.zeros((30, 30))
    for i in range(30):
        others = [j for j in range(30) if j != i]
        for j in sorted(others, key=lambda j: -unit[i] @ unit[j])[:4]:
            weights[i, j] = max(unit[i] @ unit[j], 0) ** 3
    weights = weights + weights.T
    root = np.sqrt(weights.sum(axis=1))
    np.testing.assert_allclose(graph_of(z, 4).toarray(), weights / root[:, None] / root[None], atol=1e-5)


def test_labels_flow_as_the_closed_form_says():
    z = np.random.default_rng(1).normal(size=(40, 4))
    graph, at, y = graph_of(z, 6), np.array([3, 8, 20]), np.array([0, 1, 1])
    begin = np.zeros((40, 2))
    begin[at, y] = 1 / np.array([1, 2, 2])
    exact = np.linalg.inv(np.eye(40) - 0.9 * graph.toarray()) @ begin
    found = propagated(graph, at, y, 2, reach=0.9)
    np.testing.assert_allclose(found, exact / exact.sum(axis=1, keepdims=True), atol=1e-3)


def test_it_tells_what_scikit_learns_label_spreading_tells():
    x, y = load_digits(return_X_y=True)
    x, y = x[:600], y[:600]
    few = np.concatenate([np.flatnonzero(y == k)[:5] for k in range(10)])
    known = np.full(600, -1)
    known[few] = y[few]
    theirs = LabelSpreading("knn", n_neighbors=20, alpha=0.99, max_iter=500).fit(x, known).transduction_
    ours = propagated(graph_of(x, 20), few, y[few], 10).argmax(axis=1)
    assert abs((ours == y).mean() - (theirs == y).mean()) < 0.05
    assert (ours == y).mean() > 0.9


def test_an_item_that_no_label_reaches_is_told_nothing():
    graph = graph_of(np.eye(6), 2)  # nobody is similar to anybody
    np.testing.assert_allclose(propagated(graph, np.array([0, 1]), np.array([0, 1]), 2)[5], [0.5, 0.5])


def test_neighbors_are_the_most_similar_first():
    z = np.random.default_rng(2).normal(size=(50, 3))
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    near, cosine = nearest(z[:7], z, 5)
    np.testing.assert_array_equal(near, np.argsort(-(unit[:7] @ unit.T), axis=1)[:, :5])
    np.testing.assert_array_equal(near[:, 0], np.arange(7))
    np.testing.assert_allclose(cosine[:, 0], 1, atol=1e-6)
    assert nearest(z[:2], z[:3], 9)[0].shape == (2, 3)


def test_unlabelled_digits_help():
    x, y = load_digits(return_X_y=True)
    gains = []
    for seed in range(3):
        mixed = np.random.default_rng(seed).permutation(len(x))
        few = np.concatenate([mixed[y[mixed] == k][:3] for k in range(10)])
        rest = np.setdiff1d(mixed, few)
        found = SelfTraining(10, seed, WAYS[:1]).fit(x[few], y[few], x[rest[:800]]).probabilities(x[rest[800:]])
        alone = LinearProbe(10, seed).fit(x[few], y[few]).probabilities(x[rest[800:]])
        gains.append(float((found.argmax(1) == y[rest[800:]]).mean() - (alone.argmax(1) == y[rest[800:]]).mean()))
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert np.mean(gains) > 0.02


def test_labels_alone_are_chosen_where_unlabelled_items_mislead():
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 2))
    y = (x[:, 0] > 0).astype(np.int64)
    unlabelled = np.concatenate(
        [random.normal(size=(500, 2)) * [3, 0.2] + [0, s] for s in (6, -6)]
    )  # groups of another kind
    found = SelfTraining(2).fit(x[:100], y[:100], unlabelled)
    alone = SelfTraining(2, ways=("alone",)).fit(x[:100], y[:100], unlabelled)
    right = [(model.probabilities(x[100:]).argmax(1) == y[100:]).mean() for model in (found, alone)]
    assert right[0] > right[1] - 0.02


def test_the_way_is_chosen_by_labelled_items_only_where_there_are_enough():
    x, y = make_moons(300, noise=0.05, random_state=0)
    assert SelfTraining(2).fit(x[:4], y[:4] if len(set(y[:4])) > 1 else np.array([0, 1, 0, 1]), x[4:]).way == WAYS[0]
    assert SelfTraining(2).fit(x[:60], y[:60], x[:0]).way in WAYS
    assert SelfTraining(2).fit(x[:60], y[:60], x[60:]).way in WAYS


def test_neighbors_that_tell_nothing_are_not_followed():
    """Labels that no feature tells: guesses would be wrong, and ten labels of each cannot show that labels alone are better."""
    ways = []
    for seed in range(6):
        random = np.random.default_rng(seed)
        ways.append(
            SelfTraining(2, seed).fit(random.normal(size=(20, 8)), np.arange(20) % 2, random.normal(size=(200, 8))).way
        )
    assert ways == ["alone"] * 6
    x, y = make_moons(300, noise=0.05, random_state=0)
    assert SelfTraining(2).fit(x[:20], y[:20], x[20:]).way == "together"


def test_a_class_without_labels_gets_probability_0_and_bad_features_are_told():
    x, y = load_digits(return_X_y=True)
    some = y < 3
    found = SelfTraining(10).fit(x[some][:30], y[some][:30], x[:200]).probabilities(x[:5])
    assert (found[:, 3:] == 0).all()
    with pytest.raises(InputError, match="not finite"):
        SelfTraining(10).fit(x[:30], y[:30], np.full((3, 64), np.nan))
    with pytest.raises(InputError, match="at least 2"):
        SelfTraining(10).fit(x[:3], np.zeros(3, np.int64), x[:5])


@pytest.mark.parametrize("rows", [9, 200])
def test_principal_directions_are_those_of_scikit_learn(rows: int) -> None:
    from sklearn.decomposition import PCA

    x = np.random.default_rng(0).normal(size=(rows, 30)) * np.linspace(3, 0.5, 30)
    x -= x.mean(axis=0)
    values, vectors = principal(x, 5)
    peer = PCA(5, svd_solver="full").fit(x)
    np.testing.assert_allclose(values, peer.explained_variance_ * (rows - 1) / rows, rtol=1e-9)
    np.testing.assert_allclose(np.abs(vectors.T @ peer.components_.T), np.eye(5), atol=1e-6)


def test_of_rows_that_repeat_there_are_no_more_directions_than_rows() -> None:
    x = np.repeat(np.random.default_rng(0).normal(size=(2, 30)), 4, axis=0)
    values, vectors = principal(x, 7)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=0), [1, 1, 0, 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(values[2:], 0, atol=1e-9)


def test_label_counts_that_would_take_too_long_are_left_out_and_it_is_said(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(self_trained.time, "monotonic", lambda: clock[0])
    draws = {
        (count, seed): FewLabels(np.arange(count), np.arange(4), seed) for count in (1, 10, 100) for seed in range(3)
    }
    labelled = SimpleNamespace(counts=[1, 10, 100], draws=draws)
    m = SimpleNamespace(labelled=labelled, budget=100.0, rows=[], left_out=[], done=lambda row, count: None)
    m.score = lambda row, count, seed, found, test: row.add(count, seed, found, test)

    def cell(draw):
        calls.append((len(draw.train), draw.seed))
        clock[0] += len(draw.train)
        return np.ones(4)

    row = Row("self-training", PRETRAINED)
    self_trained.measure_cells(m, row, [0, 1, 2], cell, share=0.2)  # 3 seconds, and 30 would be too many
    assert calls == [(1, 0), (1, 1), (1, 2), (10, 0)]
    assert list(row.right) == [1]
    assert m.rows == [row]
    assert m.left_out == ['"self-training" at 10, 100 labels per class, for time']
    calls.clear()
    row = Row("self-training", PRETRAINED)
    self_trained.measure_cells(
        m, row, [0, 1, 2], cell, share=0.62
    )  # 33 seconds are spent, and three times 10 are too many
    assert calls == [(count, seed) for count in (1, 10) for seed in range(3)], "none of those with 100 labels is begun"
    assert list(row.right) == [1, 10]
    row = Row("self-training", PRETRAINED)
    self_trained.measure_cells(m, row, [0, 1, 2], cell)  # asked for, however long
    assert list(row.right) == [1, 10, 100]
