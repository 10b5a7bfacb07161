"""Losses of a direct prediction of y."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def squared_error(prediction: Tensor, y: Tensor) -> Tensor:
    """Mean squared error over all values: -log of a Gaussian p(y|x) of unit variance, up to scale and constant."""
    return F.mse_loss(prediction, y)


def absolute_error(prediction: Tensor, y: Tensor) -> Tensor:
    """Mean absolute error over all values: -log of a Laplace p(y|x) of unit scale, up to a constant."""
    return F.l1_loss(prediction, y)


def cross_entropy(prediction: Tensor, y: Tensor) -> Tensor:
    """Mean of -log p(y|x) of a categorical p, logits (B, K) against labels (B,); labels of -100 do not count."""
    return F.cross_entropy(prediction, y)
