"""Images decoded once into fixed-size uint8 arrays, memory-mapped from then on.

Axes in comments: N items, C channels, H height, W width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from withheld.data import cache
from withheld.data.broken import Line
from withheld.data.build import FORMAT, Progress, Sums, build, find_form, open_entry
from withheld.data.rows import Streamed, take
from withheld.data.scale import Scale
from withheld.data.source import Source, digest
from withheld.data.work import Form, reason_of
from withheld.errors import InputError

STREAMED_SAMPLE = 1024


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
    names: Sequence[str]
    labels: np.ndarray | None
    classes: list[str]
    parts: np.ndarray | None
    kept: np.ndarray | range
    skipped: list[Line]
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
            kept=np.asarray(self.kept)[chosen],
            fingerprint=digest([self.fingerprint, chosen.astype("<i8").tobytes()]),
        )


def prepare(
    source: Source,
    size: int,
    channels: int | None = None,
    allow_bad: float = 0.2,
    progress: Progress | None = None,
    scale: Scale | None = None,
    stream: bool = False,
) -> Prepared:
    """Decodes every image once into the cache, or finds it there.

    Args:
        source: what `open_source` gave.
        size: height and width, to which images are squashed.
        channels: None takes 1 where a sample is all grey, else 3, or the number that multi-channel data has.
        allow_bad: the largest share of items that may be broken.
        progress: called with (done, total).
        scale: for data that is not 8 bit, e.g. that of the training data; None finds one from a sample.
        stream: decodes images whenever they are asked for and writes nothing, as where the cache is too small for them.

    Raises:
        InputError: where no image is good, or more than `allow_bad` are broken.
        CannotWrite: where the cache cannot be written.
    """
    if size < 1 or (channels is not None and channels < 1) or not 0 <= allow_bad <= 1:
        raise InputError(f"size {size}, channels {channels}, allow_bad {allow_bad}: sizes are >= 1, shares 0 to 1")
    told = f"{FORMAT}|{size}|{channels}|{scale}" + (f"|{scale.floats}" if scale and scale.floats else "")
    fingerprint = digest([source.fingerprint, told])
    if stream:
        return _streamed(source, find_form(source, size, channels, scale), allow_bad, fingerprint)
    key = digest([fingerprint, source.stamp])[:32]
    with cache.locked(key) as entry:
        found = open_entry(entry)
        if found is None:
            form = find_form(source, size, channels, scale)
            needed = len(source) * form.size**2 * form.channels + (1 << 16)
            if needed > cache.allowance():
                return _streamed(source, form, allow_bad, fingerprint)
            cache.make_room(needed, key)
            build(source, form, entry, needed, progress)
            found = open_entry(entry)
        else:
            cache.touch(entry)
    if found is None:
        raise InputError(f"the prepared images in {entry} were changed while they were written; run again")
    images, facts, kept = found
    skipped = source.left_out + [{"file": source.names[i], "reason": why} for i, why in facts["skipped"]]
    source.check_readable("images", len(kept), len(skipped), skipped, allow_bad)
    return _prepared(source, images, kept, skipped, facts, fingerprint)


def _prepared(
    source: Source,
    images: Any,
    kept: np.ndarray | range,
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


def _streamed(source: Source, form: Form, allow_bad: float, fingerprint: str) -> Prepared:
    images = Streamed(source, form)
    sums = Sums(form.channels)
    skipped: list[dict[str, str]] = []
    sample = source.spread(STREAMED_SAMPLE)
    for position, raw in source.raw(sample):
        try:
            sums.add(form.of(raw)[None])
        except Exception as error:  # damaged files raise anything
            images.skipped[position] = reason_of(error)
            skipped.append({"file": source.names[position], "reason": images.skipped[position]})
    source.check_readable("images", len(sample) - len(skipped), len(skipped), skipped, allow_bad)
    # broken items are replaced here and absent in the cache: a resumed run must notice that it sees other items
    fingerprint = digest([fingerprint, "streamed", *images.laid()])
    facts = {**sums.facts(), "scale": form.scale.to_json() if form.scale else None}
    return _prepared(source, images, range(len(source)), source.left_out + skipped, facts, fingerprint)
