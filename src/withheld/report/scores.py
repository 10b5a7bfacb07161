"""The measured rows: which is ours, which a baseline, how each is drawn, and what the page says first."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from withheld.report.clean import one_line
from withheld.report.folder import Contents, number
from withheld.report.svg import MARKERS
from withheld.wording import count as counted
from withheld.wording import plain, within

# What a row is, where its score does not say: by how its name starts, else by the first of these words in it.
_NAMES = {
    "fine-tuned": "tuned",
    "linear probe": "probe",
    "knn": "knn",
    "semi-supervised": "probe",
    "self-training on": "floor",
    "self-training": "probe",
    "m1 + m2": "probe",
    "from scratch": "scratch",
    "random": "random",
}
_ROLES = (
    ("scratch", ("scratch",)),
    ("random", ("random", "untrained")),
    ("floor", ("pixel", "hog", "histogram", "tf-idf", "lsa", "majority", "chance", "floor")),
    ("public", ("/", "public", "against", "(linear probe)")),
    ("tuned", ("fine-tun", "fine tun", "finetun")),
)
_ORDER = {"tuned": 0, "probe": 1, "knn": 2, "scratch": 3, "random": 4, "floor": 5, "public": 6, "other": 7}
OURS = ("tuned", "probe", "knn")
LAYER = re.compile(r"linear probe, layer (\d{1,4}) of \d{1,4}")
"""The rows of single layers: a curve of their own, and no part of the comparison."""
END_NAME = 40
"""Letters that there is room for at the end of a line."""


@dataclass
class Row:
    """One method at every number of labels: `points` maps labels per class (None is all) to (value, spread, seeds)."""

    method: str
    role: str
    marker: str = "circle"
    shade: int = 0
    points: dict[float | None, tuple[float, float, int]] = field(default_factory=dict)
    note: str = ""

    @property
    def kind(self) -> str:
        """The CSS class of its color."""
        return f"c-{self.role}" if not self.shade else f"c-{self.role} shade-{min(self.shade, 3)}"


@dataclass
class Table:
    """All rows of an evaluation with a common unit."""

    rows: list[Row]
    counts: list[float | None]
    metric: str
    percent: bool

    def show(self, value: float, digits: int = 1) -> str:
        """A value in the unit of the table."""
        return f"{100 * value:.{digits}f} %" if self.percent else plain(value)

    def cell(self, row: Row, count: float | None) -> dict[str, Any]:
        """What the table of numbers says of a row at a number of labels."""
        point = row.points.get(count)
        if point is None:
            return {"value": "", "spread": "", "best": False}
        value, spread, _ = point
        best = max(other.points[count][0] for other in self.rows if count in other.points)
        scale = 100 if self.percent else 1
        shown = f"{scale * value:.1f}" if self.percent else plain(value)
        return {
            "value": shown,
            "spread": within(spread, scale).strip() if self.percent else f"± {plain(spread)}",
            "best": value == best,
        }

    def find(self, *roles: str) -> list[Row]:
        """The rows of some roles, the best at the most labels first."""
        rows = [row for row in self.rows if row.role in roles and row.points]
        return sorted(rows, key=lambda row: -row.points[self.last(row)][0])

    def end_name(self, row: Row) -> str:
        """What stands at the end of a row's line: its name, and where it ended if others went on. Names differ at their start."""
        last = self.last(row)
        more = "" if last == self.counts[-1] or last is None else f", at {counted(last)}"
        room = END_NAME - len(more)
        name = one_line(row.method)
        return (name if len(name) <= room else f"{name[: room - 1].rstrip()}…") + more

    def last(self, row: Row) -> float | None:
        """The most labels that a row was measured with."""
        return next(count for count in reversed(self.counts) if count in row.points)


def role_of(method: str, said: Any = None) -> str:
    """What a row is: ours (tuned, probe, knn), scratch, random, floor, public or other."""
    if said in ("scratch", "random", "floor", "public"):
        return str(said)
    name = method.casefold()
    for start, role in _NAMES.items():
        if name.startswith(start):
            return role
    return next((role for role, words in _ROLES if any(word in name for word in words)), "other")


def read_scores(found: Contents) -> Table | None:
    """Groups the scores of an evaluation by method; None where there are none."""
    rows: dict[str, Row] = {}
    metrics: list[str] = []
    for score in found.scores:
        name = one_line(score.get("method") or "unnamed")
        if LAYER.fullmatch(name):
            continue
        row = rows.setdefault(name, Row(name, role_of(name, score.get("role"))))
        labels = number(score.get("labels_per_class"))
        seeds = score.get("seeds")
        count = len(seeds) if isinstance(seeds, list) else 0
        row.points[labels if labels and labels > 0 else None] = (
            number(score.get("value")) or 0.0,
            abs(number(score.get("spread")) or 0.0),
            count,
        )
        row.note = row.note or one_line(score.get("note") or "")
        metrics.append(one_line(score.get("metric") or "score"))
    if not rows:
        return None
    counts = sorted({count for row in rows.values() for count in row.points}, key=lambda c: (c is None, c or 0))
    values = [point[0] for row in rows.values() for point in row.points.values()]
    percent = metrics[0] in ("accuracy", "balanced accuracy", "top-1", "f1") and min(values) >= 0 and max(values) <= 1
    return Table(_dressed(list(rows.values())), counts, metrics[0], percent)


def _dressed(rows: list[Row]) -> list[Row]:
    """Orders rows by what they are and gives each a color and a mark of its own."""
    rows.sort(key=lambda row: _ORDER[row.role])
    seen: dict[str, int] = {}
    for at, row in enumerate(rows):
        row.marker = MARKERS[at % len(MARKERS)]
        row.shade = seen.get(row.role, 0)
        seen[row.role] = row.shade + 1
    return rows
