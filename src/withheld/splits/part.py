"""Any part of an item from any other: the lecture's own list (top from bottom, future from past, occluded from visible ...).

Axes by the rank of the batch: text (B, L), images (B, C, H, W), video (B, T, C, H, W).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from withheld.errors import InputError, nearest
from withheld.types import Pair, Split

# part -> (axis by meaning, from, to) as shares of that axis
PARTS = {
    "top": ("height", 0.0, 0.5),
    "bottom": ("height", 0.5, 1.0),
    "left": ("width", 0.0, 0.5),
    "right": ("width", 0.5, 1.0),
    "past": ("time", 0.0, 0.5),
    "recent": ("time", 0.375, 0.5),
    "present": ("time", 0.5, 0.625),
    "future": ("time", 0.5, 1.0),
}
AXES = {2: {"time": 1}, 4: {"height": 2, "width": 3}, 5: {"time": 1, "height": 3, "width": 4}}


@dataclass(frozen=True)
class PredictPart(Split):
    """Hides one named part and shows another: p(part | given).

    `part` is what is hidden: top, bottom, left, right, past, present, future, or "occluded", a random box (in text: a random
    span) whose share of each axis is `box`. `given` is what may be seen: another part, or "" for everything that is not
    hidden. What may not be seen is 0 in x, so x keeps the shape of t.

    x is t with zeros (B, ...), or for "occluded" a dict with "item" and the box's first "row", "column" (and "frame"), each (B,);
    y is the hidden part, cut out.
    """

    hides: ClassVar[bool] = True
    part: str = "right"
    given: str = ""
    box: float = 0.5

    def __post_init__(self) -> None:
        for name, known in (("part", [*PARTS, "occluded"]), ("given", [*PARTS, ""])):
            if getattr(self, name) not in known:
                raise InputError(
                    f"{name}={getattr(self, name)!r} is no part of an item: {nearest(getattr(self, name), known)}"
                )
        if self.given and self.part != "occluded" and self._covered():
            raise InputError(f"given={self.given!r} lies inside part={self.part!r}: nothing would be left to see")
        if not 0.0 < self.box < 1.0:
            raise InputError(f"box={self.box} is outside (0, 1): it is the share of each axis that is hidden")

    def _covered(self) -> bool:
        axis, start, stop = PARTS[self.given]
        return PARTS[self.part][0] == axis and PARTS[self.part][1] <= start and stop <= PARTS[self.part][2]

    def __call__(self, t: Tensor) -> Pair:
        if self.part == "occluded":
            return self._occlude(t)
        hidden = self._slices(t, self.part)
        if self.given:
            x = torch.zeros_like(t)
            seen = self._slices(t, self.given)
            x[seen] = t[seen]
        else:
            x = t.clone()
        x[hidden] = 0
        return Pair(x, t[hidden])

    def merge(self, pair: Pair) -> Tensor:
        """x with the hidden part, true or predicted, put back; what was neither seen nor asked stays 0."""
        if self.part == "occluded":
            return self._fill(pair.x, pair.y)
        t = pair.x.clone()
        t[self._slices(t, self.part)] = pair.y.to(t.dtype)
        return t

    def _slices(self, t: Tensor, part: str) -> tuple[slice, ...]:
        axis_name, start, stop = PARTS[part]
        axes = AXES.get(t.ndim)
        if axes is None or axis_name not in axes:
            kind = {2: "text", 4: "images", 5: "video"}.get(t.ndim, f"items of {t.ndim - 1} axes")
            raise InputError(
                f"{part!r} is a part along the {axis_name}, which {kind} do not have: known here: {sorted(self._known(t))}"
            )
        axis = axes[axis_name]
        length = t.shape[axis]
        cut = [slice(None)] * t.ndim
        cut[axis] = slice(math.floor(start * length), max(math.floor(start * length) + 1, math.floor(stop * length)))
        return tuple(cut)

    @staticmethod
    def _known(t: Tensor) -> list[str]:
        return [part for part, (axis, _, _) in PARTS.items() if axis in AXES.get(t.ndim, {})]

    def _box_axes(self, t: Tensor) -> list[tuple[str, int]]:
        names = {"time": "frame", "height": "row", "width": "column"}
        axes = AXES.get(t.ndim)
        if axes is None:
            raise InputError(
                f"cannot occlude items of {t.ndim - 1} axes: text (L), images (C, H, W) and video (T, C, H, W) are known"
            )
        return [(names[name], axis) for name, axis in axes.items() if not (name == "time" and t.ndim == 5)]

    def _box_index(self, t: Tensor, starts: dict[str, Tensor]) -> Tensor:
        """Flat indices (B, hidden values) of every item's box."""
        B = t.shape[0]
        strides = [math.prod(t.shape[axis + 1 :]) for axis in range(1, t.ndim)]
        boxed = {axis: name for name, axis in self._box_axes(t)}
        index = torch.zeros((B,) + (1,) * (t.ndim - 1), dtype=torch.long, device=t.device)
        for axis in range(1, t.ndim):
            shape = [1] * t.ndim
            length = max(1, int(t.shape[axis] * self.box)) if axis in boxed else t.shape[axis]
            shape[axis] = length
            place = torch.arange(length, device=t.device).view(shape)
            if axis in boxed:
                place = place + starts[boxed[axis]].view((B,) + (1,) * (t.ndim - 1))
            index = index + place * strides[axis - 1]
        return index

    def _occlude(self, t: Tensor) -> Pair:
        starts = {}
        for name, axis in self._box_axes(t):
            length = max(1, int(t.shape[axis] * self.box))
            starts[name] = torch.randint(0, t.shape[axis] - length + 1, (t.shape[0],), device=t.device)
        index = self._box_index(t, starts)
        flat = t.flatten(1)
        y = flat.gather(1, index.flatten(1)).view(index.shape)
        return Pair({"item": flat.scatter(1, index.flatten(1), 0).view(t.shape), **starts}, y)

    def _fill(self, x: dict[str, Tensor], y: Tensor) -> Tensor:
        t = x["item"]
        index = self._box_index(t, x)
        return t.flatten(1).scatter(1, index.flatten(1), y.flatten(1).to(t.dtype)).view(t.shape)
