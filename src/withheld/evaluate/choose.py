"""Which items to label first, from features alone: the typical ones of different kinds, or those that stand for most others.

Shapes: N items, D features, n items wanted, K clusters.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

Array = NDArray[np.floating]
Places = NDArray[np.int64]

NEAREST = 20
"""Neighbors that the typicality of an item is measured with."""
MOST_CLUSTERS, LEAST_CLUSTER = 500, 5
"""As in the paper: more clusters are not made, and smaller ones are passed over while there are others."""
PURITY, KINDS = 0.95, 20
"""Share of balls that should hold items of one kind, and how many kinds are supposed where nobody knows."""
LARGE = 5000
"""Items of a cluster that are compared with each other: a seeded sample of larger ones."""


def unit_features(x_ND: Array) -> NDArray[np.float32]:
    """Standardized features of unit length: without it, one direction that all items share decides who is near."""
    x = np.asarray(x_ND, np.float32)
    deviation = x.std(axis=0)
    typical = float(np.sqrt((deviation**2).mean()))
    x = (x - x.mean(axis=0)) / np.maximum(deviation, 0.1 * typical if typical > 0 else 1.0)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12), np.float32)


def typical(x_ND: Array, n: int, known: Places, seed: int = 0) -> Places:
    """The densest item of each of as many clusters as there will be labels, those of the largest clusters first.

    Source: Hacohen et al. 2022, TypiClust, "Active learning on a budget: opposite strategies suit high and low budgets",
    https://arxiv.org/abs/2202.02794. Clusters that hold a labelled item already come last; typicality is one over the
    mean distance to the `NEAREST` neighbors in the cluster.

    Args:
        x_ND: features, as `unit_features` makes them.
        n: how many are wanted.
        known: places of items that are labelled already.
        seed: of k-means.

    Returns:
        (n,) places, the first to label first; fewer where there are fewer items.
    """
    free = np.ones(len(x_ND), bool)
    free[known] = False
    n = min(n, int(free.sum()))
    if n < 1:
        return np.zeros(0, np.int64)
    cluster = _clusters(x_ND, min(len(known) + n, MOST_CLUSTERS, len(x_ND)), seed)
    density = np.zeros(len(x_ND))
    for k in range(int(cluster.max()) + 1):
        at = np.flatnonzero(cluster == k)
        density[at] = _typicality(x_ND[at], seed)
    return _by_cluster(cluster, density, free, known, n)


def _clusters(x_ND: Array, count: int, seed: int) -> Places:
    method = KMeans if count <= 50 else MiniBatchKMeans
    more = {} if count <= 50 else {"batch_size": 2048}
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different items than clusters
        return np.asarray(method(count, n_init=1, random_state=seed, **more).fit_predict(x_ND), np.int64)


def _typicality(x_ND: Array, seed: int) -> Array:
    """One over the mean distance to the nearest others, of the items of one cluster."""
    some = x_ND
    if len(x_ND) > LARGE:
        some = x_ND[np.random.default_rng([seed, 0x7F]).choice(len(x_ND), LARGE, replace=False)]
    k = min(NEAREST, len(some) - 1)
    if k < 1:
        return np.zeros(len(x_ND))
    found = np.empty(len(x_ND))
    for first in range(0, len(x_ND), 1024):
        distance = _distances(x_ND[first : first + 1024], some)
        nearest = np.partition(distance, k, axis=1)[:, : k + 1]  # the item itself is among them
        found[first : first + 1024] = 1.0 / np.maximum(nearest.sum(axis=1) / k, 1e-9)
    return found


def _by_cluster(cluster: Places, density: Array, free: NDArray[np.bool_], known: Places, n: int) -> Places:
    """Takes one item a cluster in turns: clusters with the fewest labels first, among these the largest."""
    size = np.bincount(cluster)
    labels = np.bincount(cluster[known], minlength=len(size))
    waiting = {}
    for k in range(len(size)):
        at = np.flatnonzero((cluster == k) & free)
        waiting[k] = list(at[np.argsort(-density[at], kind="stable")])
    found: list[int] = []
    while len(found) < n:
        open_ = [k for k in waiting if waiting[k]]
        large = [k for k in open_ if size[k] >= LEAST_CLUSTER] or open_
        k = min(large, key=lambda k: (labels[k], -size[k], k))
        found.append(int(waiting[k].pop(0)))
        labels[k] += 1
    return np.array(found, np.int64)


def covering(x_ND: Array, n: int, known: Places, seed: int = 0) -> Places:
    """One item after the other, each the one whose ball holds the most items that no ball holds yet.

    Source: Yehuda et al. 2022, ProbCover, "Active learning through a covering lens", https://arxiv.org/abs/2205.11320.
    The radius is the largest at which `PURITY` of the balls hold items of one cluster only; as nobody knows the number of
    classes, `KINDS` clusters are supposed.

    Args and returns: as `typical`.
    """
    free = np.ones(len(x_ND), bool)
    free[known] = False
    n = min(n, int(free.sum()))
    if n < 1:
        return np.zeros(0, np.int64)
    near = _balls(x_ND, _radius(x_ND, seed))
    covered = np.zeros(len(x_ND), bool)
    for at in known:
        covered[near[at]] = True
    gain = np.array([int((~covered[ball]).sum()) for ball in near])
    gain[~free] = -1
    found: list[int] = []
    for _ in range(n):
        at = int(gain.argmax())
        found.append(at)
        fresh = near[at][~covered[near[at]]]
        covered[fresh] = True
        for place in fresh:  # balls are symmetric: who lies in mine has me in its own
            gain[near[place]] -= 1
        gain[found] = -1
        gain[~free] = -1
    return np.array(found, np.int64)


def _radius(x_ND: Array, seed: int) -> float:
    """The largest radius at which `PURITY` of sampled balls hold one cluster only."""
    cluster = _clusters(x_ND, min(KINDS, len(x_ND)), seed)
    some = np.random.default_rng([seed, 0xBA]).permutation(len(x_ND))[:1000]
    distance = _distances(x_ND[some], x_ND)
    other = np.where(cluster[some][:, None] == cluster[None], np.inf, distance).min(axis=1)
    finite = other[np.isfinite(other)]
    return float(np.quantile(finite, 1 - PURITY)) if len(finite) else float(distance.max())


def _balls(x_ND: Array, radius: float) -> list[Places]:
    """Of every item the places within the radius, itself among them."""
    found: list[Places] = []
    for first in range(0, len(x_ND), 1024):
        inside = _distances(x_ND[first : first + 1024], x_ND) < radius
        inside[np.arange(len(inside)), np.arange(first, first + len(inside))] = True
        rows, columns = np.nonzero(inside)
        found += np.split(columns, np.searchsorted(rows, np.arange(1, len(inside))))
    return found


def at_random(x_ND: Array, n: int, known: Places, seed: int = 0) -> Places:
    """Any items: what an accuracy can be measured on without flattery."""
    free = np.setdiff1d(np.arange(len(x_ND)), known)
    return np.random.default_rng([seed, 0xA7]).permutation(free)[:n]


def _distances(x_AD: Array, x_BD: Array) -> Array:
    """(A, B) Euclidean distances of vectors of unit length."""
    return np.sqrt(np.maximum(2.0 - 2.0 * (x_AD @ x_BD.T), 0.0))


WAYS: dict[str, Callable[[Array, int, Places, int], Places]] = {
    "typical": typical,
    "coverage": covering,
    "random": at_random,
}
