"""A classifier that learns from its own guesses on unlabelled items.

Shapes: N labelled items, U unlabelled ones, A = N + U, M test items, D features, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import cg

Array = NDArray[np.floating]
Labels = NDArray[np.int64]

NEAREST, SHARPNESS, REACH = 50, 3, 0.99
"""Neighbors of an item in the graph, the power of their cosine, and how far labels flow (Iscen et al. 2019)."""
ROUNDS = (0.2, 0.35, 0.5, 0.65, 0.8)
"""Share of an equal part of all unlabelled items that every class may take, round by round."""


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


def propagated(graph: sparse.csr_matrix, y_N: Labels, classes: int, reach: float = REACH) -> Array:
    """(A, K) shares of the labels that flow to every item: (I - reach S)^-1 Y, each row made to sum to 1.

    The first N rows of the graph are the labelled items; every class begins with the same amount.

    Source: Zhou et al. 2004, "Learning with local and global consistency"; solved by conjugate gradients as in Iscen et al.
    2019, "Label propagation for deep semi-supervised learning", https://arxiv.org/abs/1904.04717.
    """
    system = sparse.identity(graph.shape[0], format="csr") - reach * graph
    found = np.zeros((graph.shape[0], classes))
    for label in np.unique(y_N):
        begin = np.zeros(graph.shape[0])
        begin[: len(y_N)][y_N == label] = 1.0 / (y_N == label).sum()
        found[:, label] = np.maximum(cg(system, begin, rtol=1e-4, maxiter=50)[0], 0.0)
    return found / np.maximum(found.sum(axis=1, keepdims=True), 1e-30)
