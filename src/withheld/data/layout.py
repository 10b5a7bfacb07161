"""What folder names say: train and test, and classes; the same rules in a folder and inside an archive."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from withheld.errors import InputError
from withheld.types import UNKNOWN_LABEL

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
}
UNLABELED = frozenset(("unlabeled", "unlabelled", "unsup", "unsupervised"))
"""What is there without labels: to be learned from, and no class."""
YEAR = re.compile(r"[-_]?(19|20)\d\d$")
"""What may follow the name of a part: train2017."""


@dataclass(frozen=True)
class Layout:
    """What the paths of a set tell.

    Attributes:
        root: folders that all items share, and that therefore say nothing, "a/b" or "".
        parts: (N,) "train", "test", "val" or ""; None where no folder says so. A folder without labels beside them is "train".
        folders: the folder of every item that may name its class; "" where there is none.
    """

    root: str
    parts: np.ndarray | None
    folders: list[str]


def find_layout(names: Sequence[str]) -> Layout:
    """Reads the layout off relative paths with forward slashes.

    Folders shared by all are passed over. Then top folders are parts where all are such names, or where train and
    test (or val) are both there; a class may be called "train" among others. The next folder names the class.
    """
    paths = [name.split("/")[:-1] for name in names]
    depth = _shared(paths)
    tops = Counter(path[depth] if len(path) > depth else "" for path in paths)
    known = {top: PARTS[_plain(top)] for top in tops if _plain(top) in PARTS}
    found = set(known.values())
    has_parts = bool(known) and (
        ("train" in found and len(found) > 1) or all(t in known or is_unlabeled(t) for t in tops)
    )
    root = "/".join(paths[0][:depth]) if paths else ""
    if not has_parts:
        return Layout(root, None, [path[depth] if len(path) > depth else "" for path in paths])
    parts = np.array([part_named(path[depth]) if len(path) > depth else "" for path in paths])
    return Layout(root, parts, [_class_below_part(path, depth, known) for path in paths])


def part_named(word: str) -> str:
    """The part that a folder or split of this name is, "" where it is none."""
    return PARTS.get(_plain(word)) or ("train" if is_unlabeled(word) else "")


def is_unlabeled(folder: str) -> bool:
    """Whether a folder of this name holds what has no labels."""
    return _plain(folder) in UNLABELED


def _plain(folder: str) -> str:
    return YEAR.sub("", folder.lower())


def _class_below_part(path: list[str], depth: int, known: dict[str, str]) -> str:
    if len(path) <= depth or path[depth] not in known:
        return ""
    return path[depth + 1] if len(path) > depth + 1 else ""


def _shared(paths: list[list[str]]) -> int:
    """How many leading folders all paths share, stopping before one that names a part."""
    if not paths:
        return 0
    first = paths[0]
    depth = 0
    while depth < len(first) and _plain(first[depth]) not in PARTS:
        if any(len(path) <= depth or path[depth] != first[depth] for path in paths):
            break
        depth += 1
    return depth


def folder_labels(layout: Layout, location: str) -> tuple[np.ndarray, list[str]]:
    """Labels (N,) int64 and class names from class folders; items outside of one are unknown.

    Raises:
        InputError: where there are not at least two class folders.
    """
    classes = sorted({folder for folder in layout.folders if folder and not is_unlabeled(folder)})
    shared = layout.root.rsplit("/", 1)[-1]
    if not classes and shared:
        classes = [shared]
    if len(classes) < 2:
        found = (
            f"only one class folder, {classes[0]!r} (a classifier tells two or more apart),"
            if classes
            else "no class folders"
        )
        raise InputError(
            f"labels were asked for, but {location} has {found} and no labels.csv; put the files of each class into a "
            "folder of its own (train/CLASS, test/CLASS also work) or add labels.csv with the columns file,label"
        )
    place = {name: i for i, name in enumerate(classes)}
    labels = np.array([place.get(folder, UNKNOWN_LABEL) for folder in layout.folders], np.int64)
    return labels, classes
