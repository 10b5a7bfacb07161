"""Losses of a direct prediction of y."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from withheld.types import UNKNOWN_LABEL, Terms


def squared_error(prediction: Tensor, y: Tensor) -> Tensor:
    """Mean squared error over all values: -log of a Gaussian p(y|x) of unit variance, up to scale and constant."""
    return F.mse_loss(prediction, y)


def absolute_error(prediction: Tensor, y: Tensor) -> Tensor:
    """Mean absolute error over all values: -log of a Laplace p(y|x) of unit scale, up to a constant."""
    return F.l1_loss(prediction, y)


def cross_entropy(prediction: Tensor, y: Tensor) -> Tensor:
    """Mean of -log p(y|x) of a categorical p, logits (B, K) against labels (B,); labels of -100 do not count."""
    return F.cross_entropy(prediction, y)


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Mean of -log p(y|x) of a Bernoulli p, logits (B,) against 0 or 1 (B,)."""

    def __call__(self, prediction: Tensor, y: Tensor) -> Tensor:
        """The loss."""
        return F.binary_cross_entropy_with_logits(prediction.float(), y.float())

    def measures(self, prediction: Tensor, y: Tensor) -> dict[str, float]:
        """Share that is told right."""
        return {"accuracy": float(((prediction > 0) == (y > 0)).float().mean())}


@dataclass(frozen=True)
class TokenCrossEntropy:
    """Mean of -log p(token | x), nats a token, over tokens that are not -100; p is a categorical over the vocabulary."""

    def __call__(self, prediction: Any, y: Any) -> Tensor | Terms:
        """The loss, or terms "words" and "follows".

        Args:
            prediction: logits (B, L, V); or a dict with "words" (M, V), the logits of the M tokens asked for, row by row,
                and perhaps "follows" (B, 2).
            y: (B, L); or a dict with "words" (B, L) and "follows" (B,).
        """
        if isinstance(prediction, Tensor):
            return F.cross_entropy(prediction.flatten(0, 1), y.flatten())
        words = y["words"] if isinstance(y, Mapping) else y
        terms = {"words": F.cross_entropy(prediction["words"], words[words != UNKNOWN_LABEL])}
        if "follows" in prediction:
            terms["follows"] = F.cross_entropy(prediction["follows"], y["follows"])
        return terms

    def measures(self, prediction: Any, y: Any) -> dict[str, float]:
        """Share of tokens that are told right, and of pairs that are."""
        words = y["words"] if isinstance(y, Mapping) else y
        logits = prediction["words"] if isinstance(prediction, Mapping) else prediction[words != UNKNOWN_LABEL]
        found = {"word_accuracy": float((logits.argmax(dim=-1) == words[words != UNKNOWN_LABEL]).float().mean())}
        if isinstance(prediction, Mapping) and "follows" in prediction:
            right = prediction["follows"].argmax(dim=1) == y["follows"]
            found["follows_accuracy"] = float(right.float().mean())
        return found
