"""The verdict as one picture for a README: the label-efficiency curve, drawn by matplotlib."""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from pathlib import Path
from typing import Any

from withheld.errors import InputError
from withheld.report.clean import one_line
from withheld.report.folder import read_folder
from withheld.report.headline import parted
from withheld.report.page import write_whole
from withheld.report.scores import OURS, Row, Table, read_scores
from withheld.report.svg import nice_ticks, spaced
from withheld.wording import count as counted

INK, SOFT, HAIR = "#1d1d1f", "#5d5d62", "#e4e2dd"
COLORS = {
    "tuned": ["#0069b4"],
    "probe": ["#3a9bd9"],
    "knn": ["#00896b"],
    "scratch": ["#1d1d1f", "#5d5d62"],
    "random": ["#8a8a90"],
    "floor": ["#c77700", "#b0527e", "#8a6d00"],
    "public": ["#c8421f", "#7a4fb5"],
    "other": ["#6b6b70"],
}
DASHES: dict[str, Any] = {"random": (0, (4, 3)), "floor": (0, (4, 3)), "public": (0, (1, 1.6))}
MARKS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "cross": "X", "plus": "P", "wedge": "v"}


def draw_figure(folder: Path, out_png: Path) -> Path:
    """Draws the curve of the latest evaluation; see `withheld.report.figure`."""
    found = read_folder(folder)
    table = read_scores(found)
    if table is None:
        raise InputError(
            f"{folder} holds no scores to draw: evaluate it first, `withheld evaluate {folder} --data LABELLED`"
        )
    picture = _drawn(table, one_line(found.verdict.get("sentence") or ""))
    return write_whole(out_png, picture)


def _drawn(table: Table, sentence: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    head = _heading(sentence)
    height = 4.65 + 0.25 * len(head)
    sheet = Figure(figsize=(10.4, height), dpi=200, facecolor="white")
    FigureCanvasAgg(sheet)
    axes = sheet.add_axes((0.06, 0.62 / height, 0.47, 3.5 / height))
    places = _places(table)
    ends = [_draw_row(axes, row, table, places, at) for at, row in enumerate(table.rows)]
    _dress(axes, table, places)
    _name_ends(axes, table, ends)
    for at, (words, style) in enumerate(head):
        sheet.text(0.025, 1 - (0.3 + 0.25 * at) / height, words, va="center", parse_math=False, **style)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script the font lacks is drawn as boxes
        sheet.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _heading(sentence: str) -> list[tuple[str, dict[str, Any]]]:
    """The sentence in lines with their style: what is said first in bold, asides smaller."""
    first, rest = parted(sentence)
    bold = [(words, {"fontsize": 11, "weight": "bold", "color": INK}) for words in textwrap.wrap(first, 92)]
    return (bold + [(words, {"fontsize": 9.5, "color": SOFT}) for words in textwrap.wrap(rest, 118)])[:8]


def _places(table: Table) -> dict[float | None, float]:
    numbers = [math.log10(c) for c in table.counts if c is not None]
    end = (numbers[-1] + 0.6) if numbers else 0.0
    return {c: end if c is None else math.log10(c) for c in table.counts}


def _draw_row(axes: Any, row: Row, table: Table, places: dict[float | None, float], at: int) -> tuple[float, float]:
    """Draws a row and returns where it ends."""
    scale = 100 if table.percent else 1
    dodge = (at - (len(table.rows) - 1) / 2) * 0.012 * max(1.0, max(places.values()) - min(places.values())) / 2
    counts = [c for c in table.counts if c in row.points]
    x = [places[c] + dodge for c in counts]
    value = [scale * row.points[c][0] for c in counts]
    spread = [scale * row.points[c][1] for c in counts]
    color = _color(row)
    strong = row.role in ("tuned", "scratch")
    if strong and len(x) > 1:
        low, high = ([v + sign * s for v, s in zip(value, spread, strict=True)] for sign in (-1, 1))
        axes.fill_between(x, low, high, color=color, alpha=0.11, linewidth=0, zorder=2)
    style = {"linestyle": DASHES.get(row.role, "-"), "linewidth": 2.0 if strong else 1.2, "zorder": 20 - at}
    axes.errorbar(
        x, value, yerr=spread, color=color, elinewidth=1, marker=MARKS[row.marker], markersize=5.5,
        markeredgecolor="white", markeredgewidth=0.6, **style,
    )  # fmt: skip
    return x[-1], value[-1]


def _dress(axes: Any, table: Table, places: dict[float | None, float]) -> None:
    scale = 100 if table.percent else 1
    points = [point for row in table.rows for point in row.points.values()]
    low, high = min(v - s for v, s, _ in points), max(v + s for v, s, _ in points)
    if table.percent:
        low, high = max(0.0, low), min(1.0, high)
    ticks = [scale * tick for tick in nice_ticks(low, high)]
    axes.set_ylim(ticks[0], ticks[-1])
    wide = max(0.5, max(places.values()) - min(places.values()))
    axes.set_xlim(min(places.values()) - 0.08 * wide, max(places.values()) + 0.08 * wide)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks(list(places.values()), ["all" if c is None else counted(c) for c in places])
    axes.grid(axis="y", color=HAIR, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0, labelsize=9, labelcolor=SOFT)
    axes.set_xlabel("labels per class", fontsize=9.5, color=SOFT)
    axes.text(
        -0.055, 1.045, f"{table.metric}, %" if table.percent else table.metric, transform=axes.transAxes,
        fontsize=9.5, color=SOFT, ha="left", parse_math=False,
    )  # fmt: skip


def _name_ends(axes: Any, table: Table, ends: list[tuple[float, float]]) -> None:
    low, high = axes.get_ylim()
    heights = spaced([y for _, y in ends], (high - low) / max(14.5, len(ends)), low, high)
    right = axes.get_xlim()[1]
    step = 0.05 * (right - axes.get_xlim()[0])
    for row, (x, y), height in zip(table.rows, ends, heights, strict=True):
        axes.plot([x, right, right + step], [y, y, height], color="#b9b9bd", linewidth=0.6, clip_on=False, zorder=1)
        axes.plot(
            [right + 1.5 * step], [height], marker=MARKS[row.marker], color=_color(row), markersize=5, clip_on=False
        )
        value = table.show(row.points[table.last(row)][0])
        axes.text(right + 4.4 * step, height, value, fontsize=9, color=SOFT, va="center", ha="right")
        weight = "bold" if row.role in (*OURS, "scratch") else "normal"
        said = {"fontsize": 9, "color": INK, "va": "center", "weight": weight, "parse_math": False}
        axes.text(right + 4.8 * step, height, table.end_name(row), **said)


def _color(row: Row) -> str:
    shades = COLORS[row.role]
    return shades[min(row.shade, len(shades) - 1)]
