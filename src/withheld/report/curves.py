"""The label-efficiency curve and the sweep of a setting: value against something, with 95 % intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from withheld.report.axes import Frame
from withheld.report.clean import one_line, shorten
from withheld.report.folder import Contents, number, objects
from withheld.report.scores import OURS, Row, Table
from withheld.report.svg import MARKERS, Scale, band, drawing, element, line, marker, nice_ticks, path, spaced, text
from withheld.wording import count as counted
from withheld.wording import labels, plain

WIDE, NARROW = (920.0, 440.0), (350.0, 330.0)


def label_curve(table: Table, narrow: bool = False) -> Markup:
    """Accuracy by labels per class, logarithmic; rows named at their ends where there is room (else: `legend`)."""
    width, height = NARROW if narrow else WIDE
    frame = Frame(46.0, 14.0, width - (14 if narrow else 376), height - 52)
    x_of = _label_scale(table, frame)
    points = [point for row in table.rows for point in row.points.values()]
    y_of, ticks = _value_scale([(value, spread) for value, spread, _ in points], frame, table.percent)
    drawn = frame.horizontal(y_of, ticks, lambda tick: f"{100 * tick:.0f}" if table.percent else plain(tick))
    words = [(x_of[c], "all" if c is None else counted(c)) for c in table.counts]
    drawn += frame.below(words, "labels per class")
    for at, row in reversed(list(enumerate(table.rows))):  # ours last, on top
        step = 2.2 if narrow else 3.2
        drawn.append(_row(row, table, x_of, y_of, (at - (len(table.rows) - 1) / 2) * step))
    if not narrow:
        drawn += _end_names(table, x_of, y_of, frame)
    unit = f"{table.metric} in %" if table.percent else table.metric
    title = f"{unit} by labels per class: " + "; ".join(_spoken(row, table) for row in table.rows)
    return drawing(width, height, title, "plot narrow" if narrow else "plot wide", drawn)


def legend(table: Table) -> list[tuple[Markup, str]]:
    """A swatch and a name for every row."""
    return [(swatch(row.kind, row.marker), row.method) for row in table.rows]


def swatch(kind: str, shape: str) -> Markup:
    """A short piece of a row's line with its mark."""
    inside = line((1.0, 7.0), (27.0, 7.0), f"row {kind}") + marker(shape, (14.0, 7.0), f"mark {kind}", 4)
    return element(
        "svg", {"viewBox": "0 0 28 14", "width": 28, "height": 14, "class": "swatch", "aria-hidden": "true"}, inside
    )


def _label_scale(table: Table, frame: Frame) -> dict[float | None, float]:
    """Where every number of labels stands: by logarithm, with "all" one step after the last number."""
    numbers = [c for c in table.counts if c is not None]
    pad = 26.0
    places: dict[float | None, float] = {}
    last = math.log10(numbers[-1]) if numbers else 0.0
    first = math.log10(numbers[0]) if numbers else 0.0
    end = last + (0.6 if None in table.counts and numbers else 0.0)
    for c in table.counts:
        at = end if c is None else math.log10(c)
        share = 0.5 if end == first else (at - first) / (end - first)
        places[c] = frame.left + pad + share * (frame.right - frame.left - 2 * pad)
    return places


def _value_scale(values: list[tuple[float, float]], frame: Frame, percent: bool) -> tuple[Scale, list[float]]:
    low = min(value - spread for value, spread in values)
    high = max(value + spread for value, spread in values)
    if percent:
        low, high = max(0.0, low), min(1.0, high)
    ticks = nice_ticks(low, high)
    return Scale(ticks[0], ticks[-1], frame.bottom, frame.top), ticks


def _row(row: Row, table: Table, x_of: dict[float | None, float], y_of: Scale, dodge: float) -> Markup:
    """A line with its intervals; the rows are moved aside a little so that intervals do not hide each other."""
    dodge = max(-14.0, min(14.0, dodge))
    places = [(x_of[c] + dodge, *row.points[c][:2]) for c in table.counts if c in row.points]
    center = [(x, y_of(value)) for x, value, _ in places]
    parts = []
    if row.role in ("tuned", "scratch") and len(places) > 1:
        low, high = ([(x, y_of(_within(v + sign * s, y_of))) for x, v, s in places] for sign in (-1, 1))
        parts.append(band(low, high, f"band {row.kind}"))
    parts.append(path(center, f"row {row.kind}"))
    for x, value, spread in places:
        if spread:
            ends = [(x, y_of(_within(value + sign * spread, y_of))) for sign in (-1, 1)]
            parts.append(line(ends[0], ends[1], f"whisker {row.kind}"))
    parts += [marker(row.marker, at, f"mark {row.kind}") for at in center]
    return element("g", {}, element("title", {}, _spoken(row, table)), *parts)


def _within(value: float, scale: Scale) -> float:
    return min(max(value, scale.low), scale.high)


def _end_names(table: Table, x_of: dict[float | None, float], y_of: Scale, frame: Frame) -> list[Markup]:
    """Every row's name and last value at the right, moved apart, with a hair line to its last point."""
    ends = []
    for at, row in enumerate(table.rows):
        last = table.last(row)
        dodge = max(-14.0, min(14.0, (at - (len(table.rows) - 1) / 2) * 3.2))
        ends.append((x_of[last] + dodge, y_of(row.points[last][0]), table.show(row.points[last][0])))
    gap = min(19.0, (frame.bottom - frame.top) / max(1, len(ends)))
    heights = spaced([y for _, y, _ in ends], gap, frame.top + 6, frame.bottom)
    drawn = []
    for row, (x, y, value), height in zip(table.rows, ends, heights, strict=True):
        start = frame.right + 14
        drawn.append(path([(x + 7, y), (frame.right - 2, y), (start - 3, height)], "leader"))
        drawn.append(marker(row.marker, (start + 5, height), f"mark {row.kind}", 4))
        strong = "strong" if row.role in (*OURS, "scratch") else None
        drawn.append(text(start + 61, height + 4, value, "number", "end"))
        drawn.append(text(start + 68, height + 4, table.end_name(row), strong, whole=row.method))
    return drawn


def _spoken(row: Row, table: Table) -> str:
    said = (
        f"{labels(c)}{'' if c is None else ' per class'} {table.show(row.points[c][0])}"
        for c in table.counts
        if c in row.points
    )
    return f"{row.method}, {', '.join(said)}"


@dataclass(frozen=True)
class Sweep:
    """One setting at several values: series of (value, mean, spread) by labels per class."""

    parameter: str
    metric: str
    percent: bool
    series: list[tuple[str, list[tuple[float, float, float]]]]

    def best(self) -> tuple[float, float, str]:
        """The value with the highest mean in the series with the most labels, that mean, and the series' name."""
        name, points = self.series[-1]
        value, mean, _ = max(points, key=lambda point: point[1])
        return value, mean, name

    def sentence(self) -> str:
        """Which value did best, and which others cannot be told from it: their intervals overlap."""
        value, mean, name = self.best()
        _, points = self.series[-1]
        low = next(m - spread for v, m, spread in points if v == value)
        near = [plain(v) for v, m, spread in points if v != value and m + spread >= low]
        shown = f"{100 * mean:.1f} %" if self.percent else plain(mean)
        best = (
            f"{self.parameter} = {plain(value)} was {'highest' if near else 'best'} with {name}: {self.metric} {shown}"
        )
        return f"{best}; the intervals of {', '.join(near)} overlap its own" if near else best


def read_sweep(found: Contents) -> Sweep | None:
    """The sweep of a run folder, or None."""
    by_labels: dict[float | None, dict[float, tuple[float, float]]] = {}
    for score in objects(found.sweep.get("scores")):
        value, mean = number(score.get("value")), number(score.get("mean"))
        if value is not None and mean is not None:
            group = by_labels.setdefault(number(score.get("labels_per_class")), {})
            group[value] = (mean, abs(number(score.get("spread")) or 0.0))
    if not by_labels:
        return None
    order = sorted(by_labels, key=lambda c: (c is None, c or 0))
    series = [
        (labels(c) + (" per class" if c is not None else ""), [(v, *by_labels[c][v]) for v in sorted(by_labels[c])])
        for c in order
    ]
    means = [mean for _, points in series for _, mean, _ in points]
    metric = one_line(found.sweep.get("metric") or "score")
    percent = metric.casefold().startswith("accuracy") and min(means) >= 0 and max(means) <= 1
    return Sweep(one_line(found.sweep.get("parameter") or "value"), metric, percent, series)


def sweep_curve(sweep: Sweep, narrow: bool = False) -> Markup:
    """Mean and interval by the value of the setting, a line for each number of labels."""
    width, height = (NARROW[0], 300.0) if narrow else (WIDE[0], 360.0)
    frame = Frame(46.0, 14.0, width - (14 if narrow else 210), height - 52)
    values = sorted({value for _, points in sweep.series for value, _, _ in points})
    x_of = Scale(values[0], values[-1], frame.left + 26, frame.right - 26)
    y_of, ticks = _value_scale([(m, s) for _, points in sweep.series for _, m, s in points], frame, sweep.percent)
    drawn = frame.horizontal(y_of, ticks, lambda tick: f"{100 * tick:.0f}" if sweep.percent else plain(tick))
    drawn += frame.below([(x_of(value), plain(value)) for value in values], sweep.parameter)
    heights = spaced([y_of(points[-1][1]) for _, points in sweep.series], 20.0, frame.top + 6, frame.bottom)
    for at, (name, points) in enumerate(sweep.series):
        kind, shape = f"s-{at % 6}", MARKERS[at % len(MARKERS)]
        center = [(x_of(value), y_of(mean)) for value, mean, _ in points]
        low, high = ([(x_of(v), y_of(_within(m + sign * s, y_of))) for v, m, s in points] for sign in (-1, 1))
        drawn += [band(low, high, f"band {kind}"), path(center, f"row {kind}")]
        drawn += [line(a, b, f"whisker {kind}") for a, b in zip(low, high, strict=True)]
        drawn += [marker(shape, place, f"mark {kind}") for place in center]
        if not narrow:
            drawn.append(path([(center[-1][0] + 7, center[-1][1]), (frame.right + 10, heights[at])], "leader"))
            drawn.append(text(frame.right + 16, heights[at] + 4, shorten(name, 26), "end strong", whole=name))
    title = f"{sweep.metric} by {sweep.parameter}"
    return drawing(width, height, title, "plot narrow" if narrow else "plot wide", drawn)


def sweep_legend(sweep: Sweep) -> list[tuple[Markup, str]]:
    """A swatch and a name for every series."""
    return [(swatch(f"s-{at % 6}", MARKERS[at % len(MARKERS)]), name) for at, (name, _) in enumerate(sweep.series)]
