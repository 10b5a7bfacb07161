"""Numbers as people write them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence


def count(value: float) -> str:
    """1600 -> "1,600"."""
    return f"{round(value):,}"


def short_count(value: float) -> str:
    """5526528 -> "5.5 M"."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            scale = 1e3 if unit == "k" else limit
            return f"{value / scale:.3g} {unit}"
    return count(value)


def plain(value: float) -> str:
    """A number with about four digits that matter."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def short_numbers(text: str) -> str:
    """The numbers in a text with four digits that matter: scale=(0.25, 1.3333333333333333) -> scale=(0.25, 1.333)."""
    return re.sub(r"(?<!\d)\d+\.\d{5,}(?![\de])", lambda found: f"{float(found[0]):.4g}", text)


def percent(mean: float, half: float | None, scale: float = 100.0) -> str:
    """An accuracy and half its interval: (0.712, 0.013) -> "71.2 ± 1.3"; one that spans all there is says no more than that."""
    return f"{scale * mean:.1f}{within(half, scale)}"


def within(half: float | None, scale: float = 100.0) -> str:
    """ " ± 1.3"; " ± >100" where few draws leave everything open, and nothing where there is no interval."""
    if half is None or not math.isfinite(half):
        return ""
    return " ± >100" if scale * half > 100 else f" ± {scale * half:.1f}"


def duration(seconds: float) -> str:
    """0 -> "0 s", 4.26 -> "4.3 s", 432 -> "7 min 12 s"."""
    if seconds < 10:
        return f"{round(seconds, 1):g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def labels(number: float | None) -> str:
    """1 -> "1 label", None -> "all labels"."""
    if number is None:
        return "all labels"
    return plural(number, "label")


def per_class(numbers: Sequence[int]) -> str:
    """[1] -> "1 label per class", [1, 10] -> "1, 10 labels per class"."""
    return f"{', '.join(map(str, numbers))} label{'s' * (list(numbers) != [1])} per class"


def about(number: float, one: str) -> str:
    """(0.004, "epoch") -> "0.004 epochs", (1.0, "epoch") -> "1 epoch", (12.34, "epoch") -> "12.3 epochs"."""
    shown = f"{number:,.0f}" if number >= 99.5 else f"{number:.3g}"
    return f"{shown} {one}{'s' * (shown != '1')}"


def size(number: float) -> str:
    """Bytes for people: 512 B, 1.5 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if unit in ("B", "kB") else f"{number:.1f} {unit}"


def plural(number: float, one: str, many: str = "") -> str:
    """(1, "file") -> "1 file", (2, "file") -> "2 files", (2, "item is", "items are") -> "2 items are"."""
    return f"{count(number)} {one if round(number) == 1 else many or one + 's'}"
