"""Views of patches to the seeds they came from, or to points where views of one seed are near each other.

Shapes: B batch, V views of an item, C channels, h side, D width of the trunk, E of an embedding, N seeds.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from withheld.networks.image import ImageTrunk


class SeedClassifier(nn.Module):
    """Trunk, then one linear layer: logits (B, V, N). N is found from the data, see `fitted`.

    Args:
        trunk: sees single views.
        seeds: of an item.
    """

    def __init__(self, trunk: ImageTrunk, seeds: int) -> None:
        super().__init__()
        self.trunk, self.seeds = trunk, seeds
        self.norm = nn.BatchNorm1d(trunk.width, affine=False)
        self.head = nn.Linear(trunk.width, 1)

    def fitted(self, sample: Any) -> SeedClassifier:
        """As many outputs as there are seeds.

        Args:
            sample: a Pair whose y holds a seed of the last item.
        """
        items = int(sample.y.max()) // self.seeds + 1
        self.head = nn.Linear(self.trunk.width, items * self.seeds).to(self.head.weight.device)
        return self

    def forward(self, x_BVChh: Tensor) -> Tensor:
        """Logits (B, V, N)."""
        pooled = self.trunk.crops(x_BVChh.flatten(0, 1)).pooled
        return self.head(self.norm(pooled)).view(*x_BVChh.shape[:2], -1)


class ViewEmbedder(nn.Module):
    """Trunk, then one linear layer: points of length 1, (B, V, E)."""

    def __init__(self, trunk: ImageTrunk, width: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.embed = nn.Linear(trunk.width, width)

    def forward(self, x_BVChh: Tensor) -> Tensor:
        """Points (B, V, E)."""
        pooled = self.trunk.crops(x_BVChh.flatten(0, 1)).pooled
        return F.normalize(self.embed(pooled), dim=-1).view(*x_BVChh.shape[:2], -1)
