"""Losses of models that speak in codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from withheld.types import Terms


def quantized_error(prediction: Mapping[str, Tensor], y: Tensor) -> Terms:
    """Squared error of the reconstruction, -log of a Gaussian of unit variance up to scale and constant, and the commitment."""
    return {"reconstruction": F.mse_loss(prediction["image"], y), "commitment": prediction["commitment"]}


def untold(prediction: Mapping[str, Tensor], y: Tensor) -> Terms:
    """What a dictionary left untold of patches, "untold" (B,), -log of a Gaussian of unit variance up to scale and constant."""
    return {"loss": prediction["untold"].mean()}


@dataclass(frozen=True)
class Reconstruction:
    """y is compared as it is; a prediction is drawn as its image."""

    def __call__(self, y: Tensor) -> Tensor:
        return y

    def undo(self, prediction: Mapping[str, Tensor], y: Tensor) -> Tensor:
        """(B, C, H, W)."""
        return prediction["image"]


@dataclass(frozen=True)
class NextCode:
    """-log p(codes) = -sum over places of log p(code | all before), in nats an item, top and bottom apart.

    Args:
        top: how many of the codes are the top's.
    """

    top: int

    def __call__(self, logits_BLK: Tensor, y_BL: Tensor) -> Terms:
        """Terms "top" and "bottom"."""
        each = F.cross_entropy(logits_BLK.transpose(1, 2), y_BL, reduction="none")
        return {"top": each[:, : self.top].sum(dim=1).mean(), "bottom": each[:, self.top :].sum(dim=1).mean()}
