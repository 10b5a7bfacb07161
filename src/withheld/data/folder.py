"""A folder of images, flat or nested; links that lead outside are not followed, and only plain files are opened."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from withheld.data.decode import Raw
from withheld.data.elsewhere import Local
from withheld.data.labels import find_labels
from withheld.data.layout import find_layout
from withheld.data.sample import spaced
from withheld.data.shards import TARS, locals_below, open_shards
from withheld.data.source import Labels, Source, Store, digest, labels_wanted, open_file, stamp_of
from withheld.data.wanted import IMAGES, NOT_ITEMS, Wanted, instead
from withheld.errors import InputError

ARCHIVES = (*TARS, ".zip")
MASKS = ("Annotations", "SegmentationClass", "SegmentationObject")
"""Folders of masks beside JPEGImages, as in DAVIS and PASCAL VOC: no images to learn from."""


class FolderStore(Store):
    """Files below a root."""

    def __init__(self, root: Path, names: list[str]) -> None:
        self.root = root
        self.names = names

    def raw(self, positions: np.ndarray) -> Iterator[tuple[int, Raw]]:
        for place, position in enumerate(positions):
            yield place, self.root / self.names[position]


@dataclass
class Scan:
    """What a walk through a folder met.

    Attributes:
        items: relative name to (bytes, time of change in ns).
        others: relative names of files of other kinds.
        left_out: {"file", "reason"} of what is named as an item and is no plain file below the root.
        masks: relative names of masks beside the images, which are no items.
    """

    items: dict[str, tuple[int, int]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)


def is_hidden(name: str) -> bool:
    """Whether a file or folder name is one that systems make for themselves."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "@eaDir")


def scan_folder(root: Path, wanted: Wanted = IMAGES) -> Scan:
    """Walks a folder; folders that are links are not entered, so that the walk always ends."""
    scan = Scan()
    real = os.path.realpath(root)
    pending = [(real, "")]
    while pending:
        folder, prefix = pending.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            scan.left_out.append({"file": prefix.rstrip("/"), "reason": f"cannot be listed: {error.strerror}"})
            continue
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append((entry.path, f"{prefix}{entry.name}/"))
                if wanted.named(entry.name):
                    scan.left_out.append({"file": prefix + entry.name, "reason": "is a folder"})
            else:
                _note(scan, entry, prefix + entry.name, real, wanted)
    return scan


def _note(scan: Scan, entry: os.DirEntry[str], name: str, real: str, wanted: Wanted) -> None:
    linked = entry.is_symlink()
    if not wanted.named(name) and not (linked and os.path.isdir(entry.path)):
        scan.others.append(name)
        return
    reason = None
    try:
        if linked:
            target = os.path.realpath(entry.path, strict=True)
            if os.path.commonpath([real, target]) != real:
                reason = "is a link that leads out of the folder"
            elif os.path.isdir(target):
                reason = "is a link to a folder"
        if reason is None and not entry.is_file():
            reason = "is not a plain file"
        if reason is None:
            info = entry.stat()
            scan.items[name] = info.st_size, info.st_mtime_ns
            return
    except (OSError, ValueError) as error:
        reason = f"cannot be followed: {getattr(error, 'strerror', None) or error}"
    scan.left_out.append({"file": name, "reason": reason})


def open_folder(root: Path, text: str, labels: Labels = None, wanted: Wanted = IMAGES) -> Source:
    """Opens a folder of items; or the IDX files, the Parquet files or the one archive that it holds.

    Raises:
        InputError: where there are no images, saying what was looked for and what was found instead.
    """
    scan = scan_folder(root, wanted)
    if wanted is IMAGES:
        scan.masks = sorted(masks_among(scan.items))
        for name in scan.masks:
            del scan.items[name]
        scan.others += scan.masks
    if not scan.items:
        return _open_other(root, text, labels, scan)
    return source_of(scan, root, text, labels)


def masks_among(names: Iterable[str]) -> set[str]:
    """Those that lie in a folder of masks beside one of images, where both are named as in DAVIS and PASCAL VOC."""
    names = list(names)
    beside = set().union(*map(images_at, names))
    return {name for name in names if masks_at(name) & beside}


def images_at(name: str) -> set[str]:
    """What the folder JPEGImages of a name's path lies in; none where there is no such folder."""
    path = name.split("/")[:-1]
    return {"/".join(path[: path.index("JPEGImages")])} if "JPEGImages" in path else set()


def masks_at(name: str) -> set[str]:
    """What the folders of masks of a name's path lie in: its image is a mask where one of images lies beside them."""
    path = name.split("/")[:-1]
    return {"/".join(path[:at]) for at, word in enumerate(path) if word in MASKS}


def source_of(scan: Scan, root: Path, text: str, labels: Labels) -> Source:
    """The files that a walk has found."""
    names = sorted(scan.items)
    layout = find_layout(names)
    source = Source(
        location=text,
        kind="folder",
        names=names,
        store=FolderStore(root.resolve(), names),
        fingerprint=_fingerprint(root.resolve(), scan, names),
        parts=layout.parts,
        left_out=sorted(scan.left_out, key=lambda line: line["file"]),
        stamp=digest([stamp_of(root), *(scan.items[name][1] for name in names)]),
        masks=scan.masks,
        unread=[name for name in scan.others if Path(name).suffix.lower() in NOT_ITEMS],
    )
    if labels_wanted(labels):
        try:
            source.labels, source.classes = find_labels(labels, names, layout, root, text, source.notes)
        except InputError as error:
            from withheld.data.boxes import boxes_beside

            told = boxes_beside(root) if labels is True else ""
            raise InputError(f"{error}; {told}") if told else error from None
    return source


def open_one(path: Path, text: str, labels: Labels = None) -> Source:
    """Opens a single file that is an item as a set of one."""
    info, root = path.stat(), path.parent.resolve()
    scan = Scan(items={path.name: (info.st_size, info.st_mtime_ns)})
    source = Source(
        location=text,
        kind="folder",
        names=[path.name],
        store=FolderStore(root, [path.name]),
        fingerprint=_fingerprint(root, scan, [path.name]),
        stamp=stamp_of(path),
    )
    if labels_wanted(labels):
        source.labels, source.classes = find_labels(labels, source.names, None, None, text, source.notes)
    return source


def _fingerprint(root: Path, scan: Scan, names: list[str]) -> str:
    """Names and sizes, and the first bytes of a few files: sets of equal names and sizes exist."""
    parts: list[str | bytes | int] = []
    for name in names:
        parts += [name, scan.items[name][0]]
    for i in spaced(len(names), 16):
        try:
            with open(root / names[i], "rb") as stream:
                parts.append(hashlib.sha256(stream.read(1 << 16)).digest())
        except OSError:
            parts.append("unreadable")
    return digest(parts)


def _open_other(root: Path, text: str, labels: Labels, scan: Scan) -> Source:
    from withheld.data import idx, table

    top = sorted(name for name in scan.others if "/" not in name)
    found = [root / name for name in top if _may_be_idx(name) and idx.is_idx(root / name)]
    if found:
        return idx.open_idx(found, root, text, labels)
    tables = sorted(name for name in scan.others if name.lower().endswith(".parquet"))
    if tables:
        return table.open_parquet(locals_below(root, [root / name for name in tables]), text, labels)
    archives = sorted(name for name in scan.others if name.lower().endswith(ARCHIVES))
    if len(archives) == 1:
        return open_file(Local(root / archives[0], archives[0]), text, labels)
    if archives and all(name.lower().endswith(TARS) for name in archives):
        return open_shards(locals_below(root, [root / name for name in archives]), text, labels)
    if archives:
        shown = ", ".join(archives[:5])
        raise InputError(
            f"{text} holds {len(archives)} archives ({shown}); give one of them, tars alone, or unpack them"
        )
    raise InputError(_nothing(text, scan))


def _may_be_idx(name: str) -> bool:
    """Whether to look into a file: not into every one of a large folder, and not into archives."""
    lower = name.lower()
    return (
        "idx" in lower
        or "ubyte" in lower
        or (lower.endswith(".gz") and not lower.endswith(ARCHIVES))
        or "." not in lower
    )


def _nothing(text: str, scan: Scan) -> str:
    message = f"found 0 images under {text}; looked for {' '.join(sorted(IMAGES.suffixes))}, IDX, Parquet and archives"
    if scan.left_out:
        reasons = Counter(line["reason"] for line in scan.left_out)
        told = "; ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(3))
        message += f"; left out: {told} (copy the files into the folder, or give the folder they lie in)"
    if scan.others:
        suffixes = Counter(os.path.splitext(name)[1].lower() or "no suffix" for name in scan.others)
        told = ", ".join(f"{count:,} with {suffix}" for suffix, count in suffixes.most_common(5))
        lists = "labels.csv" in scan.others
        elsewhere = "; give the folder of the files that labels.csv lists as the data, and labels.csv as --labels"
        message += f"; saw only files {told}{elsewhere if lists else instead(suffixes)}"
    return message
