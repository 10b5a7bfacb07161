"""The classical floors."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.feature import hog

from withheld.evaluate.few_label import LinearProbe
from withheld.evaluate.floors import HOG_COLOR, color_histogram, floors, oriented_gradients, raw_pixels


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_small_pixels_are_the_pixels():
    some = images(4, 3, 8, 8)
    np.testing.assert_allclose(raw_pixels(some), some.reshape(4, -1) / 255, atol=1e-6)


def test_large_pixels_are_reduced_and_keep_their_mean():
    some = np.full((2, 1, 96, 96), 51, np.uint8)
    found = raw_pixels(some)
    assert found.shape == (2, 32 * 32)
    np.testing.assert_allclose(found, 0.2, atol=1e-5)


def test_gradients_are_scikit_images():
    some = images(2, 1, 28, 28)
    expected = [hog(i[0] / 255, orientations=9, pixels_per_cell=(4, 4), cells_per_block=(2, 2)) for i in some]
    np.testing.assert_allclose(oriented_gradients(some), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 96, 96), (5, 20, 20), (3, 4, 4), (1, 3, 3)])
def test_every_size_has_features(shape):
    for name, function in floors(shape[0]).items():
        found = function(images(3, *shape))
        assert found.shape[0] == 3, name
        assert np.isfinite(found).all(), name


def test_color_is_counted_where_there_is_color():
    assert HOG_COLOR in floors(3)
    assert HOG_COLOR not in floors(1)
    red = np.zeros((1, 3, 4, 4), np.uint8)
    red[:, 0] = 255
    half = red.copy()
    half[:, 0, :2] = 0
    assert color_histogram(red)[0, 7 * 64] == 1
    assert color_histogram(half)[0, [0, 7 * 64]] == pytest.approx([0.5**0.5] * 2)
    some = images(3, 3, 9, 7)
    np.testing.assert_allclose((color_histogram(some) ** 2).sum(axis=1), 1, rtol=1e-5)


def test_a_floor_reads_digits(digits):
    pixels, labels = digits
    x = raw_pixels(pixels[:, None])
    probe = LinearProbe(10).fit(x[:200], labels[:200])
    assert (probe.probabilities(x[1000:]).argmax(axis=1) == labels[1000:]).mean() > 0.8
