"""Clips decoded once into the prepared cache, and windows of them: what the loop asks for batches.

Axes in comments: N clips, F frames of all clips back to back, C = 3 channels, S side, W windows, B batch, T frames of a window.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from withheld.data import cache
from withheld.data.broken import KEPT, Line
from withheld.data.build import Progress, Sums, _header
from withheld.data.clip import Clip, decode_clip
from withheld.data.image import ImageItems
from withheld.data.sample import spaced
from withheld.data.source import Source, digest
from withheld.data.stream_clips import StreamedFrames
from withheld.data.work import reason_of, threaded
from withheld.errors import InputError
from withheld.wording import plural

FORMAT = 1
CUT_DIFFERENCE, CUT_TIMES, CUT_COLORS = 0.08, 4.0, 0.3
STILL = 0.001
"""Mean difference of neighboring frames, of 0..1, below which nothing moves."""
COMPARED_FRAMES = 8
"""Of two clips, to tell whether they are the same."""


@dataclass
class PreparedClips:
    """Decoded clips.

    Attributes:
        images: (F, 3, S, S) uint8, memory-mapped, or `StreamedFrames` where the cache is too small.
        starts: (N + 1,) where each clip begins.
        rates: (N,) frames a second. motion: (F,) mean difference of lightness to the frame before, 0..1.
        cuts: (F,) whether a shot begins here. names, kept: of the clips. labels, classes, parts: see `Source`.
        skipped: {"file", "reason"} of clips left out, or kept with something to say. mean, std: a channel, of 0..1.
    """

    images: Any
    starts: NDArray[np.int64]
    rates: NDArray[np.float64]
    motion: NDArray[np.float32]
    cuts: NDArray[np.bool_]
    names: list[str]
    kept: NDArray[np.int64]
    labels: NDArray[np.int64] | None
    classes: list[str]
    parts: NDArray[Any] | None
    skipped: list[Line]
    mean: list[float]
    std: list[float]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.kept)


def prepare_clips(
    source: Source, size: int, progress: Progress | None = None, allow_bad: float = 0.2, bars: bool = True
) -> PreparedClips:
    """Decodes every clip once into the cache, or finds it there.

    Args:
        size: S. bars: whether black bars are cut off.

    Raises:
        InputError: where no clip is good, or more than `allow_bad` cannot be read. CannotWrite: the cache.
    """
    fingerprint = digest([source.fingerprint, "clips", FORMAT, size, bars])
    key = digest([fingerprint, source.stamp])[:32]
    images: Any = None
    with cache.locked(key) as entry:
        if not (entry / "prepared.json").is_file():
            with cache.filling(entry) as folder:
                _build(source, size, bars, folder, progress, cache.allowance())
        else:
            cache.touch(entry)
        facts = json.loads((entry / "prepared.json").read_text(encoding="utf-8"))
        if facts["kept"] and not facts.get("streamed"):
            images = np.load(entry / "images.npy", mmap_mode="r", allow_pickle=False)
        motion, cuts = (np.load(entry / f"{name}.npy", allow_pickle=False) for name in ("motion", "cuts"))
    kept = np.array(facts["kept"], np.int64)
    skipped = source.left_out + facts["skipped"]
    source.check_readable("clips", len(kept), len(source) + len(source.left_out) - len(kept), skipped, allow_bad)
    starts = np.array(facts["starts"], np.int64)
    if facts.get("streamed"):
        images = StreamedFrames(source, kept, starts, size, bars)
    return PreparedClips(
        images, starts, np.array(facts["rates"]), motion, cuts,
        [source.names[i] for i in kept], kept, None if source.labels is None else source.labels[kept], source.classes,
        None if source.parts is None else source.parts[kept], skipped, facts["mean"], facts["std"], fingerprint,
    )  # fmt: skip


def _build(source: Source, size: int, bars: bool, folder: Path, progress: Progress | None, most: int) -> None:
    """Decodes every clip; where the frames take more than `most` bytes, only what is known about them is kept."""
    kept: list[int] = []
    rates: list[float] = []
    starts, skipped, sums = [0], [], Sums(3)
    motions, cuts, streamed = [], [], False
    with (folder / "images.npy").open("wb") as file:
        _header(file, (0, 3, size, size))
        for found in threaded(source.raw(), lambda chunk: [(at, _decoded(raw, size, bars)) for at, raw in chunk]):
            for position, clip in found:
                if isinstance(clip, Clip):
                    if not streamed and file.tell() + clip.frames.nbytes > most:
                        streamed = True
                        file.truncate(0)
                    if not streamed:
                        file.write(clip.frames.data)
                    sums.add(clip.frames)
                    moved, cut = movement(clip.frames)
                    motions.append(moved)
                    cuts.append(cut)
                    kept.append(position)
                    rates.append(clip.rate)
                    starts.append(starts[-1] + len(clip.frames))
                reason = clip if isinstance(clip, str) else f"{KEPT}but {clip.note}" if clip.note else ""
                if reason:
                    skipped.append({"file": source.names[position], "reason": reason})
                if progress is not None:
                    progress(position + 1, len(source))
        file.seek(0)
        _header(file, (0 if streamed else starts[-1], 3, size, size))
    np.save(folder / "motion.npy", np.concatenate(motions) if motions else np.zeros(0, np.float32))
    np.save(folder / "cuts.npy", np.concatenate(cuts) if cuts else np.zeros(0, bool))
    facts = {"kept": kept, "rates": rates, "starts": starts, "skipped": skipped, "streamed": streamed, **sums.facts()}
    (folder / "prepared.json").write_text(json.dumps(facts), encoding="utf-8")


def _decoded(raw: Any, size: int, bars: bool) -> Clip | str:
    try:
        clip = decode_clip(raw, size, bars)
    except Exception as error:  # damaged files raise anything
        return reason_of(error)
    return clip if len(clip.frames) > 1 else "has a single frame"


def movement(frames_TCHW: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """How much every frame differs from the one before, 0..1, and where shots begin.

    A shot begins where the difference is large, far above its neighborhood's, and the colors are others too.
    """
    grey = frames_TCHW.astype(np.float32).mean(axis=1) / 255
    moved = np.zeros(len(grey), np.float32)
    moved[1:] = np.abs(np.diff(grey, axis=0)).mean(axis=(1, 2))
    cuts = np.zeros(len(grey), bool)
    cuts[0] = True
    for at in np.flatnonzero(moved > CUT_DIFFERENCE):
        around = np.concatenate([moved[max(1, at - 8) : at], moved[at + 1 : at + 9]])
        if moved[at] > CUT_TIMES * (np.median(around) if len(around) else 0.0):
            before, after = (_colors(frames_TCHW[i]) for i in (at - 1, at))
            cuts[at] = np.abs(before - after).sum() / 2 > CUT_COLORS
    return moved, cuts


def _colors(frame_CHW: NDArray[np.uint8]) -> NDArray[np.float64]:
    coarse = (frame_CHW // 32).astype(np.int64)
    cells = (coarse[0] * 8 + coarse[1]) * 8 + coarse[2]
    return np.bincount(cells.ravel(), minlength=512) / cells.size


def decoded_clips(
    source: Source, size: int, progress: Progress | None = None
) -> tuple[NDArray[Any], NDArray[np.int64], list[Line]]:
    """(N,) decoded `Clip`s of any length, as objects, their positions in the source, and what was skipped, by the prepared
    cache."""
    clips = prepare_clips(source, size, progress, allow_bad=1.0)
    found = np.empty(len(clips), object)
    for i, (begin, end) in enumerate(zip(clips.starts[:-1], clips.starts[1:], strict=True)):
        found[i] = Clip(clips.images[begin:end], float(clips.rates[i]), "")
    order = np.argsort(clips.kept)
    return found[order], clips.kept[order], clips.skipped[len(source.left_out) :]


def same_clips(clips: PreparedClips, some: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) of some clips, by position, numbers that are equal where clips are: as long, and the same in frames spread over them."""
    number: dict[tuple[int, bytes], int] = {}
    groups = np.empty(len(some), np.int64)
    for place, clip in enumerate(some):
        begin, length = int(clips.starts[clip]), int(clips.starts[clip + 1] - clips.starts[clip])
        seen = hashlib.sha256(np.ascontiguousarray(clips.images[begin + spaced(length, COMPARED_FRAMES)]).data)
        groups[place] = number.setdefault((length, seen.digest()), len(number))
    return groups


@dataclass
class Windows:
    """Stretches of clips, none across a cut: (W,) of the first frame, the clip, frames between two, and how much moves."""

    first: NDArray[np.int64]
    clip: NDArray[np.int64]
    stride: NDArray[np.float64]
    motion: NDArray[np.float32]
    short: list[str]

    def __len__(self) -> int:
        return len(self.first)

    def subset(self, index: NDArray[Any]) -> Windows:
        """Some of them."""
        return Windows(self.first[index], self.clip[index], self.stride[index], self.motion[index], self.short)


def find_windows(clips: PreparedClips, frames: int, rate: float, overlap: float = 0.75) -> Windows:
    """All stretches of `frames` frames at `rate` a second (0: as they are), beginning a quarter of a window apart.

    `short` names the clips in which none fits.
    """
    rows: list[tuple[int, int, float, float]] = []
    short = []
    for number, (begin, end) in enumerate(zip(clips.starts[:-1], clips.starts[1:], strict=True)):
        stride = max(1.0, clips.rates[number] / rate) if rate > 0 else 1.0
        span = int(np.ceil((frames - 1) * stride)) + 1
        step = max(1, int(span * (1 - overlap)))
        shots = [*(int(begin) + np.flatnonzero(clips.cuts[begin:end])), int(end)]
        before = len(rows)
        for shot, stop in itertools.pairwise(shots):
            for first in range(shot, stop - span + 1, step):
                moved = float(clips.motion[first + 1 : first + span].mean()) if span > 1 else 0.0
                rows.append((first, number, stride, moved))
        if len(rows) == before:
            short.append(clips.names[number])
    table = np.array(rows, np.float64).reshape(-1, 4)
    return Windows(
        table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2], table[:, 3].astype(np.float32), short
    )


def moving(windows: Windows, share: float) -> Windows:
    """Those in which something moves, and of these the `share` in which most does."""
    at = np.flatnonzero(windows.motion > STILL)
    most = at[np.argsort(-windows.motion[at], kind="stable")][: max(1, round(share * len(at)))]
    return windows.subset(np.sort(most))


class ClipItems:
    """Windows as the loop asks for them: (B, T, 3, S, S) float32, normalized per channel.

    Args:
        clips: see `prepare_clips`. windows: of it. frames: T. mean, std: a channel, of pixels in 0..1.
    """

    def __init__(
        self, clips: PreparedClips, windows: Windows, frames: int, mean: list[float], std: list[float]
    ) -> None:
        self.windows, self.frames = windows, frames
        self.mean, self.std = mean, std
        self._images, self._names = ImageItems(clips.images, mean, std), clips.names

    def __len__(self) -> int:
        return len(self.windows)

    def owners(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of the clip that each window is of."""
        return self.windows.clip[np.asarray(index)]

    def names(self, index: NDArray[np.int64]) -> list[str]:
        """The names of these clips."""
        return [self._names[int(clip)] for clip in self.owners(index)]

    def places(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B, T) numbers of the frames."""
        steps = np.arange(self.frames)[None] * self.windows.stride[index][:, None]
        return self.windows.first[index][:, None] + np.floor(steps + 1e-6).astype(np.int64)

    def batch(self, index: NDArray[np.int64], device: torch.device | str) -> Tensor:
        """The windows of these numbers."""
        places = self.places(np.asarray(index))
        flat: Any = self._images.batch(places.ravel(), device)
        return flat.view(*places.shape, *flat.shape[1:])


def need_windows(windows: Windows, clips: PreparedClips, frames: int, rate: float) -> None:
    """Says so where no window is left to learn from.

    Raises:
        InputError: with the lengths there are, or that nothing moves.
    """
    if len(windows):
        return
    longest = int(np.diff(clips.starts).max())
    raise InputError(
        f"no clip is long enough for {frames} frames"
        + (f" at {rate:g} a second" if rate else "")
        + f": the longest has {plural(longest, 'frame')} at {clips.rates[int(np.diff(clips.starts).argmax())]:.3g} a second; "
        "take fewer (--set frames=...) or a higher rate (--set rate=...)"
    )
