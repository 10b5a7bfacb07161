"""Heads that take features to the space where views are compared; thrown away after training.

Shapes: B batch, V views, C channels, h side of a view, D width of the trunk, E of the projection, K prototypes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withheld.networks.image import ImageTrunk


def projector(*widths: int, norm: bool = False, bias: bool = True) -> nn.Sequential:
    """Linear layers with batch normalization and ReLU between them (Chen et al. 2020), (B, widths[0]) -> (B, widths[-1]).

    Args:
        widths: of the input, the hidden layers and the output.
        norm: whether the output is normalized over the batch too, without a scale of its own.
        bias: of the output. One that a normalization takes away again learns nothing but rounding.
    """
    layers: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(width_in, width_out, bias=False), nn.BatchNorm1d(width_out), nn.ReLU(inplace=True)]
    layers.append(nn.Linear(widths[-2], widths[-1], bias=bias and not norm))
    return nn.Sequential(*layers, *[nn.BatchNorm1d(widths[-1], affine=False)] * norm)


class ViewProjector(nn.Module):
    """Trunk, then a head: views (B, C, h, h) to (B, E), or (B, V, C, h, h) to (B, V, E).

    Args:
        trunk: sees single views; smaller ones too, see `ImageTrunk.crops`.
        project: from D to E.
    """

    def __init__(self, trunk: ImageTrunk, project: nn.Module) -> None:
        super().__init__()
        self.trunk, self.project = trunk, project

    def forward(self, views: Tensor | Mapping[str, Tensor]) -> Tensor:
        """(B, E) or (B, V, E); of a dict of views of several sizes, all of them, in its order."""
        if isinstance(views, Mapping):
            pooled = torch.cat([self._pooled(some) for some in views.values()], dim=1)
        else:
            pooled = self._pooled(views)
        return (
            self.project(pooled)
            if pooled.ndim == 2
            else self.project(pooled.flatten(0, 1)).unflatten(0, pooled.shape[:2])
        )

    def _pooled(self, views: Tensor) -> Tensor:
        """(B, D) or (B, V, D)."""
        if views.ndim == 4:
            return self.trunk.crops(views).pooled
        return self.trunk.crops(views.flatten(0, 1)).pooled.unflatten(0, views.shape[:2])


class ViewPredictor(nn.Module):
    """A projector, then a predictor: from the projection of each view that of the other, (B, 2, C, h, h) to (B, 2, E).

    Args:
        projector: what the teacher follows.
        widths: of the predictor's hidden layers and its output, E.
    """

    def __init__(self, projects: ViewProjector, *widths: int) -> None:
        super().__init__()
        self.projects = projects
        self.predicts = projector(widths[-1], *widths)

    @property
    def trunk(self) -> ImageTrunk:
        """What is kept."""
        return self.projects.trunk

    def forward(self, views_B2Chh: Tensor) -> Tensor:
        """(B, 2, E)."""
        return self.predicts(self.projects(views_B2Chh).flatten(0, 1)).unflatten(0, views_B2Chh.shape[:2])


class Prototypes(nn.Module):
    """From features to K logits: a perceptron, a vector of length 1, and its cosines with K directions (Caron et al. 2021).

    Args:
        width, hidden, bottleneck: D, of the hidden layers, of the vector.
        count: K.
    """

    def __init__(self, width: int, hidden: int, bottleneck: int, count: int) -> None:
        super().__init__()
        self.enters = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.head = nn.Linear(bottleneck, count, bias=False)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward(self, pooled_BD: Tensor) -> Tensor:
        """Logits (B, K), within -1 .. 1."""
        return F.linear(F.normalize(self.enters(pooled_BD), dim=-1), F.normalize(self.head.weight, dim=-1))
