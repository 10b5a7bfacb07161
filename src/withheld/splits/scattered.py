"""Small patches from anywhere in an image, side by side.

Shapes: B batch, C channels, H W image, R rows of patches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from withheld.errors import InputError
from withheld.resize import at_size
from withheld.types import Pair, Split


@dataclass(frozen=True)
class Scattered(Split):
    """R x R patches of every image, drawn from anywhere in it, side by side (B, C, R * side, R * side).

    x holds these "patches" and the whole "item" as it was drawn from, y is the patches.

    Attributes:
        side: of a patch, pixels.
        rows: R.
        size: photographs are kept larger than an encoder sees them; they are brought to this side first, 0 leaves them.

    Raises:
        InputError: for images smaller than a patch.
    """

    side: int = 6
    rows: int = 6
    size: int = 0

    def __call__(self, t: Tensor) -> Pair:
        if self.size:
            t = at_size(t, self.size)
        B, C, H, W = t.shape
        if min(H, W) < self.side:
            raise InputError(
                f"images of {W} x {H} pixels are smaller than a patch of {self.side}: enlarge them with --size {max(8, self.side)}"
            )
        across, many = torch.arange(self.side, device=t.device), self.rows**2
        top = torch.randint(H - self.side + 1, (B, many, 1, 1), device=t.device) + across[:, None]
        left = torch.randint(W - self.side + 1, (B, many, 1, 1), device=t.device) + across
        places = (top * W + left).view(B, 1, -1).expand(-1, C, -1)
        patches = t.flatten(2).gather(2, places).view(B, C, self.rows, self.rows, self.side, self.side)
        x = patches.transpose(3, 4).reshape(B, C, self.rows * self.side, self.rows * self.side)
        return Pair({"patches": x, "item": t}, x)
