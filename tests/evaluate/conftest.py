"""A tiny encoder and the digits."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def tiny():
    """Untrained, 8 x 8 grey pixels, 16 features."""
    from tiny_vit import tiny_encoder

    return tiny_encoder()


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 images (N, 8, 8) uint8 of scikit-learn, and their labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return (found.images * 255 / 16).round().astype(np.uint8), found.target.astype(np.int64)
