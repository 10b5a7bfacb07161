"""Tables: rows of numbers from files, arrays, or the pixels of images.

Axes in comments: N rows, D columns.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from withheld.data.elsewhere import copied
from withheld.data.number_files import READERS, numbered, of_arrow, plane
from withheld.data.objects import arrow_of, is_frame, plain, splits_of
from withheld.data.source import digest, stamp_of
from withheld.errors import InputError
from withheld.wording import plural

BLOCK = 1 << 16


@dataclass
class Vectors:
    """Rows of numbers.

    Attributes:
        location: as the user gave it.
        kind: "csv", "npy", "npz", "parquet", "table", "array", "images" or "features".
        values: (N, D), memory-mapped where the file allows; uint8 stands for 0..1; NaN is a missing value.
        columns: D names.
        fingerprint: hex SHA-256.
        notes: on what was left out.
        shape: (C, H, W) where the rows are images.
        names: of the rows, where they are files.
        first_line: of the file, on which row 0 stands; None where rows are no lines.
        told: the cells of the column that was asked for as labels.
    """

    location: str
    kind: str
    values: Any
    columns: list[str]
    fingerprint: str
    notes: list[str] = field(default_factory=list)
    shape: tuple[int, int, int] | None = None
    names: list[str] | None = None
    first_line: int | None = None
    told: list[Any] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def place(self, row: int) -> str:
        """Where a row is found, as an error says it."""
        if self.names is not None:
            return f"{self.location}: {self.names[row]}"
        return f"{self.location}: row {row}" if self.first_line is None else f"{self.location}:{self.first_line + row}"


class VectorItems:
    """What the loops ask for batches of rows.

    Args:
        values: (N, D).
        labels: (N,) int64, -100 where unknown; batches are then dicts with "item" and "label".
    """

    def __init__(self, values: Any, labels: np.ndarray | None = None) -> None:
        self.values, self.labels = values, labels

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, index: np.ndarray, device: Any) -> Any:
        """Rows (B, D) of these numbers on a device: float32 where the table is, or of bytes, else float64."""
        import torch

        rows = torch.from_numpy(as_floats(self.rows(index))).to(device)
        if self.labels is None:
            return rows
        return {"item": rows, "label": torch.from_numpy(self.labels[index]).to(device)}

    def rows(self, index: np.ndarray) -> np.ndarray:
        """The rows as they are stored; a run of them is sliced, which a memory-mapped file answers at once."""
        index = np.asarray(index)
        if len(index) > 1 and index[-1] - index[0] == len(index) - 1 and (np.diff(index) == 1).all():
            return np.asarray(self.values[index[0] : index[-1] + 1])
        return np.asarray(self.values[index])


def as_floats(rows: np.ndarray) -> np.ndarray:
    """uint8 as 0..1; float32 and float64 as they are; everything else as float64. A copy where it must be one."""
    if rows.dtype == np.uint8:
        return np.multiply(rows, 1 / 255, dtype=np.float32)
    kind = rows.dtype if rows.dtype in (np.dtype("float32"), np.dtype("float64")) else np.float64
    return np.array(rows, dtype=kind)


def is_table(data: Any) -> bool:
    """Whether this is rows of numbers by its kind; everything else is asked for images."""
    if isinstance(data, str | os.PathLike):
        return Path(data).suffix.lower() in READERS
    if (splits := splits_of(data)) is not None:
        kinds = {type(kind).__name__ for split in splits.values() for kind in split.features.values()}
        return not kinds & {"Image", "Video"}
    return is_frame(data) or (hasattr(data, "__array__") and len(data.shape) <= 2)


def open_vectors(data: Any, label: str | None = None) -> Vectors:
    """Opens rows of numbers.

    Args:
        data: a .csv, .tsv, .npy, .npz or .parquet file, an array or tensor (N, D), or a table of pandas, polars, pyarrow or
            `datasets`. Label columns are left out.
        label: the column whose cells are kept aside as labels.

    Raises:
        InputError: where there are none, or a cell is no number, naming column and line.
    """
    data = plain(data)
    if (table := arrow_of(data)) is not None:
        shown = f"{type(data).__name__} in memory"
        read = of_arrow(table, shown, None, label)
        found = Vectors(
            shown, "table", fingerprint=digest(["table", *read["columns"], *_trace(read["values"])]), **read
        )
    elif isinstance(data, np.ndarray):
        values = plane(data, "the array")
        found = Vectors("array", "array", values, numbered(values.shape[1]), digest(["array", *_trace(values)]))
    elif not isinstance(data, str | os.PathLike):
        raise InputError(
            f"{type(data).__name__} is no table of numbers: give an array (rows, columns), a table, or a file"
        )
    else:
        path = Path(copied(os.fspath(data), "rows of numbers")).expanduser()
        if not path.is_file():
            raise InputError(f"there is no file {str(data)!r}; give a .csv, .npy, .npz or .parquet file of numbers")
        reader = READERS.get(path.suffix.lower())
        if reader is None:
            raise InputError(
                f"{str(data)!r} is no table that is read here: give a .csv, .tsv, .npy, .npz or .parquet file"
            )
        read = reader(path, label)
        told = digest([stamp_of(path), path.stat().st_size, *read["columns"]])
        found = Vectors(str(data), path.suffix.lower().lstrip("."), fingerprint=told, **read)
    if not len(found.values) or not found.columns:
        raise InputError(
            f"{found.location}: a table of {plural(len(found), 'row')} and {plural(len(found.columns), 'column')} of numbers"
        )
    check_finite(found)
    return found


def check_finite(table: Vectors) -> None:
    """NaN is a missing value; an infinite one is an error.

    Raises:
        InputError: naming the first cell and how many there are.
    """
    if table.values.dtype.kind != "f":
        return
    for start in range(0, len(table), BLOCK):
        infinite = np.isinf(table.values[start : start + BLOCK])
        if infinite.any():
            row, column = np.argwhere(infinite)[0]
            raise InputError(
                f"{table.place(start + int(row))}: column {table.columns[column]!r} is infinite ({int(infinite.sum())} such "
                "cell(s) from there on): mend it, or leave the cell empty (NaN) to have it taken as missing"
            )


def _trace(values: np.ndarray) -> list[str | bytes | int]:
    step = max(1, len(values) // 4096)
    return [str(values.shape), str(values.dtype), np.ascontiguousarray(values[::step]).tobytes()]
