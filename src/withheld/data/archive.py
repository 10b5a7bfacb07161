"""Archives of images, read member by member and never extracted: nothing is written, whatever the names say."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from withheld.data.decode import Raw
from withheld.data.elsewhere import Local, Shard
from withheld.data.folder import is_hidden, masks_among
from withheld.data.labels import find_labels, read_labels
from withheld.data.layout import find_layout
from withheld.data.source import Labels, Source, Store, digest, labels_wanted
from withheld.data.wanted import IMAGES, Wanted
from withheld.data.windows import WINDOW_BYTES, Windows, runs
from withheld.errors import InputError, WithheldError
from withheld.redact import redact
from withheld.wording import plural

MAX_MEMBER = 256 << 20
MAX_MEMBERS = 5_000_000
MAX_RATIO = 200
_SLACK = 64 << 20
_MAX_HEADER = 1 << 20
_MAX_CSV = 512 << 20


@dataclass
class Listing:
    """What the table of contents of an archive says.

    Attributes:
        members: name to (bytes, where it begins or None, checksum).
        tables: the same of labels.csv files.
        left_out: {"file", "reason"}.
        others: how many members are of other kinds.
        masks: names of masks beside the images, which are no items.
        wanted: which members are items.
    """

    members: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    tables: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    left_out: list[dict[str, str]] = field(default_factory=list)
    others: int = 0
    masks: list[str] = field(default_factory=list)
    wanted: Wanted = IMAGES

    def note(self, name: str, size: int, offset: int, check: int, plain: bool) -> None:
        """Takes a member in, or leaves it out with a reason."""
        base = name.rsplit("/", 1)[-1]
        if any(is_hidden(part) for part in name.replace("\\", "/").split("/") if part not in ("..", ".")):
            return
        if base == "labels.csv" and plain and size <= _MAX_CSV:
            self.tables[name] = size, offset, check
        elif not self.wanted.named(base):
            self.others += 1
        elif (reason := self._objection(name, size, plain)) is not None:
            self.left_out.append({"file": name, "reason": reason})
        else:
            self.members[name] = size, offset, check
            if len(self.members) > MAX_MEMBERS:
                raise InputError(f"the archive holds more than {MAX_MEMBERS:,} {self.wanted}; split it")

    def names(self) -> list[str]:
        """Those of the items, in order; masks are set aside by the rule of folders."""
        if self.wanted is IMAGES:
            self.masks = sorted(masks_among(self.members))
        return sorted(set(self.members).difference(self.masks))

    def _objection(self, name: str, size: int, plain: bool) -> str | None:
        if not plain:
            return "is not a plain file"
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or name[1:2] == ":":
            return "has a name that leads out of the archive"
        if name in self.members:
            return "is there twice: the first one is read"
        if size > MAX_MEMBER:
            return f"has {size:,} bytes, at most {MAX_MEMBER:,} are read"
        return None


def is_tar(shard: Shard) -> bool:
    """Whether a file is a tar archive, gzipped or not."""
    try:
        with _tar_stream(shard) as stream:
            tarfile.TarInfo.frombuf(stream.read(512), "utf-8", "surrogateescape")
    except WithheldError:  # the network, not the file
        raise
    except Exception:  # damaged gzip data raises several kinds
        return False
    return True


class ZipStore(Store):
    """Members of a zip archive, known by where they begin: several may have one name.

    Args:
        path: of the archive. offsets: of the members' headers.
    """

    def __init__(self, path: Path, offsets: list[int]) -> None:
        self.path = path
        self.offsets = offsets
        self._opened: tuple[int, zipfile.ZipFile, dict[int, zipfile.ZipInfo]] | None = None

    def raw(self, positions: np.ndarray) -> Iterator[tuple[int, Raw]]:
        archive, members = self._archive()
        for place, position in enumerate(positions):
            try:
                contents: Raw = _read_member(archive, members[self.offsets[position]])
            except Exception as error:  # bad checksums, unknown compression, passwords: one item each
                contents = error
            yield place, contents

    def _archive(self) -> tuple[zipfile.ZipFile, dict[int, zipfile.ZipInfo]]:
        # reading the table of contents takes seconds in large archives; a forked process needs a file of its own
        if self._opened is None or self._opened[0] != os.getpid():
            archive = zipfile.ZipFile(self.path)
            self._opened = os.getpid(), archive, {info.header_offset: info for info in archive.infolist()}
        return self._opened[1:]


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as member:
        data = member.read(info.file_size + 1)
        if len(data) != info.file_size:
            raise ValueError(f"has {len(data):,} bytes where the archive says {info.file_size:,}")
        return data


def open_zip(path: Path, text: str, labels: Labels = None, wanted: Wanted = IMAGES) -> Source:
    """Opens a zip of images.

    Raises:
        InputError: where it is damaged or holds none.
    """
    if path.suffix.lower() == ".npz":
        raise InputError(
            f"{text} is a bundle of arrays: save the one that holds the items by itself, "
            "numpy.save('items.npy', numpy.load(FILE)['NAME'])"
        )
    listing = Listing(wanted=wanted)
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                plain = (info.external_attr >> 28) in (0, 8)  # the file type, where a Unix system wrote it
                if info.file_size > MAX_RATIO * max(1, info.compress_size) and info.file_size > 1 << 20:
                    listing.left_out.append({"file": info.filename, "reason": f"grows more than {MAX_RATIO} times"})
                elif info.flag_bits & 1:
                    listing.left_out.append({"file": info.filename, "reason": "needs a password"})
                else:
                    listing.note(info.filename, info.file_size, info.header_offset, info.CRC, plain)
            at = {info.header_offset: info for info in archive.infolist()}
            tables = listing.tables if labels is True else {}
            read = {name: _read_member(archive, at[offset]) for name, (_, offset, _) in tables.items()}
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, ValueError) as error:
        raise InputError(f"{text} is a damaged zip archive: {error}; get it again") from error
    names = listing.names()
    store = ZipStore(path, [listing.members[name][1] for name in names])
    return _source(Local(path, path.name), text, "zip", listing, names, store, labels, read)


class TarStore(Store):
    """Members of a tar archive; of a gzipped one, read in the order they lie in."""

    def __init__(self, shard: Shard, places: list[tuple[int, int]], gzipped: bool) -> None:
        self.shard = shard
        self.places = places
        self.sequential = gzipped

    def raw(self, positions: np.ndarray) -> Iterator[tuple[int, Raw]]:
        order = sorted(range(len(positions)), key=lambda place: self.places[positions[place]][0])
        with self._stream(positions) as stream:
            for place in order:
                offset, size = self.places[positions[place]]
                try:
                    stream.seek(offset)
                    data = stream.read(size)
                    contents: Raw = data if len(data) == size else EOFError("the archive ends within this item")
                except WithheldError:  # the network, not the item
                    raise
                except Exception as error:  # damaged gzip data raises several kinds
                    contents = error
                yield place, contents

    def _stream(self, positions: np.ndarray) -> IO[bytes]:
        if self.sequential or not len(positions):
            return _tar_stream(self.shard)
        offsets, sizes = np.array([self.places[position] for position in positions.tolist()], np.int64).T
        span = int((offsets + sizes).max() - offsets.min())
        return self.shard.open(span if span <= min(2 * WINDOW_BYTES, 2 * (sizes + 512).sum()) else None)

    def windows(self) -> Windows | None:
        """Runs of members, where these lie in the order of their names, as a writer of shards writes them."""
        offsets, sizes = np.array(self.places, np.int64).reshape(-1, 2).T
        return runs(sizes) if not self.sequential and bool((np.diff(offsets) > 0).all()) else None


class Careful(io.RawIOBase):
    """Reads of a tar header are small; a member that claims otherwise would fill the memory."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self.stream = stream
        self.most = most

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _MAX_HEADER:
            raise InputError(f"a header in the archive claims {size:,} bytes; get the archive again")
        return self.stream.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if offset > self.most:
            raise InputError(f"the archive grows more than {MAX_RATIO} times when read; unpack it if you trust it")
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()


def _tar_stream(shard: Shard) -> IO[bytes]:
    stream = shard.open()
    if stream.read(2) == b"\x1f\x8b":
        stream.close()
        return cast(IO[bytes], gzip.open(shard.handle(), "rb"))
    stream.seek(0)
    return stream


def open_tar(shard: Shard, text: str, labels: Labels = None, wanted: Wanted = IMAGES) -> Source:
    """Opens a tar or tar.gz of images, with one pass over its headers.

    Raises:
        InputError: where it is damaged or holds none.
    """
    listing = Listing(wanted=wanted)
    with _tar_stream(shard) as stream:
        gzipped = isinstance(stream, gzip.GzipFile)
        careful: Any = Careful(stream, shard.size * (MAX_RATIO if gzipped else 1) + _SLACK)
        try:
            with tarfile.open(fileobj=careful, mode="r:", errorlevel=1) as archive:
                for member in archive:
                    archive.members.clear()  # type: ignore[attr-defined]
                    if not member.isdir():
                        plain = member.isreg() and not member.issparse()
                        listing.note(
                            member.name.removeprefix("./"), member.size, member.offset_data, member.chksum, plain
                        )
                check_end(stream, archive.offset)  # type: ignore[attr-defined]
            read = (
                {name: _read_at(stream, *place[:2]) for name, place in listing.tables.items()} if labels is True else {}
            )
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            count = len(listing.members)
            raise InputError(
                f"{text} is damaged after {plural(count, wanted.noun[:-1])}: {error}; get it again, or unpack what can be"
            ) from error
        except WithheldError:
            raise
        except Exception as error:
            raise InputError(f"{text} is a damaged archive: {error}; get it again") from error
    names = listing.names()
    places = [(listing.members[name][1], listing.members[name][0]) for name in names]
    return _source(shard, text, "tar", listing, names, TarStore(shard, places, gzipped), labels, read)


def open_archive(path: Path, text: str, labels: Labels = None, wanted: Wanted = IMAGES) -> Source | None:
    """Opens a zip or tar of this machine; None where a file is neither.

    Raises:
        InputError: where it is damaged or holds none.
    """
    if zipfile.is_zipfile(path):
        return open_zip(path, text, labels, wanted)
    shard = Local(path, path.name)
    return open_tar(shard, text, labels, wanted) if is_tar(shard) else None


def open_remote(shard: Shard, text: str, labels: Labels = None) -> Source:
    """Opens a plain tar of images that lies elsewhere.

    Raises:
        InputError: where it is of another kind, which cannot be read in parts, or is damaged.
    """
    head = shard.head()[:512]
    if head[:2] == b"\x1f\x8b" or not is_tar(shard):
        raise InputError(
            f"{redact(text)}: of what lies elsewhere, Parquet files and plain tars are read; copy others here, gunzip gzipped ones"
        )
    return open_tar(shard, text, labels)


def check_end(stream: IO[bytes], offset: int) -> None:
    """Iterating over a tar file ends silently at a damaged header; a whole one ends in zeros."""
    stream.seek(max(0, offset - 1))
    block = stream.read(513)
    if offset and not block:
        raise tarfile.ReadError("it ends within an item")
    if block[1:].strip(b"\0"):
        raise tarfile.ReadError("the next header is damaged")


def _read_at(stream: IO[bytes], size: int, offset: int) -> bytes:
    stream.seek(offset)
    return stream.read(size)


def _source(
    shard: Shard, text: str, kind: str, listing: Listing, names: list[str], store: Store, labels: Labels,
    tables: dict[str, bytes],
) -> Source:  # fmt: skip
    if not names:
        left = f"; left out {len(listing.left_out):,}: {listing.left_out[0]}" if listing.left_out else ""
        raise InputError(
            f"found 0 {listing.wanted} in {text}; looked for {' '.join(sorted(listing.wanted.suffixes))} members, "
            f"saw {listing.others:,} of other kinds{left}"
        )
    layout = find_layout(names)
    parts: list[str | bytes | int] = [shard.size]
    for name in names:
        parts += [name, *listing.members[name]]
    source = Source(
        location=text, kind=kind, names=names, store=store, fingerprint=digest(parts), parts=layout.parts,
        left_out=listing.left_out, stamp=digest([shard.stamp]), masks=listing.masks,
    )  # fmt: skip
    if labels is True and tables:
        name = min(tables, key=lambda n: (n.count("/"), n))
        source.labels, source.classes = read_labels(tables[name], name, names, layout, source.notes)
    elif labels_wanted(labels):
        source.labels, source.classes = find_labels(labels, names, layout, shard.folder, text, source.notes)
    return source
