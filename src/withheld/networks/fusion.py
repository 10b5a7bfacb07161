"""Two patches are seen apart, then told together.

Shapes: B batch, G patches of an image, C channels, h side, P pairs, E width of an embedding, K answers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from withheld.networks.image import ImageTrunk


class LateFusion(nn.Module):
    """The same trunk on every patch, an embedding, then two embeddings side by side through an MLP: logits (B, P, K).

    Batch normalization has no scale where the two meet: otherwise the embeddings shrink, and the network stays where every
    answer has probability 1 / K (Doersch et al. 2015, section 3.1).

    Args:
        trunk: sees single patches.
        width: E.
        answers: K.
    """

    def __init__(self, trunk: ImageTrunk, width: int, answers: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.embed = nn.Sequential(
            nn.Linear(trunk.width, width, bias=False), nn.BatchNorm1d(width, affine=False), nn.ReLU()
        )
        self.tell = nn.Sequential(
            nn.Linear(2 * width, width, bias=False), nn.BatchNorm1d(width, affine=False), nn.ReLU(), nn.Linear(width, answers)
        )  # fmt: skip

    def forward(self, x: Any) -> Tensor:
        """Logits (B, P, K).

        Args:
            x: "patches" (B, G, C, h, h) and "pairs" (B, P, 2), numbers of patches.
        """
        seen = self.patches(x["patches"])
        pairs = x["pairs"]
        first, second = (seen.gather(1, pairs[..., side : side + 1].expand(-1, -1, seen.shape[-1])) for side in (0, 1))
        return self.tell(torch.cat([first, second], dim=-1).flatten(0, 1)).view(*pairs.shape[:2], -1)

    def patches(self, patches_BGChh: Tensor) -> Tensor:
        """Embeddings (B, G, E) of patches, each seen alone."""
        B, G = patches_BGChh.shape[:2]
        return self.embed(self.trunk.crops(patches_BGChh.flatten(0, 1)).pooled).view(B, G, -1)
