"""Classical features that pretraining has to beat: raw pixels, HOG, and HOG with a color histogram.

Shapes: N images, C channels, H W pixels, D features. Images are uint8, as prepared; `few_label.LinearProbe` follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.feature import hog

from withheld.resize import at_size

Images = NDArray[np.uint8]
Array = NDArray[np.floating]

PIXELS, HOG, HOG_COLOR = "raw pixels", "HOG", "HOG + color histogram"
SIDE = 32
"""Larger images are reduced to this side before their pixels are used."""


@dataclass
class Floor:
    """A function of images as something with a `transform`."""

    transform: Callable[[Images], Array]


def floors(channels: int) -> dict[str, Callable[[Images], Array]]:
    """The floors by name; the color histogram where there is color."""
    found: dict[str, Callable[[Images], Array]] = {PIXELS: raw_pixels, HOG: oriented_gradients}
    if channels == 3:
        found[HOG_COLOR] = lambda images: np.concatenate([oriented_gradients(images), color_histogram(images)], axis=1)
    return found


def raw_pixels(images_NCHW: Images, side: int = SIDE) -> Array:
    """(N, C * side * side) pixels in 0..1, larger images reduced with antialiasing."""
    parts = []
    for first in range(0, len(images_NCHW), 512):
        t = torch.from_numpy(np.ascontiguousarray(images_NCHW[first : first + 512])).float() / 255
        if max(t.shape[-2:]) > side:
            t = at_size(t, side)
        parts.append(t.flatten(1).numpy())
    return np.concatenate(parts)


def oriented_gradients(images_NCHW: Images) -> Array:
    """(N, D) histograms of oriented gradients (Dalal & Triggs 2005), about 7 x 7 cells of 9 orientations.

    The strongest gradient among up to three channels counts; of more channels their mean is taken.
    """
    N, C, H, W = images_NCHW.shape
    cell = (max(2, H // 7), max(2, W // 7))
    block = (min(2, H // cell[0]), min(2, W // cell[1]))
    rows = []
    for image_CHW in images_NCHW:
        plane = image_CHW.transpose(1, 2, 0) / 255.0 if C == 3 else image_CHW.mean(axis=0) / 255.0
        rows.append(
            hog(
                plane, orientations=9, pixels_per_cell=cell, cells_per_block=block,
                channel_axis=-1 if C == 3 else None, feature_vector=True,
            )
        )  # fmt: skip
    return np.asarray(rows, dtype=np.float32)


def color_histogram(images_NCHW: Images, bins: int = 8) -> Array:
    """(N, bins ** 3) square roots of the shares of pixels of each color (Hellinger), for three channels."""
    N = len(images_NCHW)
    level = images_NCHW.astype(np.int64) * bins // 256
    color = (level[:, 0] * bins + level[:, 1]) * bins + level[:, 2]
    color = color.reshape(N, -1)
    flat = (np.arange(N)[:, None] * bins**3 + color).ravel()
    counts = np.bincount(flat, minlength=N * bins**3).reshape(N, bins**3)
    return np.sqrt(counts / color.shape[1]).astype(np.float32)
