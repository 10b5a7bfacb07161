"""Whether folders of images are clips: frames that go on from one to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from withheld.data.duplicates import thumbnails_of
from withheld.data.sample import spread
from withheld.data.video import natural
from withheld.errors import printable
from withheld.wording import plural

LEAST_FRAMES = 8
"""Of a folder that may be a clip."""
ALIKE = 0.35
"""How neighbors in a clip may differ at most, as a share of how images of different folders do."""
STILL = 6.0
"""Grey levels by which neighbors differ at most, where there is one folder only."""


FOLDERS, FRAMES, SIDE = 32, 16, 32
"""Folders that are looked at where images were decoded already, images of each, and their side in pixels."""


def like_clips(folders: Sequence[str]) -> str:
    """What to say of folders that look like clips."""
    which = f"{plural(len(folders), 'folder looks', 'folders look')} like the frames of a clip ({printable(folders[0] or '.')}"
    which += ", ...)" if len(folders) > 1 else ")"
    return (
        f"{which}: methods for clips take a folder for a clip (withheld pretrain videomae; all of them: withheld list "
        "--modality video)"
    )


def folders_among(
    names: Sequence[str], images_NCHW: np.ndarray, sizes: Callable[[list[int]], list[tuple[int, int]]]
) -> list[str]:
    """The folders that look like clips, of a sample of images that were brought to one size: the first ones of some folders.

    Args:
        sizes: height and width that rows had before; asked only where their pixels look like clips.
    """
    folders: dict[str, list[int]] = {}
    for at, name in enumerate(names):
        folders.setdefault(name.rpartition("/")[0], []).append(at)
    found = list(folders.values())
    some = [sorted(found[at], key=lambda at: natural(names[at]))[:FRAMES] for at in spread(len(found), FOLDERS)]
    rows = sorted(at for folder in some for at in folder)
    place = {row: at for at, row in enumerate(rows)}
    small = thumbnails_of(np.asarray(images_NCHW[rows]).mean(axis=1), SIDE)
    order = [place[at] for folder in some for at in folder]
    seen = [names[row] for row in rows]
    alike = folders_of_frames(seen, [(SIDE, SIDE)] * len(rows), small, order)
    return alike and folders_of_frames(seen, sizes(rows), small, order)


def folders_of_frames(
    names: Sequence[str], shapes: Sequence[tuple[int, int]], small_NHW: np.ndarray, order: Sequence[int]
) -> list[str]:
    """The folders that look like clips: images of one size, each much like the one before it; none where most look otherwise.

    Args:
        names: (N,) with the folder. shapes: (N,) height and width. small_NHW: small grey pictures, uint8.
        order: (N,) positions, sorted by the numbers in the names.
    """
    folders: dict[str, list[int]] = {}
    for at in order:
        folders.setdefault(names[at].rpartition("/")[0], []).append(at)
    many = [folder for folder, at in folders.items() if len(at) >= LEAST_FRAMES]
    if not many:
        return []
    others = [_apart(small_NHW, folders[a][0], folders[b][-1]) for a, b in pairwise([*many, many[0]])]
    most = ALIKE * float(np.median(others)) if len(many) > 1 else STILL
    found = [
        folder
        for folder in many
        if len({shapes[at] for at in folders[folder]}) == 1
        and np.median([_apart(small_NHW, a, b) for a, b in pairwise(folders[folder])]) < most
    ]
    return found if 2 * len(found) > len(folders) else []


def _apart(small_NHW: np.ndarray, a: int, b: int) -> float:
    return float(np.abs(small_NHW[a].astype(np.float32) - small_NHW[b]).mean())
