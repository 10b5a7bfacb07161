"""The Frechet distance against its textbook formula, and sharpness."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

import withheld
from withheld.evaluate.fidelity import frechet, sharpness
from withheld.modalities.codes import images_of


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


def test_real_images_of_16_bits_are_seen_at_the_runs_own_scale(tmp_path):
    """Half as bright, and not as bright as what was learned from: every set had been spread to its own range."""
    bright = np.random.default_rng(0).integers(0, 40_000, (24, 16, 16), dtype=np.uint16)
    np.save(tmp_path / "bright.npy", bright)
    np.save(tmp_path / "dark.npy", bright // 2)
    run = withheld.pretrain("vae", str(tmp_path / "bright.npy"), tmp_path / "run", steps=1, pictures=False)
    high = run.settings["data"]["scale"]["high"][0]
    for data in ("bright", "dark"):
        seen = np.asarray(images_of(run, str(tmp_path / f"{data}.npy"), "test").images)[:, 0]
        naive = np.clip(255.0 * np.load(tmp_path / f"{data}.npy") / high, 0, 255)
        np.testing.assert_allclose(seen, naive, atol=2)
