"""What was measured besides a verdict, such as predicted frames or followed masks: tables as they were printed."""

from __future__ import annotations

from typing import Any

from withheld.report.clean import one_line
from withheld.report.folder import Contents, mapping, texts


def read_measured(found: Contents) -> list[dict[str, Any]]:
    """Title, sentence, columns, rows and notes of the last table of each kind."""
    tables = []
    for line in found.measured.values():
        columns = [one_line(column) for column in texts(line.get("columns"))]
        rows = [texts(row) for row in line.get("rows") or [] if isinstance(row, list)]
        whole = [{"name": one_line(row[0]), "cells": [one_line(cell) for cell in row[1:]]} for row in rows if row]
        tables.append(
            {
                "title": one_line(line.get("title") or ""), "sentence": one_line(line.get("sentence") or ""),
                "columns": columns, "rows": [row for row in whole if len(row["cells"]) == len(columns)],
                "notes": [one_line(note) for note in texts(line.get("notes"))],
                "command": one_line(mapping(line).get("command") or ""),
            }
        )  # fmt: skip
    return tables
