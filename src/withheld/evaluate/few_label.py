"""What a few labels can do with frozen features: a linear probe and nearest neighbors.

Shapes: N labelled items, M test items, D features, K classes.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from withheld.errors import InputError
from withheld.wording import plural

Array = NDArray[np.floating]
Labels = NDArray[np.int64]

GRID = (1.0, 10.0, 100.0, 1000.0)
"""Strengths C that cross-validation chooses from, for items of unit expected norm."""
FIXED = 10.0
"""C where there are too few labels to choose it."""
ENOUGH = 5
"""Labels of the rarest class from which C is chosen by cross-validation."""
MOST_CHECKED, MOST_LEARNED = 2000, 20_000
"""Items that C is chosen on, and that a probe learns from: a seeded sample where there are more."""
COMPARED = 1 << 23
"""Similarities at a time, 64 MB of them."""
MOST_WORK = 1e7
"""Items times features times classes above which C is `FIXED`: twenty fits of a hundred classes take minutes."""


class LinearProbe:
    """Logistic regression on standardized features (Alain & Bengio 2016; the linear protocol of RECIPES P1).

    C is chosen by stratified cross-validation on the labelled items alone where every class has `ENOUGH`, else it is
    `FIXED`.
    Features are scaled to unit expected norm, so that one grid of C serves 10 features and 10,000.

    Args:
        classes: K, how many classes there are; a class without labelled items gets probability 0.
        seed: of the folds.
        strength: C; None chooses it.

    Attributes:
        C: the strength used, after `fit`.
    """

    def __init__(self, classes: int, seed: int = 0, strength: float | None = None) -> None:
        self.classes = classes
        self.seed, self.strength = seed, strength
        self.C = FIXED

    def fit(self, x_ND: Array, y_N: Labels) -> LinearProbe:
        """Learns from labelled items.

        Raises:
            InputError: where fewer than two classes have labels, or a feature is not a finite number.
        """
        check_labelled(x_ND, y_N)
        x_ND, y_N = sample(x_ND, y_N, MOST_LEARNED, self.seed)
        self._mean, self._scale = standard(x_ND)
        with threadpool_limits(1):  # of hundreds of small products: threads that wait for each other cost more
            z, self._basis = _rotated(self._scaled(x_ND))
            self.C = self._choose(z, y_N) if self.strength is None else self.strength
            self._model = _fit(z, y_N, self.C)
        return self

    def probabilities(self, x_MD: Array) -> Array:
        """(M, K) probabilities, in the order of the classes."""
        known = self._model.predict_proba(self._project(self._scaled(x_MD)))
        probabilities = np.zeros((len(known), self.classes))
        probabilities[:, self._model.classes_] = known
        return probabilities

    def head(self) -> tuple[Array, Array, Array, Array]:
        """The probe as a layer: mean (D,), scale (D,), weight (K, D), bias (K,).

        Its logits are weight @ ((x - mean) / scale) + bias.
        """
        coefficients, intercepts = _both_classes(self._model)
        if self._basis is not None:
            coefficients = coefficients @ self._basis.T
        weight = np.zeros((self.classes, coefficients.shape[1]))
        bias = np.full(self.classes, intercepts.min() - 5.0 if len(intercepts) < self.classes else 0.0)
        weight[self._model.classes_], bias[self._model.classes_] = coefficients, intercepts
        root = np.sqrt(weight.shape[1])
        return self._mean, self._scale / root, weight / root, bias

    def _scaled(self, x_ND: Array) -> Array:
        return (np.asarray(x_ND, dtype=np.float64) - self._mean) / self._scale

    def _project(self, x_MD: Array) -> Array:
        return x_MD if self._basis is None else x_MD @ self._basis

    def _choose(self, z: Array, y_N: Labels) -> float:
        z, y_N = sample(z, y_N, MOST_CHECKED, self.seed)
        rarest = int(np.bincount(y_N)[np.unique(y_N)].min())
        if rarest < ENOUGH or z.size * len(np.unique(y_N)) > MOST_WORK:
            return FIXED
        folds = StratifiedKFold(n_splits=5 if rarest < 20 else 3, shuffle=True, random_state=self.seed)
        loss = np.zeros(len(GRID))
        for learn, check in folds.split(z, y_N):
            for i, strength in enumerate(GRID):
                model = _fit(z[learn], y_N[learn], strength)
                column = np.searchsorted(model.classes_, y_N[check])
                chosen = model.predict_proba(z[check])[np.arange(len(check)), column]
                loss[i] -= np.log(np.maximum(chosen, 1e-12)).sum()
        return GRID[int(loss.argmin())]


def nearest_neighbors(
    x_ND: Array, y_N: Labels, x_MD: Array, classes: int, k: int | None = None, temperature: float = 0.07
) -> Array:
    """Votes of the k most similar labelled items (cosine), weighted by exp(similarity / temperature) (Wu et al. 2018).

    Args:
        k: how many vote; by default 1 below 5 labels per class, 5 below 50, else 20: of few labels few are near.

    Returns:
        (M, K) shares of the vote.

    Raises:
        InputError: as `LinearProbe.fit`.
    """
    check_labelled(x_ND, y_N)
    k = min(len(y_N), neighbors_for(y_N) if k is None else k)
    learned_ND = _unit(x_ND)
    votes = np.zeros((len(x_MD), classes))
    each = max(1, COMPARED // len(y_N))
    for start in range(0, len(x_MD), each):
        similarity = _unit(x_MD[start : start + each]) @ learned_ND.T
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        near = np.take_along_axis(similarity, nearest, axis=1)
        weight = np.exp((near - near.max(axis=1, keepdims=True)) / temperature)
        for column in range(k):
            at = np.arange(start, start + len(near)), y_N[nearest[:, column]]
            np.add.at(votes, at, weight[:, column])
    return votes / votes.sum(axis=1, keepdims=True)


def neighbors_for(y_N: Labels) -> int:
    """The default k of `nearest_neighbors`."""
    per_class = len(y_N) / max(1, len(np.unique(y_N)))
    return 1 if per_class < 5 else 5 if per_class < 50 else 20


def check_labelled(x_ND: Array, y_N: Labels) -> None:
    """Says so where labelled items cannot teach a classifier.

    Raises:
        InputError: fewer than two classes, or features that are not finite.
    """
    if len(np.unique(y_N)) < 2:
        raise InputError(
            f"{plural(len(y_N), 'labelled item')} of {plural(len(np.unique(y_N)), 'class', 'classes')}; a classifier needs "
            "at least 2: check the labels"
        )
    if not np.isfinite(x_ND).all():
        rows = np.flatnonzero(~np.isfinite(x_ND).all(axis=1))
        raise InputError(
            f"the features of {len(rows)} of {len(x_ND)} items are not finite numbers (first: item {rows[0]}): "
            "the encoder has diverged, take an earlier checkpoint"
        )


def standard(x_ND: Array) -> tuple[Array, Array]:
    """Mean and scale (D,) such that (x - mean) / scale has variance 1 / D in every feature.

    A feature that hardly moves among a few labelled items (the border of a digit) may move among others, so no
    deviation counts as less than a tenth of the typical one.
    """
    x_ND = np.asarray(x_ND, dtype=np.float64)
    deviation = x_ND.std(axis=0)
    typical = np.sqrt((deviation**2).mean())
    floor = 0.1 * typical if typical > 0 else 1.0
    return x_ND.mean(axis=0), np.maximum(deviation, floor) * np.sqrt(x_ND.shape[1])


def sample(x_ND: NDArray[Any], y_N: Labels, most: int, seed: int) -> tuple[NDArray[Any], Labels]:
    """At most so many labelled items, a seeded sample."""
    if len(y_N) <= most:
        return x_ND, y_N
    chosen = np.sort(np.random.default_rng([seed, 0x5A]).choice(len(y_N), most, replace=False))
    return x_ND[chosen], y_N[chosen]


def _fit(z: Array, y_N: Labels, strength: float) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes")  # one label a class is what we are for
        return LogisticRegression(C=strength, max_iter=300, tol=1e-4).fit(z, y_N)


def _both_classes(model: LogisticRegression) -> tuple[Array, Array]:
    """Coefficients and intercepts with one row a class also where scikit-learn keeps one row for two classes."""
    if len(model.classes_) > 2:
        return model.coef_, model.intercept_
    return np.concatenate([-model.coef_, model.coef_]) / 2, np.concatenate([-model.intercept_, model.intercept_]) / 2


def _rotated(x_ND: Array) -> tuple[Array, Array | None]:
    """The items in the space they span, where D is larger than N: the penalty is round, so the solution is the same."""
    if x_ND.shape[1] <= x_ND.shape[0]:
        return x_ND, None
    basis = np.linalg.svd(x_ND, full_matrices=False)[2].T
    return x_ND @ basis, basis


def _unit(x_ND: Array) -> Array:
    norm = np.linalg.norm(x_ND, axis=1, keepdims=True)
    return np.asarray(x_ND, dtype=np.float64) / np.maximum(norm, 1e-12)
