"""Positions of a sample, spread evenly over many items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spread(count: int, sample: int) -> NDArray[np.int64]:
    """Positions spread evenly over `count` items, at most `sample` of them, ascending."""
    return np.unique(np.linspace(0, count - 1, min(count, sample)).round().astype(np.int64))


def spaced(count: int, sample: int) -> NDArray[np.int64]:
    """As `spread`, each cut instead of rounded: so were chosen the held-out items of runs and the bytes in fingerprints."""
    return np.unique(np.linspace(0, count - 1, min(count, sample)).astype(np.int64))
