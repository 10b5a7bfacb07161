"""Was the task solved by cheating: the rows of the latest `probe-shortcuts`, as a table."""

from __future__ import annotations

from typing import Any

from withheld.report.clean import one_line
from withheld.report.folder import Contents, mapping, number, texts
from withheld.wording import plain

SHARES = ("accuracy", "share")
FEW = 4
"""Items held out from which on something can be told."""


def shown(name: str, value: float | None) -> str:
    """A measure as it is printed: shares of one in percent."""
    if value is None:
        return ""
    if any(word in name for word in SHARES):
        return f"{100 * value:.1f} %"
    return plain(float(f"{value:.4g}"))


def columns_of(rows: list[dict[str, Any]]) -> list[str]:
    """The names of everything that was measured, in the order it came."""
    return list(dict.fromkeys(name for row in rows for name in mapping(row.get("measures"))))


def sentence_of(rows: list[dict[str, Any]]) -> str:
    """What the rows come to; the first is the run as it is."""
    marked = [one_line(row.get("row") or "") for row in rows if texts(row.get("suspect"))]
    told = f"Suspicious: {', '.join(marked)}" if marked else "Nothing suspicious"
    items = number(rows[0].get("items"))
    if items and items < FEW:
        return (
            f"Nothing can be told: only {items:.0f} {'item was' if items == 1 else 'items were'} held out, and what the network "
            "says of so few is chance; name more with --data"
        )
    if rows[0].get("by_chance"):
        measures, floor = mapping(rows[0].get("measures")), mapping(rows[0].get("floor"))
        name = "accuracy" if "accuracy" in floor else "loss"
        told = (
            f"Nothing can be told: the run solves its task no better than an answer that is the same for every item ({name} "
            f"{shown(name, number(measures.get(name)))}, by chance {shown(name, number(floor.get(name)))}); train it longer, then "
            "probe again"
        )
    short = [row for row in rows if number(row.get("steps"))]
    if short and all(row.get("by_chance") for row in short):
        told += ". Of its defenses nothing can be told: all short trainings solve the task by chance; give --minutes or --steps"
    return told


def read_shortcuts(found: Contents) -> dict[str, Any]:
    """Columns, and rows with cells and what they mean; empty where nothing was probed."""
    rows = found.shortcuts
    if not rows:
        return {}
    columns = columns_of(rows)
    drawn = []
    before = ""
    for row in rows:
        suspect = texts(row.get("suspect"))
        measures = mapping(row.get("measures"))
        cells = [{"text": shown(name, number(measures.get(name))), "suspect": name in suspect} for name in columns]
        reads = one_line(row.get("reads") or "")
        drawn.append(
            {"name": one_line(row.get("row") or ""), "reads": "" if reads == before else reads, "cells": cells}
        )
        before = reads
    marked = any(texts(row.get("suspect")) for row in rows)
    held_out = rows[0].get("held_out") is not False
    return {"columns": columns, "rows": drawn, "marked": marked, "held_out": held_out, "said": sentence_of(rows)}
