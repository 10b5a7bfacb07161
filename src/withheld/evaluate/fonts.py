"""Which font a picture is written in: DejaVu Sans, and for words it has no letters for one that is installed."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from PIL import ImageFont

KNOWN = re.compile(
    r"noto ?sans ?cjk|noto ?sans|source ?han|msyh|yugoth|meiryo|hiragino|pingfang|simhei|wqy|malgun|nanum|thonburi|leelawad|mangal"
    r"|nirmala|arial ?unicode|unifont|droid ?sans ?fallback",
    re.IGNORECASE,
)
"""Names of fonts with the letters of other scripts, as Linux, Windows and macOS have them."""


def font(size: int, mono: bool = False, words: str = "") -> Any:
    """DejaVu Sans, or its letters of one width, which come with matplotlib; Pillow's own where it is missing.

    Args:
        size: in pixels.
        mono: letters of one width.
        words: that are to be written; where DejaVu lacks letters of them, an installed font that has most of these, if there is.
    """
    try:
        import matplotlib

        name = "DejaVuSansMono.ttf" if mono else "DejaVuSans.ttf"
        path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
        missing = frozenset(c for c in words if ord(c) > 0x2AF and ord(c) not in letters_of(path))
        return _opened((other_font(missing) if missing else None) or path, size)
    except (ImportError, OSError):
        return ImageFont.load_default(size)


@functools.cache
def _opened(path: Path, size: int) -> Any:
    return ImageFont.truetype(str(path), size)


@functools.cache
def letters_of(path: Path) -> frozenset[int]:
    """The code points that a font has."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(str(path)).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


@functools.lru_cache(1000)
def other_font(letters: frozenset[str]) -> Path | None:
    """The installed font that has most of these letters, and a half at least; known ones are looked at only."""
    wanted = {ord(letter) for letter in letters}
    found = max(installed(), key=lambda path: len(wanted & letters_of(path)), default=None)
    return found if found is not None and 2 * len(wanted & letters_of(found)) >= len(wanted) else None


@functools.cache
def installed() -> tuple[Path, ...]:
    """Files of fonts that are known for other scripts; upright ones of usual weight first."""
    from matplotlib.font_manager import findSystemFonts

    paths = [Path(path) for path in findSystemFonts()]
    known = [path for path in paths if KNOWN.search(path.stem.replace("-", " ").replace("_", " "))]
    return tuple(sorted(known, key=lambda path: (not re.search("regular|medium", path.stem, re.IGNORECASE), path.name)))
