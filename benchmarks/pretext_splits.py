"""Hiding for the tasks about patches, beside the usual pipeline: one image at a time, Pillow and NumPy, on one core.

    python benchmarks/pretext_splits.py [--size 96] [--rounds 7]

Both make the same things from the same uint8 images. relative_position: a random resized crop, nine jittered patches, a third of
them made coarser, green against magenta taken away, each of mean 0 and variance 1, and 32 pairs. exemplar: one affine
resampling a view of a seed patch, contrast along the principal components, power, factor and shift of saturation and value, and
hue; where the seed is, the other side is told beforehand, and ours finds it or is told as well. Prints rates and the ratio of
lower quartiles.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import torch
from paired import compare
from PIL import Image

from withheld.data.image import ImageItems
from withheld.splits.exemplar import ExemplarViews
from withheld.splits.position import RelativePosition, neighbors
from withheld.splits.views import RandomResizedCrop

CPU = torch.device("cpu")
A = np.array([-1.0, 2.0, -1.0])
PROJECTION = (np.eye(3) - np.outer(A, A) / (A @ A)).astype(np.float32)


def photographs(count: int, size: int) -> np.ndarray:
    """(count, 3, size, size) uint8, smooth with noise."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 255, (count, 8, 8, 3)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(each).resize((size, size), Image.Resampling.BICUBIC)) for each in coarse]
    noisy = np.stack(large) + generator.normal(0, 8, (count, size, size, 3))
    return noisy.clip(0, 255).astype(np.uint8).transpose(0, 3, 1, 2).copy()


class PositionByImage:
    """relative_position, an image at a time."""

    def __init__(self, split: RelativePosition, size: int, seed: int = 0) -> None:
        self.size, (self.side, self.gap, self.jitter) = size, split.pixels(size)
        self.random = np.random.default_rng(seed)
        self.table = [list(part) for part in zip(*neighbors(), strict=True)]

    def __call__(self, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches (9, 3, h, h) and the directions of their 32 pairs, of an image (S, S, 3)."""
        image = Image.fromarray(pixels)
        draw, side = self.random, self.side
        area, ratio = draw.uniform(0.4, 1), math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
        width = min(1.0, math.sqrt(area * ratio)) * image.width
        height = min(1.0, math.sqrt(area / ratio)) * image.height
        x, y = draw.uniform(0, image.width - width), draw.uniform(0, image.height - height)
        crop = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=(x, y, x + width, y + height))
        if draw.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        room = self.size - 3 * side - 2 * self.gap - 2 * self.jitter
        start = draw.integers(room + 1, size=2)
        patches = []
        for at in range(9):
            row, column = (
                start + (side + self.gap) * np.array([at // 3, at % 3]) + draw.integers(2 * self.jitter + 1, size=2)
            )
            patch = crop.crop((column, row, column + side, row + side))
            if draw.random() < 0.33:
                small = max(2, round(side / draw.uniform(2, 10)))
                patch = patch.resize((small, small), Image.Resampling.BOX).resize(
                    (side, side), Image.Resampling.BILINEAR
                )
            values = np.asarray(patch, np.float32) @ PROJECTION
            patches.append((values - values.mean()) / values.std().clip(1e-3))
        stacked = torch.from_numpy(np.stack(patches).transpose(0, 3, 1, 2).copy())
        return stacked, torch.tensor(self.table[2][:32])


class ExemplarByImage:
    """exemplar, a view at a time."""

    def __init__(self, split: ExemplarViews, seed: int = 0) -> None:
        self.split, self.random = split, np.random.default_rng(seed)
        self.axes = np.array(split.components, np.float32)
        self.mean, self.std = (np.array(part, np.float32) for part in (split.mean, split.std))

    def __call__(self, pixels: np.ndarray, center: np.ndarray) -> torch.Tensor:
        """A view (3, h, h) of an image (S, S, 3)."""
        image = Image.fromarray(pixels)
        s, draw = self.split, self.random
        h, size = s.pixels, image.width
        reach = s.pixels * size / s.size
        angle, factor = math.radians(draw.uniform(-s.rotation, s.rotation)), draw.uniform(s.scale / 2, s.scale)
        x, y = (center + 1) / 2 * size + reach * draw.uniform(-s.translation, s.translation, 2)
        step = factor * reach / h
        a, b = step * math.cos(angle), step * math.sin(angle)
        matrix = (a, -b, x - (a - b) * h / 2, b, a, y - (a + b) * h / 2)
        view = image.transform((h, h), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        contrast = np.exp(draw.uniform(-math.log(s.contrast), math.log(s.contrast), 3)).astype(np.float32)
        values = (np.asarray(view, np.float32) / 255 - self.mean) @ (self.axes.T * contrast) @ self.axes + self.mean
        view = Image.fromarray((values.clip(0, 1) * 255).astype(np.uint8)).convert("HSV")
        hsv = np.asarray(view, np.float32) / 255
        for channel in (1, 2):
            power = math.exp(draw.uniform(-math.log(s.power), math.log(s.power)))
            hsv[..., channel] = hsv[..., channel] ** power * draw.uniform(0.7, 1.4) + draw.uniform(-0.1, 0.1)
        hsv[..., 0] = (hsv[..., 0] + draw.uniform(-s.hue, s.hue)) % 1
        rgb = Image.fromarray((hsv.clip(0, 1) * 255).astype(np.uint8), "HSV").convert("RGB")
        return torch.from_numpy(((np.asarray(rgb, np.float32) / 255 - self.mean) / self.std).transpose(2, 0, 1).copy())


def main() -> None:
    """Times both."""
    options = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    options.add_argument("--size", type=int, default=96)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--items", type=int, default=128)
    given = options.parse_args()
    torch.set_num_threads(1)
    size, count = given.size, given.items
    images = photographs(count, size if size <= 64 else size * 4 // 3)
    opened = list(np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
    at = np.arange(count)

    position, crop = RelativePosition(), RandomResizedCrop(size, scale=(0.4, 1.0))
    items = ImageItems(images, [0.5] * 3, [0.25] * 3)
    by_image = PositionByImage(position, size)
    print(f"relative_position, {count} images of {images.shape[-1]} pixels, {32 * count} pairs a round")
    ours = lambda number: position(crop(items.batch(at, CPU)))  # noqa: E731
    theirs = lambda number: [torch.stack(part) for part in zip(*map(by_image, opened), strict=True)]  # noqa: E731
    told(compare(ours, theirs, given.rounds, ("batched", "by image"), what="pairs of relative position"), "pairs")

    for views in (1, 8):
        plain = ImageItems(images, [0.0] * 3, [1.0] * 3, ids=True)
        split = ExemplarViews(size=size, views=views).fitted(plain.batch(at, CPU))
        centers = split.pick(plain.batch(at, CPU)["item"], torch.from_numpy(at))
        view = ExemplarByImage(split)
        print(f"exemplar, {views} views of each of {count} seeds, {split.pixels} pixels")
        theirs = lambda number: torch.stack(  # noqa: E731
            [view(image, center) for image, center in zip(opened, centers.numpy(), strict=True) for _ in range(views)]  # noqa: B023
        )
        found = lambda number: split(plain.batch(at, CPU))  # noqa: E731, B023
        named = lambda number: split.views_of(plain.batch(at, CPU)["item"], centers)  # noqa: E731, B023
        for ours, how in ((found, ""), (named, ", seeds told")):
            what = f"{views} views a seed of exemplar{how}"
            told(compare(ours, theirs, given.rounds, ("batched", "by image"), what=what), "views")


def told(ratio: float, what: str) -> None:
    """One line."""
    print(f"{what}: {ratio:.1f} times as many a second\n")


if __name__ == "__main__":
    main()
