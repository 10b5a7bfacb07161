"""Items that could not be read: how it is said, of images, texts and clips alike."""

from __future__ import annotations

from collections.abc import Sequence

Line = dict[str, str]
"""{"file", "reason"}, as skipped.jsonl has them."""
KEPT = "kept, "
"""How the reason begins where an item was mended, or taken in part."""
SHOWN, LONGEST = 2, 200
"""Items of which the reason is said, and the most characters of one."""


def lost(lines: Sequence[Line]) -> list[Line]:
    """Those that were left out."""
    return [line for line in lines if not line["reason"].startswith(KEPT)]


def notes_of(lines: Sequence[Line], of: str, more: str = "") -> list[str]:
    """A sentence on those that were left out and one on those that were kept all the same, as far as there are any.

    Args:
        lines: all that had something. of: of how many they are, such as "40 texts". more: where the others stand.
    """
    gone = lost(lines)
    kept = [{**line, "reason": line["reason"].removeprefix(KEPT)} for line in lines if line not in gone]
    return [
        f"{len(some):,} of {of} {what.format('was' if len(some) == 1 else 'were')}"
        f"{', the first: ' if len(some) > SHOWN else ': '}{_shown(some)}{more if len(some) > SHOWN else ''}"
        for some, what in ((gone, "could not be read and {} left out"), (kept, "{} kept"))
        if some
    ]


def _shown(lines: Sequence[Line]) -> str:
    return "; ".join(f"{line['file']!r} ({' '.join(line['reason'].split())[:LONGEST]})" for line in lines[:SHOWN])
