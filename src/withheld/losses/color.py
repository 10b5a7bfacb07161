"""Colors as classes: -log p(bin of ab | lightness), rare colors weighted up.

Shapes: B batch, H W pixels of the image, G side of the coarse grid that is predicted, Q bins, N nearest bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withheld.color import chroma, gamut_bins
from withheld.types import Pair

NEAREST, SIGMA = 5, 5.0


def soft_bins(ab_B2GG: Tensor, bins_Q2: Tensor, nearest: int = NEAREST, sigma: float = SIGMA) -> tuple[Tensor, Tensor]:
    """The nearest bins of every pixel, nearest first, and their shares: (B, N, G, G) each.

    Shares are a Gaussian of the distance, brought to a sum of 1 (Zhang et al. 2016, section 2.1).
    """
    B, _, H, W = ab_B2GG.shape
    points = ab_B2GG.permute(0, 2, 3, 1).reshape(-1, 2)
    squared = points.square().sum(1, keepdim=True) - 2 * points @ bins_Q2.T + bins_Q2.square().sum(1)
    near, at = squared.topk(nearest, dim=1, largest=False)
    share = (-(near - near[:, :1]) / (2 * sigma**2)).exp()
    share = share / share.sum(dim=1, keepdim=True)
    at, share = (part.view(B, H, W, nearest).permute(0, 3, 1, 2) for part in (at, share))
    return at, share


def annealed_mean(logits_BQGG: Tensor, bins_Q2: Tensor, temperature: float = 0.38) -> Tensor:
    """The mean of ab (B, 2, G, G) under p(bin) sharpened by a temperature: 1 is the mean, towards 0 the mode (section 2.3)."""
    return torch.einsum("bqhw,qc->bchw", (logits_BQGG / temperature).softmax(dim=1), bins_Q2)


def rebalancing(counts_Q: Tensor, bins_Q2: Tensor, mix: float = 0.5, sigma: float = SIGMA) -> Tensor:
    """Weights (Q,) of the bins, 1 / ((1 - mix) p + mix / Q), of mean 1 under p, the smoothed histogram (section 2.2).

    Args:
        counts_Q: pixels whose nearest bin each is.
        mix: lambda, the part of a uniform distribution; 1 weights all alike.
        sigma: of the Gaussian that smooths, units of ab.
    """
    kernel = (-torch.cdist(bins_Q2, bins_Q2).square() / (2 * sigma**2)).exp()
    p = counts_Q.float() @ (kernel / kernel.sum(dim=1, keepdim=True))
    p = p / p.sum()
    weight = 1 / ((1 - mix) * p + mix / len(p))
    return weight / (p * weight).sum()


def coarse(ab_B2HW: Tensor, side: int) -> Tensor:
    """ab averaged over the cells of a coarse grid, (B, 2, G, G)."""
    return F.adaptive_avg_pool2d(ab_B2HW, side)


@dataclass(frozen=True)
class AnnealedColor:
    """Compares with ab as it is; a prediction is undone to the annealed mean of ab, at the size of y."""

    temperature: float = 0.38

    def __call__(self, y: Tensor) -> Tensor:
        """ab."""
        return y

    def undo(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Logits (B, Q, G, G) to ab (B, 2, H, W)."""
        ab = annealed_mean(prediction, gamut_bins().to(prediction), self.temperature)
        return F.interpolate(ab, size=y.shape[-2:], mode="bilinear", align_corners=False)


class ColorCrossEntropy(nn.Module):
    """Mean over pixels of -sum_q z_q log p(q | x), times the weight of the pixel's nearest bin (Zhang et al. 2016).

    Args:
        mix: lambda of the rebalancing.
        temperature: of the annealed mean, for the vitals.
    """

    bins: Tensor
    weight: Tensor

    def __init__(self, mix: float = 0.5, temperature: float = 0.38) -> None:
        super().__init__()
        self.mix, self.temperature = mix, temperature
        self.register_buffer("bins", gamut_bins(), persistent=False)
        self.register_buffer("weight", torch.ones(len(self.bins)))

    def fitted(self, sample: Pair) -> ColorCrossEntropy:
        """Weights the bins by the colors of a sample of the data."""
        nearest, _ = soft_bins(coarse(sample.y, sample.y.shape[-1] // 4).to(self.bins), self.bins, 1)
        counts = torch.bincount(nearest.flatten(), minlength=len(self.bins))
        self.weight = rebalancing(counts, self.bins, self.mix)
        return self

    def forward(self, logits_BQGG: Tensor, y: Tensor) -> Tensor:
        """The loss of logits against ab (B, 2, H, W)."""
        at, share = soft_bins(coarse(y, logits_BQGG.shape[-1]), self.bins)
        told = (share * logits_BQGG.gather(1, at)).sum(dim=1)
        return (self.weight[at[:, 0]] * (logits_BQGG.logsumexp(dim=1) - told)).mean()

    def vitals(self, prediction: Tensor, y: Tensor) -> dict[str, float]:
        """Mean chroma of what is predicted over that of the truth (0: all grey), and how many bins are used: exp of entropy."""
        ab, true = annealed_mean(prediction, self.bins, self.temperature), coarse(y, prediction.shape[-1])
        p = prediction.softmax(dim=1).mean(dim=(0, 2, 3))
        ratio = chroma(ab).mean() / chroma(true).mean().clamp(min=1e-6)
        return {"chroma_ratio": float(ratio), "color_bins": float((-(p * (p + 1e-12).log()).sum()).exp())}


def color_error(prediction: Any, y: Tensor) -> Tensor:
    """Half the squared distance of ab (B, 2, G, G), a mean over pixels: -log of a Gaussian, the baseline that turns sepia."""
    return (prediction - coarse(y, prediction.shape[-1])).square().sum(dim=1).mean() / 2
