"""Many tar archives as one source (as WebDataset writes them): of each it is only known where every window begins."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from withheld.data import cache
from withheld.data import windows as limits
from withheld.data.archive import Careful, Listing, check_end
from withheld.data.decode import Raw
from withheld.data.elsewhere import Remote, Shard
from withheld.data.labels import find_labels, given_labels
from withheld.data.shards import RowNames, Sharded, parts_of
from withheld.data.source import Labels, Source, digest
from withheld.data.wanted import IMAGES, Wanted
from withheld.data.windows import ROW_BYTES, Windows
from withheld.data.work import in_order
from withheld.errors import InputError
from withheld.wording import plural


class TarShards(Sharded):
    """Members of tar archives, in the order they lie in.

    Args:
        shards: plain ones. found: of every one, for each of its windows (where its first header lies, items, bytes).
        wanted: which members are items.
    """

    def __init__(self, shards: list[Shard], found: list[np.ndarray], wanted: Wanted) -> None:
        super().__init__([int(one[:, 1].sum()) for one in found])
        self.shards, self.found, self.wanted = shards, found, wanted

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
                    for row, member in enumerate(_members(stream, self.wanted, [])):
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
            listing.note(member.name.removeprefix("./"), member.size, member.offset_data, member.chksum, plain)
            left_out += listing.left_out
            if listing.members:
                yield member
        check_end(stream, archive.offset)  # type: ignore[attr-defined]


def _index(shard: Shard, wanted: Wanted, most: int) -> tuple[np.ndarray, list[dict[str, str]]]:
    """(windows, 3): where the first header lies, items, bytes; and what is left out.

    Raises:
        InputError: where it is damaged or gzipped.
    """
    found: list[list[int]] = []
    left: list[dict[str, str]] = []
    count = 0
    with shard.open() as stream:
        if stream.read(2) == b"\x1f\x8b":
            raise InputError(
                f"{shard.name} is gzipped, and reading it from its middle would take reading it from its start: gunzip it"
            )
        stream.seek(0)
        try:
            for member in _members(stream, wanted, left):
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
    return np.array(found, np.int64).reshape(-1, 3), left_out


def _known(shard: Shard, wanted: Wanted, most: int) -> tuple[np.ndarray, list[dict[str, str]]]:
    """The index of a tar; of one elsewhere it is kept, since reading it again would be reading all of the tar."""
    if not isinstance(shard, Remote) or not shard.tag:  # nothing would tell that it is another
        return _index(shard, wanted, most)
    limit = most, limits.MOST_ROWS
    of: list[str | bytes | int] = [shard.stamp, shard.name, *limit, *sorted(wanted.suffixes)]
    place = cache.entries_folder() / f"{digest(of)[:32]}.index.json"
    try:
        kept = json.loads(place.read_text(encoding="utf-8"))
        return np.array(kept["windows"], np.int64).reshape(-1, 3), kept["left_out"]
    except (OSError, ValueError, KeyError, TypeError):
        found, left_out = _index(shard, wanted, most)
    with suppress(OSError):  # a cache that cannot be written to costs time only
        fresh = place.with_name(f"{place.name}.tmp-{os.getpid()}")
        fresh.write_text(json.dumps({"windows": found.tolist(), "left_out": left_out}), encoding="utf-8")
        fresh.replace(place)
    return found, left_out


def open_tars(
    shards: list[Shard], text: str, labels: Labels = None, wanted: Wanted = IMAGES, most: int | None = None
) -> Source:
    """Opens tar archives, with one pass over their headers.

    Args:
        most: bytes of a window; `WINDOW_BYTES` where None.

    Raises:
        InputError: where one is damaged, or they hold nothing.
    """
    names = [shard.name for shard in shards]
    left_out: list[dict[str, str]] = []
    found: list[np.ndarray] = []
    fingerprint: list[str | bytes | int] = []
    indices = in_order(shards, lambda shard: _known(shard, wanted, most or limits.WINDOW_BYTES), shards[0].at_once)
    for shard, (index, left) in zip(shards, indices, strict=True):
        found.append(index)
        left_out += left
        fingerprint += [shard.name, shard.size, hashlib.sha256(shard.head()).digest(), index.tobytes()]
    store = TarShards(shards, found, wanted)
    rows = RowNames(names, [int(one[:, 1].sum()) for one in found])
    if not len(rows):
        raise InputError(
            f"found 0 {wanted} in the {len(shards)} archives of {text}; looked for {' '.join(sorted(wanted.suffixes))} members"
        )
    parts = parts_of(names, np.diff(rows.starts).tolist())
    source = Source(
        location=text, kind="tar", names=rows, store=store, fingerprint=digest(fingerprint), parts=parts,
        left_out=left_out, stamp=digest([shard.stamp for shard in shards]),
    )  # fmt: skip
    if labels is True:
        raise InputError(
            f"{text}: labels of several archives are not read; give --labels a csv with the columns file and label, whose files "
            f"are called as {rows[0]!r}, or unpack them"
        )
    if isinstance(labels, str | Path):
        source.labels, source.classes = find_labels(labels, list(rows), None, None, text)
    elif labels is not None and labels is not False:
        source.labels, source.classes = given_labels(labels, len(rows))
    return source
