"""What happens to whole images before they are split: batched, on the batch's device, random by torch's global generator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class RandomResizedCrop:
    """Crops a random rectangle of every image and resizes it, (B, C, H, W) -> (B, C, size, size), one resampling a batch.

    Of a clip, (B, T, C, H, W), all frames get the same crop.

    Attributes:
        size: side of the result in pixels.
        scale: smallest and largest share of the area that is kept (Szegedy et al. 2014).
        aspect: smallest and largest ratio of the sides.
        flip: whether every second image is mirrored.
    """

    size: int
    scale: tuple[float, float] = (0.2, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True

    def __call__(self, t: Tensor) -> Tensor:
        if t.ndim == 5:
            return self(t.flatten(1, 2)).unflatten(1, t.shape[1:3])
        B, _, H, W = t.shape
        area, ratio, place_x, place_y, mirror = torch.rand(5, B, device=t.device, dtype=t.dtype).unbind()
        area = self.scale[0] + (self.scale[1] - self.scale[0]) * area
        low, high = math.log(self.aspect[0]), math.log(self.aspect[1])
        side = (0.5 * (low + (high - low) * ratio)).exp()
        width = (area.sqrt() * side).clamp(max=1.0)
        height = (area.sqrt() / side).clamp(max=1.0)
        sign = torch.where(mirror < 0.5, -1.0, 1.0).to(t.dtype) if self.flip else torch.ones_like(width)
        zero = torch.zeros_like(width)
        row_x = torch.stack([width * sign, zero, (2 * place_x - 1) * (1 - width)], dim=1)
        row_y = torch.stack([zero, height, (2 * place_y - 1) * (1 - height)], dim=1)
        grid = F.affine_grid(torch.stack([row_x, row_y], dim=1), [B, 1, self.size, self.size], align_corners=False)
        return F.grid_sample(t, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
