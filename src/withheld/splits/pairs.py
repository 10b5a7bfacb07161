"""Views of the same image against each other: what one shows is told from what another shows.

Shapes: B batch, V views, C channels, H W pixels, h side of a view.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from withheld.splits.views import View
from withheld.types import Pair, Split


@dataclass(frozen=True)
class TwoViews(Split):
    """(x, y) = two random views of every image, (B, C, h, h) each.

    Attributes:
        view: how the first is made.
        other: how the second is made; None takes the same.
    """

    view: View = View()
    other: View | None = None

    @property
    def flip(self) -> bool:
        """Whether views are mirrored."""
        return self.view.flip

    def __call__(self, t: Tensor) -> Pair:
        return Pair(self.view(t), (self.other or self.view)(t))

    def in_units(self, mean: Sequence[float], std: Sequence[float]) -> TwoViews:
        """A copy for images normalized by these."""
        other = None if self.other is None else self.other.in_units(mean, std)
        return dataclasses.replace(self, view=self.view.in_units(mean, std), other=other)

    def drawn(self, pair: Pair) -> Pair:
        """Both views, to look at."""
        return pair
