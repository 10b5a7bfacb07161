"""How well colors are told, and what telling none would be worth.

Shapes: B batch, H W pixels, Q bins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from withheld.color import gamut_bins
from withheld.losses.color import chroma_ratio, rebalancing, soft_bins
from withheld.resize import at_size

FARTHEST = 150.0
AT_ONCE = 64
Guess = Callable[[Any, Tensor], Tensor]


def chromatic_auc(ab_B2HW: Tensor, true_B2HW: Tensor, weight_BHW: Tensor | None = None) -> float:
    """Area under the curve of the share of pixels within a distance of the true ab, by that distance, 0 to 150; 1 is perfect.

    The integral in closed form: the mean of 1 - distance / 150, not below 0 (Zhang et al. 2016, section 3.1).

    Args:
        weight_BHW: of the pixels; None counts all alike ("raw").
    """
    within = (1 - (ab_B2HW - true_B2HW).square().sum(dim=1).sqrt() / FARTHEST).clamp(min=0)
    weight = torch.ones_like(within) if weight_BHW is None else weight_BHW
    return float((within * weight).sum() / weight.sum())


def rare_weights(true_B2HW: Tensor) -> Tensor:
    """The weights (B, H, W) of "rebalanced": one over how frequent the color is among these pixels, smoothed (lambda = 0)."""
    bins = gamut_bins().to(true_B2HW)
    nearest = torch.cat([soft_bins(part, bins, 1)[0][:, 0] for part in true_B2HW.split(AT_ONCE)])
    return rebalancing(torch.bincount(nearest.flatten(), minlength=len(bins)), bins, mix=0.0)[nearest]


def measures_of(guess: Guess, objective: Any, held: Tensor) -> dict[str, float]:
    """AuC raw and rebalanced of colors guessed for items (B, 3, H, W), and how colorful they are.

    Args:
        guess: `guess(objective, items) -> ab` (B, 2, H, W).
    """
    held = at_size(held, objective.trunk.size)
    true = objective.split(held).y
    ab = torch.cat([guess(objective, part) for part in held.split(AT_ONCE)])
    weight = rare_weights(true)
    grey = chromatic_auc(torch.zeros_like(true), true, weight)
    rebalanced = chromatic_auc(ab, true, weight)
    return {
        "AuC": chromatic_auc(ab, true), "AuC rebalanced": rebalanced, "rebalanced over grey": rebalanced - grey,
        "chroma_ratio": chroma_ratio(ab, true),
    }  # fmt: skip


def told(objective: Any, seen: Tensor, held: Tensor) -> dict[str, float]:
    """Of the colors that a network tells."""
    return measures_of(lambda network, part: network.predict(part)[1], objective, held)


def grey(objective: Any, seen: Tensor, held: Tensor) -> dict[str, float]:
    """Of no color at all."""
    return measures_of(lambda network, part: torch.zeros_like(part[:, :2]), objective, held)


def mean_color(objective: Any, seen: Tensor, held: Tensor) -> dict[str, float]:
    """Of the mean color of the items that were learned from, everywhere."""
    mean = objective.split(at_size(seen, objective.trunk.size)).y.mean(dim=(0, 2, 3))
    return measures_of(lambda network, part: mean.view(1, 2, 1, 1).expand_as(part[:, :2]), objective, held)
