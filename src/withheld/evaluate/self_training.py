"""A classifier that learns from its own guesses on unlabelled items.

Shapes: N labelled items, U unlabelled ones, A = N + U, M test items, D features, K classes.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import cg
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from withheld.errors import InputError
from withheld.evaluate.few_label import ENOUGH, FIXED, MOST_LEARNED, check_labelled, sample, standard

Array = NDArray[np.floating]
Labels = NDArray[np.int64]

NEAREST, SHARPNESS, REACH = 50, 3, 0.99
"""Neighbors of an item in the graph, the power of their cosine, and how far labels flow (Iscen et al. 2019)."""
ROUNDS = (0.2, 0.35, 0.5, 0.65, 0.8)
"""Share of an equal part of all unlabelled items that every class may take, round by round."""
WAYS = ("graph", "rounds", "alone")
"""What there is to choose from; of equals the first."""
STEPS = 100
TOTAL = 1000.0
"""Weight of all items together, in labelled ones, after labels have flowed."""


class SelfTraining:
    """Logistic regression that also learns from unlabelled items, under labels it gave them itself.

    "rounds": the regression labels the items it is surest of, as many of each class, learns from these too, and again, with more
    of them every round (Lee 2013, Pseudo-Label; the same number of each class: Zou et al. 2018, https://arxiv.org/abs/1810.07911).
    "graph": labels flow along a graph of the most similar items, then the regression learns from all of them, each as much as
    its label is certain (Zhou et al. 2004; Iscen et al. 2019, https://arxiv.org/abs/1904.04717).
    "alone": labelled items only.

    Which it is, is chosen by stratified cross-validation on the labelled items where every class has `ENOUGH`; below that it is the
    first. Nothing of a tested item is looked at.

    Args:
        classes: K; a class without labelled items gets probability 0.
        seed: of the folds.
        ways: to choose from.

    Attributes:
        way: the one used, after `fit`.
    """

    def __init__(self, classes: int, seed: int = 0, ways: tuple[str, ...] = WAYS) -> None:
        self.classes, self.seed, self.ways = classes, seed, ways
        self.way = ways[0]

    def fit(self, x_ND: Array, y_N: Labels, x_UD: Array) -> SelfTraining:
        """Learns from labelled and unlabelled items.

        Raises:
            InputError: where fewer than two classes have labels, or a feature is not a finite number.
        """
        check_labelled(x_ND, y_N)
        if not np.isfinite(x_UD).all():
            raise InputError("features of unlabelled items are not finite numbers: the encoder has diverged")
        x_ND, y_N = sample(x_ND, y_N, MOST_LEARNED, self.seed)
        self.known, at = np.unique(y_N, return_inverse=True)
        self._mean, self._scale = standard(np.concatenate([x_ND, x_UD]))
        z_AD = np.concatenate([self._scaled(x_ND), self._scaled(x_UD)])
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._graph = neighbor_graph(z_AD) if "graph" in self.ways and len(x_UD) else None
            self.way = self._choose(z_AD, at) if len(x_UD) else "alone"
            self._model = self._learned(self.way, z_AD, np.arange(len(at)), at)
        return self

    def probabilities(self, x_MD: Array) -> Array:
        """(M, K) probabilities, in the order of the classes."""
        found = np.zeros((len(x_MD), self.classes))
        found[:, self.known] = self._model.predict_proba(self._scaled(x_MD))
        return found

    def _scaled(self, x_ND: Array) -> NDArray[np.float32]:
        return ((np.asarray(x_ND, np.float64) - self._mean) / self._scale).astype(np.float32)

    def _choose(self, z_AD: Array, y_N: Labels) -> str:
        if len(self.ways) == 1 or int(np.bincount(y_N).min()) < ENOUGH:
            return self.ways[0]
        folds = list(StratifiedKFold(3, shuffle=True, random_state=self.seed).split(y_N, y_N))
        right = [sum(self._right(way, z_AD, y_N, *fold) for fold in folds) for way in self.ways]
        return self.ways[int(np.argmax(right))]

    def _right(self, way: str, z_AD: Array, y_N: Labels, learn: Labels, check: Labels) -> int:
        """How many held-out labelled items it gets right; these are unlabelled ones meanwhile."""
        return int((self._learned(way, z_AD, learn, y_N[learn]).predict(z_AD[check]) == y_N[check]).sum())

    def _learned(self, way: str, z_AD: Array, at: Labels, y: Labels) -> LogisticRegression:
        """The regression that one way ends in, with labels of the items at these places."""
        if way == "alone":
            return _regression(z_AD[at], y)
        return self._from_graph(z_AD, at, y) if way == "graph" else _in_rounds(z_AD, at, y)

    def _from_graph(self, z_AD: Array, at: Labels, y: Labels) -> LogisticRegression:
        assert self._graph is not None  # noqa: S101 - it was made where this way may be chosen
        share = propagated(self._graph, at, y, int(y.max()) + 1)
        guess = share.argmax(axis=1)
        sure = 1 + (share * np.log(np.maximum(share, 1e-12))).sum(axis=1) / np.log(share.shape[1])
        guess[at], sure[at] = y, 1.0
        sure = np.maximum(sure, 0.0) / np.maximum(np.bincount(guess, sure, share.shape[1]), 1e-9)[guess]
        return _regression(z_AD, guess, sure * (TOTAL / sure.sum()))


def _in_rounds(z_AD: Array, at: Labels, y: Labels) -> LogisticRegression:
    model = _regression(z_AD[at], y)
    free = np.setdiff1d(np.arange(len(z_AD)), at)
    for share in ROUNDS:
        p = model.predict_proba(z_AD[free])
        guess, most = p.argmax(axis=1), max(1, int(share * len(free) / p.shape[1]))
        chosen = [np.flatnonzero(guess == k) for k in range(p.shape[1])]
        taken = np.concatenate([own[np.argsort(-p[own, k], kind="stable")][:most] for k, own in enumerate(chosen)])
        weight = np.concatenate([np.ones(len(at)), np.full(len(taken), len(at) / max(1, len(taken)))])
        model = _regression(
            np.concatenate([z_AD[at], z_AD[free[taken]]]), np.concatenate([y, model.classes_[guess[taken]]]), weight
        )
    return model


def _regression(z: Array, y: Labels, weight: Array | None = None) -> LogisticRegression:
    return LogisticRegression(C=FIXED, max_iter=STEPS, tol=1e-3).fit(z, y, sample_weight=weight)


def neighbor_graph(z_AD: Array, nearest: int = NEAREST) -> sparse.csr_matrix:
    """(A, A) symmetric weights D^-1/2 W D^-1/2 of a graph of the most similar items (cosine to the power `SHARPNESS`)."""
    unit = np.asarray(z_AD, np.float32)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    A, k = len(unit), min(nearest, len(unit) - 1)
    columns, weights = np.empty((A, k), np.int32), np.empty((A, k), np.float32)
    for first in range(0, A, 1024):
        cosine = unit[first : first + 1024] @ unit.T
        cosine[np.arange(len(cosine)), np.arange(first, first + len(cosine))] = -2.0
        near = np.argpartition(cosine, A - k, axis=1)[:, A - k :]
        columns[first : first + 1024] = near
        weights[first : first + 1024] = np.maximum(np.take_along_axis(cosine, near, axis=1), 0.0) ** SHARPNESS
    graph = sparse.csr_matrix((weights.ravel().astype(np.float64), columns.ravel(), np.arange(0, A * k + 1, k)), (A, A))
    graph = graph + graph.T
    degree = sparse.diags(1.0 / np.sqrt(np.maximum(np.asarray(graph.sum(axis=1)).ravel(), 1e-12)))
    return sparse.csr_matrix(degree @ graph @ degree)


def propagated(graph: sparse.csr_matrix, at: Labels, y: Labels, classes: int, reach: float = REACH) -> Array:
    """(A, K) shares of the labels that flow to every item: (I - reach S)^-1 Y, each row made to sum to 1.

    Every class begins with the same amount.

    Source: Zhou et al. 2004, "Learning with local and global consistency"; solved by conjugate gradients as in Iscen et al.
    2019, "Label propagation for deep semi-supervised learning".

    Args:
        graph: as `neighbor_graph` makes it. at: places of labelled items. y: their labels, 0 to K - 1.
    """
    system = sparse.identity(graph.shape[0], format="csr") - reach * graph
    found = np.zeros((graph.shape[0], classes))
    for label in np.unique(y):
        begin = np.zeros(graph.shape[0])
        begin[at[y == label]] = 1.0 / (y == label).sum()
        found[:, label] = np.maximum(cg(system, begin, rtol=1e-4, maxiter=50)[0], 0.0)
    total = found.sum(axis=1, keepdims=True)
    return np.where(total > 0, found / np.maximum(total, 1e-30), 1.0 / classes)
