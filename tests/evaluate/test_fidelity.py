"""The Frechet distance against its textbook formula, and sharpness."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from withheld.evaluate.fidelity import frechet, sharpness


def test_against_the_matrix_square_root():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(400, 5)) @ random.normal(size=(5, 5)), random.normal(size=(300, 5)) + 1
    A, B = np.cov(a.T), np.cov(b.T)
    away = a.mean(axis=0) - b.mean(axis=0)
    naive = away @ away + np.trace(A + B - 2 * sqrtm(A @ B).real)
    assert frechet(a, b) == pytest.approx(naive, rel=1e-8)
    assert frechet(a, a) == pytest.approx(0, abs=1e-8)


def test_shifted_sets_are_their_shift_apart():
    a = np.random.default_rng(0).normal(size=(500, 3))
    assert frechet(a, a + 2) == pytest.approx(12)


def test_blurred_images_are_less_sharp():
    images = np.random.default_rng(0).integers(0, 256, (10, 1, 16, 16)).astype(np.uint8)
    blurred = (images[..., :-1] // 2 + images[..., 1:] // 2).astype(np.uint8)
    assert sharpness(blurred) < 0.7 * sharpness(images)
    assert sharpness(np.full((2, 1, 8, 8), 7, np.uint8)) == 0
