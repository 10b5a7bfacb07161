"""Plots as inline SVG: every name and value goes through `element`, which escapes it.

Colors are CSS classes, so that one drawing serves light, dark and print. Lengths are in SVG user units, which are CSS
pixels where a page shows the drawing at its natural width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from withheld.report.clean import one_line

Point = tuple[float, float]


def element(tag: str, attributes: dict[str, Any] | None = None, *children: Any) -> Markup:
    """One SVG element; children that are not Markup already are text."""
    given = {name: value for name, value in (attributes or {}).items() if value is not None}
    parts = [f'{name}="{v if isinstance(v, Markup) else escape(_value(v))}"' for name, v in given.items()]
    inside = "".join(child if isinstance(child, Markup) else str(escape(one_line(child))) for child in children)
    return Markup(f"<{' '.join([tag, *parts])}>{inside}</{tag}>")  # noqa: S704, every part was escaped


def drawing(width: float, height: float, title: str, kind: str, children: Iterable[Markup]) -> Markup:
    """A whole drawing that scales with its column; `title` is what screen readers say."""
    attributes = {
        "viewBox": f"0 0 {width:g} {height:g}",
        "width": width,
        "height": height,
        "role": "img",
        "class": kind,
    }
    return element("svg", {**attributes, "aria-label": title}, *children)


def text(
    x: float, y: float, words: Any, kind: str | None = None, anchor: str | None = None, whole: Any = None
) -> Markup:  # fmt: skip
    """A line of text with its baseline at y; `whole` is what it may be short for, shown where a mouse rests on it."""
    title = () if whole is None else (element("title", {}, whole),)
    return element("text", {"x": x, "y": y, "class": kind, "text-anchor": anchor}, words, *title)


def line(a: Point, b: Point, kind: str) -> Markup:
    """A straight line."""
    return element("line", {"x1": a[0], "y1": a[1], "x2": b[0], "y2": b[1], "class": kind})


def path(points: Sequence[Point], kind: str) -> Markup:
    """A polyline."""
    return element("path", {"d": _steps(points), "class": kind})


def band(low: Sequence[Point], high: Sequence[Point], kind: str) -> Markup:
    """The area between two lines."""
    return element("path", {"d": _steps([*high, *reversed(low)]) + " Z", "class": kind})


def _steps(points: Sequence[Point]) -> Markup:
    steps = (f"{'L' if at else 'M'}{x:.1f} {y:.1f}" for at, (x, y) in enumerate(points))
    return Markup(" ".join(steps))  # noqa: S704, nothing but numbers


MARKERS = ("circle", "square", "triangle", "diamond", "cross", "plus", "wedge")


def marker(shape: str, at: Point, kind: str, size: float = 4.5) -> Markup:
    """A mark that tells rows apart without color."""
    x, y = at
    if shape == "circle":
        return element("circle", {"cx": x, "cy": y, "r": size, "class": kind})
    if shape in ("cross", "plus"):
        d = size * (0.75 if shape == "cross" else 1.05)
        arms = [((x - d, y - d), (x + d, y + d)), ((x - d, y + d), (x + d, y - d))]
        if shape == "plus":
            arms = [((x - d, y), (x + d, y)), ((x, y - d), (x, y + d))]
        return element("path", {"d": Markup(" ").join(_steps(arm) for arm in arms), "class": f"{kind} arms"})
    outlines = {
        "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        "triangle": [(0, -1.15), (1.1, 0.85), (-1.1, 0.85)],
        "diamond": [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
        "wedge": [(0, 1.15), (1.1, -0.85), (-1.1, -0.85)],
    }
    corners = [(x + size * dx, y + size * dy) for dx, dy in outlines[shape]]
    return element("polygon", {"points": " ".join(f"{_value(a)},{_value(b)}" for a, b in corners), "class": kind})


@dataclass(frozen=True)
class Scale:
    """Maps values to lengths, linear or by logarithm."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (
            (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        share = 0.5 if high == low else (at - low) / (high - low)
        return self.start + share * (self.stop - self.start)


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that cover [low, high], about as many as asked."""
    if not high > low:
        wide = abs(low) * 0.1 or 1.0
        low, high = low - wide, high + wide
    rough = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 1e-300 else 1e-300
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) if abs(i * step) > 1e-9 else i * step for i in range(first, last + 1)]


def spaced(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Moves label positions apart, each as little as possible, within [low, high]; keeps their order."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    groups: list[list[float]] = []  # [sum of wanted first positions, members]
    for rank, i in enumerate(order):
        groups.append([wanted[i] - rank * gap, 1.0])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            last = groups.pop()
            groups[-1] = [groups[-1][0] + last[0], groups[-1][1] + last[1]]
    base = [group[0] / group[1] for group in groups for _ in range(round(group[1]))]
    highest = high - (len(order) - 1) * gap
    placed = [0.0] * len(wanted)
    for rank, i in enumerate(order):
        placed[i] = min(max(base[rank], low), max(low, highest)) + rank * gap
    return placed


def _value(value: Any) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else one_line(value)
