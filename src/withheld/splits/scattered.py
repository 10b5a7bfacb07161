"""Small patches from anywhere in an image, side by side.

Shapes: B batch, C channels, H W image, R rows of patches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from withheld.types import Pair, Split


@dataclass(frozen=True)
class Scattered(Split):
    """R x R patches of every image, drawn from anywhere in it, side by side (B, C, R * side, R * side).

    x holds these "patches" and the whole "item", y is the patches.

    Attributes:
        side: of a patch, pixels.
        rows: R.
    """

    side: int
    rows: int = 6

    def __call__(self, t: Tensor) -> Pair:
        B, C, H, W = t.shape
        across, many = torch.arange(self.side, device=t.device), self.rows**2
        top = torch.randint(H - self.side + 1, (B, many, 1, 1), device=t.device) + across[:, None]
        left = torch.randint(W - self.side + 1, (B, many, 1, 1), device=t.device) + across
        places = (top * W + left).view(B, 1, -1).expand(-1, C, -1)
        patches = t.flatten(2).gather(2, places).view(B, C, self.rows, self.rows, self.side, self.side)
        x = patches.transpose(3, 4).reshape(B, C, self.rows * self.side, self.rows * self.side)
        return Pair({"patches": x, "item": t}, x)
