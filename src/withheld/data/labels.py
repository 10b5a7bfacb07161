"""Labels, read only when somebody asks: labels.csv, or a sequence given in Python."""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from withheld.data.layout import Layout, folder_labels
from withheld.data.unicode import table_text
from withheld.errors import InputError, nearest
from withheld.types import UNKNOWN_LABEL
from withheld.wording import plural

ROW_COLUMNS = ("row", "index", "number")
FILE_COLUMNS = ("file", "filename", "file_name", "path", "image", "image_path", "name", "item")
LABEL_COLUMNS = ("label", "class", "target", "category", "label_name", "class_name", "y")
MOST_ERRORS = 20
ABSOLUTE = re.compile(r"/|[A-Za-z]:/")


def find_labels(
    labels: Any, names: Sequence[str], layout: Layout | None, root: Path | None, location: str
) -> tuple[np.ndarray, list[str]]:
    """Labels (N,) int64 and class names for named items.

    Args:
        labels: True looks for labels.csv in `root`, then for class folders; a path is the csv; else the labels.
        names: of the items, relative paths.
        layout: what their folders say, where they have any.
        root: where labels.csv may lie.
        location: as the user gave the data, for messages.

    Raises:
        InputError: where labels cannot be found or the csv is wrong, with every line that is (at most 20).
    """
    if isinstance(labels, str | os.PathLike):
        path = Path(labels).expanduser()
        if not path.is_file() and root is not None and (root / path).is_file():
            path = root / path
        if not path.is_file():
            raise InputError(f"there is no labels file {os.fspath(labels)!r}; give a csv with the columns file,label")
        return read_labels(path.read_bytes(), path.name, names, layout)
    if labels is not True:
        return given_labels(labels, len(names))
    if root is not None and (root / "labels.csv").is_file():
        return read_labels((root / "labels.csv").read_bytes(), "labels.csv", names, layout)
    if layout is None:
        raise InputError(
            f"labels were asked for, but none lie beside {location}; add labels.csv with the columns file,label"
        )
    return folder_labels(layout, location)


def given_labels(
    labels: Sequence[Any] | np.ndarray, count: int, shown: str = "the labels"
) -> tuple[np.ndarray, list[str]]:
    """Labels (N,) int64 and class names from a sequence of numbers or words; None, NaN, "" and -100 are unknown.

    Raises:
        InputError: where there are not as many as items, or fewer than two classes.
    """
    values = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    if len(values) != count:
        raise InputError(f"{plural(len(values), 'label')} for {count} images; give one a image, -100 where unknown")
    return _numbered(["" if v is None or v != v or v == UNKNOWN_LABEL else _text(v) for v in values], shown)


def read_labels(
    data: bytes, shown: str, names: Sequence[str], layout: Layout | None = None
) -> tuple[np.ndarray, list[str]]:
    """Reads a csv with the columns file and label, in any order and with or without a header.

    Args:
        data: contents of the file.
        shown: its name in messages.
        names: of the items; rows may also leave out the folders or the suffix where the rest is unique.
        layout: gives the folders that all items share and that rows may leave out.

    Raises:
        InputError: with every line that is wrong, at most 20.
    """
    return _numbered(read_label_words(data, shown, names, layout), shown)


def read_label_words(data: bytes, shown: str, names: Sequence[str], layout: Layout | None = None) -> list[str]:
    """As `read_labels`, the words themselves, one an item; "" where a row is empty or missing.

    Raises:
        InputError: with every line that is wrong, at most 20.
    """
    rows = _rows(data, shown)
    is_item = lambda cell: _Names(names[:100_000], "").find(cell) is not None  # noqa: E731
    file_at, label_at, start = _columns(rows, shown, FILE_COLUMNS, is_item)
    known = _Names(names, layout.root if layout else "")
    above = _shared_folders([row[file_at] for _, row in rows[start:] if len(row) > file_at])

    def find(name: str, hint: bool) -> int | str:
        position = known.find(name)
        if position is None:
            position = next(
                (at for folder in above if (at := known.exact(_slashes(name).removeprefix(folder))) is not None), None
            )
        if position is None and above and ABSOLUTE.match(above[0]):
            position = known.find(_slashes(name).removeprefix(above[-1]))
        return known.complain(name, hint) if position is None else position

    values = _values(rows[start:], shown, file_at, label_at, find, _show)
    return [values.get(i, "") for i in range(len(names))]


def _values(
    rows: list[tuple[int, list[str]]], shown: str, item_at: int, label_at: int, find: Callable[[str, bool], int | str],
    called: Callable[[str], str],
) -> dict[int, str]:  # fmt: skip
    """The label of every item that rows tell of.

    Args:
        item_at, label_at: the columns.
        find: gives the item that a cell names, or what is wrong with it; told whether to look for what was meant.
        called: how messages call a cell.

    Raises:
        InputError: with every line that is wrong, at most 20.
    """
    errors: list[str] = []
    values: dict[int, tuple[str, int]] = {}
    for line, row in rows:
        if len(row) <= max(item_at, label_at):
            errors.append(
                f"{shown}:{line}: {plural(len(row), 'column')} where at least {max(item_at, label_at) + 1} are needed"
            )
            continue
        cell, value = row[item_at].strip(), row[label_at].strip()
        value = "" if value == str(UNKNOWN_LABEL) else value
        item = find(cell, len(errors) < MOST_ERRORS)
        if isinstance(item, str):
            errors.append(f"{shown}:{line}: {item}")
        elif item in values and values[item][0] != value:
            before = values[item]
            errors.append(
                f"{shown}:{line}: {called(cell)} is labelled {_show(value)} here, {_show(before[0])} on line {before[1]}"
            )
        else:
            values[item] = value, line
    if errors:
        raise InputError(_told(shown, errors))
    return {item: value for item, (value, _) in values.items()}


def as_cell(text: str) -> str:
    """A name as a csv holds it: UTF-8 whatever bytes the disk gave it, and nothing a spreadsheet would compute."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


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
    row_at, label_at, start = _columns(rows, shown, ROW_COLUMNS, str.isdecimal, more)

    def find(number: str, hint: bool) -> int | str:
        if number.isdecimal() and len(number) < 20 and int(number) < count:  # Python refuses to convert very long ones
            return int(number)
        return f"{_show(number)} is no row of the table; its rows are 0 to {count - 1:,}"

    values = _values(rows[start:], shown, row_at, label_at, find, "row {}".format)
    return _numbered([values.get(row, "") for row in range(count)], shown)


def names_rows(data: bytes, shown: str) -> bool:
    """Whether a csv of labels counts rows instead of naming files."""
    words = [cell.strip().lower() for cell in _rows(data, shown)[0][1]]
    return any(word in words for word in ROW_COLUMNS) and not any(word in words for word in FILE_COLUMNS)


def _slashes(name: str) -> str:
    return name.strip().replace("\\", "/")


def _shared_folders(files: list[str]) -> list[str]:
    """Folders that all rows begin with, the outermost first: "/data/", "/data/photos/", of another machine perhaps, or "photos/"
    where a csv was written beside the folder."""
    folders = [_slashes(file).split("/")[:-1] for file in files]
    if not folders:
        return []
    same = itertools.takewhile(lambda two: two[0] == two[1], zip(min(folders), max(folders), strict=False))
    return list(itertools.accumulate(f"{one}/" for one, _ in same))


class _Names:
    """Finds items by exact name, then without what rows commonly leave out, as long as that is unique."""

    def __init__(self, names: Sequence[str], root: str) -> None:
        self.names = names
        self.maps: list[dict[str, int | None]] = []
        prefix = f"{root}/" if root else ""
        for view in (
            lambda n: n,
            lambda n: unicodedata.normalize("NFC", n),
            lambda n: n.removeprefix(prefix),
            lambda n: n.rsplit("/", 1)[-1],
            lambda n: n.rsplit(".", 1)[0],
            lambda n: n.rsplit("/", 1)[-1].rsplit(".", 1)[0],
            lambda n: as_cell(n).strip(),
        ):
            found: dict[str, int | None] = {}
            for i, name in enumerate(names):
                key = view(name)
                found[key] = None if key in found else i
            self.maps.append(found)

    def find(self, name: str) -> int | None:
        plain = name.replace("\\", "/").removeprefix("./")
        for key in dict.fromkeys((name, plain, unicodedata.normalize("NFC", plain))):
            for found in self.maps:
                if found.get(key) is not None:
                    return found[key]
        return None

    def exact(self, name: str) -> int | None:
        """By the whole name, or by all of it but the folder that all items share."""
        name = unicodedata.normalize("NFC", name)
        return next((found[name] for found in self.maps[:3] if found.get(name) is not None), None)

    def complain(self, name: str, hint: bool) -> str:
        if not name:
            return "the file name is empty"
        if any(name in found for found in self.maps):
            return f"{_show(name)} names more than one image; write the path from the top folder"
        close = difflib.get_close_matches(name, self._near(name), n=1, cutoff=0.5) if hint else []
        nearest_name = f"; did you mean {_show(close[0])}?" if close else ""
        return f"no image {_show(name)} among the {len(self.names):,} of the data{nearest_name}"

    def _near(self, name: str) -> list[str]:
        # matching is slow, so of many names only those that begin or end alike are compared
        if len(self.names) <= 500:
            return list(self.names)
        tail, head = name.rsplit("/", 1)[-1], name[:3]
        alike = [n for n in self.names if n.startswith(head) or n.endswith(tail[-5:])]
        return list((alike or self.names)[:500])


def _rows(data: bytes, shown: str) -> list[tuple[int, list[str]]]:
    text = table_text(data, shown)
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
        raise InputError(f"{shown} is empty; write a line 'file,label' and one line an image")
    return rows


def _columns(
    rows: list[tuple[int, list[str]]], shown: str, known: Sequence[str], is_item: Callable[[str], bool], more: str = ""
) -> tuple[int, int, int]:
    """Places of the column of items and of that of labels, and the first row of data.

    Args:
        known: names that the column of items may have. is_item: whether a cell names one, where there is no header.
        more: what else to say of a first line.
    """
    line, header = rows[0]
    words = [cell.strip().lower() for cell in header]
    item_at = next((words.index(w) for w in known if w in words), None)
    label_at = next((words.index(w) for w in LABEL_COLUMNS if w in words), None)
    if item_at is not None and label_at is not None:
        return item_at, label_at, 1
    if item_at is None and label_at is None and len(header) == 2 and is_item(header[0].strip()):
        return 0, 1, 0
    wanted = known[0] if item_at is None else "label"
    raise InputError(
        f"{shown}:{line}: no column {wanted!r}; the columns are {', '.join(_show(c) for c in header)}"
        f"{_near(wanted, words)}; the first line must be {known[0]},label{more}"
    )


def _near(word: str, known: list[str]) -> str:
    hint = nearest(word, known)
    return f" ({hint})" if hint.startswith("did you mean") else ""


def _numbered(texts: list[str], shown: str) -> tuple[np.ndarray, list[str]]:
    texts = ["" if text in ("nan", "NaN", "<NA>") else text for text in texts]  # as pandas writes what is missing
    classes = _ordered({text for text in texts if text})
    if len(classes) < 2:
        found = (
            f"one class, {_show(classes[0])}"
            if classes
            else "no labels" + (" yet: fill in its column" if texts else "")
        )
        raise InputError(f"{shown} holds {found}; at least two classes are needed to learn from labels")
    place = {name: i for i, name in enumerate(classes)}
    return np.array([place.get(text, UNKNOWN_LABEL) for text in texts], np.int64), classes


def _ordered(words: set[str]) -> list[str]:
    try:
        return sorted(words, key=lambda w: (float(w), w))
    except ValueError:
        return sorted(words)


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _show(word: str) -> str:
    return repr(word if len(word) <= 80 else f"{word[:77]}...")


def _told(shown: str, errors: list[str]) -> str:
    lines = "\n".join(f"  {error}" for error in errors[:MOST_ERRORS])
    more = f"\n  and {len(errors) - MOST_ERRORS:,} more" if len(errors) > MOST_ERRORS else ""
    count = plural(len(errors), "line is", "lines are")
    return f"{shown}: {count} wrong; mend or delete, then run again\n{lines}{more}"
