"""The frame a plot is drawn in: grid lines, ticks and their words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from withheld.report.svg import Scale, line, text


@dataclass(frozen=True)
class Frame:
    """The inner rectangle of a plot."""

    left: float
    top: float
    right: float
    bottom: float

    def horizontal(self, scale: Scale, ticks: Sequence[float], words: Callable[[float], str]) -> list[Markup]:
        """Grid lines with their values at the left."""
        drawn = []
        for tick in ticks:
            y = scale(tick)
            drawn.append(line((self.left, y), (self.right, y), "grid"))
            drawn.append(text(self.left - 8, y + 4, words(tick), "tick", "end"))
        return drawn

    def below(self, places: Sequence[tuple[float, str]], title: str) -> list[Markup]:
        """Ticks with words under the plot; words that would touch the ones before are left out."""
        drawn, free = [], float("-inf")
        for x, words in places:
            half = 3.6 * len(words)
            drawn.append(line((x, self.bottom), (x, self.bottom + 4), "axis"))
            if x - half >= free:
                drawn.append(text(x, self.bottom + 18, words, "tick", "middle"))
                free = x + half + 6
        if title:
            drawn.append(text((self.left + self.right) / 2, self.bottom + 38, title, "axis-title", "middle"))
        return drawn
