"""Writing a prepared set: what its images have in common, one pass of decoding, exact sums for mean and std.

Axes in comments: N items, C channels, H height, W width.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from withheld.data import cache
from withheld.data.decode import decode
from withheld.data.scale import Scale, find_scale
from withheld.data.source import Source
from withheld.data.work import Form, blocks

FORMAT = 1
SMALLEST_STD = 1e-3
SAMPLE = 64
Progress = Callable[[int, int], None]


def find_form(source: Source, size: int, channels: int | None, scale: Scale | None) -> Form:
    """Finds out on a sample what the images of a set have in common."""
    samples: list[np.ndarray] = []
    grey, counts = True, []
    for _, raw in source.raw(source.spread(SAMPLE)):
        try:
            image = decode(raw, max(size, 64))
        except Exception:  # noqa: S112  counted when all are decoded
            continue
        if isinstance(image, Image.Image):
            grey = grey and is_grey(image)
            counts.append(3)
        else:
            # a grid of its pixels is enough, and 64 whole images of some kinds fill the memory
            samples.append(np.array(image[:: -(-image.shape[0] // 256), :: -(-image.shape[1] // 256)]))
    counts += [s.shape[2] for s in samples]
    if channels is None and counts:
        most = max(set(counts), key=lambda c: (counts.count(c), c))
        single = grey and all(s.shape[2] == 1 or (s.shape[2] == 3 and _same(s)) for s in samples)
        channels = 1 if single else 3 if most == 1 else most
    return Form(size, channels or 3, scale or find_scale(samples))


def is_grey(image: Image.Image) -> bool:
    """Whether an image shows no color, however it is saved."""
    if image.mode in ("1", "L", "LA", "La"):
        return True
    return _same(np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BOX)))


def _same(array: np.ndarray) -> bool:
    """Whether the colors of (H, W, 3) differ by no more than JPEG's rounding."""
    if array.dtype.kind in "iub":
        array = array.astype(np.int64)
        return bool((array.max(2) - array.min(2)).max() <= 2)
    return bool(np.array_equal(array[..., 0], array[..., 1]) and np.array_equal(array[..., 0], array[..., 2]))


class Sums:
    """Exact sums over pixels, from which mean and std follow whatever the order."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.first = np.zeros(channels, np.int64)
        self.second = np.zeros(channels, np.int64)

    def add(self, images: np.ndarray) -> None:
        """Takes in (n, C, H, W) uint8."""
        self.count += images.shape[0] * images.shape[2] * images.shape[3]
        self.first += images.sum(axis=(0, 2, 3), dtype=np.int64)
        self.second += np.square(images, dtype=np.uint16).sum(axis=(0, 2, 3), dtype=np.int64)

    def facts(self) -> dict[str, list[float]]:
        mean = self.first / max(1, self.count)
        variance = self.second / max(1, self.count) - mean**2
        std = np.sqrt(np.maximum(variance, 0)) / 255
        return {"mean": (mean / 255).tolist(), "std": np.maximum(std, SMALLEST_STD).tolist()}


def build(source: Source, form: Form, entry: Path, needed: int, progress: Progress | None) -> None:
    with cache.filling(entry, needed) as folder:
        facts, kept = _write(source, form, folder / "images.npy", progress)
        np.save(folder / "kept.npy", kept)
        (folder / "prepared.json").write_text(json.dumps(facts), encoding="ascii")


def _write(source: Source, form: Form, file: Path, progress: Progress | None) -> tuple[dict[str, Any], np.ndarray]:
    """Writes rows as they come; how many are good is known, and written into the header, at the end."""
    sums = Sums(form.channels)
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


def open_entry(entry: Path) -> tuple[np.ndarray, dict[str, Any], np.ndarray] | None:
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
