"""Boxes, batched: overlap, the coding of R-CNN, non-maximum suppression, RoIAlign.

Boxes are continuous (x0, y0, x1, y1). Shapes: B batch, R N M boxes, D width, H W of a map, n bins.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SPREAD = (0.1, 0.1, 0.2, 0.2)
"""What offsets are divided by, so that their variance is about 1 (Girshick 2015, py-faster-rcnn's settings)."""
LARGEST = math.log(1000 / 16)
"""A box may not grow to more than this at once; so a wild offset cannot overflow."""


def area(box: Tensor) -> Tensor:
    """(..., 4) to (...)."""
    return (box[..., 2] - box[..., 0]).clamp(min=0) * (box[..., 3] - box[..., 1]).clamp(min=0)


def overlap(a_N4: Tensor, b_M4: Tensor) -> Tensor:
    """Intersection over union of every pair, (..., N, M); 0 where both are empty."""
    sides = []
    for low, high in ((0, 2), (1, 3)):  # one axis at a time: half the memory, and nothing to reduce
        end = torch.minimum(a_N4[..., :, None, high], b_M4[..., None, :, high])
        sides.append((end - torch.maximum(a_N4[..., :, None, low], b_M4[..., None, :, low])).clamp_(min=0))
    both = sides[0] * sides[1]
    union = area(a_N4)[..., :, None] + area(b_M4)[..., None, :] - both
    return both / union.clamp(min=torch.finfo(union.dtype).tiny)


def encode(box: Tensor, true: Tensor) -> Tensor:
    """Offsets (..., 4) from boxes to true boxes: shifts by the box's side, logarithms of the growth, over `SPREAD`.

    Source: Girshick et al. 2014, appendix C.
    """
    middle, side = _middle(box)
    wanted, wanted_side = _middle(true)
    offsets = torch.cat([(wanted - middle) / side, (wanted_side / side).log()], dim=-1)
    return offsets / offsets.new_tensor(SPREAD)


def decode(box: Tensor, offset: Tensor) -> Tensor:
    """The inverse of `encode`."""
    middle, side = _middle(box)
    offset = offset * offset.new_tensor(SPREAD)
    middle = middle + offset[..., :2] * side
    half = side * offset[..., 2:].clamp(max=LARGEST).exp() / 2
    return torch.cat([middle - half, middle + half], dim=-1)


def _middle(box: Tensor) -> tuple[Tensor, Tensor]:
    side = (box[..., 2:] - box[..., :2]).clamp(min=1e-6)
    return (box[..., :2] + box[..., 2:]) / 2, side


def suppress(box_BN4: Tensor, score_BN: Tensor, most_overlap: float) -> Tensor:
    """Greedy non-maximum suppression, (B, N) bool: the boxes that stay.

    The greedy rule is the only fixed point of "a box stays if no better box that stays overlaps it too much", and iterating the
    rule on the whole matrix reaches it in as many rounds as the longest chain of suppressions, a few in practice. Equal scores
    go by position.

    Args:
        box_BN4: any boxes. score_BN: -inf marks padding, which never stays.
        most_overlap: two boxes that stay overlap by at most this.
    """
    order = score_BN.argsort(dim=1, descending=True, stable=True)
    box = box_BN4.gather(1, order.unsqueeze(-1).expand(-1, -1, 4))
    real = score_BN.gather(1, order) > -math.inf
    hits_BNN = (overlap(box, box) > most_overlap).triu(diagonal=1).to(box.dtype)
    stays = real
    for _ in range(box.shape[1] + 1):
        now = real & ((stays.to(box.dtype).unsqueeze(1) @ hits_BNN).squeeze(1) == 0)
        if torch.equal(now, stays):
            break
        stays = now
    return torch.zeros_like(stays).scatter(1, order, stays)


def roi_align(map_BDHW: Tensor, box_BR4: Tensor, bins: int, samples: int = 2) -> Tensor:
    """Every region as (B, R, D, n, n): means of bilinear samples, a region never rounded to the grid.

    Bilinear sampling on a grid of places is a matrix along y and one along x, so this is two products of matrices and no scatter:
    its gradient adds in a fixed order on every device.

    Source: He et al. 2017, Mask R-CNN (RoIAlign), with samples at the middle of their parts.

    Args:
        map_BDHW: a map of the whole image.
        box_BR4: shares of the image's width and height, 0 to 1.
        bins: n. samples: along each side of a bin.
    """
    height, width = map_BDHW.shape[-2:]
    rows_BRnH = _weights(box_BR4[..., 1], box_BR4[..., 3], height, bins, samples).to(map_BDHW.dtype)
    columns_BRnW = _weights(box_BR4[..., 0], box_BR4[..., 2], width, bins, samples).to(map_BDHW.dtype)
    B, R, n, H = rows_BRnH.shape
    D, W = map_BDHW.shape[1], width
    lines_BRnDW = (rows_BRnH.reshape(B, R * n, H) @ map_BDHW.transpose(1, 2).reshape(B, H, D * W)).view(B, R, n, D, W)
    found_BRnDn = lines_BRnDW.flatten(2, 3) @ columns_BRnW.transpose(-1, -2)
    return found_BRnDn.view(B, R, n, D, bins).transpose(2, 3)


def _weights(low_BR: Tensor, high_BR: Tensor, length: int, bins: int, samples: int) -> Tensor:
    """(B, R, n, length): what every cell along one axis counts in every bin. Beyond the middle of the last cell it is that cell."""
    at = (torch.arange(bins * samples, device=low_BR.device, dtype=low_BR.dtype) + 0.5) / (bins * samples)
    place = (low_BR.unsqueeze(-1) + (high_BR - low_BR).unsqueeze(-1) * at) * length - 0.5
    place = place.clamp(0, length - 1)
    cells = torch.arange(length, device=low_BR.device, dtype=low_BR.dtype)
    weight = (1 - (place.unsqueeze(-1) - cells).abs()).clamp(min=0)
    return weight.unflatten(2, (bins, samples)).mean(dim=3)
