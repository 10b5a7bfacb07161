"""A page of thumbnails: one file that opens anywhere, without network or script."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from withheld.report.clean import one_line
from withheld.report.page import filled, write_text

NARROW, WIDE, STRIP = 132, 260, 296
"""Columns of pictures, of texts and of strips of frames, in pixels."""


def write_sheet(path: Path, title: str, notes: Sequence[str], entries: Sequence[Any]) -> Path:
    """Writes the page; every name and text is escaped.

    Args:
        path: of the page.
        title, notes: what stands above.
        entries: with `name`, `said` (what there is to say of it), `picture` (a PNG, empty for none), `text`, and `wide` for
            a strip of frames.

    Raises:
        CannotWrite: the disk is full or read-only.
    """
    shown = [
        {"name": one_line(e.name), "said": one_line(e.said), "text": e.text, "uri": _uri(e.picture)} for e in entries
    ]
    wide = WIDE if any(e.text for e in entries) else STRIP if any(e.wide for e in entries) else NARROW
    return write_text(path, filled("sheet.html", {"title": title, "notes": notes, "entries": shown, "wide": wide}))


def _uri(picture: bytes) -> Any:
    if not picture:
        return ""
    return Markup(f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}")  # noqa: S704, letters and digits
