"""Small folders in VOC layout: colored rectangles on grey, whose boxes are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLORS = {"red": (200, 40, 40), "blue": (40, 60, 200)}


def annotation(
    width: int, height: int, objects: list[tuple[str, tuple[float, ...]]], difficult: tuple[int, ...] = ()
) -> str:
    """The XML of an image."""
    parts = [f"<annotation><size><width>{width}</width><height>{height}</height><depth>3</depth></size>"]
    for at, (name, box) in enumerate(objects):
        corners = "".join(
            f"<{tag}>{value:g}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        hard = int(at in difficult)
        parts.append(f"<object><name>{name}</name><difficult>{hard}</difficult><bndbox>{corners}</bndbox></object>")
    return "".join([*parts, "</annotation>"])


def rectangles(seed: int, width: int = 96, height: int = 72) -> tuple[Image.Image, list[tuple[str, tuple[float, ...]]]]:
    """An image of two or three rectangles in cells of their own, and their boxes."""
    random = np.random.default_rng(seed)
    pixels = random.integers(110, 130, (height, width, 3), dtype=np.uint8)
    objects = []
    for cell in random.permutation(6)[: random.integers(2, 4)]:
        x, y = 32 * (cell % 3) + int(random.integers(2, 8)), 36 * (cell // 3) + int(random.integers(2, 8))
        wide, high = int(random.integers(16, 22)), int(random.integers(18, 26))
        name = ("red", "blue")[int(random.integers(0, 2))]
        pixels[y : y + high, x : x + wide] = COLORS[name]
        objects.append((name, (x + 1, y + 1, x + wide, y + high)))
    return Image.fromarray(pixels), objects


def make_voc(root: Path, train: int = 6, val: int = 2, test: int = 4) -> Path:
    """Writes JPEGImages, Annotations and ImageSets/Main."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    names = [f"im{at:03d}" for at in range(train + val + test)]
    for at, name in enumerate(names):
        image, objects = rectangles(at)
        image.save(root / "JPEGImages" / f"{name}.png")
        (root / "Annotations" / f"{name}.xml").write_text(annotation(*image.size, objects))
    sets = {"train": names[:train], "val": names[train : train + val], "test": names[train + val :]}
    for part, listed in sets.items():
        (root / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(listed) + "\n")
    return root
