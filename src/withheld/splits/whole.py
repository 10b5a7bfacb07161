"""Nothing observed is hidden: the item is told from z, which nobody saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from withheld.types import Pair, Split


@dataclass(frozen=True)
class Whole(Split):
    """(x, y) = (t, t): the copy in x feeds the recognition network only, which guesses z."""

    hides: ClassVar[bool] = False

    def __call__(self, t: Any) -> Pair:
        """The item twice."""
        return Pair(x=t, y=t)

    def merge(self, pair: Pair) -> Any:
        """The item, as it was told."""
        return pair.y


@dataclass(frozen=True)
class Binarize:
    """Every pixel in 0..1 becomes 1 with that probability, anew each time (dynamic binarization, Burda et al. 2015).

    Cross-entropy against grey pixels is the likelihood of nothing; against these it is one.
    """

    def __call__(self, t: Tensor) -> Tensor:
        """(B, C, H, W) of zeros and ones."""
        return (torch.rand_like(t) < t).to(t.dtype)
