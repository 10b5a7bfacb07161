"""Images decoded once into fixed-size uint8 arrays, memory-mapped from then on.

Axes in comments: N items, C channels, H height, W width.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from withheld.data import cache
from withheld.data.decode import decode
from withheld.data.image import spread
from withheld.data.rows import Streamed, take
from withheld.data.scale import Scale, find_scale
from withheld.data.source import Source, digest
from withheld.data.work import Form, blocks, reason_of
from withheld.errors import InputError

FORMAT = 1
SMALLEST_STD = 1e-3
SAMPLE = 64
STREAMED_SAMPLE = 1024
Progress = Callable[[int, int], None]


@dataclass
class Prepared:
    """Images of one size, with what is known about them.

    Attributes:
        images: (N, C, H, W) uint8, memory-mapped, or `Streamed` where the cache is too small.
        names: one an image.
        labels: (N,) int64, -100 where unknown; None unless the source was opened with labels.
        classes: the names that labels count into.
        parts: (N,) "train", "test", "val" or "", else None.
        kept: (N,) position in the source of every image.
        skipped: {"file", "reason"} of what could not be used.
        mean: of each channel, of pixels in 0..1.
        std: of each channel, at least 0.001 so that constant data can be divided by it.
        fingerprint: of the source and the settings.
        scale: what became 0 and 255 where the data is not 8 bit, else None.
    """

    images: Any
    names: list[str]
    labels: np.ndarray | None
    classes: list[str]
    parts: np.ndarray | None
    kept: np.ndarray
    skipped: list[dict[str, str]]
    mean: list[float]
    std: list[float]
    fingerprint: str
    scale: Scale | None = field(default=None)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> int:
        """Height and width in pixels."""
        return int(self.images.shape[-1])

    @property
    def channels(self) -> int:
        """1 grey, 3 color, or what multi-channel data has."""
        return int(self.images.shape[1])

    def subset(self, index: np.ndarray | Sequence[int]) -> Prepared:
        """Some of the images, in the order of `index`; mean and std stay those of the whole."""
        chosen = np.arange(len(self))[np.asarray(index)]
        return dataclasses.replace(
            self,
            images=take(self.images, chosen),
            names=[self.names[i] for i in chosen],
            labels=None if self.labels is None else self.labels[chosen],
            parts=None if self.parts is None else self.parts[chosen],
            kept=self.kept[chosen],
            fingerprint=digest([self.fingerprint, chosen.astype("<i8").tobytes()]),
        )


def prepare(
    source: Source,
    size: int,
    channels: int | None = None,
    allow_bad: float = 0.2,
    progress: Progress | None = None,
    scale: Scale | None = None,
) -> Prepared:
    """Decodes every image once into the cache, or finds it there.

    Args:
        source: what `open_source` gave.
        size: height and width, to which images are squashed.
        channels: None takes 1 where a sample is all grey, else 3, or the number that multi-channel data has.
        allow_bad: the largest share of items that may be broken.
        progress: called with (done, total).
        scale: for data that is not 8 bit, e.g. that of the training data; None finds one from a sample.

    Raises:
        InputError: where no image is good, or more than `allow_bad` are broken.
        CannotWrite: where the cache cannot be written.
    """
    if size < 1 or (channels is not None and channels < 1) or not 0 <= allow_bad <= 1:
        raise InputError(f"size {size}, channels {channels}, allow_bad {allow_bad}: sizes are >= 1, shares 0 to 1")
    told = f"{FORMAT}|{size}|{channels}|{scale}"
    fingerprint = digest([source.fingerprint, told])
    key = digest([fingerprint, source.stamp])[:32]
    with cache.locked(key) as entry:
        found = _open(entry)
        if found is None:
            form = _form(source, size, channels, scale)
            needed = len(source) * form.size**2 * form.channels + (1 << 16)
            if needed > cache.allowance():
                return _streamed(source, form, allow_bad, fingerprint)
            cache.make_room(needed, key)
            _build(source, form, entry, needed, progress)
            found = _open(entry)
        else:
            cache.touch(entry)
    if found is None:
        raise InputError(f"the prepared images in {entry} were changed while they were written; run again")
    images, facts, kept = found
    skipped = source.left_out + [{"file": source.names[i], "reason": why} for i, why in facts["skipped"]]
    _check_share(source, len(kept), skipped, allow_bad, len(source) + len(source.left_out))
    return _prepared(source, images, kept, skipped, facts, fingerprint)


def _prepared(
    source: Source,
    images: Any,
    kept: np.ndarray,
    skipped: list[dict[str, str]],
    facts: dict[str, Any],
    fingerprint: str,
) -> Prepared:
    everything = len(kept) == len(source)
    return Prepared(
        images=images,
        names=source.names if everything else [source.names[i] for i in kept],
        labels=None if source.labels is None else source.labels[kept],
        classes=source.classes,
        parts=None if source.parts is None else source.parts[kept],
        kept=kept,
        skipped=skipped,
        mean=facts["mean"],
        std=facts["std"],
        fingerprint=fingerprint,
        scale=Scale.from_json(facts["scale"]),
    )


def _form(source: Source, size: int, channels: int | None, scale: Scale | None) -> Form:
    """Finds out on a sample what the images of a set have in common."""
    samples: list[np.ndarray] = []
    grey, counts = True, []
    whole = source.array()
    if whole is not None:
        samples = list(whole[spread(len(whole), SAMPLE)])
    else:
        for _, raw in source.raw(spread(len(source), SAMPLE)):
            try:
                image = decode(raw, max(size, 64))
            except Exception:  # noqa: S112  counted when all are decoded
                continue
            if isinstance(image, Image.Image):
                grey = grey and _is_grey(image)
                counts.append(3)
            else:
                samples.append(image)
    counts += [s.shape[2] for s in samples]
    if channels is None and counts:
        most = max(set(counts), key=lambda c: (counts.count(c), c))
        single = grey and all(s.shape[2] == 1 or (s.shape[2] == 3 and _same(s)) for s in samples)
        channels = 1 if single else 3 if most == 1 else most
    return Form(size, channels or 3, scale or find_scale(samples))


def _is_grey(image: Image.Image) -> bool:
    if image.mode in ("1", "L", "LA", "La"):
        return True
    return _same(np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BOX)))


def _same(array: np.ndarray) -> bool:
    """Whether the colors of (H, W, 3) differ by no more than JPEG's rounding."""
    if array.dtype.kind in "iub":
        array = array.astype(np.int64)
        return bool((array.max(2) - array.min(2)).max() <= 2)
    return bool(np.array_equal(array[..., 0], array[..., 1]) and np.array_equal(array[..., 0], array[..., 2]))


class _Sums:
    """Exact sums over pixels, from which mean and std follow whatever the order."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.first = np.zeros(channels, np.int64)
        self.second = np.zeros(channels, np.int64)

    def add(self, images: np.ndarray) -> None:
        self.count += images.shape[0] * images.shape[2] * images.shape[3]
        self.first += images.sum(axis=(0, 2, 3), dtype=np.int64)
        self.second += np.square(images, dtype=np.uint16).sum(axis=(0, 2, 3), dtype=np.int64)

    def facts(self) -> dict[str, list[float]]:
        mean = self.first / max(1, self.count)
        variance = self.second / max(1, self.count) - mean**2
        std = np.sqrt(np.maximum(variance, 0)) / 255
        return {"mean": (mean / 255).tolist(), "std": np.maximum(std, SMALLEST_STD).tolist()}


def _build(source: Source, form: Form, entry: Path, needed: int, progress: Progress | None) -> None:
    temporary = cache.begin(entry)
    try:
        facts, kept = _write(source, form, temporary / "images.npy", progress)
        np.save(temporary / "kept.npy", kept)
        (temporary / "prepared.json").write_text(json.dumps(facts), encoding="ascii")
        for name in ("images.npy", "kept.npy", "prepared.json"):
            cache.sync(temporary / name)
        cache.commit(temporary, entry)
    except OSError as error:
        raise cache.cannot_write(entry.parent, error, needed) from error
    finally:
        if temporary.exists():
            _remove(temporary)


def _remove(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def _write(source: Source, form: Form, file: Path, progress: Progress | None) -> tuple[dict[str, Any], np.ndarray]:
    """Writes rows as they come; how many are good is known, and written into the header, at the end."""
    sums = _Sums(form.channels)
    kept: list[int] = []
    skipped: list[tuple[int, str]] = []
    with file.open("wb") as stream:
        begin = _header(stream, (len(source), *form.shape))
        for images, positions, bad in blocks(source, form):
            stream.write(np.ascontiguousarray(images).data)
            sums.add(images)
            kept += positions
            skipped += bad
            if progress is not None:
                progress(len(kept) + len(skipped), len(source))
        stream.seek(0)
        if _header(stream, (len(kept), *form.shape)) != begin:
            raise RuntimeError("the header of a .npy file changed its length")
    facts = {
        "format": FORMAT,
        "bytes": begin + len(kept) * int(np.prod(form.shape)),
        "skipped": sorted(skipped),
        "scale": form.scale.to_json() if form.scale else None,
        **sums.facts(),
    }
    return facts, np.array(kept, np.int64)


def _header(stream: Any, shape: tuple[int, ...]) -> int:
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return int(stream.tell())


def _open(entry: Path) -> tuple[np.ndarray, dict[str, Any], np.ndarray] | None:
    """What lies in the cache, or None where it is missing or damaged."""
    try:
        facts = json.loads((entry / "prepared.json").read_text(encoding="ascii"))
        if facts["format"] != FORMAT or os.path.getsize(entry / "images.npy") != facts["bytes"]:
            return None
        kept = np.load(entry / "kept.npy", allow_pickle=False)
        if len(kept) == 0:
            return np.empty((0, 1, 1, 1), np.uint8), facts, kept
        images = np.load(entry / "images.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (images, facts, kept) if len(kept) == len(images) else None


def _check_share(source: Source, good: int, skipped: list[dict[str, str]], allow_bad: float, total: int) -> None:
    shown = "\n".join(f"  {line['file']!a}: {line['reason']}" for line in skipped[:5])
    if not good:
        raise InputError(f"found 0 images under {source.location} that can be read, of {total:,}; the first:\n{shown}")
    if len(skipped) > allow_bad * total:
        raise InputError(
            f"{len(skipped):,} of {total:,} images under {source.location} cannot be read ({len(skipped) / total:.0%}, "
            f"allowed are {allow_bad:.0%}); remove or mend them, or allow more with allow_bad; the first:\n{shown}"
        )


def _streamed(source: Source, form: Form, allow_bad: float, fingerprint: str) -> Prepared:
    images = Streamed(source, form)
    sums = _Sums(form.channels)
    skipped: list[dict[str, str]] = []
    sample = spread(len(source), STREAMED_SAMPLE)
    for position, raw in source.raw(sample):
        try:
            sums.add(form.of(raw)[None])
        except Exception as error:  # damaged files raise anything
            images.skipped[position] = reason_of(error)
            skipped.append({"file": source.names[position], "reason": images.skipped[position]})
    _check_share(source, len(sample) - len(skipped), skipped, allow_bad, len(sample))
    facts = {**sums.facts(), "scale": form.scale.to_json() if form.scale else None}
    return _prepared(source, images, np.arange(len(source)), source.left_out + skipped, facts, fingerprint)
