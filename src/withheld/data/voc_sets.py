"""Which images are learned from and which are tested: VOC's image sets, or a seeded split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from withheld.data.source import digest

SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}
Parts = dict[str, NDArray[np.int64]]


def image_sets(folder: Path, keys: list[str], unusable: set[str], problems: list[dict[str, str]]) -> Parts | None:
    """Positions by part as ImageSets/Main/{train,val,trainval,test}.txt say; None where no file does.

    An image that is in a set to learn from and in one that is tested is tested only; names without an image are problems.
    """
    place = {key: at for at, key in enumerate(keys)}
    listed = {name: _listed(folder, name, place, unusable, problems) for name in ("train", "val", "trainval", "test")}
    if not any(listed.values()):
        return None
    train, val, test = (set(listed[name]) for name in ("train", "val", "test"))
    train = train or set(listed["trainval"]) - val
    if not train:
        train, val = val, set()
    if not train:
        train = set(range(len(keys))) - test
    if not (val or test):  # nothing but a training set
        mixed = seeded_split([keys[at] for at in sorted(train)])
        chosen = np.array(sorted(train))
        problems.append({"file": "ImageSets/Main", "reason": "names no val or test: train was split 70/15/15"})
        return {name: chosen[at] for name, at in mixed.items()}
    tested = test or val
    learned = train if test else train - val
    leaked = sorted((learned | (val if test else set())) & tested)
    for at in leaked:
        problems.append(
            {"file": keys[at], "reason": "is in a set that is learned from and in one that is tested: tested only"}
        )
    if test:
        train, val = train - test, val - test - train
    else:
        train = train - val
    return {name: np.array(sorted(at), np.int64) for name, at in (("train", train), ("val", val), ("test", test))}


def _listed(
    folder: Path, name: str, place: dict[str, int], unusable: set[str], problems: list[dict[str, str]]
) -> list[int]:
    path = folder / f"{name}.txt"
    if not path.is_file():
        return []
    found, told = [], f"ImageSets/Main/{name}.txt"
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        key = _key(line, place)
        if not key:
            continue
        if key in place:
            found.append(place[key])
        elif key not in unusable:
            reason = f"line {number} names {key!r}, and there is no such image with an annotation: remove the line, or add the file"
            problems.append({"file": told, "reason": reason})
    return found


def _key(line: str, place: dict[str, int]) -> str:
    """The image that a line names; a flag after the name, or a suffix, is passed over."""
    words = line.split()
    if not words:
        return ""
    if len(words) > 1 and words[-1] in ("-1", "0", "1") and line.strip() not in place:
        words = words[:-1]
    key = " ".join(words)
    return key if key in place or not Path(key).suffix else str(Path(key).with_suffix(""))


def seeded_split(keys: list[str]) -> Parts:
    """70/15/15 by a seed of the names: the same folder is always split alike. At least one image each where there are three."""
    seed = int(digest(sorted(keys))[:12], 16)
    order = np.random.default_rng(seed).permutation(len(keys))
    few = max(1, round(SHARES["test"] * len(keys))) if len(keys) > 2 else 0
    cuts = {"test": order[:few], "val": order[few : 2 * few], "train": order[2 * few :]}
    return {name: np.sort(cuts[name]) for name in ("train", "val", "test")}
