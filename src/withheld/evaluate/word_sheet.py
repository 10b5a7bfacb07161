"""A picture of what a split hides of texts: t, x, y and what was told, word by word."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import ImageDraw

from withheld.evaluate.canvas import INK, SOFT, Tile, blank, ladder, printable, write_png
from withheld.evaluate.fonts import font

ACROSS, LINE, MOST_LINES = 860, 24, 12
HIDDEN = (255, 226, 138)
COVER = (205, 205, 210)

Word = tuple[str, tuple[int, int, int] | None]


def color_of(p: float) -> tuple[int, int, int]:
    """Green where a word was expected, red where it was not: on a scale of -log p from 0 to 12 nats."""
    surprise = min(1.0, -math.log(max(p, 1e-9)) / 12)
    return int(150 + 105 * surprise), int(230 - 110 * surprise), 150 - int(30 * surprise)


def rows_of(tokens: Sequence[dict[str, Any]], masked: bool) -> list[tuple[str, list[Word]]]:
    """The rows of one text as `words_of` tells it: what it is, what is seen, what is hidden, what was told."""
    asked = [bool(token["asked"]) for token in tokens]
    ground = HIDDEN if masked else None
    shown = [(token["shown"], ground if a else None) for token, a in zip(tokens, asked, strict=True)]
    hidden = [(token["text"], ground if a else COVER) for token, a in zip(tokens, asked, strict=True)]
    rows: list[tuple[str, list[Word]]] = [("t", [(token["text"], None) for token in tokens])] if masked else []
    rows += [("x", shown), ("y", hidden)]
    if any(token["p"] is not None for token in tokens):
        told = [
            (token.get("guess", token["text"]), None if token["p"] is None else color_of(token["p"]))
            for token in tokens
        ]
        rows.append(("prediction", told))
    return rows


def worded(words: Sequence[Word]) -> Tile:
    """Words on colored grounds, broken where the line is full; gray ones are covered."""
    letters = font(14, words="".join(sorted({letter for text, _ in words for letter in text})))
    places, x, y = [], 0.0, 0
    for text, ground in words:
        text = printable(text.replace("\n", "\u21b5"))
        wide = letters.getlength(text)
        if x + wide > ACROSS and x:
            x, y = 0.0, y + 1
            text = text.lstrip()
            wide = letters.getlength(text)
        places.append((text, ground, x, y, wide))
        x += wide
    out = blank(ACROSS, LINE * min(MOST_LINES, y + 1))
    draw = ImageDraw.Draw(out)
    for text, ground, x, y, wide in places:
        if y >= MOST_LINES:
            break
        lead = letters.getlength(text) - letters.getlength(text.lstrip())
        box = (x + lead, LINE * y + 1, x + wide, LINE * y + LINE - 4)
        if ground is not None:
            draw.rounded_rectangle(box, 3, fill=(*ground, 255))
        if ground != COVER:
            draw.text((x, LINE * y + 2), text, fill=INK if ground is not None else SOFT, font=letters)
    return out


def draw_texts(title: str, texts: Sequence[Sequence[dict[str, Any]]], masked: bool, out_png: str | Path) -> Path:
    """Draws texts as `words_of` tells them.

    Raises:
        CannotWrite: for the file.
    """
    groups = [("", [(name, worded(row)) for name, row in rows_of(tokens, masked)]) for tokens in texts]
    out = Path(out_png)
    return write_png(ladder(title, groups), out)
