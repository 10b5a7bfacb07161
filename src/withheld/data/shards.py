"""Sources that are many files of rows: rows are told by shard and number, and no list of all of them is made."""

from __future__ import annotations

import glob
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from withheld.data.decode import Raw
from withheld.data.elsewhere import Local, Shard, common
from withheld.data.layout import PARTS
from withheld.data.source import Labels, Source, Store
from withheld.errors import InputError

TARS = (".tar", ".tar.gz", ".tgz")


class RowNames(Sequence[str]):
    """Row 17 of shard "a.parquet" is "a.parquet:17"; made when asked for.

    Args:
        shards: their names. counts: rows of each.
    """

    def __init__(self, shards: Sequence[str], counts: Sequence[int]) -> None:
        self.shards = list(shards)
        self.starts = np.concatenate([[0], np.cumsum(np.asarray(counts, np.int64))])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[i] for i in range(len(self))[at]]
        row = range(len(self))[at]
        shard = int(np.searchsorted(self.starts, row, side="right")) - 1
        return f"{self.shards[shard]}:{row - int(self.starts[shard])}"

    def __iter__(self) -> Iterator[str]:
        for shard, start, stop in zip(self.shards, self.starts, self.starts[1:], strict=False):
            yield from (f"{shard}:{i}" for i in range(int(stop - start)))


class Sharded(Store):
    """Rows of several files, one after the other.

    Args:
        counts: rows of each.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        self.starts = np.concatenate([[0], np.cumsum(np.asarray(counts, np.int64))])

    def raw(self, positions: np.ndarray) -> Iterator[tuple[int, Raw]]:
        order = np.argsort(positions, kind="stable")
        which = np.searchsorted(self.starts, positions[order], side="right") - 1
        for number in np.unique(which):
            places = order[which == number]
            rows = positions[places] - self.starts[number]
            for at, contents in self.rows_of(int(number), rows):
                yield int(places[at]), contents

    @abstractmethod
    def rows_of(self, shard: int, rows: np.ndarray) -> Iterator[tuple[int, Raw]]:
        """Yields (place in `rows`, contents or the error met); rows are ascending."""


def part_of(name: str) -> str:
    """ "train", "test" or "val", where a file is named so."""
    words = name.lower().replace("\\", "/").replace("-", "/").replace("_", "/").replace(".", "/").split("/")
    return next((PARTS[word] for word in words if word in PARTS), "")


def parts_of(shards: Sequence[str], counts: Sequence[int]) -> np.ndarray | None:
    """(N,) the part of every row, where the files are named so."""
    told = [part_of(shard) for shard in shards]
    if not any(told):
        return None
    if len(set(told)) == 1:
        return np.broadcast_to(np.array(told[0]), int(sum(counts)))
    return np.repeat(np.array(told), counts)


def open_pattern(text: str, labels: Labels = None) -> Source:
    """Opens the files that a pattern such as 'shards/*.parquet' stands for.

    Raises:
        InputError: where there are none, or they are of several kinds.
    """
    files = sorted(
        path for name in glob.glob(str(Path(text).expanduser()), recursive=True) if (path := Path(name)).is_file()
    )
    if not files:
        raise InputError(f"no file is called like {text!r}; quote the pattern, so that the shell leaves it as it is")
    return open_shards(locals_below(common(files), files), text, labels)


def locals_below(root: Path, files: Sequence[Path]) -> list[Shard]:
    """Files of this machine, named by where they lie below a folder."""
    return [Local(file, file.relative_to(root).as_posix()) for file in files]


def open_shards(shards: list[Shard], text: str, labels: Labels = None) -> Source:
    """Opens several Parquet files, or several tar archives, as one source.

    Raises:
        InputError: where they are of several kinds, or of another.
    """
    from withheld.data import table, tars
    from withheld.data.source import open_file

    if len(shards) == 1:
        return open_file(shards[0], text, labels)
    names = [shard.name.rpartition("/")[2].lower() for shard in shards]
    if all(name.endswith(".parquet") for name in names):
        return table.open_parquet(shards, text, labels)
    if all(name.endswith(TARS) for name in names):
        return tars.open_tars(shards, text, labels)
    raise InputError(
        f"{text} stands for {len(shards)} files that are not of one kind ({', '.join(names[:5])}); give .parquet alone or "
        ".tar alone"
    )
