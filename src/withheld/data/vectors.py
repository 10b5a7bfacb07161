"""Tables: rows of numbers from csv, npy, npz and Parquet files, arrays, or the pixels of images.

Axes in comments: N rows, D columns.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from withheld.data.elsewhere import copied
from withheld.data.labels import LABEL_COLUMNS
from withheld.data.source import digest, stamp_of
from withheld.data.unicode import is_utf16, table_text
from withheld.errors import InputError
from withheld.wording import plural

BLOCK = 1 << 16
SHOWN_CELLS = 5
MOSTLY = 0.5
MOST_WHOLE = 2.0**53
"""Up to which a float64 has all whole numbers."""
COUNTING = ("", "id", "index", "row", "nr", "no", "number", "unnamed: 0")
"""What columns are called that only count the rows."""
MISSING = (
    "", "?", "NA", "N/A", "n/a", "<NA>", "#N/A", "#N/A N/A", "#NA", "NaN", "nan", "-NaN", "-nan", "NULL", "Null", "null",
    "None", "none", "-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN",
)  # fmt: skip
"""Cells of a column of numbers that stand for a missing value, as pandas, R, Weka and spreadsheets write them."""
COMMA, POINT = (re.compile(rf"(?:^|;)\s*-?\d+{mark}\d+\s*(?:;|$)", re.M) for mark in (",", r"\."))
"""Cells of a table with semicolons: spreadsheets of half the world write 0,5 for a half."""


@dataclass
class Vectors:
    """Rows of numbers.

    Attributes:
        location: as the user gave it.
        kind: "csv", "npy", "npz", "parquet", "array", "images" or "features".
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
    return isinstance(data, np.ndarray) and data.ndim <= 2


def open_vectors(data: Any, label: str | None = None) -> Vectors:
    """Opens rows of numbers.

    Args:
        data: a .csv, .tsv, .npy, .npz or .parquet file, or an array (N, D). Label columns are left out.
        label: the column whose cells are kept aside as labels.

    Raises:
        InputError: where there are none, or a cell is no number, naming column and line.
    """
    if isinstance(data, np.ndarray):
        values = _plane(data, "the array")
        found = Vectors("array", "array", values, _numbered(values.shape[1]), digest(["array", *_trace(values)]))
    else:
        path = Path(copied(data, "rows of numbers")).expanduser()
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


def _read_csv(path: Path, label: str | None = None) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.csv as reader

    with path.open("rb") as stream:
        wide = is_utf16(stream.read(2))
    with path.open(encoding="utf-16" if wide else "utf-8-sig", errors="replace", newline="") as stream:
        head = stream.read(1 << 14)
    first = head.split("\n", 1)[0].rstrip("\r")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    try:
        cells = next(csv.reader([first], delimiter=delimiter), [])
    except csv.Error as error:
        raise InputError(f"{path}:1: not a table: {error}") from None
    commas = delimiter == ";" and COMMA.search(head) is not None and POINT.search(head) is None
    headless = bool(cells) and all(_is_number(cell.replace(",", ".") if commas else cell) for cell in cells)
    try:
        table = reader.read_csv(
            io.BytesIO(table_text(path.read_bytes(), str(path)).encode()) if wide else path,
            read_options=reader.ReadOptions(autogenerate_column_names=headless),
            parse_options=reader.ParseOptions(delimiter=delimiter),
            convert_options=reader.ConvertOptions(decimal_point="," if commas else ".", null_values=[*MISSING]),
        )
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a table: {str(error).splitlines()[0]}") from None
    if headless:
        table = table.rename_columns(_numbered(table.num_columns))
    return _of_arrow(table, path, 1 if headless else 2, label)


def _read_parquet(path: Path, label: str | None = None) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as reader

    try:
        table = reader.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} is a damaged Parquet file: {error}; get it again") from None
    return _of_arrow(table, path, None, label)


def _of_arrow(table: Any, path: Path, first_line: int | None, label: str | None) -> dict[str, Any]:
    """Numeric columns, and columns of equally long lists spread out; labels and words are left out and said."""
    import pyarrow.types as kinds

    parts: list[np.ndarray] = []
    columns: list[str] = []
    notes: list[str] = []
    told: list[Any] | None = None
    word = worded = ""
    numbers = (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_decimal)
    try:
        names = table.column_names
    except UnicodeDecodeError:
        raise InputError(f"{path}:1: the names of its columns are not UTF-8 text: save it as UTF-8") from None
    for name, column in zip(names, table.columns, strict=True):
        if name == label:
            told = column.to_pylist()
        elif kinds.is_null(column.type):
            notes.append(f"column {name!r} has no value at all and was left out")
        elif name.lower() in LABEL_COLUMNS:
            notes.append(f"column {name!r} is taken for labels and was left out")
        elif kinds.is_list(column.type) or kinds.is_fixed_size_list(column.type) or kinds.is_large_list(column.type):
            block = _of_lists(column, name, path)
            parts.append(block)
            columns += [f"{name}{i}" for i in range(block.shape[1])]
        elif name.lower() in COUNTING and _counts_rows(column):
            notes.append(f"column {name!r} counts the rows and was left out")
        elif any(is_kind(column.type) for is_kind in numbers):
            parts.append(np.asarray(column.cast("float64", safe=False).to_numpy()).reshape(-1, 1))
            columns.append(name)
            if kinds.is_integer(column.type) and (np.abs(parts[-1]) > MOST_WHOLE).any():
                notes.append(f"column {name!r} holds whole numbers beyond 2**53, which were rounded")
        else:
            worded, word = name[:40], _check_words(name, column, path, 0 if first_line is None else first_line)
            notes.append(f"column {name!r} holds no numbers ({word or column.type}) and was left out")
    if not parts:
        names = ", ".join(" ".join(name.split())[:40] for name in table.column_names)
        raise InputError(f"{path}: no column of numbers; its columns are {names}{word and f'; in {worded!r} {word}'}")
    values = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    return {"values": values, "columns": columns, "notes": notes, "first_line": first_line, "told": told}


def _counts_rows(column: Any) -> bool:
    """Whether every cell is one more than the one above."""
    import pyarrow.types as kinds

    if not kinds.is_integer(column.type) or column.null_count or len(column) < 3:
        return False
    return bool((np.diff(column.to_numpy()) == 1).all())


def _of_lists(column: Any, name: str, path: Path) -> np.ndarray:
    import pyarrow.compute as compute

    lengths = compute.unique(compute.list_value_length(column)).to_pylist()
    if len(lengths) != 1 or not lengths[0]:
        raise InputError(f"{path}: the lists of column {name!r} are not equally long ({lengths[:SHOWN_CELLS]})")
    flat = np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks])
    return flat.reshape(-1, lengths[0])


def _check_words(name: str, column: Any, path: Path, first_line: int) -> str:
    """The first word of a column; one that is mostly numbers has a slip in it, and is not a column of words."""
    cells = ["" if cell is None else str(cell) for cell in column.slice(0, 10_000).to_pylist()]
    wrong = [i for i, cell in enumerate(cells) if not _is_number(cell) and cell not in MISSING]
    if wrong and len(wrong) < MOSTLY * sum(cell not in MISSING for cell in cells):
        said = ", ".join(f"line {first_line + i}: {cells[i]!r}" for i in wrong[:SHOWN_CELLS])
        raise InputError(
            f"{path}: column {name!r} has cells that are no numbers ({said}): mend them, or leave them empty (NA, NaN, null "
            "and ? are missing, too)"
        )
    return f"the first: {cells[wrong[0]][:40]!r}" if wrong else ""


def _read_npy(path: Path, label: str | None = None) -> dict[str, Any]:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not an array of numbers: {error}") from None
    values = _plane(values, str(path))
    return {"values": values, "columns": _numbered(values.shape[1])}


def _read_npz(path: Path, label: str | None = None) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as kept:
            found = {
                name: kept[name] for name in kept.files if kept[name].dtype.kind in "fiub" and kept[name].ndim == 2
            }
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not arrays of numbers: {error}") from None
    if "features" not in found and len(found) != 1:
        raise InputError(f"{path}: expected an array named features (N, D); tables in it: {', '.join(found) or 'none'}")
    values = found.get("features", next(iter(found.values())))
    return {"values": values, "columns": _numbered(values.shape[1])}


def _plane(values: np.ndarray, what: str) -> np.ndarray:
    if values.dtype.kind not in "fiub":
        raise InputError(f"{what} holds {values.dtype}, not numbers")
    if values.ndim == 1:
        return values[:, None]
    if values.ndim != 2:
        raise InputError(f"{what} has shape {values.shape}; a table is (rows, columns)")
    return values


def _numbered(count: int) -> list[str]:
    return [f"x{i}" for i in range(count)]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell.strip()
    return True


def _trace(values: np.ndarray) -> list[str | bytes | int]:
    step = max(1, len(values) // 4096)
    return [str(values.shape), str(values.dtype), np.ascontiguousarray(values[::step]).tobytes()]


READERS: dict[str, Callable[[Path, str | None], dict[str, Any]]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".parquet": _read_parquet,
    ".pq": _read_parquet,
}
