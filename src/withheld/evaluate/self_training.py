"""A classifier that learns from unlabelled items too: from what their neighborhoods have in common, and from its own guesses.

Shapes: N labelled items, U unlabelled ones, A = N + U, M test items, D features, P principal components, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.sparse.linalg import cg
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from withheld.errors import InputError
from withheld.evaluate.few_label import ENOUGH, FIXED, MOST_LEARNED, LinearProbe, check_labelled, sample, standard

Array = NDArray[np.floating]
Labels = NDArray[np.int64]
Told = Callable[[Any], Array]
Plain = Callable[[Any, Labels, Any, int, int], Array]

COLUMNS, EVEN = 150, 0.25
"""Principal components that are kept, and the power of their variance that they are divided by: 0 leaves them, 0.5 makes all
equally long."""
NEAREST, SHARPNESS, REACH = 10, 3, 0.9
"""Neighbors of an item, the power of their cosine, and how far labels flow (Iscen et al. 2019: 50, 3, 0.99)."""
ROUNDS = (0.3, 0.6, 0.9)
"""Share of an equal part of all unlabelled items that every class may take, round by round."""
WAYS = ("together", "alone")
"""What there is to choose from; the first, unless the other is better for certain."""
WORDS = {"together": "unlabelled neighbors, flowing labels and own guesses", "alone": "labels alone"}
"""How a table says which way was chosen."""
CERTAIN = 1.0
"""Standard errors of the difference in right answers (McNemar) by which the other way must be better."""
CLEAR = 2.0
"""Standard errors by which the first way must be better than always the likeliest class."""
FLOOR = 1e-3
"""Of a probability before logarithms are added."""
MOST_TURNED = 4000
"""Items that principal components are found on, a seeded sample."""
STEPS = 100


class SelfTraining:
    """Logistic regression on neighborhoods of labelled and unlabelled items, labels that flow between them, and own guesses.

    Every item becomes the mean of itself and its nearest neighbors, which are mostly unlabelled: what an item has of its own
    goes, what it shares stays. On these three tell a probability, and the three are multiplied:

    - a regression that learns from labelled items,
    - labels that flow along the graph of neighbors (Zhou et al. 2004; Iscen et al. 2019, https://arxiv.org/abs/1904.04717),
    - a regression that labels the items it is surest of, as many of each class, learns from these too, and again with more
      (Lee 2013, Pseudo-Label; as many of each class: Zou et al. 2018, https://arxiv.org/abs/1810.07911).

    "alone" is the linear probe, which learns from labelled items only. Where other features tell most from labels alone and are no
    good for finding neighbors (of texts: tf-idf), what learns from these stands in the probe's place, and is a fourth factor.
    Which it is, is chosen by stratified cross-validation on the labelled items where every class has `ENOUGH`: all factors, unless
    "alone" gets more right by `CERTAIN` standard errors, or they hardly tell more than the likeliest class. No tested item is
    looked at before it is asked for.

    Args:
        classes: K; a class without labelled items gets probability 0.
        seed: of folds and samples.
        ways: to choose from.
        plain: what labels alone tell: (labelled items' own features, labels, those of others, K, seed) -> (M, K); None is the
            linear probe.

    Attributes:
        way: the one used, after `fit`.
    """

    def __init__(self, classes: int, seed: int = 0, ways: tuple[str, ...] = WAYS, plain: Plain | None = None) -> None:
        self.classes, self.seed, self.ways, self.plain = classes, seed, ways, plain
        self.way = ways[0]

    def fit(self, x_ND: Array, y_N: Labels, x_UD: Array, plain_N: Any = None) -> SelfTraining:
        """Learns from labelled and unlabelled items.

        Args:
            plain_N: rows of the labelled items as `plain` takes them.

        Raises:
            InputError: where fewer than two classes have labels, or a feature is not a finite number.
        """
        check_labelled(x_ND, y_N)
        if not np.isfinite(x_UD).all():
            raise InputError("features of unlabelled items are not finite numbers: the encoder has diverged")
        at, y_N = sample(np.arange(len(y_N)), y_N, MOST_LEARNED, self.seed)
        x_ND, plain_N = x_ND[at], None if plain_N is None else plain_N[at]
        self.known, y = np.unique(y_N, return_inverse=True)
        everything = np.concatenate([x_ND, x_UD])
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._turn(everything)
            self._z_AP = self._turned(everything)
            near, cosine = nearest(self._z_AP, self._z_AP, NEAREST)
            self._mean_AP = self._z_AP[near].mean(axis=1)
            self._graph = neighbor_graph(near, cosine)
            alone = x_ND if plain_N is None else plain_N
            self.way = self._choose(alone, y)
            self._model = self._learned(self.way, alone, np.arange(len(y)), y)
        return self

    def probabilities(self, x_MD: Array, plain_M: Any = None) -> Array:
        """(M, K) probabilities, in the order of the classes."""
        with threadpool_limits(1):
            found = np.zeros((len(x_MD), self.classes))
            if not isinstance(self._model, _Together):
                found[:, self.known] = self._model(x_MD if self.plain is None else plain_M)
                return found
            z_MP = self._turned(x_MD)
            near, cosine = nearest(z_MP, self._z_AP, NEAREST)
            others = max(1, NEAREST - 1)
            mean_MP = (self._z_AP[near[:, :others]].sum(axis=1) + z_MP) / (min(others, near.shape[1]) + 1)
            weight = np.maximum(cosine, 0.0) ** SHARPNESS
            p = self._model.told(mean_MP, np.einsum("mk,mkc->mc", weight, self._model.flowed[near]), plain_M)
            found[:, self.known] = p
        return found

    def _turn(self, x_AD: Array) -> None:
        """Standardizes, turns to principal components, and makes these more even."""
        self._mean, self._scale = standard(x_AD)
        some = np.random.default_rng([self.seed, 0x7A]).permutation(len(x_AD))[:MOST_TURNED]
        z = (np.asarray(x_AD[some], np.float64) - self._mean) / self._scale
        values, vectors = principal(z, min(COLUMNS, z.shape[1], max(2, len(z) - 1)))
        length = np.maximum(values, 1e-6 * max(values.max(), 1e-300)) ** EVEN
        self._basis = vectors / length
        self._basis /= np.sqrt(max(float((values / length**2).sum()), 1e-300))  # unit expected norm, as for the probe

    def _turned(self, x_ND: Array) -> NDArray[np.float32]:
        return ((np.asarray(x_ND, np.float64) - self._mean) / self._scale @ self._basis).astype(np.float32)

    def _choose(self, alone_N: Any, y: Labels) -> str:
        if len(self.ways) == 1 or int(np.bincount(y).min()) < ENOUGH:
            return self.ways[0]
        folds = list(StratifiedKFold(3, shuffle=True, random_state=self.seed).split(y, y))
        right = {way: np.concatenate([self._right(way, alone_N, y, *fold) for fold in folds]) for way in self.ways}
        best = self.ways[0]
        likely = float(np.bincount(y).max()) / len(y)
        if right[best].sum() <= len(y) * likely + CLEAR * np.sqrt(len(y) * likely * (1 - likely)):
            return self.ways[-1]  # neighbors that tell no more than the likeliest class would lead all guesses astray
        for way in self.ways[1:]:
            gain = int(right[way].sum()) - int(right[best].sum())
            if gain > CERTAIN * np.sqrt((right[way] != right[best]).sum()):
                best = way
        return best

    def _right(self, way: str, alone_N: Any, y: Labels, learn: Labels, check: Labels) -> NDArray[np.bool_]:
        """Which held-out labelled items it gets right; these are unlabelled ones meanwhile."""
        model = self._learned(way, alone_N, learn, y[learn])
        if isinstance(model, _Together):
            p = model.told(self._mean_AP[check], model.flowed[check], alone_N[check])
        else:
            p = model(alone_N[check])
        return p.argmax(axis=1) == y[check]

    def _learned(self, way: str, alone_N: Any, at: Labels, y: Labels) -> _Together | Told:
        """What one way learns from items at these places."""
        K, plain = int(y.max()) + 1, self.plain
        if way == "alone" and plain is None:
            return LinearProbe(K, self.seed).fit(alone_N[at], y).probabilities
        own: Told | None = None if plain is None else lambda rows: plain(alone_N[at], y, rows, K, self.seed)
        if way == "alone" and own is not None:
            return own
        first = _regression(self._mean_AP[at], y)
        return _Together(first, _in_rounds(first, self._mean_AP, at, y), propagated(self._graph, at, y, K), own)


@dataclass
class _Together:
    """A regression on labels, one on guesses too, `flowed` (A, K), shares of the labels that flowed to every item, and what
    labels alone tell of other features."""

    labelled: LogisticRegression
    guessed: LogisticRegression
    flowed: Array
    own: Told | None

    def told(self, mean_MP: Array, share_MK: Array, plain_M: Any) -> Array:
        """(M, K) probabilities of neighborhoods and of the labels that have flowed there."""
        parts = [self.labelled.predict_proba(mean_MP), share_MK, self.guessed.predict_proba(mean_MP)]
        return _product(*parts, *([] if self.own is None else [self.own(plain_M)]))


def even(learn_ND: Array, rest_UD: Array, *others: Array) -> list[Array]:
    """One kind of feature of labelled, unlabelled and other items, such that beside another kind it weighs as much."""
    mean, scale = standard(np.concatenate([learn_ND, rest_UD]))
    return [np.asarray((part - mean) / scale, np.float32) for part in (learn_ND, rest_UD, *others)]


def _product(*parts: Array) -> Array:
    """Probabilities that are multiplied, none below `FLOOR`, and made to sum to 1."""
    found = np.ones_like(parts[0])
    for p in parts:
        found = found * np.maximum(p / np.maximum(p.sum(axis=1, keepdims=True), 1e-30), FLOOR)
    return found / found.sum(axis=1, keepdims=True)


def _in_rounds(model: LogisticRegression, z_AP: Array, at: Labels, y: Labels) -> LogisticRegression:
    """Goes on from a model of labelled items."""
    free = np.setdiff1d(np.arange(len(z_AP)), at)
    for share in ROUNDS if len(free) else ():
        p = model.predict_proba(z_AP[free])
        guess, most = p.argmax(axis=1), max(1, int(share * len(free) / p.shape[1]))
        chosen = [np.flatnonzero(guess == k) for k in range(p.shape[1])]
        taken = np.concatenate([own[np.argsort(-p[own, k], kind="stable")][:most] for k, own in enumerate(chosen)])
        weight = np.concatenate([np.ones(len(at)), np.full(len(taken), len(at) / len(taken))])
        rows, labels = np.concatenate([at, free[taken]]), np.concatenate([y, model.classes_[guess[taken]]])
        model = _regression(z_AP[rows], labels, weight)
    return model


def principal(z_ND: Array, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The largest eigenvalues of z'z / N and their eigenvectors, (P,) and (D, P), largest first; of few rows through z z'.

    There is no direction where an eigenvalue is 0: its column is 0.
    """
    few = len(z_ND) < z_ND.shape[1]
    square = (z_ND @ z_ND.T if few else z_ND.T @ z_ND) / len(z_ND)
    count = min(count, len(square))
    values, vectors = linalg.eigh(square, subset_by_index=[len(square) - count, len(square) - 1], check_finite=False)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    if few:
        there = values > 1e-12 * max(values[0], 1e-300)
        vectors = z_ND.T @ (vectors * np.where(there, 1 / np.sqrt(len(z_ND) * np.where(there, values, 1.0)), 0.0))
    return values, vectors


def _regression(z: Array, y: Labels, weight: Array | None = None) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes")  # one label a class is what we are for
        return LogisticRegression(C=FIXED, max_iter=STEPS, tol=1e-3).fit(z, y, sample_weight=weight)


def nearest(a_MP: Array, b_AP: Array, k: int) -> tuple[Labels, NDArray[np.float32]]:
    """(M, k) places of the most similar items and their cosines, the most similar first; an item finds itself."""
    a, b = (
        torch.nn.functional.normalize(torch.from_numpy(np.ascontiguousarray(x, np.float32)), dim=1)
        for x in (a_MP, b_AP)
    )
    k = min(k, len(b))
    found = [torch.topk(part @ b.T, k, dim=1) for part in a.split(1024)]
    return torch.cat([f.indices for f in found]).numpy(), torch.cat([f.values for f in found]).numpy()


def neighbor_graph(near_AK: Labels, cosine_AK: Array) -> sparse.csr_matrix:
    """(A, A) symmetric weights D^-1/2 W D^-1/2 of a graph of neighbors, W their cosines to the power `SHARPNESS`."""
    A, k = near_AK.shape
    weight = np.maximum(np.asarray(cosine_AK, np.float64), 0.0) ** SHARPNESS
    weight[near_AK == np.arange(A)[:, None]] = 0.0
    graph = sparse.csr_matrix((weight.ravel(), near_AK.ravel(), np.arange(0, A * k + 1, k)), (A, A))
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
    return np.where(total > 1e-12, found / np.maximum(total, 1e-30), 1.0 / classes)
