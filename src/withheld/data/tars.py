"""Many tar archives as one source (as WebDataset writes them): of each it is only known where every window begins."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from withheld.data import cache
from withheld.data import windows as limits
from withheld.data.archive import Careful, Listing, check_end
from withheld.data.decode import Raw
from withheld.data.elsewhere import Remote, Shard
from withheld.data.folder import images_at, masks_at
from withheld.data.labels import find_labels, given_labels
from withheld.data.shards import RowNames, Sharded, parts_of
from withheld.data.source import Labels, Source, digest, labels_wanted
from withheld.data.wanted import IMAGES, Wanted
from withheld.data.windows import ROW_BYTES, Windows
from withheld.data.work import in_order
from withheld.errors import InputError
from withheld.wording import plural


class Index(NamedTuple):
    """What one pass over the headers of a tar finds.

    Attributes:
        windows: (windows, 3): where the first header lies, items, bytes. left_out: {"file", "reason"}.
        images, masks: what its folders of images, and of masks, lie in. set_aside: names of its masks, which are no items.
    """

    windows: np.ndarray
    left_out: list[dict[str, str]]
    images: set[str]
    masks: set[str]
    set_aside: list[str]


class TarShards(Sharded):
    """Members of tar archives, in the order they lie in.

    Args:
        shards: plain ones. found: of every one, for each of its windows (where its first header lies, items, bytes).
        wanted: which members are items. beside: what folders of images lie in, beside which masks are none.
    """

    def __init__(self, shards: list[Shard], found: list[np.ndarray], wanted: Wanted, beside: set[str]) -> None:
        super().__init__([int(one[:, 1].sum()) for one in found])
        self.shards, self.found, self.wanted, self.beside = shards, found, wanted, beside

    def windows(self) -> Windows | None:
        every = np.concatenate(self.found)
        size = float(every[:, 2].mean() + ROW_BYTES * every[:, 1].mean())
        return Windows(np.cumsum(every[:, 1]) - every[:, 1], every[:, 1].copy(), size)

    def rows_of(self, shard: int, rows: np.ndarray) -> Iterator[tuple[int, Raw]]:
        begins, counts = self.found[shard][:, 0], self.found[shard][:, 1]
        ends = np.cumsum(counts)
        which = np.searchsorted(ends, rows, side="right")
        stops = np.append(begins[1:], self.shards[shard].size)
        for window in np.unique(which):
            places = np.flatnonzero(which == window)
            within = rows[places] - (ends[window] - counts[window])
            asked = dict(zip(within.tolist(), places.tolist(), strict=True))
            span = int(min(stops[window] - begins[window], 2 * limits.WINDOW_BYTES))  # what is no item may lie between
            with self.shards[shard].open(span if len(asked) == counts[window] else None) as stream:
                stream.seek(int(begins[window]))
                try:
                    for row, member in enumerate(_items(stream, self.wanted, self.beside)):
                        if row in asked:
                            place = asked.pop(row)
                            yield place, _contents(stream, member)
                        if not asked:
                            break
                except (tarfile.TarError, OSError, EOFError, ValueError) as error:
                    yield from ((place, error) for place in asked.values())
                    continue
            missing = EOFError("the archive has become shorter")
            yield from ((place, missing) for place in asked.values())


def _contents(stream: Any, member: tarfile.TarInfo) -> Raw:
    back = stream.tell()
    stream.seek(member.offset_data)
    data = stream.read(member.size)
    stream.seek(back)
    return data if len(data) == member.size else EOFError("the archive ends within this item")


def _members(stream: Any, wanted: Wanted, left_out: list[dict[str, str]]) -> Iterator[tarfile.TarInfo]:
    """The items from where a plain tar archive stands, by headers alone."""
    careful: Any = Careful(stream, 1 << 62)
    with tarfile.open(fileobj=careful, mode="r:", errorlevel=1) as archive:
        for member in archive:
            archive.members.clear()  # type: ignore[attr-defined]
            if member.isdir():
                continue
            listing = Listing(wanted=wanted)
            plain = member.isreg() and not member.issparse()
            listing.note(_name(member), member.size, member.offset_data, member.chksum, plain)
            left_out += listing.left_out
            if listing.members:
                yield member
        check_end(stream, archive.offset)  # type: ignore[attr-defined]


def _items(stream: Any, wanted: Wanted, beside: set[str]) -> Iterator[tarfile.TarInfo]:
    """The same without masks beside images."""
    return (one for one in _members(stream, wanted, []) if not masks_at(_name(one)) & beside)


def _name(member: tarfile.TarInfo) -> str:
    return member.name.removeprefix("./")


def _index(shard: Shard, wanted: Wanted, most: int, beside: set[str]) -> Index:
    """What is in a tar.

    Raises:
        InputError: where it is damaged or gzipped.
    """
    found: list[list[int]] = []
    left: list[dict[str, str]] = []
    images: set[str] = set()
    masks: set[str] = set()
    set_aside: list[str] = []
    count = 0
    with shard.open() as stream:
        if stream.read(2) == b"\x1f\x8b":
            raise InputError(
                f"{shard.name} is gzipped, and reading it from its middle would take reading it from its start: gunzip it"
            )
        stream.seek(0)
        try:
            for member in _members(stream, wanted, left):
                name = _name(member)
                images |= images_at(name)
                masks |= (own := masks_at(name))
                if own & beside:
                    set_aside.append(f"{shard.name}/{name}")
                    continue
                if not found or found[-1][1] >= limits.MOST_ROWS or found[-1][2] + member.size > most:
                    found.append([member.offset, 0, 0])
                found[-1][1] += 1
                found[-1][2] += member.size
                count += 1
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            raise InputError(
                f"{shard.name} is damaged after {plural(count, wanted.noun[:-1])}: {error}; get it again, or remove it"
            ) from error
    left_out = [{"file": f"{shard.name}:{one['file']}", "reason": one["reason"]} for one in left]
    if not found:
        left_out.append({"file": shard.name, "reason": f"holds no {wanted}"})
    return Index(np.array(found, np.int64).reshape(-1, 3), left_out, images, masks, set_aside)


def _known(shard: Shard, wanted: Wanted, most: int, beside: set[str]) -> Index:
    """The index of a tar; of one elsewhere it is kept, since reading it again would be reading all of the tar."""
    if not isinstance(shard, Remote) or not shard.tag:  # nothing would tell that it is another
        return _index(shard, wanted, most, beside)
    limit = most, limits.MOST_ROWS
    of: list[str | bytes | int] = [shard.stamp, shard.name, *limit, *sorted(wanted.suffixes), *sorted(beside)]
    place = cache.entries_folder() / f"{digest(of)[:32]}.index.json"
    try:
        kept = json.loads(place.read_text(encoding="utf-8"))
        windows = np.array(kept["windows"], np.int64).reshape(-1, 3)
        return Index(windows, kept["left_out"], set(kept["images"]), set(kept["masks"]), kept["set_aside"])
    except (OSError, ValueError, KeyError, TypeError):
        found = _index(shard, wanted, most, beside)
    with suppress(OSError):  # a cache that cannot be written to costs time only
        fresh = place.with_name(f"{place.name}.tmp-{os.getpid()}")
        plain = {
            **found._asdict(),
            "windows": found.windows.tolist(),
            "images": [*found.images],
            "masks": [*found.masks],
        }
        fresh.write_text(json.dumps(plain), encoding="utf-8")
        fresh.replace(place)
    return found


def _indices(shards: list[Shard], wanted: Wanted, most: int) -> tuple[list[Index], set[str]]:
    """Of every tar, and what folders of images lie in; a tar that holds masks beside these, here or there, is read again."""
    none: set[str] = set()
    found = list(in_order(shards, lambda shard: _known(shard, wanted, most, none), shards[0].at_once))
    beside = none.union(*(one.images for one in found)) if wanted is IMAGES else none
    again = [k for k, one in enumerate(found) if one.masks & beside]
    more = in_order(again, lambda k: _known(shards[k], wanted, most, beside), shards[0].at_once)
    for k, one in zip(again, more, strict=True):
        found[k] = one
    return found, beside


def open_tars(
    shards: list[Shard], text: str, labels: Labels = None, wanted: Wanted = IMAGES, most: int | None = None
) -> Source:
    """Opens tar archives, with one pass over their headers; two of those that hold masks.

    Args:
        most: bytes of a window; `WINDOW_BYTES` where None.

    Raises:
        InputError: where one is damaged, or they hold nothing.
    """
    names = [shard.name for shard in shards]
    fingerprint: list[str | bytes | int] = []
    indices, beside = _indices(shards, wanted, most or limits.WINDOW_BYTES)
    found = [one.windows for one in indices]
    for shard, windows in zip(shards, found, strict=True):
        fingerprint += [shard.name, shard.size, hashlib.sha256(shard.head()).digest(), windows.tobytes()]
    store = TarShards(shards, found, wanted, beside)
    rows = RowNames(names, [int(one[:, 1].sum()) for one in found])
    if not len(rows):
        raise InputError(
            f"found 0 {wanted} in the {len(shards)} archives of {text}; looked for {' '.join(sorted(wanted.suffixes))} members"
        )
    parts = parts_of(names, np.diff(rows.starts).tolist())
    source = Source(
        location=text, kind="tar", names=rows, store=store, fingerprint=digest(fingerprint), parts=parts,
        left_out=[line for one in indices for line in one.left_out], stamp=digest([shard.stamp for shard in shards]),
        masks=[name for one in indices for name in one.set_aside],
    )  # fmt: skip
    if labels is True:
        raise InputError(
            f"{text}: labels of several archives are not read; give --labels a csv with the columns file and label, whose files "
            f"are called as {rows[0]!r}, or unpack them"
        )
    if isinstance(labels, str | Path):
        source.labels, source.classes = find_labels(labels, list(rows), None, None, text, source.notes)
    elif labels_wanted(labels):
        source.labels, source.classes = given_labels(labels, len(rows))
    return source
