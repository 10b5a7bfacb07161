"""A small picture of any item, and a sheet of many: images as they are, of clips three frames, of texts the first words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from withheld.evaluate.canvas import SOFT, Tile, enlargement, fitted, ladder, page, png, tile, written
from withheld.evaluate.fonts import font
from withheld.evaluate.parts import to_pixels
from withheld.evaluate.pool import MOMENTS, frame_at

SIDE, ACROSS = 96, 8
LARGE = 128
"""The longer side of images that are read again for a sheet, pixels."""
GAP = 4
"""Pixels between the frames of a clip."""
FIRST_WORDS = 280
"""Characters of a text that are shown."""


@dataclass(frozen=True)
class Shown:
    """An item on a sheet.

    Attributes:
        name: of the item. said: what there is to say of it.
        picture: a PNG; empty for texts. text: the first words; "" for images.
        wide: whether the picture is a strip of frames.
    """

    name: str
    said: str
    picture: bytes
    text: str
    wide: bool = False


def shown(name: str, said: str, item: Any) -> Shown:
    """An item as a sheet shows it."""
    if isinstance(item, str):
        return Shown(name, said, b"", first_words(item))
    return Shown(name, said, png(picture(item)), "", hasattr(item, "frames"))


def first_words(text: str, most: int = FIRST_WORDS) -> str:
    """The beginning of a text on one line, at most so many characters."""
    words = " ".join(text.split())
    return words if len(words) <= most else words[:most].rsplit(" ", 1)[0] + " …"


def picture(item: Any) -> Tile:
    """A tile of an image (C, H, W) uint8, small ones enlarged; of a clip three frames side by side, the middle one between."""
    if not hasattr(item, "frames"):
        return _tile(np.asarray(item), 2 * SIDE)
    tiles = [_tile(frame_at(item, share), SIDE) for share in MOMENTS]
    out = Image.new("RGBA", (sum(each.width for each in tiles) + GAP * (len(tiles) - 1), tiles[0].height))
    for at, each in enumerate(tiles):
        out.paste(each, (at * (each.width + GAP), 0))
    return out


def _tile(pixels_CHW: Any, most: int) -> Tile:
    C = len(pixels_CHW)
    pixels = to_pixels(torch.from_numpy(np.array(pixels_CHW)).float()[None] / 255, [0.0] * C, [1.0] * C)[0]
    out = tile(pixels, times=enlargement(max(pixels.shape[:2]), SIDE))
    if max(out.size) > most:
        out.thumbnail((most, most))
    return out


def caption(said: str, width: float) -> str:
    """What stands below a tile: the number in front whole, and of the name behind it as much as fits, rather its end."""
    lead, gap, name = said.partition("  ")
    return (
        lead + gap + fitted(name, width - font(11).getlength(lead + gap), 11, end=0.7)
        if gap
        else fitted(said, width, 11)
    )


def draw_sheet(title: str, items: Sequence[tuple[str, Any]]) -> bytes:
    """A PNG of items with what is written below each (images, clips) or beside it (texts)."""
    if items and isinstance(items[0][1], str):
        return png(ladder(title, [(said, [("", written(first_words(text), 100, whole=True))]) for said, text in items]))
    tiles = [(said, picture(item)) for said, item in items]
    width, height = max(t.width for _, t in tiles), max(t.height for _, t in tiles)
    gap, edge, below = 12, 28, 20
    across = min(max(1, ACROSS * (SIDE + gap) // (width + gap)), len(tiles))
    rows = -(-len(tiles) // across)
    out = page(
        max(360, 2 * edge + across * (width + gap) - gap), edge + 36 + rows * (height + below + gap) + edge - gap, title, edge
    )  # fmt: skip
    draw = ImageDraw.Draw(out)
    for at, (said, each) in enumerate(tiles):
        x, y = edge + at % across * (width + gap), edge + 36 + at // across * (height + below + gap)
        out.alpha_composite(each, (x + (width - each.width) // 2, y + (height - each.height) // 2))
        below_it = caption(said, width)
        draw.text((x, y + height + 9), below_it, fill=SOFT, font=font(11, words=below_it), anchor="lm")
    return png(out)
