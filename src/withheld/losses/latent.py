"""-log p(x) of models with a latent z, bounded from above; nats an item: sums over pixels, means over items.

Shapes: S samples of z, B batch, Z latents, C H W image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from withheld.types import UNKNOWN_LABEL, Terms

LEVELS = 256
FREE = "free bits are given to the mean over all items of a step"


def log_bernoulli(told: Tensor, y: Tensor, log_scale: Tensor | None = None) -> Tensor:
    """(S, B) log p(y | z) of independent bits with these logits."""
    return -F.binary_cross_entropy_with_logits(told, y.expand_as(told), reduction="none").flatten(2).sum(dim=2)


def log_gaussian(told: Tensor, y: Tensor, log_scale: Tensor) -> Tensor:
    """(S, B) log density of pixels under Gaussians around the sigmoid of these, of one learned scale a channel."""
    scaled = (y - told.sigmoid()) / log_scale.exp()
    return (-0.5 * scaled**2 - log_scale - 0.5 * math.log(2 * math.pi)).flatten(2).sum(dim=2)


def log_logistic(told: Tensor, y: Tensor, log_scale: Tensor) -> Tensor:
    """(S, B) log probability of pixels of 256 levels: the logistic's mass around each (Salimans et al. 2017)."""
    level = (y * (LEVELS - 1)).round() / (LEVELS - 1)
    half, scale = 0.5 / (LEVELS - 1), log_scale.exp()
    away = level - told.sigmoid()
    above, below = (away + half) / scale, (away - half) / scale
    inner = (above.sigmoid() - below.sigmoid()).clamp_min(1e-12).log()
    middle = away / scale  # far in the tails the mass is the density times the width
    density = middle - log_scale - 2 * F.softplus(middle) + math.log(1 / (LEVELS - 1))
    inner = torch.where(above.sigmoid() - below.sigmoid() > 1e-5, inner, density)
    found = torch.where(level <= 0, F.logsigmoid(above), torch.where(level >= 1, F.logsigmoid(-below), inner))
    return found.flatten(2).sum(dim=2)


LIKELIHOODS: dict[str, Callable[..., Tensor]] = {
    "bernoulli": log_bernoulli,
    "gaussian": log_gaussian,
    "logistic": log_logistic,
}


def gaussian_kl(mean_BZ: Tensor, log_variance_BZ: Tensor) -> Tensor:
    """(B, Z) KL(N(mean, variance) || N(0, 1)), nats."""
    return 0.5 * (mean_BZ**2 + log_variance_BZ.exp() - 1 - log_variance_BZ)


def log_weights(prediction: Mapping[str, Tensor], y: Tensor, likelihood: str) -> Tensor:
    """(S, B) log p(y, z) - log q(z | x): the logarithms of importance weights."""
    z, mean, log_variance = prediction["z"], prediction["mean"], prediction["log_variance"]
    log_p = LIKELIHOODS[likelihood](prediction["told"], y, prediction.get("log_scale"))
    log_prior = -0.5 * (z**2).sum(dim=2)
    log_q = -0.5 * ((z - mean) ** 2 / log_variance.exp() + log_variance).sum(dim=2)
    return log_p + log_prior - log_q


@dataclass(frozen=True)
class NegativeBound:
    """Minus the bound of log p(x): the ELBO (Kingma and Welling 2013), or the importance-weighted one (Burda et al. 2015).

    Args:
        likelihood: "bernoulli", "gaussian" or "logistic".
        free_bits: nats that every dimension of z may cost for nothing (Kingma et al. 2016).
        weighted: the importance-weighted bound of all samples, one term "bound"; else "reconstruction" and "kl".
    """

    likelihood: str = "bernoulli"
    free_bits: float = 0.0
    weighted: bool = False

    @property
    def at_once(self) -> str:
        """Free bits are given to the mean over a batch."""
        return FREE if self.free_bits else ""

    def __call__(self, prediction: Mapping[str, Tensor], y: Tensor) -> Terms:
        """The terms, nats an item."""
        if self.weighted:
            weights = log_weights(prediction, y, self.likelihood)
            return {"bound": -(torch.logsumexp(weights, dim=0) - math.log(len(weights))).mean()}
        log_p = LIKELIHOODS[self.likelihood](prediction["told"], y, prediction.get("log_scale"))
        return {"reconstruction": -log_p.mean(), "kl": _kl_beyond(prediction, self.free_bits)}


@dataclass(frozen=True)
class SentenceBound:
    """Minus the bound of log p(sentence), nats a sentence: sums over its tokens, not means (Bowman et al. 2015).

    Args:
        free_bits: nats that every dimension of z may cost for nothing (Kingma et al. 2016).
    """

    free_bits: float = 0.0

    @property
    def at_once(self) -> str:
        """Free bits are given to the mean over a batch."""
        return FREE if self.free_bits else ""

    def __call__(self, prediction: Mapping[str, Any], y_BL: Tensor) -> Terms:
        """Terms "reconstruction" and "kl"; tokens of -100 are not asked for."""
        told = prediction["told"].log_p(y_BL[y_BL != UNKNOWN_LABEL])
        return {"reconstruction": -told.sum() / len(y_BL), "kl": _kl_beyond(prediction, self.free_bits)}


def _kl_beyond(prediction: Mapping[str, Any], free_bits: float) -> Tensor:
    """Nats an item, of each dimension at least those that are free."""
    kl_Z = gaussian_kl(prediction["mean"], prediction["log_variance"]).mean(dim=0)
    return kl_Z.clamp_min(free_bits).sum() if free_bits else kl_Z.sum()


@dataclass(frozen=True)
class MeanImage:
    """y is compared as it is; a prediction is drawn as the mean image of its first z."""

    def __call__(self, y: Tensor) -> Tensor:
        return y

    def undo(self, prediction: Mapping[str, Tensor], y: Tensor) -> Tensor:
        """(B, C, H, W) within 0..1."""
        return prediction["told"][0].sigmoid()
