"""Losses of distances: views of one thing near each other, of others farther away. No density p(y|x) stands behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class SemiHardTriplet:
    """Mean of max(0, margin + d(a, p) - d(a, n)) over anchors a and views p of the same seed (Schroff et al. 2015, FaceNet).

    n is the nearest view of another seed that is farther from the anchor than p; where there is none, the farthest of all
    others. d is the squared Euclidean distance of points of length 1.

    Attributes:
        margin: by which the others should be farther.
    """

    at_once: ClassVar[str] = "every view is compared with all others of a step"

    margin: float = 0.5

    def __call__(self, prediction: Tensor, y: Tensor) -> Tensor:
        """The loss.

        Args:
            prediction: points (B, V, E).
            y: seeds (B, V).
        """
        distance, same = _distances(prediction, y)
        anchor, positive = torch.nonzero(same & ~_itself(same), as_tuple=True)
        near_M = distance[anchor, positive]
        to_all_MN, other_MN = distance[anchor], ~same[anchor]
        farther = other_MN & (to_all_MN > near_M[:, None])
        semi_hard = to_all_MN.masked_fill(~farther, float("inf")).amin(dim=1)
        farthest = to_all_MN.masked_fill(~other_MN, 0.0).amax(dim=1)
        negative = torch.where(semi_hard.isinf(), farthest, semi_hard)
        if not len(anchor) or not bool(other_MN.any()):
            return prediction.sum() * 0.0  # one view of each seed, or one seed only: nothing to compare
        return (self.margin + near_M - negative).clamp_min(0).mean()

    def measures(self, prediction: Tensor, y: Tensor) -> dict[str, float]:
        """Share of the views whose nearest other view is of the same seed."""
        distance, same = _distances(prediction, y)
        nearest = distance.masked_fill(_itself(same), float("inf")).argmin(dim=1)
        return {"accuracy": float(same[torch.arange(len(same), device=same.device), nearest].float().mean())}


def _distances(prediction: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    points, seed = prediction.flatten(0, 1).float(), y.flatten()
    with torch.autocast(points.device.type, enabled=False):
        return (2 - 2 * points @ points.T).clamp_min(0), seed[:, None] == seed[None]


def _itself(same: Tensor) -> Tensor:
    return torch.eye(len(same), dtype=torch.bool, device=same.device)
