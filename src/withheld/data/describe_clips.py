"""What is in a set of clips, before anything is learned: lengths, rates, sizes, what cannot be read, and labels."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from withheld.data.clip import ASSUMED_RATE, MOST_RATE, opened
from withheld.data.decode import decode
from withheld.data.sample import spread
from withheld.data.source import Labels, Source
from withheld.data.video import Frames, open_videos
from withheld.data.wanted import UNREAD_CLIPS, unread_beside
from withheld.data.work import reason_of
from withheld.errors import InputError
from withheld.wording import duration, plural

MOST_READ = 500
Mark = tuple[tuple[int, ...], bytes | tuple[Path, ...]]
"""Lengths of what a clip consists of, and its digest, or the files to take it of."""


class Look(NamedTuple):
    """Of one clip, without decoding it: what its container says."""

    kind: str
    frames: int
    rate: float
    width: int
    height: int


def describe_clips(data: Any, labels: Labels = None) -> list[tuple[str, str]]:
    """What there is to say, in lines of a word and a value.

    Raises:
        InputError: where there are no clips.
    """
    source = open_videos(data, labels)
    chosen = spread(len(source), MOST_READ)
    looks: list[Look] = []
    broken = list(source.left_out)
    marks: list[tuple[str, Mark]] = []
    for position, raw in source.raw(chosen):
        try:
            looks.append(look_at(raw))
            marks.append((source.names[position], mark_of(raw)))
        except Exception as error:  # damaged files raise anything
            broken.append({"file": source.names[position], "reason": reason_of(error)})
    if not looks and broken:
        first = f"{broken[0]['file']}: {broken[0]['reason']}"
        raise InputError(
            f"none of the {len(chosen):,} clips looked at in {source.location} can be read; the first, {first}"
        )
    read = "" if len(chosen) == len(source) else f", {len(chosen):,} of them were looked at"
    lines = [("kind", f"clips, {source.kind}"), ("items", f"{len(source):,}{read}")]
    if looks:
        lines += [*_of_looks(looks), ("duplicates", _told(same(marks)))]
    lines += _of_labels(source)
    reasons = Counter(line["reason"] for line in broken)
    lines += [("broken", f"{count:,} x {reason}") for reason, count in reasons.most_common(5)]
    lines += [("note", f"{line['file']}: {line['reason']}") for line in broken[:5]]
    beside = unread_beside(source.unread, UNREAD_CLIPS)
    return lines + [("note", note) for note in [*source.notes, *([beside] if beside else [])]]


def look_at(raw: Any) -> Look:
    """Length, rate and size of one clip.

    Raises:
        Exception: of any kind; damaged files raise what no one expects.
    """
    if isinstance(raw, Exception):
        raise raw
    if isinstance(raw, Frames):
        first: Any = decode(raw.images[0], None)
        width, height = first.size if hasattr(first, "size") and isinstance(first.size, tuple) else first.shape[1::-1]
        return Look("frames", len(raw.images), ASSUMED_RATE, width, height)
    if isinstance(raw, np.ndarray):
        return Look("array", len(raw), ASSUMED_RATE, raw.shape[2], raw.shape[1])
    with opened(raw) as (container, video):
        rate = float(video.average_rate or video.guessed_rate or ASSUMED_RATE)
        seconds = float(video.duration * video.time_base) if video.duration else (container.duration or 0) / 1e6
        context = video.codec_context
        return Look(context.name, video.frames or round(seconds * rate), rate, context.width, context.height)


def mark_of(raw: Any) -> Mark:
    """Lengths and what they are of: files are read only where others are as long."""
    parts = raw.images if isinstance(raw, Frames) else [raw]
    sizes = tuple(
        part.stat().st_size if isinstance(part, Path) else len(part) if isinstance(part, bytes | np.ndarray) else 0
        for part in parts
    )
    if all(isinstance(part, Path) for part in parts):
        return sizes, tuple(parts)
    return sizes, _digest(parts)


def _digest(parts: Any) -> bytes:
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        else:
            found.update(part if isinstance(part, bytes) else np.asarray(part).tobytes())
    return found.digest()


def same(marks: list[tuple[str, Mark]]) -> list[tuple[str, str]]:
    """Pairs of names of clips with equal bytes, each later one with the first."""
    often = Counter(sizes for _, (sizes, _) in marks)
    first: dict[Any, str] = {}
    pairs = []
    for name, (sizes, what) in marks:
        if often[sizes] > 1:
            one = first.setdefault((sizes, what if isinstance(what, bytes) else _digest(what)), name)
            pairs += [(one, name)] if one != name else []
    return pairs


def _told(pairs: list[tuple[str, str]]) -> str:
    return f"{len(pairs):,} exact" + (f", such as {pairs[0][0]!r} and {pairs[0][1]!r}" if pairs else "")


def _of_looks(looks: list[Look]) -> list[tuple[str, str]]:
    frames, rates = sorted(one.frames for one in looks), sorted(one.rate for one in looks)
    seconds = sum(one.frames / max(one.rate, 1e-3) for one in looks)
    sizes = Counter((one.width, one.height) for one in looks)
    kinds = Counter(one.kind for one in looks)
    told = ", ".join(f"{width}x{height} ({count})" for (width, height), count in sizes.most_common(3))
    lines = [
        (
            "frames",
            f"{frames[0]} to {frames[-1]}, median {frames[len(frames) // 2]}; {duration(seconds)} together",
        ),
        ("rates", f"{rates[0]:.3g} to {rates[-1]:.3g} frames a second, median {rates[len(rates) // 2]:.3g}"),
        ("sizes", told + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else "")),
        ("codecs", ", ".join(f"{name} {count}" for name, count in kinds.most_common(4))),
    ]
    if rates[-1] > 1.05 * MOST_RATE:
        lines.append(("note", f"what is faster than {MOST_RATE:.0f} frames a second is sampled at that"))
    if len(sizes) > 1 or rates[-1] > 1.2 * rates[0]:
        lines.append(
            ("note", "sizes or rates are mixed: frames are squashed to one square, windows are taken at one rate")
        )
    return lines


def _of_labels(source: Source) -> list[tuple[str, str]]:
    lines = []
    if source.parts is not None:
        told = Counter(part or "no part" for part in source.parts.tolist())
        lines.append(("parts", ", ".join(f"{name} {count:,}" for name, count in told.items())))
    if source.labels is not None:
        known = int((source.labels >= 0).sum())
        lines.append(("classes", f"{len(source.classes)}; {plural(known, 'clip has a label', 'clips have labels')}"))
    return lines
