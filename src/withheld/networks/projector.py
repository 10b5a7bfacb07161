"""Heads that take features to the space where views are compared; thrown away after training.

Shapes: B batch, V views, C channels, h side of a view, D width of the trunk, E of the projection.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from withheld.networks.image import ImageTrunk


def projector(*widths: int, norm: bool = False) -> nn.Sequential:
    """Linear layers with batch normalization and ReLU between them (Chen et al. 2020), (B, widths[0]) -> (B, widths[-1]).

    Args:
        widths: of the input, the hidden layers and the output. norm: whether the output is normalized too, without a scale of its own.
    """
    layers: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(width_in, width_out, bias=False), nn.BatchNorm1d(width_out), nn.ReLU(inplace=True)]
    layers.append(nn.Linear(widths[-2], widths[-1], bias=not norm))
    return nn.Sequential(*layers, *[nn.BatchNorm1d(widths[-1], affine=False)] * norm)


class ViewProjector(nn.Module):
    """Trunk, then a projector: views (B, C, h, h) to (B, E), or (B, V, C, h, h) to (B, V, E).

    Args:
        trunk: sees single views; smaller ones too, see `ImageTrunk.crops`.
        widths: of the projector's hidden layers and its output, E.
        norm: whether the output is normalized over the batch.
    """

    def __init__(self, trunk: ImageTrunk, *widths: int, norm: bool = False) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = projector(trunk.width, *widths, norm=norm)

    def forward(self, views: Tensor) -> Tensor:
        """(B, E) or (B, V, E)."""
        single = views if views.ndim == 4 else views.flatten(0, 1)
        found = self.head(self.trunk.crops(single).pooled)
        return found if views.ndim == 4 else found.unflatten(0, views.shape[:2])
