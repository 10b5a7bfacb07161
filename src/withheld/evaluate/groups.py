"""Which component, or which class, every row of a table belongs to.

Shapes: B rows, K components, S classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from withheld.asked import Asked
from withheld.data.vectors import Vectors
from withheld.errors import InputError, nearest
from withheld.evaluate.classifier import write_labels
from withheld.run import Run, open_run
from withheld.types import Recipe

CHUNK = 8192


def is_groups(folder: Any) -> bool:
    """Whether this is a run of mixture or mean_field."""
    return isinstance(folder, str | Path) and (Path(folder) / "run.json").is_file() and (
        open_run(folder).settings.get("modality") == "table"
    )  # fmt: skip


def predict_groups(folder: str | Path, data: Any, output: str | Path, listen: Any = lambda event: None) -> int:
    """Writes a csv: every row (or file), its likeliest class (component, where the run learned without labels), how likely.

    Args:
        folder: a run of mixture or mean_field.
        data: a table with the columns that it learned, by name; others are passed over.
        output: the csv.
        listen: is told what happens.

    Returns:
        How many rows.

    Raises:
        InputError: for the data. CannotWrite: for the csv.
    """
    run = open_run(folder)
    model = run.objective()
    table = open_table(run, model, data)
    classes = run.settings["data"].get("classes") or []
    best, sure, done = [], [], 0
    for share, _ in posteriors(model, table):
        share = share.reshape(len(share), -1, len(classes) or model.components).sum(dim=1)
        found = share.max(dim=1)
        best.append(found.indices.numpy())
        sure.append(found.values.numpy())
        done += len(share)
        listen({"kind": "likelihood", "done": done, "total": len(table)})
    at = np.concatenate(best)
    names = table.names or [str(i) for i in range(len(table))]
    told = [classes[k] for k in at] if classes else [str(k) for k in at]
    header = ("file" if table.names else "row", "label" if classes else "component", "probability")
    write_labels(Path(output), names, told, np.concatenate(sure), header)
    return len(at)


def open_table(run: Run, model: Any, data: Any, test: bool = False) -> Vectors:
    """The rows of some data with the columns that a run learned.

    Args:
        run: of mixture or mean_field.
        model: its model, which checks every row.
        data: whatever the run could have learned from.
        test: whether to take the test part of data that has one.

    Raises:
        InputError: where a column is missing, or a cell is none for this model.
    """
    from withheld.modalities.table import Tables

    facts = run.settings["data"]
    asked = Asked(size=facts["shape"][1] if facts.get("shape") else "auto")
    tables = Tables(data, asked, torch.device("cpu"), lambda kind, **event: None)
    tables.test = test
    tables.open(None)  # of no method, so that no column is left out: the run knows which it wants
    tables.table = _with_columns(tables.table, facts["columns"], data, str(facts.get("location") or ""))
    tables.feed(Recipe(**run.settings["recipe"]))
    tables.examine(model)
    return tables.table


def posteriors(model: Any, table: Vectors) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields (B, K) responsibilities and (B,) log densities, some rows at a time."""
    from withheld.data.vectors import VectorItems

    items = VectorItems(table.values)
    for start in range(0, len(table), CHUNK):
        yield model.posterior(items.batch(np.arange(start, min(start + CHUNK, len(table))), "cpu"))


def _with_columns(table: Vectors, wanted: list[str], data: Any, learned: str) -> Vectors:
    """Columns by name, in the order that was learned; by place where names say nothing.

    Args:
        learned: the data that the run learned from, for the remedy.
    """
    if table.columns == wanted:
        return table
    missing = [name for name in wanted if name not in table.columns]
    if not missing:
        table.values = np.asarray(table.values)[:, [table.columns.index(name) for name in wanted]]
        table.columns = list(wanted)
        return table
    plain = any(names == [f"x{i}" for i in range(len(names))] for names in (wanted, table.columns))
    unnamed = plain or (
        _only_counted(wanted) and _only_counted(table.columns)
    )  # "feature0" of a run, "features0" of embed
    if unnamed and len(table.columns) == len(wanted):
        table.columns = list(wanted)
        return table
    raise InputError(
        f"{data}: {len(table.columns)} columns, the run learned {len(wanted)}; there is no column {missing[0]!r}, "
        f"{nearest(missing[0], table.columns)}{_remedy(learned, data)}"
    )


def _only_counted(names: list[str]) -> bool:
    """Whether all names are one word with the number of the column, as a vector in one column gives them."""
    return names == [f"{names[0].removesuffix('0')}{i}" for i in range(len(names))]


def _remedy(learned: str, data: Any) -> str:
    if not learned.startswith("run:"):
        return ""
    return (
        f"; the run learned from features: withheld embed {learned.removeprefix('run:')} {data} -o features.parquet, "
        "and name that file"
    )
