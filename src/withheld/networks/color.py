"""From lightness to a distribution over colors, on a coarse grid.

Shapes: B batch, C channels, H W pixels, L tokens, D width, d decoder's width, G side of the coarse grid, Q bins.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withheld.networks.image import ImageTrunk


class Colorizer(nn.Module):
    """Logits of color bins from all stages of a trunk: each is projected, laid on one grid and added (as in Larsson et al. 2016).

    A trunk whose layers share one grid (a ViT) is read at its last layer only.

    Args:
        trunk: any backbone with a square grid of tokens.
        answers: Q, logits a cell; 2 for a regression of ab.
        width: of the decoder.
        side: G; 0 takes a quarter of the trunk's size up to 64 pixels, else an eighth.
    """

    def __init__(self, trunk: ImageTrunk, answers: int, width: int = 64, side: int = 0) -> None:
        super().__init__()
        self.trunk = trunk
        self.side = side or max(2, trunk.size // (4 if trunk.size <= 64 else 8))
        widths = stage_widths(trunk)
        self.project = nn.ModuleList([nn.Conv2d(D, width, 1) for D in widths])
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.predict = nn.Conv2d(width, answers, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, Q, G, G)."""
        found = self.trunk(x, layers=len(self.project) > 1)
        stages = [found.tokens] if len(self.project) == 1 else list((found.layers or ())[1:])
        laid = [self._laid(project(as_grid(tokens))) for project, tokens in zip(self.project, stages, strict=True)]
        return self.predict(F.gelu(self.mix(F.gelu(torch.stack(laid).sum(dim=0)))))

    def _laid(self, t_BdHW: Tensor) -> Tensor:
        if t_BdHW.shape[-1] == self.side:
            return t_BdHW
        return F.interpolate(t_BdHW, size=(self.side, self.side), mode="bilinear", align_corners=False)


def stage_widths(trunk: ImageTrunk) -> list[int]:
    """Widths of the stages of a convolutional trunk; of any other the width of its last layer."""
    widths = list(getattr(trunk.config, "hidden_sizes", None) or [])
    return widths if len(widths) == trunk.depth else [trunk.width]


def as_grid(tokens_BLD: Tensor) -> Tensor:
    """Tokens of a square grid, row by row, as (B, D, H, W)."""
    B, L, D = tokens_BLD.shape
    side = math.isqrt(L)
    return tokens_BLD.transpose(1, 2).reshape(B, D, side, L // side)
