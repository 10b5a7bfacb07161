"""Which column of a csv of labels names the items, and which tells their labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from withheld.data.item_names import shown_cell
from withheld.errors import InputError, nearest

ROW_COLUMNS = ("row", "index", "number")
FILE_COLUMNS = ("file", "filename", "file_name", "path", "image", "image_path", "name", "item")
IMAGE_COLUMNS = ("image", "img", "images", "picture", "photo", "pixel_values")
LABEL_COLUMNS = ("label", "class", "target", "category", "label_name", "class_name", "y", "labels")
ASKED_COLUMNS = (*LABEL_COLUMNS, "classes", "targets", "sentiment", "rating", "stars", "score", "species", "breed")
"""What a column of labels may also be called where labels are asked for; in a table of numbers these are numbers."""
PART_COLUMNS = ("split", "set", "subset", "fold", "part", "partition", "is_valid", "is_test")
LOOKED_AT = 200
"""Rows that tell what a column holds."""


def columns_of(
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
    label_at = next((words.index(w) for w in ASKED_COLUMNS if w in words), None)
    if item_at is not None and label_at is not None:
        return item_at, label_at, 1
    if item_at is None and label_at is None and len(header) == 2 and is_item(header[0].strip()):
        return 0, 1, 0
    wanted = known[0] if item_at is None else "label"
    raise InputError(
        f"{shown}:{line}: no column {wanted!r}; the columns are {', '.join(shown_cell(c) for c in header)}"
        f"{_near(wanted, words)}; the first line must be {known[0]},label{more}"
    )


def file_columns(
    rows: list[tuple[int, list[str]]], shown: str, is_item: Callable[[str], bool], column: str | None,
    notes: list[str] | None,
) -> tuple[int, int, int]:  # fmt: skip
    """The same of a csv that names files, whatever its columns are called where their cells tell which is which.

    Args:
        column: of the labels, where it is named.
        notes: is told which column was taken, where its name does not say it.
    """
    header = [cell.strip() for cell in rows[0][1]]
    words = [word.lower() for word in header]
    cells = [row for _, row in rows[1 : LOOKED_AT + 1] if len(row) == len(header)]
    item_at = next((words.index(w) for w in FILE_COLUMNS if w in words), None)
    if not (len(header) == 2 and is_item(header[0])):
        named = [sum(is_item(row[at].strip()) for row in cells) for at in range(len(header))]
        if 2 * max(named) > len(cells) and (item_at is None or not named[item_at]):
            item_at = named.index(max(named))
    if item_at is None:
        return columns_of(rows, shown, FILE_COLUMNS, is_item)
    if column is not None:
        if column not in header:
            raise InputError(f"{shown} has no column {column!r}: {nearest(column, header)}")
        return item_at, header.index(column), 1
    parts = [at for at, word in enumerate(words) if word in PART_COLUMNS]
    label_at = next((at for w in ASKED_COLUMNS if w in words and (at := words.index(w)) != item_at), None)
    if label_at is None:
        others = [at for at in range(len(header)) if at != item_at and at not in parts]
        fits = others if len(others) == 1 else [at for at in others if is_class([row[at] for row in cells])]
        if len(fits) != 1:
            near = (
                _near("label", words) or "; name one, as in --labels " + f"{shown}:{header[(fits or others or [0])[0]]}"
            )
            raise InputError(
                f"{shown}:{rows[0][0]}: no column 'label'; the columns are {', '.join(shown_cell(c) for c in header)}{near}"
            )
        label_at = fits[0]
        if notes is not None:
            notes.append(f"the column {header[label_at]!r} of {shown} is taken for the labels")
    if parts and notes is not None:
        notes.append(
            f"the column {header[parts[0]]!r} of {shown} is not looked at: for a test part of your own, put the files into folders "
            "train and test"
        )
    return item_at, label_at, 1


def columns_named(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What the columns are called; an object of JSON lines may lack some."""
    return list(dict.fromkeys(name for row in rows for name in row))


def label_of_rows(
    rows: Sequence[dict[str, Any]], chosen: tuple[str, ...], labels: Any, shown: str, notes: list[str]
) -> str | None:
    """The column of labels, where they are asked for; `notes` is told where its name does not say it."""
    columns = columns_named(rows)
    if labels is True:
        lower = {str(name).lower(): name for name in columns if name not in chosen}
        name = next((lower[c] for c in ASKED_COLUMNS if c in lower), None)
        if name is not None:
            return name
        others = [c for c in columns if c not in chosen and str(c).lower() not in PART_COLUMNS]
        fits = [c for c in others if is_class([row.get(c) for row in rows])]
        if len(fits) != 1:
            raise InputError(
                f"{shown} has no column of labels among {', '.join(columns)}; name it with --labels COLUMN"
            )
        notes.append(f"the column {fits[0]!r} of {shown} is taken for the labels")
        return fits[0]
    if isinstance(labels, str) and labels in columns:
        return labels
    if isinstance(labels, str) and not Path(labels).is_file():
        raise InputError(f"{shown} has no column {labels!r} and there is no such file: {nearest(labels, columns)}")
    return None


def is_class(cells: Sequence[Any]) -> bool:
    """Whether cells may be classes: two or more, each often, where names, texts and measured numbers differ."""
    words = [str(cell).strip() for cell in cells if cell is not None and str(cell).strip()]
    return 2 <= len(set(words)) <= len(words) / 2


def _near(word: str, known: list[str]) -> str:
    hint = nearest(word, known)
    return f" ({hint})" if hint.startswith("did you mean") else ""
