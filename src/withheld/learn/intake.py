"""What is looked at once, before the first step: does the network get what it was made for, and is there something to learn?

Shapes: B items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from withheld.learn.health import untouched
from withheld.objective import AfterStep, Objective
from withheld.types import Pair, map_tensors

FEW = 32
"""Items are enough to see which answer belongs to which."""


def intake(objective: Objective, batch: Any) -> dict[str, float]:
    """Of a batch as the loop feeds it: mean and deviation of what goes in, how much moves, how much is hidden, and whether targets
    belong to the items they stand beside.
    """
    item = batch["item"] if isinstance(batch, Mapping) else batch
    found = {}
    if isinstance(item, Tensor) and item.is_floating_point():
        found = {"input_mean": float(item.mean()), "input_deviation": float(item.std())}
        if item.ndim == 5 and item.shape[1] > 1:
            still = item.var().clamp_min(1e-12)
            found["motion"] = float(item.diff(dim=1).square().mean() / still)
    if isinstance(objective.target, AfterStep) or any(isinstance(part, AfterStep) for part in _parts(objective.target)):
        found["moving_target"] = 1.0
    if objective.needs_whole_batch():
        found["at_once"] = 1.0
    few = map_tensors(lambda part: part[:FEW], batch)
    with untouched(objective):
        pair = objective.split(few)
        found.update(_hidden(pair))
        found.update(_targets_belong(objective, few))
    return found


def _parts(target: Any) -> list[nn.Module]:
    return list(target.modules()) if isinstance(target, nn.Module) else []


def _hidden(pair: Pair) -> dict[str, float]:
    """Share of an item that must be told, where what must be told is a part of it."""
    if isinstance(pair.x, Mapping) and "asked" in pair.x:
        return {"hidden_share": float(pair.x["asked"].float().mean())}
    if isinstance(pair.x, Mapping) and {"at", "hidden"} <= set(pair.x):
        seen, hidden = pair.x["at"].shape[1], pair.x["hidden"].shape[1]
        return {"hidden_share": hidden / (seen + hidden)}
    return {}


def _targets_belong(objective: Objective, batch: Any) -> dict[str, float]:
    """Exchanges single items: the target that moves most should belong to an item whose input moved."""
    before, right, asked = _rows_of(objective, batch), 0, 0
    B = len(next(_tensors(batch)))
    for at in sorted({0, B // 3, B - 1}):
        after = _rows_of(objective, map_tensors(partial(_exchanged, at=at), batch))
        moved_x, moved_y = (_moved(one, two, B) for one, two in zip(before, after, strict=True))
        if moved_x is None or moved_y is None or not bool(moved_y.any()) or not bool(moved_x.any()):
            continue
        asked += 1
        right += bool(moved_x[int(moved_y.argmax())] > 0)
    return {"targets_belong": right / asked} if asked else {}


def _rows_of(objective: Objective, batch: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    pair = objective.pair(batch)
    return pair.x, objective.aim(pair.y)


def _exchanged(part: Tensor, at: int) -> Tensor:
    changed = part.clone()
    changed[at] = part[(at + len(part) // 2) % len(part)]
    return changed


def _moved(one: Any, two: Any, B: int) -> Tensor | None:
    """(B,) by how much the rows differ; None where rows are no items."""
    total: Tensor | None = None
    for before, after in zip(_tensors(one), _tensors(two), strict=True):
        if before.shape != after.shape or not before.ndim or len(before) != B:
            return None
        each = (before.cpu().double() - after.cpu().double()).abs().reshape(B, -1).sum(dim=1)
        total = each if total is None else total + each
    return total


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
