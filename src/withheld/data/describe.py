"""What is in a set of images, before anything is learned: counts, sizes, broken and duplicate files, suggestions."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from withheld.data.boxes import boxes_beside
from withheld.data.build import Progress, is_grey
from withheld.data.classes import are_dates
from withheld.data.decode import Look, Raw, decode, look
from withheld.data.duplicates import matching, thumbnails_of
from withheld.data.folder import MASKS
from withheld.data.frames import folders_of_frames, like_clips
from withheld.data.image import to_array
from withheld.data.layout import find_layout, is_unlabeled
from withheld.data.source import Labels, Source, open_source
from withheld.data.video import natural
from withheld.data.wanted import UNREAD, clips_beside, unread_beside
from withheld.data.work import reason_of, threaded
from withheld.errors import InputError, printable
from withheld.types import UNKNOWN_LABEL
from withheld.wording import plural, size

MOST_READ = 5000
_SIDE = 32


class Unreadable(InputError):
    """There are images, and none can be read."""


@dataclass
class Description:
    """What `withheld check` tells.

    Attributes:
        location, kind: of the source.
        items: how many images the source lists.
        looked: how many of them were read; a seeded sample on large sets.
        parts: how many items of "train", "test" and "val", where the source says so.
        heights, widths: (smallest, median, largest), upright.
        channels: how many images have so many channels; grey ones saved as color count as 1.
        formats: how many images of each format.
        broken: {"file", "reason"} of what was looked at.
        left_out: {"file", "reason"} of links, folders and the like, which are never opened.
        exact: pairs of names with equal bytes (each later one with the first).
        near: pairs of names of other images that are nearly the same.
        crossing: how many of these pairs have one in train and one in test.
        classes: labelled items a class, only where labels were asked for.
        unknown: items without a label, only where labels were asked for.
        suggested_size: height and width to pretrain at.
        suggested_method: a method's name.
        prepared_bytes: what the prepared cache will take.
        warnings: sentences.
    """

    location: str
    kind: str
    items: int
    looked: int
    parts: dict[str, int] = field(default_factory=dict)
    heights: tuple[int, int, int] = (0, 0, 0)
    widths: tuple[int, int, int] = (0, 0, 0)
    channels: dict[int, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    broken: list[dict[str, str]] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)
    exact: list[tuple[str, str]] = field(default_factory=list)
    near: list[tuple[str, str]] = field(default_factory=list)
    crossing: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    unknown: int = 0
    suggested_size: int = 0
    prepared_bytes: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def sampled(self) -> bool:
        """Whether only a part was read."""
        return self.looked < self.items

    def to_lines(self) -> list[tuple[str, str]]:
        """(what, value) in the order to show them; file names are safe to print."""
        few = f" of the {self.looked:,} looked at" if self.sampled else ""
        lines = [("data", f"{printable(self.location)} ({self.kind})"), ("images", f"{self.items:,}")]
        if self.sampled:
            lines.append(("looked at", f"{self.looked:,}, a seeded sample; what follows is about these"))
        if self.parts:
            lines.append(("parts", ", ".join(f"{name or 'in none'} {count:,}" for name, count in self.parts.items())))
        if self.formats:
            small, median, large = zip(self.widths, self.heights, strict=True)
            sizes = f"{median[0]} x {median[1]} median, {small[0]} x {small[1]} to {large[0]} x {large[1]}"
            lines.append(("width x height", sizes))
            lines.append(("channels", _counts({str(k): v for k, v in self.channels.items()})))
            lines.append(("formats", _counts(self.formats)))
        lines.append(("broken", f"{len(self.broken):,}{few}{_first(self.broken)}"))
        if self.left_out:
            lines.append(("left out", f"{len(self.left_out):,}{_first(self.left_out)}"))
        lines.append(("duplicates", f"{len(self.exact):,} exact{few}{_pair(self.exact)}"))
        lines.append(("near-duplicates", f"{plural(len(self.near), 'pair')}{few}{_pair(self.near)}"))
        if self.classes:
            lines.append(("labels", self._labels()))
        lines.append(("suggested size", f"{self.suggested_size}"))
        lines.append(("prepared cache", size(self.prepared_bytes)))
        return lines + [("note", warning) for warning in self.warnings]

    def _labels(self) -> str:
        counts = np.array(list(self.classes.values()))
        unknown = f", {plural(self.unknown, 'image')} without" if self.unknown else ""
        spread = f"{counts.min():,} to {counts.max():,} (median {int(np.median(counts)):,})"
        return f"{len(counts)} classes of {spread} images{unknown}"

    def __str__(self) -> str:
        lines = self.to_lines()
        wide = max(len(what) for what, _ in lines)
        return "\n".join(f"{what:<{wide}}  {value}" for what, value in lines)


@dataclass
class _Seen:
    """What was found out about one item."""

    position: int
    head: Look | None = None
    grey: bool = False
    sha: bytes = b""
    small: np.ndarray | None = None
    reason: str = ""


def describe(data: Any, labels: Labels = None, seed: int = 0, progress: Progress | None = None) -> Description:
    """Looks at a set of images; on more than 5,000 a seeded sample of them is read.

    Args:
        data: what `open_source` takes.
        labels: as for `open_source`; by default labels are not read, only names that look like them are mentioned.
        seed: of the sample.
        progress: is told how many of how many images were looked at.

    Raises:
        InputError: where there is nothing to read.
    """
    source = open_source(data, labels)
    index = np.arange(len(source))
    if len(source) > MOST_READ:
        index = np.sort(np.random.default_rng([seed, 0xC4EC]).choice(len(source), MOST_READ, replace=False))
    seen: list[_Seen] = []
    for chunk in threaded(source.raw(index), _look_at_chunk):
        seen += chunk
        if progress is not None:
            progress(len(seen), len(index))
    seen.sort(key=lambda one: one.position)
    found = Description(source.location, source.kind, len(source), len(index), left_out=source.left_out)
    if source.parts is not None:
        found.parts = {str(name): int((source.parts == name).sum()) for name in np.unique(source.parts)}
    found.broken = [{"file": source.names[one.position], "reason": one.reason} for one in seen if one.head is None]
    good = [one for one in seen if one.head is not None]
    if not good:
        told = f"found 0 images under {source.location} that can be read, of {len(index):,}"
        raise Unreadable(f"{told}{_first(found.broken)}; check the files")
    _measure(found, good)
    _find_duplicates(found, source, good)
    if source.labels is not None:
        counts = np.bincount(source.labels[source.labels != UNKNOWN_LABEL], minlength=len(source.classes))
        found.classes = dict(zip(source.classes, counts.tolist(), strict=True))
        found.unknown = int((source.labels == UNKNOWN_LABEL).sum())
    found.warnings = source.notes + _warnings(found, source, good)
    return found


def _look_at_chunk(chunk: list[tuple[int, Raw]]) -> list[_Seen]:
    return [_look_at(position, raw) for position, raw in chunk]


def _look_at(position: int, raw: Raw) -> _Seen:
    try:
        whole = raw.read_bytes() if isinstance(raw, Path) else raw
        sha = hashlib.sha256(_bytes(whole)).digest()
        head = look(whole)
        image = decode(whole, 2 * _SIDE)
        if isinstance(image, Image.Image):
            return _Seen(position, head, is_grey(image), sha, to_array(image, _SIDE, 1)[0])
        return _Seen(position, head, image.shape[2] == 1, sha, _small(image))
    except Exception as error:  # damaged files raise anything
        return _Seen(position, reason=reason_of(error))


def _bytes(whole: Any) -> bytes:
    if isinstance(whole, Exception):
        raise whole
    return whole if isinstance(whole, bytes) else np.ascontiguousarray(np.asarray(whole)).tobytes()


def _small(array: np.ndarray) -> np.ndarray:
    """A grey picture for comparing; here each image may have its own scale, for only its pattern is looked at."""
    grey = array.astype(np.float64).mean(axis=2)
    grey = np.nan_to_num(grey, posinf=0.0, neginf=0.0)
    if array.dtype != np.uint8:
        grey = (grey - grey.min()) * (255 / max(float(np.ptp(grey)), 1e-12))
    return thumbnails_of(grey[None], _SIDE)[0]


def _measure(found: Description, good: list[_Seen]) -> None:
    heads = [one.head for one in good if one.head is not None]
    sizes = np.array([(head.height, head.width) for head in heads])
    low, middle, high = sizes.min(0), np.median(sizes, axis=0).astype(int), sizes.max(0)
    found.heights, found.widths = (tuple(map(int, (low[i], middle[i], high[i]))) for i in (0, 1))  # type: ignore[assignment]
    channels = Counter(1 if one.grey else head.channels for one, head in zip(good, heads, strict=True))
    found.channels = dict(channels.most_common())
    found.formats = dict(Counter(head.format for head in heads).most_common())
    native = int(middle.max())
    found.suggested_size = -(-native // 4) * 4 if native <= 64 else 96
    kinds = max(channels) if set(channels) != {1} else 1
    stored = found.suggested_size if native <= 64 else found.suggested_size * 4 // 3
    found.prepared_bytes = found.items * stored**2 * kinds


def _find_duplicates(found: Description, source: Source, good: list[_Seen]) -> None:
    first: dict[bytes, int] = {}
    single: list[_Seen] = []
    pairs: list[tuple[int, int]] = []
    for one in good:
        if one.sha in first:
            pairs.append((first[one.sha], one.position))
        else:
            first[one.sha] = one.position
            single.append(one)
    found.exact = [(source.names[a], source.names[b]) for a, b in pairs]
    near = matching(np.stack([one.small for one in single if one.small is not None]))
    close = [(single[a].position, single[b].position) for a, b in near.tolist()]
    found.near = [(source.names[a], source.names[b]) for a, b in close]
    if source.parts is not None:
        told = [{str(source.parts[a]), str(source.parts[b])} for a, b in pairs + close]
        found.crossing = sum({"train", "test"} == two for two in told)


def _warnings(found: Description, source: Source, good: list[_Seen]) -> list[str]:
    beside = (unread_beside(source.unread, UNREAD), clips_beside(source.unread))
    boxes = boxes_beside(Path(source.location).expanduser()) if source.kind == "folder" else ""
    warnings = _masks(source) + [told for told in (*beside, boxes) if told]
    if source.labels is None:
        warnings += _frames(found, source, good) or _label_like(source)
    if found.broken:
        share = len(found.broken) / found.looked
        stop = "; pretraining stops above 20 %" if share > 0.2 else ""
        shown = f"{share:.0%}" if share >= 0.01 else "under 1 %"
        warnings.append(f"{shown} of the images looked at are broken: they will be skipped and listed{stop}")
    if found.crossing:
        pairs = plural(found.crossing, "pair of duplicates has", "pairs of duplicates have")
        warnings.append(f"{pairs} one image in train and one in test: test scores will flatter")
    shapes = [one.head.width / one.head.height for one in good if one.head is not None]
    if np.quantile(shapes, 0.95) > 1.5 * np.quantile(shapes, 0.05):
        warnings.append("shapes differ (width over height): every image is squashed to a square")
    if max(found.heights[1], found.widths[1]) > 64:
        warnings.append("the size suggested is for a CPU; on a GPU 224, but for a method that has a size of its own")
    if set(found.channels) - {1, 3} and len(found.channels) > 1:
        warnings.append("the number of channels differs from image to image: those unlike the most are skipped")
    return warnings


def _masks(source: Source) -> list[str]:
    """Masks that lie beside the images, as in DAVIS and PASCAL VOC."""
    if not source.masks:
        return []
    folders = ", ".join(sorted({word for name in source.masks for word in name.split("/")[:-1] if word in MASKS}))
    are = plural(len(source.masks), f"mask in {folders} is", f"masks in {folders} are")
    return [f"{are} not counted and not learned from"]


def _frames(found: Description, source: Source, good: list[_Seen]) -> list[str]:
    """Folders that look like clips; of a sample nothing can be told."""
    if found.sampled or source.kind not in ("folder", "tar", "zip"):
        return []
    seen = [(source.names[one.position], one.head, one.small) for one in good]
    whole = [
        (name, (head.height, head.width), small) for name, head, small in seen if head is not None and small is not None
    ]
    if not whole:
        return []
    names, shapes, pictures = zip(*whole, strict=True)
    small = np.stack(pictures)
    order = sorted(range(len(names)), key=lambda at: natural(names[at]))
    folders = folders_of_frames(names, shapes, small, order)
    return [like_clips(folders)] if folders else []


def _label_like(source: Source) -> list[str]:
    warnings = []
    if source.kind in ("folder", "tar", "zip"):
        names = sorted({f for f in find_layout(source.names).folders if f and not is_unlabeled(f)})
        if are_dates(names):
            warnings.append("folders are named by date: evaluate wants a folder per class, or a labels.csv")
        elif len(names) > 1:
            told = ", ".join(printable(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
            warnings.append(
                f"{len(names)} folder names look like labels ({told}): pretraining does not look at them, evaluate does"
            )
    if source.kind == "folder" and (Path(source.location).expanduser() / "labels.csv").is_file():
        warnings.append("labels.csv lies beside the images: pretraining does not look at it, evaluate does")
    return warnings


def _counts(counts: dict[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    shown = ", ".join(f"{name} ({count:,})" for name, count in list(counts.items())[:6])
    return f"{shown} and {len(counts) - 6} more kinds" if len(counts) > 6 else shown


def _first(lines: list[dict[str, str]]) -> str:
    return f", first {lines[0]['file']!r}: {lines[0]['reason']}" if lines else ""


def _pair(pairs: list[tuple[str, str]]) -> str:
    return f", such as {pairs[0][0]!r} and {pairs[0][1]!r}" if pairs else ""
