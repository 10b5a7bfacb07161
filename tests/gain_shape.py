"""The k-means of Coates and Ng 2012, Learning Feature Representations with K-means, section 2: s = D'x, one of them kept."""

from __future__ import annotations

import numpy as np


def best_atoms(x_NV: np.ndarray, atoms_KV: np.ndarray, rounds: int = 10) -> tuple[np.ndarray, float]:
    """Atoms of length 1 after some rounds, and the mean squared error of a value told by the best multiple of one atom."""
    for at in range(rounds + 1):
        answers_NK = x_NV @ atoms_KV.T
        best = np.abs(answers_NK).argmax(axis=1)
        kept_NK = np.zeros_like(answers_NK)
        kept_NK[np.arange(len(best)), best] = answers_NK[np.arange(len(best)), best]
        if at < rounds:  # an atom that nothing is told by stays where it is
            moved = kept_NK.T @ x_NV
            long = np.linalg.norm(moved, axis=1, keepdims=True)
            atoms_KV = np.where(long > 0, moved / np.maximum(long, 1e-12), atoms_KV)
    return atoms_KV, float(np.square(x_NV - kept_NK @ atoms_KV).mean())
