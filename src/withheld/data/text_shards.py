"""Texts too many for memory and disk: shards of several kinds, read window by window where they lie.

A window is a few megabytes of text that lie together. Shapes: M windows, N rows of a table or archive.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from withheld.data import windows as limits
from withheld.data.decode import Raw
from withheld.data.elsewhere import Shard
from withheld.data.source import Source, digest
from withheld.data.table import ParquetStore, groups_of, opened_parquet
from withheld.data.text import decode_text
from withheld.data.text_table import TEXT_COLUMNS, column_of, told_of_columns
from withheld.errors import InputError, WithheldError

LOOKED_AT = 200
"""Rows among which a column of text is looked for."""


def window_bytes() -> int:
    """Of text, for a window: what is tokenized at once, since a run begins when its first windows are."""
    return limits.WINDOW_BYTES // 8


class Corpus(ABC):
    """Texts in windows.

    Attributes:
        location: as the user gave it. kind: "parquet", "json lines", "tar" or "txt".
        sizes: (M,) bytes of every window, about.
        fingerprint: of names, sizes and beginnings of the shards. stamp: of where they lie and when they changed.
        left_out: {"file", "reason"}. told: as that of `Source`.
    """

    location: str
    kind: str
    sizes: NDArray[np.int64]
    fingerprint: str
    stamp: str
    left_out: list[dict[str, str]]
    told: str = ""

    def __len__(self) -> int:
        return len(self.sizes)

    @abstractmethod
    def read(self, window: int) -> Iterator[tuple[str, Raw]]:
        """Yields (name, contents or the error met) of the documents of a window, in their order."""

    def documents(self, window: int, bad: dict[str, str]) -> Iterator[str]:
        """Yields the texts of a window; names of what cannot be read, or had to be mended, go to `bad` with the reason."""
        for name, raw in self.read(window):
            try:
                text, mended = decode_text(raw)
            except WithheldError:  # the network, not the text
                raise
            except Exception as error:  # damaged files raise anything
                bad[name] = str(error) or type(error).__name__
                continue
            if mended:
                bad[name] = f"kept, but {mended}"
            yield text


class Rows(Corpus):
    """Rows of Parquet files, or members of tars; small windows that follow each other are read as one.

    Args:
        source: with windows of its rows. rows, sizes: (windows,) of each, rows and bytes.
    """

    def __init__(self, source: Source, rows: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        self.source, self.location, self.kind = source, source.location, source.kind
        self.fingerprint, self.stamp, self.left_out = source.fingerprint, source.stamp, source.left_out
        begin = _together(sizes)
        self.rows, self.sizes = np.add.reduceat(rows, begin), np.add.reduceat(sizes, begin)
        self.starts = np.cumsum(self.rows) - self.rows

    def read(self, window: int) -> Iterator[tuple[str, Raw]]:
        start = int(self.starts[window])
        for position, contents in self.source.raw(np.arange(start, start + int(self.rows[window]))):
            yield self.source.names[position], contents


def _together(sizes: NDArray[np.int64]) -> list[int]:
    """Where each run of windows begins that together are no larger than one."""
    found, held = [0], 0
    for i, size in enumerate(sizes.tolist()):
        if i > found[-1] and held + size > window_bytes():
            found.append(i)
            held = 0
        held += size
    return found


class TextTable(ParquetStore):
    """Rows of Parquet files, of one column or two joined by a line break; as bytes: one that is not UTF-8 costs itself only."""

    rows_at_once = 256

    def __init__(self, shards: list[Shard], groups: list[NDArray[np.int64]], columns: tuple[str, ...]) -> None:
        super().__init__(shards, groups, columns[0])
        self.columns = list(columns)

    def cell(self, batch: Any, row: int) -> Raw:
        parts = [_bytes_of(batch.column(name)[row]) for name in self.columns]
        told = [part for part in parts if part is not None]
        return b"\n".join(told) if told else ValueError("the cell is empty")


def _bytes_of(scalar: Any) -> bytes | None:
    if not scalar.is_valid:
        return None
    if hasattr(scalar, "as_buffer"):
        return cast(bytes, scalar.as_buffer().to_pybytes())
    return str(scalar.as_py()).encode("utf-8", "surrogatepass")  # of a dictionary


def open_table(shards: list[Shard], text: str, column: str | None) -> Corpus:
    """Parquet files with a column of text.

    Raises:
        InputError: where a file is damaged, or none has such a column.
    """
    from withheld.data.shards import RowNames

    columns = _columns_of_table(shards[0], column)
    groups, left_out, told = groups_of(shards, columns, _is_text, "texts")
    every = np.concatenate(groups)
    if not every[:, 0].sum():
        raise InputError(f"found 0 texts under {text}: the Parquet files have no rows")
    store = TextTable(shards, groups, columns)
    names = RowNames([shard.name for shard in shards], np.diff(store.starts).tolist())
    windows = limits.cut(every[:, 0], every[:, 1], window_bytes())
    ends = np.concatenate([[0], np.cumsum(every[:, 0])]), np.concatenate([[0], np.cumsum(every[:, 1])])
    bounds = np.interp([*windows.starts, len(names)], *ends).astype(np.int64)
    fingerprint, stamp = digest([*columns, *told]), digest(shard.stamp for shard in shards)
    source = Source(text, "parquet", names, store, fingerprint, left_out=left_out, stamp=stamp)
    corpus = Rows(source, windows.rows, np.diff(bounds))
    corpus.told = "" if column else told_of_columns(_first_rows(shards[0]), columns, f"{text}:")
    return corpus


def _first_rows(shard: Shard) -> list[dict[str, Any]]:
    """The texts of the first rows."""
    with opened_parquet(shard) as file:
        named = [field.name for field in file.schema_arrow if _is_text(field.type)]
        batch = next(file.iter_batches(batch_size=LOOKED_AT, columns=named), None) if named else None
        if batch is None:
            return []
        cells = {name: [_bytes_of(one) or b"" for one in batch.column(name)] for name in named}
        return [{name: cells[name][i].decode("utf-8", "replace") for name in named} for i in range(len(batch))]


def _columns_of_table(shard: Shard, named: str | None) -> tuple[str, ...]:
    """By its name where that tells, else the one whose cells are longest."""
    with opened_parquet(shard) as file:
        schema = file.schema_arrow
        told = [field.name for field in schema if _is_text(field.type)]
        if named is not None and named in schema.names and named not in told:
            raise InputError(f"{shard.name}: the column {named!r} is of {schema.field(named).type} and no text")
        if named is not None or not told:
            return column_of([dict.fromkeys(told, "")], named, shard.name)
        if len(told) == 1:
            return (told[0],)
        if any(name.lower() in TEXT_COLUMNS or name.lower().startswith(("sentence", "premise")) for name in told):
            return column_of([dict.fromkeys(told, "")], None, shard.name)
    return column_of(_first_rows(shard) or [dict.fromkeys(told, "")], None, shard.name)


def _is_text(kind: Any) -> bool:
    import pyarrow.types as kinds

    kind = kind.value_type if kinds.is_dictionary(kind) else kind
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind))


def open_tars_of_texts(shards: list[Shard], text: str) -> Corpus:
    """Plain tars of .txt members.

    Raises:
        InputError: where one is damaged or gzipped, or they hold none.
    """
    from withheld.data.tars import TarShards, open_tars
    from withheld.data.wanted import TEXTS

    source = open_tars(shards, text, wanted=TEXTS, most=window_bytes())
    every = np.concatenate(cast(TarShards, source.store).found)
    return Rows(source, every[:, 1], every[:, 2])
