"""Boxes on photographs."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from withheld.data.boxes import BoxData
from withheld.data.decode import decode
from withheld.data.image import to_array
from withheld.data.sample import spread
from withheld.evaluate.canvas import fitted, strip
from withheld.evaluate.detection.find import Detections
from withheld.evaluate.detection.regions import Regions, shares
from withheld.evaluate.fonts import font

SHOWN, WIDE = 6, 520


def color_of(label: int) -> tuple[int, int, int]:
    """A color a class, far from its neighbors' (the golden angle)."""
    red, green, blue = colorsys.hsv_to_rgb((0.58 + 0.381966 * label) % 1, 0.85, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def boxes_on(image: Image.Image, found: Detections, classes: Sequence[str], scores: bool = True) -> Image.Image:
    """A copy of an image with boxes, labels and scores; the surest are drawn last.

    Args:
        image: RGB. found: boxes as shares of its sides. classes: names. scores: False for boxes that people drew.
    """
    out = image.convert("RGB")
    draw = ImageDraw.Draw(out)
    thick = max(2, round(max(out.size) / 320))
    points = max(11, round(max(out.size) / 46))
    letters = font(points, words="".join(classes))
    for at in reversed(range(len(found))):
        box, label = found.boxes[at], int(found.labels[at])
        x0, y0, x1, y1 = (float(v) * side for v, side in zip(box, [*out.size, *out.size], strict=True))
        color = color_of(label)
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=color, width=thick)
        words = fitted(classes[label], out.width / 2, points) + (
            f" {100 * float(found.scores[at]):.0f}" if scores else ""
        )
        left, top, right, bottom = draw.textbbox((0, 0), words, font=letters)
        wide, high = right - left + 6, bottom - top + 5
        x = min(max(0.0, x0), max(0.0, out.width - wide))
        y = y0 - high if y0 >= high else min(y0, out.height - high)
        draw.rectangle((x, y, x + wide, y + high), fill=color)
        draw.text((x + 3 - left, y + 2 - top), words, fill=_ink(color), font=letters)
    return out


def _ink(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever can be read on a color."""
    light = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return (0, 0, 0) if light > 140 else (255, 255, 255)


def rgb(path: Path) -> Image.Image:
    """The image of a file, upright and in color. Raises anything."""
    image = decode(path)
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    side = max(image.shape[:2])
    square = Image.fromarray(to_array(image, side, 3).transpose(1, 2, 0))
    return square.resize((image.shape[1], image.shape[0]))


def draw_found(
    data: BoxData, regions: Regions, at: NDArray[np.int64], found: Sequence[Detections], least: float, folder: Path
) -> None:
    """Tested images for the report: what people drew beside what was found."""
    from withheld.evaluate.latent_pictures import entry
    from withheld.evaluate.pictures import keep

    root = data.source.store.root  # type: ignore[attr-defined]
    chosen = spread(len(at), SHOWN)
    entries: list[dict[str, Any]] = []
    for place in chosen:
        i = int(at[place])
        annotation = regions.annotations[i]
        image = rgb(root / regions.names[i])
        image.thumbnail((WIDE, WIDE))
        true = Detections(shares(annotation), annotation.labels, np.ones(len(annotation.labels), np.float32))
        pair = strip([
            boxes_on(image, true, data.classes, scores=False).convert("RGBA"),
            boxes_on(image, found[place].above(least), data.classes).convert("RGBA"),
        ])  # fmt: skip
        caption = (
            f"Tested images: labels by people, and what was found with a score of {100 * least:.0f} or more of 100."
        )
        entries.append(entry("detections", pair, regions.names[i], caption, {"columns": ["labelled", "found"]}))
    keep(folder, entries, sections=["detections"])
