"""What the log says about training: the loss, and small plots of everything else over the steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from withheld.report.axes import Frame
from withheld.report.clean import one_line, shorten
from withheld.report.folder import mapping, number
from withheld.report.svg import Scale, drawing, nice_ticks, path
from withheld.wording import plain, plural, short_count

Series = list[tuple[float, float]]

MOST_PANELS = 24
NOTHING = 0.15
"""Nats below the loss of counting that are no sign of learning yet."""
_TITLES = {
    "learning_rate": "learning rate",
    "gradient_norm": "gradient norm",
    "items_per_second": "items per second",
}


@dataclass(frozen=True)
class Panel:
    """One small plot."""

    title: str
    last: str
    drawing: Markup


def read_series(log: Sequence[dict[str, Any]]) -> dict[str, Series]:
    """Every number of the log by its name, over steps: "loss" first, then terms (if several), speed and vitals."""
    series: dict[str, Series] = {"loss": []}
    terms: dict[str, Series] = {}
    vitals: dict[str, Series] = {}
    for entry in log:
        step = float(entry["step"])
        for name in ("loss", *_TITLES):
            _add(series, _TITLES.get(name, name), step, entry.get(name))
        for name, value in mapping(entry.get("terms")).items():
            _add(terms, one_line(name), step, value)
        for name, value in mapping(entry.get("vitals")).items():
            _add(vitals, one_line(name), step, value)
    if len(terms) > 1:
        series.update({f"term: {name}": values for name, values in terms.items()})
    series.update({name.replace("_", " "): values for name, values in vitals.items() if name not in series})
    return {name: values for name, values in series.items() if values}


def _add(series: dict[str, Series], name: str, step: float, value: Any) -> None:
    found = number(value)
    if found is not None:
        series.setdefault(name, []).append((step, found))


def loss_plot(series: Series, narrow: bool = False) -> Markup:
    """The loss of every logged step, faint, and its running mean on top."""
    width, height = (350.0, 240.0) if narrow else (920.0, 300.0)
    frame = Frame(54.0, 12.0, width - 14, height - 50)
    parts = _axes(series, frame, "step", 4 if narrow else 7, window=max(1, len(series) // 25))
    title = f"loss by step: {loss_words(series)}"
    return drawing(width, height, title, "plot narrow" if narrow else "plot wide", parts)


def panels(series: dict[str, Series]) -> list[Panel]:
    """A small plot for everything but the loss."""
    drawn = []
    for name, values in list(series.items())[:MOST_PANELS]:
        if name == "loss" or len(values) < 2:
            continue
        frame = Frame(46.0, 8.0, 290.0, 104.0)
        parts = _axes(values, frame, "", 5)
        drawn.append(
            Panel(shorten(name, 40), plain(values[-1][1]), drawing(300, 130, f"{name} over steps", "plot panel", parts))
        )
    return drawn


def smoothed(series: Series, window: int) -> Series:
    """Running mean over the last `window` entries, shorter at the start."""
    out: Series = []
    total = 0.0
    for at, (step, value) in enumerate(series):
        total += value
        if at >= window:
            total -= series[at - window][1]
        out.append((step, total / min(at + 1, window)))
    return out


def thinned(series: Series, most: int = 400) -> Series:
    """At most about `most` points: of every stretch its lowest and highest, so that spikes stay visible, and both ends."""
    if len(series) <= most:
        return series
    size = 2 * len(series) / most
    out: list[tuple[float, float]] = []
    for at in range(most // 2):
        stretch = series[int(at * size) : int((at + 1) * size)]
        if stretch:
            out += sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
    return [series[0], *(point for point in out if series[0][0] < point[0] < series[-1][0]), series[-1]]


def loss_words(loss: Series) -> str:
    """How the loss moved, in a sentence."""
    if len(loss) < 2:
        return ""
    window = max(1, len(loss) // 20)
    first = sum(value for _, value in loss[:window]) / window
    last = sum(value for _, value in loss[-window:]) / window
    return f"The loss went from {plain(round(first, 4))} to {plain(round(last, 4))} over {plural(loss[-1][0], 'step')}."


def held_out_words(log: Sequence[dict[str, Any]], floor: float | None) -> str:
    """Of a model of words: what it knows of texts that it never learned from, in a sentence."""
    last = next((mapping(entry.get("vitals")) for entry in reversed(log) if mapping(entry.get("vitals"))), {})
    hidden, loss = number(last.get("masked_loss")), number(last.get("held_out_loss"))
    known = loss if hidden is None else hidden
    if floor is None or known is None:
        return ""
    right = number(last.get("word_accuracy" if hidden is None else "masked_accuracy"))
    what = "words" if hidden is None else "words behind [MASK]"
    found = f"Of texts it never learned from it tells {what} with {known:.2f} nats each"
    found += f", {100 * right:.1f} % of them right" if right is not None else ""
    below = floor - known
    found += (
        f"; a model that only counts words has {floor:.2f}."
        if below > NOTHING
        else f": no more than counting words tells ({floor:.2f}). It has not begun to learn; give it more minutes."
    )
    gap = number(last.get("gap"))
    return found + (f" Held-out minus training loss: {gap:+z.2f} nats." if gap is not None else "")


def _told_apart(low: float, high: float, ticks: int) -> tuple[float, float]:
    """The range of an axis, wide enough that so many ticks differ in the four digits that are written."""
    most = max(abs(low), abs(high))
    least = ticks * 10.0 ** (math.floor(math.log10(most)) - 3) if most > 0 else 0.0
    missing = max(0.0, least - (high - low)) / 2
    return low - missing, high + missing


def _axes(series: Series, frame: Frame, title: str, x_ticks: int, window: int = 1) -> list[Markup]:
    """Grid, ticks and the line; with a window the line is its running mean and every value is drawn faintly."""
    values = sorted(value for _, value in series)
    # A spike at the start must not flatten the rest: the line leaves the plot at the top there.
    about = 4 if title else 2
    ticks = nice_ticks(*_told_apart(values[0], values[min(len(values) - 1, int(0.995 * len(values)))], about), about)
    y_of = Scale(ticks[0], ticks[-1], frame.bottom, frame.top)
    first, last = series[0][0], series[-1][0]
    x_of = Scale(first, last, frame.left, frame.right)
    steps = sorted({round(step) for step in nice_ticks(first, last, x_ticks) if first <= round(step) <= last})
    drawn = frame.horizontal(y_of, ticks, plain)
    drawn += frame.below([(x_of(step), short_count(step)) for step in steps], title)
    shown = [(series, "raw"), (smoothed(series, window), "smooth")] if window > 1 else [(series, "smooth")]
    for points, kind in shown:
        drawn.append(path([(x_of(step), y_of(min(value, ticks[-1]))) for step, value in thinned(points)], kind))
    return drawn
