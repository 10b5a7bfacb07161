"""Tiles, strips and words on a picture, with Pillow; hidden places are hatched, on light and dark alike."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from withheld.evaluate.fonts import font
from withheld.learn.checkpoint import replacing

Tile = Image.Image
HATCH = {1: (48, 118), 2: (20, 52)}  # opacity of ground and stripes: hidden, and neither seen nor asked
STRIPE = 7
INK, SOFT = (29, 29, 31, 255), (110, 110, 116, 255)


def enlargement(side: int, wanted: int) -> int:
    """How many times to repeat every pixel so that a side is at least about as long as wanted."""
    return max(1, -(-wanted // max(1, side)) if side < 0.75 * wanted else 1)


def tile(pixels_HW3: NDArray[np.uint8], covered_HW: NDArray[np.uint8] | None = None, times: int = 1) -> Tile:
    """Pixels as an RGBA tile, every pixel repeated `times` x `times`; covered places are hatched."""
    big = pixels_HW3.repeat(times, axis=0).repeat(times, axis=1)
    out = np.concatenate([big, np.full((*big.shape[:2], 1), 255, np.uint8)], axis=-1)
    if covered_HW is not None:
        places = covered_HW.repeat(times, axis=0).repeat(times, axis=1)
        rows, across = np.indices(places.shape)
        stripe = (rows + across) % STRIPE < 2
        out[places > max(HATCH)] = 0
        for kind, (ground, line) in HATCH.items():
            here = places == kind
            out[here] = (128, 128, 132, ground)
            out[here & stripe] = (128, 128, 132, line)
    return Image.fromarray(out)


def pixels_of(image_CHW: Tensor) -> NDArray[np.uint8]:
    """(H, W, 3) of values in 0..1, of any number of channels: the first three, or the first as grey."""
    pixels = (255 * image_CHW.float().clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1].repeat(3, axis=2))


def item_tile(pixels_HW3: NDArray[np.uint8]) -> Tile:
    """A whole item as a tile, large enough to look at."""
    return tile(pixels_HW3, None, enlargement(pixels_HW3.shape[1], 96))


def blank(width: int, height: int, words: str = "") -> Tile:
    """An empty tile, with words where something cannot be drawn."""
    out = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    if words:
        draw = ImageDraw.Draw(out)
        size = 13
        while size > 8 and draw.textlength(words, font=font(size, words=words)) > width - 4:
            size -= 1
        draw.text((width / 2, height / 2), words, fill=SOFT, font=font(size, words=words), anchor="mm")
    return out


def written(words: str, across: int = 88, whole: bool = False) -> Tile:
    """Words in letters of one width, broken after so many, so that parts of one text stand under each other; or between words."""
    words = printable(words)[: across * 12]
    letters = font(13, mono=True, words=words)
    wide = round(across * font(13, mono=True).getlength("m"))
    if whole:
        lines = wrapped(words, wide, letters)[:12]
    else:
        lines = [words[first : first + across] for first in range(0, len(words), across)] or [""]
    out = blank(wide + 2, 19 * len(lines))
    draw = ImageDraw.Draw(out)
    for at, line in enumerate(lines):
        draw.text((0, 19 * at), line, fill=INK, font=letters)
    return out


def wrapped(words: str, width: float, letters: Any) -> list[str]:
    """Lines that fit a width, broken between words; a word that is longer, as a sentence of Chinese is, within itself."""
    lines, line = [], ""
    for word in words.split():
        if letters.getlength(f"{line} {word}" if line else word) <= width:
            line = f"{line} {word}" if line else word
            continue
        lines += [line] if line else []
        line = ""
        for letter in word:
            if line and letters.getlength(line + letter) > width:
                lines.append(line)
                line = ""
            line += letter
    return [*lines, line] if line or not lines else lines


def strip(tiles: Sequence[Tile], gap: int = 4) -> Tile:
    """Tiles beside each other in equally wide columns, middle on middle."""
    width, height = max(t.width for t in tiles), max(t.height for t in tiles)
    out = Image.new("RGBA", (width * len(tiles) + gap * (len(tiles) - 1), height), (0, 0, 0, 0))
    for at, each in enumerate(tiles):
        out.paste(each, (at * (width + gap) + (width - each.width) // 2, (height - each.height) // 2))
    return out


def below(upper: Tile, lower: Tile) -> Tile:
    """One tile under another, middle on middle."""
    width = max(upper.width, lower.width)
    out = Image.new("RGBA", (width, upper.height + lower.height), (0, 0, 0, 0))
    out.paste(upper, ((width - upper.width) // 2, 0))
    out.paste(lower, ((width - lower.width) // 2, upper.height))
    return out


def sheet(title: str, headings: Sequence[str], rows: Sequence[tuple[str, Sequence[Tile]]]) -> Tile:
    """A labelled grid on white: a title, a heading over every column, a row for every item with its name."""
    width, height = max(t.width for _, row in rows for t in row), max(t.height for _, row in rows for t in row)
    gap, edge, named = 10, 28, any(name for name, _ in rows)
    step, top = height + gap + (26 if named else 0), edge + 60
    out = page(
        max(edge * 2 + len(headings) * (width + gap) - gap, 360), top + len(rows) * step + edge - gap, title, edge
    )
    draw = ImageDraw.Draw(out)
    for at, heading in enumerate(headings):
        draw.text((edge + at * (width + gap) + width / 2, top - 16), heading, fill=INK, font=font(17), anchor="mm")
    for down, (name, row) in enumerate(rows):
        y = top + down * step
        for at, each in enumerate(row):
            x = edge + at * (width + gap)
            out.alpha_composite(each, (x + (width - each.width) // 2, y + (height - each.height) // 2))
        if name:
            said = fitted(name, out.width - 2 * edge, 12)
            draw.text((edge, y + height + 9), said, fill=SOFT, font=font(12, words=said), anchor="lm")
    return out


def ladder(title: str, groups: Sequence[tuple[str, Sequence[tuple[str, Tile]]]]) -> Tile:
    """Wide tiles under each other on white, each with its heading at the left: clips and texts. A group is one item."""
    gap, edge, left = 8, 28, 96
    width = max(each.width for _, rows in groups for _, each in rows)
    heights = [sum(each.height + gap for _, each in rows) + (24 if name else 0) + 18 for name, rows in groups]
    out = page(edge * 2 + left + width, edge + 36 + sum(heights) + edge - 18, title, edge)
    draw, y = ImageDraw.Draw(out), edge + 36
    for name, rows in groups:
        if name:
            said = fitted(name, left + width, 12)
            draw.text((edge, y + 8), said, fill=SOFT, font=font(12, words=said), anchor="lm")
            y += 24
        for heading, each in rows:
            draw.text((edge, y + 9), heading, fill=INK, font=font(15), anchor="lm")
            out.alpha_composite(each, (edge + left, y))
            y += each.height + gap
        y += 18
    return out


def page(width: int, height: int, title: str, edge: int) -> Tile:
    """A white picture with a title."""
    out = Image.new("RGBA", (width, height), (255, 255, 255, 255))
    words = fitted(title, width - 2 * edge, 15, end=0)
    ImageDraw.Draw(out).text((edge, edge + 6), words, fill=SOFT, font=font(15, words=words), anchor="lm")
    return out


def fitted(words: str, width: float, size: int, end: float = 0.5) -> str:
    """Words that fit a width; where they do not, of what is kept the share `end` is their end (of names the ends differ)."""
    words = printable(words)
    letters = font(size, words=words)
    if letters.getlength(words) <= width:
        return words
    for keep in range(len(words) - 1, 0, -1):
        last = round(keep * end)
        short = words[: keep - last] + "…" + words[len(words) - last :]
        if letters.getlength(short) <= width:
            return short
    return "…"


def printable(words: str) -> str:
    """Words on one line, without characters that cannot be drawn."""
    plain = words.encode("utf-8", "backslashreplace").decode("utf-8")[:2000]
    return "".join(c if c.isprintable() else "?" for c in plain)


def png(picture: Tile) -> bytes:
    """The bytes of a PNG, the same for the same pixels."""
    buffer = io.BytesIO()
    opaque = picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255)
    plain = picture.convert("RGB") if opaque else picture
    plain.save(buffer, "PNG", optimize=False, compress_level=6)
    return buffer.getvalue()


def write_png(picture: Tile, out: Path) -> Path:
    """Writes a picture in one step.

    Raises:
        CannotWrite: for the file.
    """
    with replacing(out) as aside:
        aside.write_bytes(png(picture))
    return out


def stacked(tiles: Sequence[Tile], gap: int = 6) -> Tile:
    """Tiles one under another, their left edges in a line."""
    out = blank(max(t.width for t in tiles), sum(t.height + gap for t in tiles) - gap)
    at = 0
    for each in tiles:
        out.paste(each, (0, at))
        at += each.height + gap
    return out


def gif(film: Sequence[Tile], rate: float = 8.0) -> bytes:
    """The bytes of an animated GIF, the same for the same pixels, `rate` pictures a second, again and again."""
    buffer = io.BytesIO()
    plain = [each.convert("RGB") for each in film]
    plain[0].save(buffer, "GIF", save_all=True, append_images=plain[1:], duration=round(1000 / rate), loop=0)
    return buffer.getvalue()
