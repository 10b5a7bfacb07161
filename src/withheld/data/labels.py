"""Labels, read only when somebody asks: labels.csv, or a sequence given in Python."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from withheld.data.item_names import Absent, Names, shared_folders, shown_cell, slashes
from withheld.data.label_columns import FILE_COLUMNS, ROW_COLUMNS, columns_of, file_columns
from withheld.data.layout import Layout, folder_labels
from withheld.data.unicode import table_text
from withheld.errors import InputError
from withheld.types import UNKNOWN_LABEL
from withheld.wording import plural

SHOWN_ABSENT = 5
MOST_ERRORS = 20
ABSOLUTE = re.compile(r"/|[A-Za-z]:/")


def find_labels(
    labels: Any, names: Sequence[str], layout: Layout | None, root: Path | None, location: str, notes: list[str]
) -> tuple[np.ndarray, list[str]]:
    """Labels (N,) int64 and class names for named items.

    Args:
        labels: True looks for labels.csv in `root`, then for class folders; a path is the csv, "sheet.csv:COLUMN" names its
            column of labels; else the labels.
        names: of the items, relative paths.
        layout: what their folders say, where they have any.
        root: where labels.csv may lie.
        location: as the user gave the data, for messages.
        notes: is told what of the csv was left out.

    Raises:
        InputError: where labels cannot be found or the csv is wrong, with every line that is (at most 20).
    """
    if isinstance(labels, str | os.PathLike):
        path, column = label_sheet(labels, root)
        return read_labels(path.read_bytes(), path.name, names, layout, notes, column)
    if labels is not True:
        return given_labels(labels, len(names))
    if root is not None and (root / "labels.csv").is_file():
        return read_labels((root / "labels.csv").read_bytes(), "labels.csv", names, layout, notes)
    if layout is None:
        raise InputError(
            f"labels were asked for, but none lie beside {location}; add labels.csv with the columns file,label"
        )
    return folder_labels(layout, location)


def label_sheet(labels: str | os.PathLike[str], root: Path | None = None) -> tuple[Path, str | None]:
    """The csv that is meant, also one below `root`, and its column of labels where that is named after a colon.

    Raises:
        InputError: where there is no such file.
    """
    text = os.fspath(labels)
    head, colon, column = text.rpartition(":")
    for one, named in ((text, None), *([(head, column)] if colon else [])):
        for path in (Path(one).expanduser(), *([] if root is None else [root / one])):
            if path.is_file():
                return path, named
    raise InputError(f"there is no labels file {text!r}; give a csv with the columns file,label")


def given_labels(
    labels: Sequence[Any] | np.ndarray, count: int, shown: str = "the labels"
) -> tuple[np.ndarray, list[str]]:
    """Labels (N,) int64 and class names from a sequence of numbers or words; None, NaN, "" and -100 are unknown.

    Raises:
        InputError: where there are not as many as items, or fewer than two classes.
    """
    values = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    if len(values) != count:
        raise InputError(
            f"{plural(len(values), 'label')} for {plural(count, 'item')}; give each one, -100 where unknown"
        )
    return _numbered(["" if v is None or v != v or v == UNKNOWN_LABEL else _text(v) for v in values], shown)


def read_labels(
    data: bytes, shown: str, names: Sequence[str], layout: Layout | None = None, notes: list[str] | None = None,
    column: str | None = None,
) -> tuple[np.ndarray, list[str]]:  # fmt: skip
    """Reads a csv with the columns file and label, in any order and with or without a header.

    Args:
        data: contents of the file.
        shown: its name in messages.
        names: of the items; rows may also leave out the folders or the suffix where the rest is unique.
        layout: gives the folders that all items share and that rows may leave out.
        notes: is told of rows whose item is not among the data, which are left out; None refuses them.
        column: of the labels, where it is named.

    Raises:
        InputError: with every line that is wrong, at most 20.
    """
    told: list[str] = []
    words = read_label_words(data, shown, names, layout, None if notes is None else told, column)
    found = _numbered(words, shown, "".join(f"; {note}" for note in told))
    if notes is not None:
        notes += told
    return found


def read_label_words(
    data: bytes, shown: str, names: Sequence[str], layout: Layout | None = None, notes: list[str] | None = None,
    column: str | None = None,
) -> list[str]:  # fmt: skip
    """As `read_labels`, the words themselves, one an item; "" where a row is empty or missing.

    Raises:
        InputError: with every line that is wrong, at most 20.
    """
    rows = _rows(data, shown, notes)
    some = Names(names[:100_000], "")
    file_at, label_at, start = file_columns(rows, shown, lambda cell: some.find(cell) is not None, column, notes)
    known = Names(names, layout.root if layout else "")
    above = shared_folders([row[file_at] for _, row in rows[start:] if len(row) > file_at])

    def find(name: str, hint: bool) -> int | str:
        position = known.find(name)
        if position is None:
            position = next(
                (at for folder in above if (at := known.exact(slashes(name).removeprefix(folder))) is not None), None
            )
        if position is None and above and ABSOLUTE.match(above[0]):
            position = known.find(slashes(name).removeprefix(above[-1]))
        return known.complain(name, hint) if position is None else position

    values = _values(rows[start:], shown, file_at, label_at, find, shown_cell, notes)
    return [values.get(i, "") for i in range(len(names))]


def _values(
    rows: list[tuple[int, list[str]]], shown: str, item_at: int, label_at: int, find: Callable[[str, bool], int | str],
    called: Callable[[str], str], notes: list[str] | None = None,
) -> dict[int, str]:  # fmt: skip
    """The label of every item that rows tell of.

    Args:
        item_at, label_at: the columns.
        find: gives the item that a cell names, or what is wrong with it; told whether to look for what was meant.
        called: how messages call a cell.
        notes: is told of rows whose item is absent; None refuses them, and so does a csv none of whose rows names an item.

    Raises:
        InputError: with every line that is wrong, at most 20.
    """
    errors: list[str] = []
    absent: list[str] = []
    values: dict[int, tuple[str, int]] = {}
    for line, row in rows:
        if len(row) <= max(item_at, label_at):
            errors.append(
                f"{shown}:{line}: {plural(len(row), 'column')} where at least {max(item_at, label_at) + 1} are needed"
            )
            continue
        cell, value = row[item_at].strip(), row[label_at].strip()
        value = "" if value == str(UNKNOWN_LABEL) else value
        item = find(cell, len(errors) + len(absent) < MOST_ERRORS)
        if isinstance(item, Absent):
            absent.append(f"{shown}:{line}: {item}")
        elif isinstance(item, str):
            errors.append(f"{shown}:{line}: {item}")
        elif item in values and values[item][0] != value:
            before = values[item]
            errors.append(
                f"{shown}:{line}: {called(cell)} is labelled {shown_cell(value)} here, {shown_cell(before[0])} on line {before[1]}"
            )
        else:
            values[item] = value, line
    if notes is None or not values:
        errors += absent
    elif absent:
        listed = "; ".join(line.partition(": ")[2] for line in absent[:SHOWN_ABSENT])
        notes.append(
            f"{len(absent):,} of {plural(len(rows), 'row')} of {shown} name{'s' * (len(absent) == 1)} nothing in the data and "
            f"{'is' if len(absent) == 1 else 'are'} left out: {listed}{'; ...' if len(absent) > SHOWN_ABSENT else ''}"
        )
    if errors:
        raise InputError(_told(shown, errors))
    return {item: value for item, (value, _) in values.items()}


def read_row_labels(data: bytes, shown: str, count: int) -> tuple[np.ndarray, list[str]]:
    """Reads a csv with the columns row and label, in any order; row 0 is the first of the table.

    Args:
        data: contents of the file.
        shown: its name in messages.
        count: how many rows the table has.

    Returns:
        Labels (count,) int64, -100 where unknown, and the names of the classes.

    Raises:
        InputError: with every line that is wrong, at most 20.
    """
    rows = _rows(data, shown)
    more = ", and row 0 is the first row of the table"
    row_at, label_at, start = columns_of(rows, shown, ROW_COLUMNS, str.isdecimal, more)

    def find(number: str, hint: bool) -> int | str:
        if number.isdecimal() and len(number) < 20 and int(number) < count:  # Python refuses to convert very long ones
            return int(number)
        return f"{shown_cell(number)} is no row of the table; its rows are 0 to {count - 1:,}"

    values = _values(rows[start:], shown, row_at, label_at, find, "row {}".format)
    return _numbered([values.get(row, "") for row in range(count)], shown)


def names_rows(data: bytes, shown: str) -> bool:
    """Whether a csv of labels counts rows instead of naming files."""
    words = [cell.strip().lower() for cell in _rows(data, shown)[0][1]]
    return any(word in words for word in ROW_COLUMNS) and not any(word in words for word in FILE_COLUMNS)


def _rows(data: bytes, shown: str, notes: list[str] | None = None) -> list[tuple[int, list[str]]]:
    text = table_text(data, shown, notes)
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count) if any(d in first for d in ",;\t") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for row in reader:
            if row and any(cell.strip() for cell in row):
                rows.append((reader.line_num, row))
    except csv.Error as error:
        raise InputError(f"{shown}:{reader.line_num}: {error}; check the quotes of this line") from error
    if not rows:
        raise InputError(f"{shown} is empty; write a line 'file,label' and one line for each file")
    return rows


def _numbered(texts: list[str], shown: str, more: str = "") -> tuple[np.ndarray, list[str]]:
    texts = ["" if text in ("nan", "NaN", "<NA>") else text for text in texts]  # as pandas writes what is missing
    classes = _ordered({text for text in texts if text})
    if len(classes) < 2:
        found = (
            f"one class, {shown_cell(classes[0])}"
            if classes
            else "no labels" + (" yet: fill in its column" if texts else "")
        )
        raise InputError(f"{shown} holds {found}; at least two classes are needed to learn from labels{more}")
    place = {name: i for i, name in enumerate(classes)}
    return np.array([place.get(text, UNKNOWN_LABEL) for text in texts], np.int64), classes


def _ordered(words: set[str]) -> list[str]:
    try:
        return sorted(words, key=lambda w: (float(w), w))
    except ValueError:
        return sorted(words)


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _told(shown: str, errors: list[str]) -> str:
    lines = "\n".join(f"  {error}" for error in errors[:MOST_ERRORS])
    more = f"\n  and {len(errors) - MOST_ERRORS:,} more" if len(errors) > MOST_ERRORS else ""
    count = plural(len(errors), "line is", "lines are")
    return f"{shown}: {count} wrong; mend or delete, then run again\n{lines}{more}"
