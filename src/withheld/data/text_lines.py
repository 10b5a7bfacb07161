"""Texts in JSON lines and plain files, read window by window: the lines that begin within some bytes."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import math
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from withheld.data.decode import Raw
from withheld.data.elsewhere import Shard
from withheld.data.json_rows import cell_text, flat, is_worded
from withheld.data.source import digest
from withheld.data.text_shards import LOOKED_AT, Corpus, window_bytes
from withheld.data.text_table import column_of, told_of_columns
from withheld.data.work import in_order
from withheld.errors import InputError
from withheld.wording import plural

MOST_LINE = 64 << 20
"""Bytes of a line; a longer one is broken."""
PASSAGE = 1 << 16
"""Bytes of a document where one file is many windows long, about; cut at the end of a line."""
GZIPPED = b"\x1f\x8b"
MOST_GROWTH, SLACK = 200, 64 << 20
"""Times its size, and bytes above that, to which a gzip file may grow where it must be read to know how long it is."""


class Span(NamedTuple):
    """What a window reads: of shards `first` to `last` the lines that begin in bytes `begin` to `end`; all of several."""

    first: int
    last: int
    begin: int
    end: int


class Lines(Corpus):
    """JSON lines, or plain texts: a window is the lines that begin within it, so that no pass over the files is needed.

    Of plain texts a file is a document, and one of several windows is cut at the ends of lines into documents of `PASSAGE` bytes.

    Args:
        shards: of one kind. text: as the user gave it. columns: of the objects; () for plain texts.
    """

    def __init__(self, shards: list[Shard], text: str, columns: tuple[str, ...]) -> None:
        self.shards, self.location, self.columns = shards, text, columns
        self.kind = "json lines" if columns else "txt"
        self.left_out = []
        print_of: list[str | bytes | int] = list(columns)
        self.lengths: list[int] = []
        look = in_order(shards, lambda shard: shard.head(), shards[0].at_once)
        for shard, head in zip(shards, look, strict=True):
            size, objection = _size_of(shard, head, bool(columns))
            if objection:
                self.left_out.append({"file": shard.name, "reason": objection})
            self.lengths.append(size)
            print_of += [shard.name, shard.size, hashlib.sha256(head).digest()]
        self.spans = _spans(self.lengths)
        if not self.spans:
            shown = "".join(f"\n  {one['file']!r}: {one['reason']}" for one in self.left_out[:5])
            raise InputError(
                f"found 0 texts under {text}: the {plural(len(shards), 'file is', 'files are')} empty or cannot be read{shown}"
            )
        self.sizes = np.array([span.end - span.begin for span in self.spans], np.int64)
        self.fingerprint, self.stamp = digest(print_of), digest(shard.stamp for shard in shards)

    def read(self, window: int) -> Iterator[tuple[str, Raw]]:
        span = self.spans[window]
        for number in range(span.first, span.last):
            whole = self.lengths[number]
            if not whole:
                continue
            begin, end = (span.begin, span.end) if span.last - span.first == 1 else (0, whole)
            try:
                yield from self._of_shard(self.shards[number], begin, end, whole)
            except FileNotFoundError as error:
                raise InputError(
                    f"{self.shards[number].name} of {self.location} can no longer be read: {error}"
                ) from error

    def _of_shard(self, shard: Shard, begin: int, end: int, whole: int) -> Iterator[tuple[str, Raw]]:
        if not self.columns and (begin, end) == (0, whole):
            with shard.open(whole) as stream:
                yield shard.name, stream.read()
            return
        at = begin
        with _unzipped(shard, end - begin + PASSAGE) as stream:
            # a gzip file of several members may be longer than its end says: its last window takes the rest, so far as it fits
            rest = window_bytes() if end == whole and isinstance(stream, gzip.GzipFile) else 0
            try:
                if self.columns:
                    for at, line in _lines(stream, begin, end + rest):
                        if isinstance(line, Exception) or line.strip():
                            yield f"{shard.name}:byte {at}", _text_of(line, self.columns)
                else:
                    for at, passage in _passages(stream, begin, end + rest):
                        yield f"{shard.name}:byte {at}", passage
                if rest and stream.read(1):
                    raise ValueError("goes on far behind what its end says: write it as one gzip member, or gunzip it")
            except FileNotFoundError:
                raise
            except (OSError, EOFError, ValueError, zlib.error) as error:
                yield f"{shard.name}:byte {at}", ValueError(f"cannot be read from here to byte {end}: {error}")


def _size_of(shard: Shard, head: bytes, lines: bool) -> tuple[int, str]:
    """Bytes of a shard as it is read, and why it is not."""
    if head[:2] != GZIPPED:
        return shard.size, "" if shard.size else "is empty"
    if not lines:  # decoded whole
        return (shard.size, "") if shard.size <= window_bytes() else (0, "is gzipped and large: gunzip it")
    with shard.open() as stream:
        stream.seek(shard.size - 4)
        size = int.from_bytes(stream.read(4), "little")  # of its last member, modulo 4 GB
    return (size, "") if size >= 0.75 * _growth(head) * shard.size else _counted(shard)


def _growth(head: bytes) -> float:
    """How many times a gzip file grows, by its beginning; without end where its first member ends there already."""
    first = zlib.decompressobj(31)
    try:
        found = len(first.decompress(head, MOST_GROWTH * len(head)))
    except zlib.error:  # told when it is read
        return 0.9
    return math.inf if first.eof and first.unused_data else found / max(1, len(head) - len(first.unconsumed_tail))


def _counted(shard: Shard) -> tuple[int, str]:
    """The same of a gzip file of several members, or of more than 4 GB, by reading it once."""
    size = 0
    with _unzipped(shard, shard.size) as stream:
        try:
            while part := stream.read(1 << 20):
                size += len(part)
                if size > MOST_GROWTH * shard.size + SLACK:
                    return 0, f"grows more than {MOST_GROWTH} times: gunzip it if you trust it"
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            return size, "" if size else f"cannot be read: {error}"
    return size, ""


def _spans(lengths: list[int]) -> list[Span]:
    """Windows over files that lie one after the other: small ones together, large ones cut."""
    found: list[Span] = []
    most, first, held = window_bytes(), 0, 0
    for number, size in enumerate(lengths):
        if held and held + size > most:
            found.append(Span(first, number, 0, held))
            held = 0
        if not held:
            first = number
        if size > most:
            parts = -(-size // most)
            cuts = [part * size // parts for part in range(parts + 1)]
            found += [Span(number, number + 1, a, b) for a, b in itertools.pairwise(cuts)]
        else:
            held += size
    return [*found, Span(first, len(lengths), 0, held)] if held else found


def _unzipped(shard: Shard, together: int) -> Any:
    stream = shard.open()
    gzipped = stream.read(2) == GZIPPED
    stream.close()
    opened = shard.open(None if gzipped else together)
    return _Gzip(opened) if gzipped else opened


class _Gzip(gzip.GzipFile):
    """Closes the file below it, too."""

    def __init__(self, below: BinaryIO) -> None:
        super().__init__(fileobj=below)
        self.below = below

    def close(self) -> None:
        super().close()
        self.below.close()


def _lines(stream: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, bytes | Exception]]:
    """Yields (where it begins, line) of the lines that begin in bytes `begin` to `end`."""
    at = begin
    if begin:
        at = begin - 1
        stream.seek(at)
        line = b""
        while not line.endswith(b"\n"):  # it began in the window before
            line = stream.readline(PASSAGE)
            at += len(line)
            if not line or at >= end:
                return
    while at < end:
        start, line = at, stream.readline(MOST_LINE + 1)
        at += len(line)
        if not line:
            return
        if len(line) <= MOST_LINE:
            yield start, line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(PASSAGE)
            at += len(line)
        yield start, ValueError(f"is a line of more than {MOST_LINE >> 20} MB")


def _passages(stream: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, Raw]]:
    """Lines laid together into documents of about `PASSAGE` bytes."""
    held: list[bytes] = []
    size, start = 0, begin
    for at, line in _lines(stream, begin, end):
        if isinstance(line, Exception):
            yield at, line
            continue
        if not held:
            start = at
        held.append(line)
        size += len(line)
        if size >= PASSAGE:
            yield start, b"".join(held)
            held, size = [], 0
    if held:
        yield start, b"".join(held)


def _text_of(line: bytes | Exception, columns: tuple[str, ...]) -> Raw:
    """The text of a line of JSON, or why there is none."""
    if isinstance(line, Exception):
        return line
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return ValueError(f"is not UTF-8: byte {error.start} of the line is 0x{line[error.start]:02x}")
    except (ValueError, RecursionError) as error:
        return ValueError(f"is no line of JSON: {error}")
    row = {columns[0]: row} if isinstance(row, str) else row
    if not isinstance(row, dict):
        return ValueError(f"is {type(row).__name__}, where an object with a text is wanted")
    row = row if set(columns) <= row.keys() else flat(row)
    told = [(name, row[name]) for name in columns if row.get(name) is not None]
    wrong = next(((name, value) for name, value in told if not is_worded(value)), None)
    if wrong is not None:
        return ValueError(f"its {wrong[0]} is {type(wrong[1]).__name__}, not a text")
    return "\n".join(cell_text(value) for _, value in told) if told else ValueError(f"has no {' or '.join(columns)}")


def open_lines(shards: list[Shard], text: str, column: str | None) -> Corpus:
    """JSON lines, gzipped or not, with a text in every object.

    Raises:
        InputError: where the first lines are no objects, or have no text.
    """
    for shard in shards:
        rows: list[dict[str, Any]] = []
        with _unzipped(shard, 1 << 20) as stream:
            try:
                for _, line in _lines(stream, 0, 1 << 20):
                    found = None if isinstance(line, Exception) else _object_of(line)
                    rows += [found] if found else []
                    if len(rows) == LOOKED_AT:
                        break
            except (OSError, EOFError, zlib.error):
                continue
        if rows:
            every = {name: None for row in rows for name in row}
            rows = [{**every, **row} for row in rows]
            corpus = Lines(shards, text, column_of(rows, column, shard.name))
            corpus.told = "" if column else told_of_columns(rows, corpus.columns, f"{text}:")
            return corpus
    raise InputError(f"{text}: no line of JSON at the beginning of any file; every line is one object with a text")


def _object_of(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None
    return {"text": row} if isinstance(row, str) else flat(row) if isinstance(row, dict) else None
