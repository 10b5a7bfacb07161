"""Views of the same image against each other: what one shows is told from what another shows.

Shapes: B batch, V views, C channels, H W pixels, h side of a view.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from withheld.errors import InputError
from withheld.resize import at_size
from withheld.splits.views import LUMA, View
from withheld.types import Pair, Split


@dataclass(frozen=True)
class TwoViews(Split):
    """(x, y) = two random views of every image, (B, C, h, h) each.

    Attributes:
        view: how the first is made.
        other: how the second is made; None takes the same.
    """

    takes_bytes = True

    view: View = field(default_factory=View)
    other: View | None = None

    @property
    def augment(self) -> View:
        """How the first view is made."""
        return self.view

    def __call__(self, t: Tensor) -> Pair:
        return Pair(self.view(t), (self.other or self.view)(t))

    def shrunk(self, side: float) -> TwoViews:
        """A copy whose views have this share of their side."""
        other = None if self.other is None else self.other.shrunk(side)
        return dataclasses.replace(self, view=self.view.shrunk(side), other=other)

    def in_units(self, mean: Sequence[float], std: Sequence[float]) -> TwoViews:
        """A copy for images normalized by these."""
        other = None if self.other is None else self.other.in_units(mean, std)
        return dataclasses.replace(self, view=self.view.in_units(mean, std), other=other)

    def drawn(self, pair: Pair) -> Pair:
        """Both views, to look at."""
        return pair


@dataclass(frozen=True)
class SwappedViews(TwoViews):
    """x is two random views of every image, (B, 2, C, h, h), and y the same two, swapped: from each the other is told."""

    def __call__(self, t: Tensor) -> Pair:
        first, second = super().__call__(t)
        return Pair(torch.stack([first, second], dim=1), torch.stack([second, first], dim=1))

    def drawn(self, pair: Pair) -> Pair:
        """One view and the other."""
        return Pair(pair.x[:, 0], pair.y[:, 0])


@dataclass(frozen=True)
class LargeAndSmall(Split):
    """x is the large views of every image, (B, V, C, h, h), y its small ones, (B, W, C, s, s).

    Attributes:
        large, small: how each is made.
        count_large, count_small: V and W.
    """

    takes_bytes = True

    large: View = field(default_factory=View)
    small: View = field(default_factory=lambda: View(scale=(0.05, 0.4)))
    count_large: int = 2
    count_small: int = 2

    def __post_init__(self) -> None:
        for name in ("count_large", "count_small"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: there must be one view at least")

    @property
    def augment(self) -> View:
        """How large views are made."""
        return self.large

    def __call__(self, t: Tensor) -> Pair:
        return Pair(several(self.large, t, self.count_large), several(self.small, t, self.count_small))

    def shrunk(self, side: float) -> LargeAndSmall:
        """A copy whose views, large and small, have this share of their side."""
        return dataclasses.replace(self, large=self.large.shrunk(side), small=self.small.shrunk(side))

    def in_units(self, mean: Sequence[float], std: Sequence[float]) -> LargeAndSmall:
        """A copy for images normalized by these."""
        return dataclasses.replace(self, large=self.large.in_units(mean, std), small=self.small.in_units(mean, std))

    def drawn(self, pair: Pair) -> Pair:
        """A large view and a small one."""
        return Pair(pair.x[:, 0], pair.y[:, 0])


@dataclass(frozen=True)
class MultiCrop(Split):
    """x is "large" (B, 2, C, h, h) and "small" views (B, W, C, s, s) of every image, y the large ones (Caron et al. 2020).

    Attributes:
        first, second: how the two large views are made.
        small: how small views are made.
        count: W; 0 is two views only, and x then has no "small".
    """

    takes_bytes = True

    first: View = field(default_factory=View)
    second: View = field(default_factory=View)
    small: View = field(default_factory=lambda: View(scale=(0.05, 0.4)))
    count: int = 4

    @property
    def augment(self) -> View:
        """How the first view is made."""
        return self.first

    def __call__(self, t: Tensor) -> Pair:
        large = torch.stack([self.first(t), self.second(t)], dim=1)
        x = {"large": large}
        if self.count:
            x["small"] = several(self.small, t, self.count)
        return Pair(x, large)

    def shrunk(self, side: float) -> MultiCrop:
        """A copy whose views, large and small, have this share of their side."""
        views = {name: getattr(self, name).shrunk(side) for name in ("first", "second", "small")}
        return dataclasses.replace(self, **views)

    def in_units(self, mean: Sequence[float], std: Sequence[float]) -> MultiCrop:
        """A copy for images normalized by these."""
        views = {name: getattr(self, name).in_units(mean, std) for name in ("first", "second", "small")}
        return dataclasses.replace(self, **views)

    def drawn(self, pair: Pair) -> Pair:
        """A small view, where there are any, and a large one."""
        return Pair(pair.x.get("small", pair.x["large"])[:, 0], pair.y[:, 0])


def several(view: View, t: Tensor, count: int) -> Tensor:
    """So many views of every image at once, (B, count, C, h, h)."""
    return view(t.repeat_interleave(count, dim=0)).unflatten(0, (len(t), count))


@dataclass(frozen=True)
class SharedView(Split):
    """x is a random view of every image, y the same view as another encoder wants to see it (Beyer et al. 2021).

    Attributes:
        view: how it is made; it must know its units, see `in_units`.
        size, channels: of y.
        mean, std: what y is normalized by, per channel.
    """

    takes_bytes = True

    view: View = field(default_factory=View)
    size: int = 32
    channels: int = 3
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    @property
    def augment(self) -> View:
        """How the view is made."""
        return self.view

    def __call__(self, t: Tensor) -> Pair:
        larger = dataclasses.replace(self.view, size=max(self.view.size or t.shape[-1], self.size))
        seen = larger(t)
        return Pair(at_size(seen, self.view.size or t.shape[-1]), self._as_told(seen))

    def shrunk(self, side: float) -> SharedView:
        """A copy whose view has this share of its side; the teacher sees what it saw."""
        return dataclasses.replace(self, view=self.view.shrunk(side))

    def in_units(self, mean: Sequence[float], std: Sequence[float]) -> SharedView:
        """A copy for images normalized by these."""
        return dataclasses.replace(self, view=self.view.in_units(mean, std))

    def drawn(self, pair: Pair) -> Pair:
        """The view, twice."""
        return Pair(pair.x, pair.x)

    def _as_told(self, seen: Tensor) -> Tensor:
        pixels = at_size(seen, self.size)
        if self.view.std:
            shape = (1, -1, 1, 1)
            pixels = pixels * seen.new_tensor(self.view.std).view(shape) + seen.new_tensor(self.view.mean).view(shape)
        have = pixels.shape[1]
        if have == 3 and self.channels == 1:
            pixels = (pixels * seen.new_tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        elif have != self.channels:
            if have != 1:
                raise InputError(f"images have {have} channels, the teacher sees {self.channels}")
            pixels = pixels.expand(-1, self.channels, -1, -1)
        return (pixels - seen.new_tensor(self.mean).view(1, -1, 1, 1)) / seen.new_tensor(self.std).view(1, -1, 1, 1)
