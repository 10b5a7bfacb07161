"""Files of numbers: what csv, npy, npz and Parquet files hold, column by column.

Axes in comments: N rows, D columns.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from withheld.data.label_columns import LABEL_COLUMNS
from withheld.data.unicode import AS_WESTERN, is_utf16, table_text, western
from withheld.errors import InputError

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


def plane(values: np.ndarray, what: str) -> np.ndarray:
    """(N, D) numbers, of one column where there is one axis.

    Raises:
        InputError: where it is none.
    """
    if values.dtype.kind not in "fiub":
        raise InputError(f"{what} holds {values.dtype}, not numbers")
    if values.ndim == 1:
        return values[:, None]
    if values.ndim != 2:
        raise InputError(f"{what} has shape {values.shape}; a table is (rows, columns)")
    return values


def numbered(count: int) -> list[str]:
    """Names of columns that have none."""
    return [f"x{i}" for i in range(count)]


def _read_csv(path: Path, label: str | None = None) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.csv as reader

    with path.open("rb") as stream:
        wide = is_utf16(stream.read(2))
    with path.open(encoding="utf-16" if wide else "utf-8-sig", errors="replace", newline="") as stream:
        head = stream.read(1 << 14)
    if wide:
        text: str | None = table_text(path.read_bytes(), str(path))
    else:
        text = western(path.read_bytes()) if "\ufffd" in head else None
    head = head if text is None else text[: 1 << 14]
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
            path if text is None else io.BytesIO(text.encode()),
            read_options=reader.ReadOptions(autogenerate_column_names=headless),
            parse_options=reader.ParseOptions(delimiter=delimiter),
            convert_options=reader.ConvertOptions(decimal_point="," if commas else ".", null_values=[*MISSING]),
        )
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a table: {str(error).splitlines()[0]}") from None
    if headless:
        table = table.rename_columns(numbered(table.num_columns))
    found = of_arrow(table, path, 1 if headless else 2, label)
    found["notes"] += [f"{path.name} {AS_WESTERN}"] if text is not None and not wide else []
    return found


def _read_parquet(path: Path, label: str | None = None) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as reader

    try:
        table = reader.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} is a damaged Parquet file: {error}; get it again") from None
    return of_arrow(table, path, None, label)


def of_arrow(table: Any, path: Path | str, first_line: int | None, label: str | None) -> dict[str, Any]:
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


def _of_lists(column: Any, name: str, path: Path | str) -> np.ndarray:
    import pyarrow.compute as compute

    lengths = compute.unique(compute.list_value_length(column)).to_pylist()
    if len(lengths) != 1 or not lengths[0]:
        raise InputError(f"{path}: the lists of column {name!r} are not equally long ({lengths[:SHOWN_CELLS]})")
    flat = np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks])
    return flat.reshape(-1, lengths[0])


def _check_words(name: str, column: Any, path: Path | str, first_line: int) -> str:
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
    values = plane(values, str(path))
    return {"values": values, "columns": numbered(values.shape[1])}


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
    return {"values": values, "columns": numbered(values.shape[1])}


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell.strip()
    return True


READERS: dict[str, Callable[[Path, str | None], dict[str, Any]]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".parquet": _read_parquet,
    ".pq": _read_parquet,
}
