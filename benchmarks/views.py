"""Random views of a batch against the usual transform of one image after the other, side by side, on one thread.

Ours is `withheld.splits.views.View`. The other is the list that contrastive methods use everywhere, written with Pillow, on which
the usual libraries stand themselves: random resized crop, mirror, jitter of brightness, contrast, saturation and hue (by HSV) in
random order, grey, Gaussian blur, and an array at the end. Both start from decoded images of bytes and end with normalized floats,
with the same shares of each change.

    python benchmarks/views.py [--rounds 12]

prints, at 32, 96 and 224 pixels (from images a third larger, as photographs are kept), views a second and the ratio of lower
quartiles.
"""

from __future__ import annotations

import argparse
import math
import random

import numpy as np
import torch
from paired import compare
from PIL import Image, ImageEnhance, ImageFilter

from withheld.data.image import ImageItems
from withheld.splits.views import View

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALE, ASPECT, COLOR, CHANGED, GREY = (0.2, 1.0), (3 / 4, 4 / 3), 0.5, 0.8, 0.2


def cut(image: Image.Image, size: int) -> Image.Image:
    """A random part of an image, resized, every second one mirrored."""
    width, height = image.size
    area = random.uniform(*SCALE) * width * height
    aspect = math.exp(random.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
    w, h = min(width, round(math.sqrt(area * aspect))), min(height, round(math.sqrt(area / aspect)))
    left, top = random.randint(0, width - w), random.randint(0, height - h)
    view = image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + w, top + h))
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else view


def normalized(view: Image.Image) -> np.ndarray:
    """(3, size, size) floats."""
    pixels = np.asarray(view, np.float32).transpose(2, 0, 1) / 255
    return (pixels - np.array(MEAN, np.float32)[:, None, None]) / np.array(STD, np.float32)[:, None, None]


def usual(image: Image.Image, size: int, blur: float) -> np.ndarray:
    """One view of one image, (3, size, size) floats."""
    view = cut(image, size)
    if random.random() < CHANGED:
        changes = [ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color, None]
        random.shuffle(changes)
        for change in changes:
            if change is None:
                view = hue_shifted(view, random.uniform(-0.2 * COLOR, 0.2 * COLOR))
            else:
                view = change(view).enhance(random.uniform(1 - 0.8 * COLOR, 1 + 0.8 * COLOR))
    if random.random() < GREY:
        view = view.convert("L").convert("RGB")
    if random.random() < blur:
        view = view.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))
    return normalized(view)


def hue_shifted(image: Image.Image, share: float) -> Image.Image:
    """The hue turned by a share of the circle, through HSV."""
    h, s, v = image.convert("HSV").split()
    turned = (np.asarray(h).astype(np.int16) + round(255 * share)).astype(np.uint8)
    return Image.merge("HSV", (Image.fromarray(turned), s, v)).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=12)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for size, stored, batch, blur in ((32, 32, 64, 0.0), (96, 128, 32, 0.0), (224, 298, 16, 0.0), (224, 298, 16, 0.5)):
        coarse = torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        smooth = torch.nn.functional.interpolate(coarse, size=stored, mode="bicubic").clamp(0, 1)
        images = (smooth * 255).round().to(torch.uint8).numpy()
        opened = [Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))) for image in images]
        items, view = (
            ImageItems(images, MEAN, STD),
            View(size, SCALE, ASPECT, True, COLOR, CHANGED, GREY, blur).in_units(MEAN, STD),
        )
        items.as_bytes = True  # as training has it
        index = np.arange(batch)

        def ours(number: int, items: ImageItems = items, view: View = view, index: np.ndarray = index) -> int:
            view(items.batch(index, "cpu"))
            return len(index)

        def theirs(number: int, opened: list[Image.Image] = opened, size: int = size, blur: float = blur) -> int:
            torch.from_numpy(np.stack([usual(image, size, blur) for image in opened]))
            return len(opened)

        for warm in (ours, theirs):
            warm(0)
        print(f"{size} pixels, blur of {blur:.0%}")
        what = f"views of {size} pixels{', half of them blurred' if blur else ''}"
        compare(ours, theirs, given.rounds, ("batched", "Pillow, one by one"), "views", what=what)


if __name__ == "__main__":
    main()
