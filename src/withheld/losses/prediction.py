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


@dataclass(frozen=True)
class SmoothError:
    """Squared error up to `knee`, absolute beyond it, a mean over all values (Girshick 2015): few outliers decide little.

    Attributes:
        knee: where the one passes into the other.
    """

    knee: float = 1.0

    def __call__(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Of (..., D) and (..., D)."""
        return F.smooth_l1_loss(prediction.to(y.dtype), y, beta=self.knee)

    def measures(self, prediction: Tensor, y: Tensor) -> dict[str, float]:
        """Deviation of what is told over all tokens, 0 is a collapse, and the share of its variance that is predicted."""
        told, guess = y.float().flatten(0, -2), prediction.float().flatten(0, -2)
        variance = (told - told.mean(dim=0)).square().mean()
        explained = 1 - (told - guess).square().mean() / variance.clamp_min(1e-12)
        return {"told_spread": float(variance.sqrt()), "explained": float(explained)}


def known(y: Tensor) -> Tensor:
    """How many answers are not -100."""
    return (y != UNKNOWN_LABEL).sum()


def cross_entropy(prediction: Tensor, y: Tensor) -> Tensor:
    """Mean of -log p(y|x) of a categorical p, logits (B, K) against labels (B,); labels of -100 do not count."""
    return F.cross_entropy(prediction, y)


@dataclass(frozen=True)
class CrossEntropy:
    """Mean of -log p(y|x), nats, of a categorical p: logits (..., K) against answers (...); answers of -100 do not count."""

    def counts(self, y: Tensor) -> dict[str, Tensor]:
        """Answers that count."""
        return {"loss": known(y)}

    def __call__(self, prediction: Tensor, y: Tensor) -> Tensor:
        """The loss."""
        return F.cross_entropy(prediction.reshape(-1, prediction.shape[-1]), y.reshape(-1))

    def measures(self, prediction: Tensor, y: Tensor) -> dict[str, float]:
        """Share of the answers that are right."""
        sure = y != UNKNOWN_LABEL
        return {"accuracy": float((prediction.argmax(dim=-1) == y)[sure].float().mean())}


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
class ColorCopied:
    """Mean of -log p(color) of a categorical p, log-probabilities (B, K, h, w) against numbers (B, h, w).

    Attributes:
        balance: rare colors count more: a color of share p by 1 / ((1 - balance) p + balance / K), as in Zhang et al. 2016; the
            weights of a batch have mean 1. 1 weights all places alike.
    """

    balance: float = 0.5

    @property
    def at_once(self) -> str:
        """How rare a color is, is counted in a batch."""
        return "colors are weighted by how rare they are in a step" if self.balance else ""

    def __call__(self, prediction: Tensor, y: Tensor) -> Tensor:
        """The loss."""
        K = prediction.shape[1]
        share = y.flatten().bincount(minlength=K).to(prediction.dtype) / y.numel()
        weight = 1 / ((1 - self.balance) * share + self.balance / K)
        return F.nll_loss(prediction, y, weight / (weight * share).sum())

    def measures(self, prediction: Tensor, y: Tensor) -> dict[str, float]:
        """Share of places whose color is told right, and of those that have the most frequent color."""
        right = float((prediction.argmax(dim=1) == y).float().mean())
        return {"color_accuracy": right, "commonest_color": float(y.flatten().bincount().max() / y.numel())}


@dataclass(frozen=True)
class FrameError:
    """Squared or absolute error of frames, and of their gradients, which keeps edges (Mathieu et al. 2016, GDL).

    "pixels" is -log of a Gaussian or Laplace p(y|x), up to scale and constant; "edges" of one over gradients.

    Attributes:
        power: 2 for squared, 1 for absolute errors.
        edges: weight of the gradients; 0 leaves them out.
    """

    power: int = 2
    edges: float = 0.0

    def __call__(self, prediction: Tensor, y: Tensor) -> Terms:
        """Terms of frames (B, U, C, H, W)."""
        error = F.mse_loss if self.power == 2 else F.l1_loss
        terms = {"pixels": error(prediction, y)}
        if self.edges:
            down = (prediction.diff(dim=-2).abs() - y.diff(dim=-2).abs()).abs().pow(self.power).mean()
            right = (prediction.diff(dim=-1).abs() - y.diff(dim=-1).abs()).abs().pow(self.power).mean()
            terms["edges"] = self.edges * (down + right)
        return terms


@dataclass(frozen=True)
class TokenCrossEntropy:
    """Mean of -log p(token | x), nats a token, over tokens that are not -100; p is a categorical over the vocabulary."""

    def counts(self, y: Any) -> dict[str, Tensor]:
        """Tokens that are asked for, whatever the term is called."""
        asked = known(y["words"] if isinstance(y, Mapping) else y)
        return {"loss": asked, "words": asked}

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


@dataclass(frozen=True)
class BothWaysCrossEntropy:
    """Means of -log p(next | before) and of -log p(previous | after), nats a token, over tokens that are not -100."""

    def counts(self, y: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tokens that are asked for, of both ways."""
        return {way: known(y[way]) for way in ("next", "previous")}

    def __call__(self, prediction: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> Terms:
        """Terms "next" and "previous" of logits (B, L, V) against tokens (B, L) of these names."""
        return {
            way: F.cross_entropy(prediction[way].flatten(0, 1), y[way].flatten(), ignore_index=UNKNOWN_LABEL)
            for way in ("next", "previous")
        }

    def measures(self, prediction: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> dict[str, float]:
        """Share of tokens that are told right, of both ways together."""
        right = [
            (prediction[way].argmax(dim=-1) == y[way])[y[way] != UNKNOWN_LABEL].float() for way in ("next", "previous")
        ]
        return {"word_accuracy": float(sum(part.mean() for part in right) / 2)}
