"""Labels for some rows of a table: a csv beside it, or a column of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from withheld.data.labels import given_labels, names_rows, read_labels, read_row_labels
from withheld.data.vectors import Vectors
from withheld.errors import InputError


def label_column(labels: str | Path | None) -> str | None:
    """The column that labels are asked for by, where they are no file."""
    return None if labels is None or Path(labels).expanduser().is_file() else str(labels)


def row_labels(labels: str | Path, table: Vectors) -> tuple[np.ndarray, list[str]]:
    """Labels (N,) int64, -100 where unknown, and the names of the classes.

    Args:
        labels: a csv with the columns row and label (file and label, where the rows are files), or the name of a column that
            the table was opened with.
        table: whose rows they are of.

    Raises:
        InputError: where there are none, or with every line that is wrong.
    """
    column = label_column(labels)
    if column is not None:
        if table.told is None:
            raise InputError(
                f"--labels {column}: there is no such file, and no such column in {table.location}; give a csv with the "
                f"columns {'file' if table.names else 'row'},label{'' if table.names else ', or a column of the table'}"
            )
        return given_labels(table.told, len(table), f"column {column!r} of {table.location}")
    path = Path(labels).expanduser()
    data = path.read_bytes()
    if table.names is None or names_rows(data, path.name):
        return read_row_labels(data, path.name, len(table))
    return read_labels(data, path.name, table.names)
