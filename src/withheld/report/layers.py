"""Layer by layer: the linear probes of every block or stage, as a curve."""

from __future__ import annotations

from withheld.report.clean import one_line
from withheld.report.curves import Sweep
from withheld.report.folder import Contents, number
from withheld.report.scores import LAYER
from withheld.wording import labels


def read_layers(found: Contents) -> Sweep | None:
    """Accuracy by layer, a series for each number of labels; None where fewer than two layers were probed."""
    by_labels: dict[float | None, list[tuple[float, float, float]]] = {}
    for score in found.scores:
        match, value = LAYER.fullmatch(one_line(score.get("method") or "")), number(score.get("value"))
        if match and value is not None:
            points = by_labels.setdefault(number(score.get("labels_per_class")), [])
            points.append((float(match[1]), value, abs(number(score.get("spread")) or 0.0)))
    order = sorted(by_labels, key=lambda c: (c is None, c or 0))
    if not order or min(len(points) for points in by_labels.values()) < 2:
        return None
    series = [(labels(c) + (" per class" if c is not None else ""), sorted(by_labels[c])) for c in order]
    return Sweep("layer", "accuracy", True, series)
