"""Detection in the report: mAP by row and number of training images, and by class."""

from __future__ import annotations

from typing import Any

from withheld.report.clean import one_line
from withheld.report.folder import Contents, mapping, number, objects, texts
from withheld.report.scores import role_of
from withheld.wording import count, duration, plain, plural

MEASURES = ("mAP@0.5 (VOC07)", "COCO AP", "COCO AP75")


def read_detection(found: Contents) -> dict[str, Any]:
    """The latest verdict on detection as tables; nothing where there is none."""
    verdict = found.detection
    lines = [
        line
        for line in objects(verdict.get("table"))
        if number(line.get("images")) and number(line.get("mean")) is not None
    ]
    if not lines:
        return {}
    counts = sorted({float(line["images"]) for line in lines})
    total = number(verdict.get("train"))
    heads = [_head(images, total) for images in counts]
    names = list(dict.fromkeys(one_line(line.get("row") or "") for line in lines))
    by_place = {(one_line(line.get("row") or ""), float(line["images"])): line for line in lines}
    rows = [
        {"name": name, "role": role_of(name, next(line.get("row_kind") for (n, _), line in by_place.items() if n == name)),
         "cells": [_cell(by_place.get((name, images)), by_place, images) for images in counts]}
        for name in names
    ]  # fmt: skip
    classes = texts(verdict.get("classes"))
    last = [(name, by_place[name, counts[-1]]) for name in names if (name, counts[-1]) in by_place]
    measures = [
        name for name in MEASURES if any(number(mapping(line.get("scores")).get(name)) is not None for _, line in last)
    ]
    return {
        "sentence": one_line(verdict.get("sentence") or "") if found.verdict else "",  # else it heads the page
        "heads": heads,
        "rows": rows,
        "classes": [one_line(name) for name in classes],
        "measures": measures,
        "last": heads[-1],
        "by_class": [{"name": name, "cells": _parts(line, classes, measures)} for name, line in last],
        "notes": _notes(verdict),
        "how": _how(verdict, lines),
    }


def _head(images: float, total: float | None) -> str:
    share = f" ({plain(round(100 * images / total))} %)" if total else ""
    return plural(images, "image") + share


def _cell(
    line: dict[str, Any] | None, by_place: dict[tuple[str, float], dict[str, Any]], images: float
) -> dict[str, Any]:
    if line is None:
        return {"value": "", "spread": "", "best": False}
    best = max(number(other.get("mean")) or 0.0 for (_, at), other in by_place.items() if at == images)
    value, half = number(line.get("mean")) or 0.0, number(line.get("half"))
    return {
        "value": f"{100 * value:.1f}",
        "spread": f"\u00b1 {100 * half:.1f}" if half is not None else "",
        "best": value == best,
    }


def _parts(line: dict[str, Any], classes: list[str], measures: list[str]) -> list[str]:
    of_class, scores = mapping(line.get("AP")), mapping(line.get("scores"))
    values = [number(of_class.get(name)) for name in classes] + [number(scores.get(name)) for name in measures]
    return ["" if value is None else f"{100 * value:.1f}" for value in values]


def _notes(verdict: dict[str, Any]) -> list[str]:
    told = [*texts(verdict.get("notes")), *(f"Left out: {part}" for part in texts(verdict.get("left_out")))]
    problems = texts(verdict.get("problems"))
    return told + [f"In the data: {problem}" for problem in problems]


def _how(verdict: dict[str, Any], lines: list[dict[str, Any]]) -> str:
    """How it was measured, in a sentence."""
    seeds = max(len(line["seeds"]) if isinstance(line.get("seeds"), list) else 0 for line in lines)
    way = {"align": "taken from one map of the image", "warped": "cut out one by one"}.get(
        str(verdict.get("regions")), ""
    )
    side, seconds = number(verdict.get("side")), number(verdict.get("seconds"))
    parts = [
        "Mean average precision at an overlap of one half (area under the curve), over " + plural(seeds, "seed"),
        f"images squashed to {count(side)} pixels a side" if side else "",
        f"regions by selective search, {way}" if way else "",
        f"measured in {duration(seconds)}" if seconds else "",
    ]
    return ", ".join(part for part in parts if part) + "."
