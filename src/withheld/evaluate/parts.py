"""What a split hides of every item, place by place, so that any split can be drawn without knowing it.

Where a split can merge, a place is hidden if it changes with y, seen if it changes with t through x, and neither
otherwise: found by putting NaN (in tokens: a mark) where y or t was. Nothing here names a split.

Shapes: B batch, C channels, H W pixels, T frames, L tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from withheld.modes import evaluating
from withheld.objective import Objective
from withheld.types import CannotMerge, Pair, Split, as_split, map_tensors

SEEN, HIDDEN, NEITHER, GAP = 0, 1, 2, 3
MARK = -1
FAILS = (CannotMerge, RuntimeError, TypeError, ValueError, IndexError, KeyError)


@dataclass(frozen=True)
class Column:
    """One part of every item: "t", "x", "y" or "prediction".

    Attributes:
        values: a tensor with the axes of a batch of items, or None where that cannot be drawn; `words` says what it is. Of one
            whole number an item, `answers` are what the numbers mean, where that is known.
        covered: uint8 of the places of `values` (channels merged away): SEEN is drawn, HIDDEN and NEITHER are hatched.
    """

    name: str
    values: Tensor | None
    covered: NDArray[np.uint8] | None = None
    words: str = ""
    answers: tuple[str, ...] = ()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws of torch's global generators inside are a function of the seed; outside nothing changes."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def columns_of(subject: Split | Objective | Callable[[Any], Pair], t: Tensor, seed: int = 0) -> list[Column]:
    """t, x, y of a batch of items as the network gets them and, of an `Objective`, the prediction merged back."""
    split = subject.split if isinstance(subject, Objective) else as_split(subject)
    prediction = None
    with seeded(seed):
        if isinstance(subject, Objective):
            pair, prediction = _quietly(subject, _asked(split, t))
        else:
            pair = split(_asked(split, t))
    columns = [Column("t", t)]
    covered = _covered(split, t, pair, seed)
    if covered is None:
        return columns + (_as_items(split, pair, prediction) or _side_by_side(split, pair, prediction))
    columns.append(Column("x", t, covered))
    columns.append(Column("y", t, np.where(covered == HIDDEN, SEEN, HIDDEN).astype(np.uint8)))
    filled = _merged(split, pair, prediction)
    if filled is not None and filled.shape == t.shape:
        columns.append(Column("prediction", filled, np.where(covered == NEITHER, NEITHER, SEEN).astype(np.uint8)))
    return columns


def _asked(split: Split, t: Tensor) -> Any:
    """The item with what the split asks for beside it: its number, and an unknown label."""
    if not split.asks:
        return t
    known = {"id": torch.arange(len(t), device=t.device), "label": torch.full((len(t),), -100, device=t.device)}
    return {"item": t, **{name: known[name] for name in split.asks if name in known}}


def _quietly(objective: Objective, t: Any) -> tuple[Pair, Any]:
    with evaluating(objective):
        return objective.predict(t)


def _covered(split: Split, t: Tensor, pair: Pair, seed: int) -> NDArray[np.uint8] | None:
    """SEEN, HIDDEN or NEITHER for every place of t, or None where the split cannot tell."""
    try:
        without_y = split.merge(Pair(pair.x, map_tensors(_erased, pair.y)))
        with seeded(seed):
            x_without_t = split(_asked(split, _erased(t))).x
        without_t = split.merge(Pair(x_without_t, pair.y))
    except FAILS:
        return None
    if without_y.shape != t.shape or without_t.shape != t.shape:
        return None
    hidden, seen = _differs(without_y), _differs(without_t) if t.is_floating_point() else without_t == MARK
    covered = torch.where(hidden, HIDDEN, torch.where(seen, SEEN, NEITHER))
    if t.ndim >= 4:  # a place is one pixel, whatever its channels
        hidden_all, seen_any = hidden.all(dim=-3), seen.any(dim=-3)
        covered = torch.where(hidden_all, HIDDEN, torch.where(seen_any, SEEN, NEITHER))
        if bool(hidden_all.all()):
            return None
    return covered.cpu().numpy().astype(np.uint8)


def _erased(part: Tensor) -> Tensor:
    return torch.full_like(part, float("nan") if part.is_floating_point() else MARK)


def _differs(merged: Tensor) -> Tensor:
    return merged.isnan() if merged.is_floating_point() else merged == MARK


def _merged(split: Split, pair: Pair, prediction: Any) -> Tensor | None:
    if prediction is None or not _alike(prediction, pair.y):
        return None
    try:
        return split.merge(Pair(pair.x, prediction))
    except FAILS:
        return None


def _alike(a: Any, b: Any) -> bool:
    """Tensors of one shape and one kind of number: logits are not yet what they predict."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return set(a) == set(b) and all(_alike(a[name], b[name]) for name in a)
    same = isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape
    return bool(same and a.is_floating_point() == b.is_floating_point())


def _as_items(split: Split, pair: Pair, prediction: Any) -> list[Column]:
    """x and y as the split draws them, and the prediction merged with x; nothing where it draws none."""
    try:
        drawn = split.drawn(pair)
    except CannotMerge:
        return []
    filled = _merged(split, pair, prediction)
    more = [] if filled is None else [Column("prediction", filled)]
    return [Column("x", drawn.x), Column("y", drawn.y), *more]


def _side_by_side(split: Split, pair: Pair, prediction: Any) -> list[Column]:
    columns = [_own(name, part, split.answers) for name, part in (("x", pair.x), ("y", pair.y))]
    if prediction is not None and _alike(prediction, pair.y):
        columns.append(_own("prediction", prediction))
    return columns


def _own(name: str, part: Any, answers: tuple[str, ...] = ()) -> Column:
    """A part in its own shape; of a dict the first tensor that looks like a picture."""
    tensors = list(part.values()) if isinstance(part, Mapping) else [part]
    drawable = next((p for p in tensors if isinstance(p, Tensor) and p.ndim in (4, 5) and p.is_floating_point()), None)
    if drawable is not None:
        return Column(name, drawable)
    first = next((p for p in tensors if isinstance(p, Tensor)), None)
    if first is None:
        return Column(name, None, words=type(part).__name__)
    if first.ndim == 2 and not first.is_floating_point():
        return Column(name, first)
    if first.ndim == 1 and not first.is_floating_point():
        return Column(name, first, answers=answers)
    shape = " x ".join(map(str, first.shape[1:])) or "one"
    return Column(name, None, words=f"{shape} {'numbers' if first.is_floating_point() else 'whole numbers'}")


def to_pixels(values: Tensor, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.uint8]:
    """Normalized images (B, C, H, W) or clips (B, T, C, H, W) as (B, H, W, 3) uint8; frames stand side by side."""
    values = values.detach().float().cpu()
    C = values.shape[-3]
    if len(mean) == C:
        shape = (C, 1, 1)
        values = values * torch.tensor(list(std)).view(shape) + torch.tensor(list(mean)).view(shape)
    else:  # in units of its own, a lightness or a difference: from its lowest to its highest value
        low, high = values.amin(), values.amax()
        values = (values - low) / (high - low).clamp(min=1e-6)
    if values.ndim == 5:
        values = torch.nn.functional.pad(values, (0, _gap(values.shape[-1]))).permute(0, 2, 3, 1, 4).flatten(3)
    colors = values.expand(-1, 3, -1, -1) if C == 1 else values[:, :3]
    if colors.shape[1] == 2:
        colors = torch.cat([colors, torch.zeros_like(colors[:, :1])], dim=1)
    return (colors.nan_to_num(0.0).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def to_places(column: Column) -> NDArray[np.uint8] | None:
    """`Column.covered` laid out as `to_pixels` lays out pixels: (B, H, W), with GAP between the frames of a clip."""
    if column.values is None or column.values.ndim != 5:
        return column.covered
    B, T, _, H, W = column.values.shape
    covered = np.zeros((B, T, H, W), np.uint8) if column.covered is None else column.covered
    spaced = np.pad(covered, ((0, 0), (0, 0), (0, 0), (0, _gap(W))), constant_values=GAP)
    return spaced.transpose(0, 2, 1, 3).reshape(B, H, -1)


def _gap(frame: int) -> int:
    return max(1, frame // 24)
