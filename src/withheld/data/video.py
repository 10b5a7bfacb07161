"""Clips: video files and folders of frames, found as items; what a file holds is decoded in `clip.py`."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from withheld.data.array import ListStore, labeled
from withheld.data.elsewhere import Local, copied
from withheld.data.labels import find_labels
from withheld.data.layout import find_layout
from withheld.data.objects import is_frame, plain, splits_of
from withheld.data.source import Labels, Source, Store, digest, labels_wanted
from withheld.data.wanted import IMAGES, Wanted, instead
from withheld.errors import InputError, neighbor
from withheld.wording import plural

VIDEOS = Wanted(
    "videos",
    frozenset((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".gif", ".mpg", ".mpeg", ".ogv", ".ts", ".3gp")),
)
MASKS = "Annotations"
"""The folder of masks beside JPEGImages, as in DAVIS: no frames."""
NUMBER = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Frames:
    """A clip that lies as single images: their contents or paths, in order."""

    images: tuple[Any, ...]


class FramesStore(Store):
    """Clips that are groups of the items of an inner source of images."""

    def __init__(self, images: Source, groups: list[np.ndarray]) -> None:
        self.images, self.groups = images, groups
        self.sequential = images.store.sequential

    def raw(self, positions: np.ndarray) -> Iterator[tuple[int, Any]]:
        """Yields clips as their last frame arrives: one pass, whatever the order the frames lie in."""
        chosen = [self.groups[int(position)] for position in positions]
        owner = np.repeat(np.arange(len(chosen)), [len(group) for group in chosen])
        place = np.concatenate([np.arange(len(group)) for group in chosen]) if chosen else np.zeros(0, np.int64)
        waiting: dict[int, list[Any]] = {}
        wanted = np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
        for at, contents in self.images.store.raw(self.images.places(wanted)):
            clip = int(owner[at])
            frames = waiting.setdefault(clip, [None] * len(chosen[clip]))
            frames[place[at]] = contents
            if all(frame is not None for frame in frames):
                yield clip, Frames(tuple(waiting.pop(clip)))


def open_videos(data: Any, labels: Labels = None) -> Source:
    """Opens whatever holds clips.

    Args:
        data: a folder (flat, nested, a folder per class) of video files or of folders of frames, as in DAVIS; one video
            file; a tar or zip of either; a table of videos (Parquet, or hf:NAME); moving:PATH, falling:PATH or motions:PATH,
            made of the images in PATH; an array (N, T, H, W[, C]), a list of arrays (T, H, W[, C]), or (clips, labels).
        labels: as `withheld.data.source.open_source`.

    Raises:
        InputError: where there is nothing to read, saying what was looked for.
    """
    if isinstance(data, Source):
        return data
    if not isinstance(data, str | os.PathLike):
        return _open_arrays(data, labels)
    from withheld.data.moving import is_moving, list_moving

    text = copied(os.fsdecode(data), "clips")
    if is_moving(text):
        return list_moving(text, labels)
    if text.startswith("hf:"):
        from withheld.data.table import open_hub

        return open_hub(text, labels, VIDEOS)
    path = Path(text).expanduser()
    if path.is_dir():
        return _open_folder(path, text, labels)
    if not path.is_file():
        raise InputError(f"there is no file or folder {text!r}{neighbor(path)}; give a folder of videos")
    return _open_file(path, text, labels)


def _open_folder(root: Path, text: str, labels: Labels) -> Source:
    from withheld.data.folder import ARCHIVES, scan_folder, source_of

    scan = scan_folder(root, VIDEOS)
    images = scan_folder(root, IMAGES)
    if scan.items:
        return _with_frames(scan, images, root, text, labels)
    if images.items:
        return frames_of(source_of(images, root, text, None), text, labels, root)
    archives = [name for name in scan.others if "/" not in name and name.lower().endswith(ARCHIVES)]
    if len(archives) == 1:
        return _open_file(root / archives[0], text, labels)
    kinds = Counter(os.path.splitext(name)[1].lower() or "no suffix" for name in scan.others)
    told = ", ".join(f"{count:,} with {suffix}" for suffix, count in kinds.most_common(5))
    raise InputError(
        f"found 0 clips under {text}; looked for {' '.join(sorted(VIDEOS.suffixes))} and for folders of frames"
        + (f"; saw only files {told}{instead(kinds)}" if told else "; it is empty")
    )


def _with_frames(scan: Any, images: Any, root: Path, text: str, labels: Labels) -> Source:
    """Videos, and the folders of frames that lie beside them.

    Pictures in a folder with videos are previews and no frames; nor are arrays frames here.
    """
    from withheld.data.folder import source_of
    from withheld.data.join import joined

    films = source_of(scan, root, text, None)
    beside = {name.rpartition("/")[0] for name in scan.items}
    picture = lambda name: name.rpartition("/")[0] not in beside and not name.lower().endswith((".npy", ".gif"))  # noqa: E731
    images.items = {name: of for name, of in images.items.items() if picture(name)}
    if not images.items:
        return source_of(scan, root, text, labels)
    try:
        frames = frames_of(source_of(images, root, text, None), text, None, root)
    except InputError:  # single pictures, no clip among them
        return source_of(scan, root, text, labels)
    source = joined([films, frames], text)
    if labels_wanted(labels):
        source.labels, source.classes = find_labels(
            labels, source.names, find_layout(source.names), root, text, source.notes
        )
    return source


def _open_file(path: Path, text: str, labels: Labels) -> Source:
    from withheld.data.archive import open_archive
    from withheld.data.folder import open_one

    if VIDEOS.named(path.name):
        return open_one(path, text, labels)
    if path.suffix == ".npy":
        try:
            return _open_arrays(np.load(path, mmap_mode="r", allow_pickle=False), labels)
        except ValueError as error:
            raise InputError(f"{text} cannot be read as a .npy array of numbers: {error}") from error
    with path.open("rb") as stream:
        if stream.read(4) == b"PAR1":
            from withheld.data.table import open_parquet

            return open_parquet([Local(path, path.name)], text, labels)
    try:
        found = open_archive(path, text, labels, VIDEOS)
    except InputError as error:
        images = open_archive(path, text) if "found 0" in str(error) else None
        if images is None:
            raise
        return frames_of(images, text, labels, None)
    if found is None:
        raise InputError(
            f"{text!r} is not a kind of video that is read here: give a folder, a tar or zip of "
            f"{' '.join(sorted(VIDEOS.suffixes))} or of folders of frames"
        )
    return found


def frames_of(images: Source, text: str, labels: Labels, root: Path | None) -> Source:
    """Clips out of images: those of one folder are one clip, in the order of the numbers in their names.

    Raises:
        InputError: where no folder holds two images.
    """
    beside = any("JPEGImages" in name.split("/")[:-1] for name in images.names)
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(images.names):
        parts = name.split("/")[:-1]
        if not (beside and MASKS in parts):
            groups.setdefault("/".join(parts), []).append(i)
    alone = [{"file": name or ".", "reason": "one image is no clip"} for name, at in groups.items() if len(at) < 2]
    clips = {name: at for name, at in groups.items() if len(at) > 1}
    if not clips:
        raise InputError(
            f"found 0 clips under {text}; it holds {plural(len(images), 'image')} and no folder with two or more frames"
        )
    names = sorted(clips)
    ordered = [np.array(sorted(clips[name], key=lambda i: natural(images.names[i])), np.int64) for name in names]
    shown = [name or os.path.basename(os.path.abspath(text)) for name in names]
    layout = find_layout(shown)
    source = Source(
        location=text, kind=f"frames in {images.kind}", names=shown, store=FramesStore(images, ordered),
        fingerprint=digest([images.fingerprint, *(name or "." for name in names)]), parts=layout.parts,
        left_out=images.left_out + alone, stamp=images.stamp,
    )  # fmt: skip
    if labels_wanted(labels):
        try:
            source.labels, source.classes = find_labels(labels, shown, layout, root, text, source.notes)
        except InputError as error:
            if "class folder" not in str(error):
                raise
            raise InputError(
                f"labels of clips were asked for, but {text} holds images: every folder of them is read as one clip of "
                f"frames, and no folder for a class is above the {len(shown):,} here; clips lie in CLASS/CLIP/001.jpg ... or, "
                "as video files, in CLASS/; what learned from images is evaluated on images"
            ) from error
    return source


def told_of_frames(source: Source) -> str:
    """What to say where images were read as one clip, which photographs are not; "" elsewhere."""
    if len(source) != 1 or not source.kind.startswith("frames in"):
        return ""
    said = f"{source.location}: its images are read as the frames of one clip, {source.names[0]}"
    return f"{said}; for photographs take a run or model of images"


def natural(name: str) -> list[Any]:
    """What names are sorted by so that 2 comes before 10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in NUMBER.split(name)]


def _open_arrays(data: Any, labels: Labels) -> Source:
    data = plain(data)
    if (splits := splits_of(data)) is not None:
        from withheld.data.table import open_splits

        return open_splits(splits, f"{type(data).__name__} in memory", labels, VIDEOS)
    if is_frame(data):
        raise InputError(
            "clips are arrays (frames, height, width[, 3]), and no table: give a list of them, or (clips, labels)"
        )
    own: Any = None
    if isinstance(data, tuple) and len(data) == 2 and len(data[0]) == len(data[1]) and np.ndim(data[1]) == 1:
        data, own = data
    wrong = next((i for i, clip in enumerate(data) if getattr(clip, "ndim", 0) not in (3, 4)), None)
    if wrong is not None or not len(data):
        told = f"clip {wrong} is {np.shape(data[wrong])}" if wrong is not None else "there are none"
        raise InputError(f"clips are arrays (frames, height, width[, 3]): {told}")
    total = hashlib.sha256()
    for clip in data:
        total.update(f"{clip.shape}{clip.dtype}".encode() + np.ascontiguousarray(clip).tobytes())
    names = [f"clip:{i}" for i in range(len(data))]
    source = Source("clips in memory", "array", names, ListStore(data), total.hexdigest())
    return labeled(source, labels, own, "labels were asked for: give (clips, labels)")
