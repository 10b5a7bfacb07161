"""All items of some data with their features, for what looks among them: which to label first, which is like which.

Shapes: N items, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from withheld.data.decode import decode
from withheld.data.duplicates import matching, thumbnails
from withheld.data.image import to_color
from withheld.data.source import Source
from withheld.encoder import Encoder
from withheld.errors import InputError
from withheld.evaluate.features import Listen, Rows, collecting
from withheld.evaluate.judged import judged
from withheld.evaluate.kept import kept_features
from withheld.wording import plural

MOST = 20_000
"""Items that are looked at where no number is given: a seeded sample of more."""
MOMENTS = (0.1, 0.5, 0.9)
"""Where in a clip the frames lie that stand for it."""


@dataclass
class Pool:
    """Items that were looked at.

    Attributes:
        source: the whole data.
        at: (N,) positions in the source.
        items: all decoded items, images (., C, H, W) uint8, texts or clips; `rows` says where each of the N lies in it.
        values: (N, D) pooled features.
        notes: what there is to know.
    """

    source: Source
    at: NDArray[np.int64]
    items: Any
    rows: NDArray[np.int64]
    values: NDArray[np.float32]
    notes: list[str]

    def name(self, place: int) -> str:
        """The name of an item of the pool."""
        return self.source.names[int(self.at[place])]

    def item(self, place: int) -> Any:
        """A decoded item of the pool."""
        return self.items[int(self.rows[place])]


def open_pool(
    encoder: Encoder, source: Source, listen: Listen, *, most: int | None, tested: bool = True,
    wanted: NDArray[np.int64] | None = None,
) -> Pool:  # fmt: skip
    """Decodes items as the encoder takes them and computes features.

    Args:
        most: items to look at, a seeded sample; None takes all.
        tested: whether items of a test or val part are looked at too.
        wanted: positions in the source that are in the sample in any case.

    Raises:
        InputError: for the data.
    """
    notes: list[str] = []
    items, kept = judged(encoder).decode(source, collecting(notes, listen))
    rows = np.arange(len(kept))
    if not tested and source.parts is not None:
        train = np.isin(source.parts[kept], ("train", ""))
        if train.any() and not train.all():
            tested_alone = plural(int((~train).sum()), "item of the test part is", "items of the test part are")
            notes.append(f"{tested_alone} not among what is suggested")
            rows = rows[train]
    if most is not None and len(rows) > most:
        rows = _sample(rows, most, np.zeros(0, np.int64) if wanted is None else np.searchsorted(kept, wanted))
        notes.append(f"looked at {most:,} of {len(kept):,} items, a seeded sample; --most says how many")
    if not len(rows):
        raise InputError(f"{source.location}: there is nothing to look at in it")
    values = kept_features(encoder, Rows(items, rows), listen)
    if not np.isfinite(values).all():
        raise InputError("features are not finite numbers: the encoder has diverged, take an earlier checkpoint")
    return Pool(source, kept[rows], items, rows, values, notes)


def _sample(rows: NDArray[np.int64], most: int, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    mixed = np.random.default_rng(0x9001).permutation(rows)
    first = np.isin(mixed, wanted)
    return np.sort(np.concatenate([mixed[first], mixed[~first]])[:most])


def looked_at(source: Source, at: NDArray[np.int64], items: Sequence[Any], side: int) -> list[Any]:
    """Items as a person should see them: images from their files again, unsquashed, up to `side` pixels; others as decoded.

    Args:
        at: positions in the source of `items`, which are decoded as an encoder takes them.
    """
    items = list(items)
    if not items or isinstance(items[0], str) or hasattr(items[0], "frames") or items[0].shape[-1] >= 2 * side:
        return items
    for position, raw in source.raw(np.unique(at)):
        try:
            image = decode(raw, side)
            if not isinstance(image, Image.Image):
                continue
            small = Image.fromarray(to_color(image).transpose(1, 2, 0))
        except Exception:  # damaged files raise anything  # noqa: S112 - then what the features were made of is shown
            continue
        small.thumbnail((side, side))
        for place in np.flatnonzero(at == position):
            items[place] = np.asarray(small).transpose(2, 0, 1)
    return items


def twins(pool: Pool) -> NDArray[np.int64]:
    """(P, 2) places of items that nearly equal each other, the first of a pair the smaller, in rising order."""
    first = pool.item(0)
    if isinstance(first, str):
        return _equal_texts([str(pool.item(i)) for i in range(len(pool.rows))])
    if hasattr(first, "frames"):
        return twins_of_clips([pool.item(i) for i in range(len(pool.rows))])
    return matching(thumbnails(Rows(pool.items, pool.rows)))


def twins_of_clips(clips: Sequence[Any]) -> NDArray[np.int64]:
    """As `twins`, of clips: alike at all three moments, for at one of them a fixed camera may see the same in many."""
    at_moments = [matching(thumbnails(np.stack([frame_at(clip, share) for clip in clips]))) for share in MOMENTS]
    always = set.intersection(*(set(map(tuple, pairs.tolist())) for pairs in at_moments))
    return np.array(sorted(always), np.int64).reshape(-1, 2)


def frame_at(clip: Any, share: float) -> NDArray[np.uint8]:
    """(3, S, S), after this share of the clip."""
    return np.asarray(clip.frames[int(share * len(clip.frames))])


def kept_of(pairs: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Which of so many items remain when of items that nearly equal each other only the first is kept."""
    keep = np.ones(count, bool)
    for first, second in pairs:
        if keep[first]:
            keep[second] = False
    return keep


def plain_text(text: str) -> str:
    """What is the same of texts that are equal but for case, punctuation and white space; signs alone differ by themselves."""
    return "".join(c for c in text.casefold() if c.isalnum()) or text.strip()


def _equal_texts(texts: list[str]) -> NDArray[np.int64]:
    known: dict[str, int] = {}
    pairs = []
    for at, text in enumerate(texts):
        plain = plain_text(text)
        if plain in known:
            pairs.append((known[plain], at))
        else:
            known[plain] = at
    return np.array(pairs, np.int64).reshape(-1, 2)
