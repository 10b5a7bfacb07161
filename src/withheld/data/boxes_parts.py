"""Which images are learned from and which are tested: as the data says, or by a seeded split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from withheld.data.layout import find_layout
from withheld.data.source import digest

SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}
Parts = dict[str, NDArray[np.int64]]


def settled(named: Mapping[str, set[int]], keys: Sequence[str], told: str, problems: list[dict[str, str]]) -> Parts:
    """Parts that share no image, of positions that were named for "train", "val" and "test".

    An image that is in a set to learn from and in one that is tested is tested only. A single set is split.

    Args:
        keys: names by position. told: the file that says so, for problems.
    """
    train, val, test = (set(named.get(part, ())) for part in SHARES)
    if not train:
        train, val = val, set()
    if not train:
        train = set(range(len(keys))) - test
    if val == test:
        val = set()
    same = bool(train) and train <= (test or val)
    if same or not (val or test):
        why = "learns from the images that it tests" if same else "names no val or test"
        problems.append({"file": told, "reason": f"{why}: {'they were' if same else 'train was'} split 70/15/15"})
        chosen = np.array(sorted(train | val | test))
        mixed = seeded_split([keys[at] for at in chosen])
        return {name: chosen[at] for name, at in mixed.items()}
    tested = test or val
    for at in sorted((train | val if test else train) & tested):
        problems.append(
            {"file": keys[at], "reason": "is in a set that is learned from and in one that is tested: tested only"}
        )
    if test:
        train, val = train - test, val - test - train
    else:
        train = train - val
    return {name: np.array(sorted(at), np.int64) for name, at in (("train", train), ("val", val), ("test", test))}


def by_folders(names: Sequence[str], keys: Sequence[str] | None = None) -> tuple[Parts, list[str]]:
    """Folders named train and val or test, else the seeded split of the keys, with a note that says so."""
    layout = find_layout(names)
    if layout.parts is not None and {"train"} < set(layout.parts):
        return {name: np.flatnonzero(layout.parts == name) for name in ("train", "val", "test")}, []
    parts = seeded_split(list(keys or names))
    told = ", ".join(f"{len(at)} {name}" for name, at in parts.items())
    return parts, [f"no train and test sets: split 70/15/15 by a seed of the file names ({told})"]


def seeded_split(keys: list[str]) -> Parts:
    """70/15/15 by a seed of the names: the same folder is always split alike. At least one image each where there are three."""
    seed = int(digest(sorted(keys))[:12], 16)
    order = np.random.default_rng(seed).permutation(len(keys))
    few = max(1, round(SHARES["test"] * len(keys))) if len(keys) > 2 else 0
    cuts = {"test": order[:few], "val": order[few : 2 * few], "train": order[2 * few :]}
    return {name: np.sort(cuts[name]) for name in ("train", "val", "test")}
