"""Colors as classes: -log p(bin of ab | lightness), rare colors weighted up.

Shapes: B batch, H W pixels of the image, G side of the coarse grid that is predicted, Q bins, N nearest bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withheld.color import chroma, gamut_bins
from withheld.errors import InputError
from withheld.losses.contrast import precise
from withheld.types import Pair

NEAREST, SIGMA = 5, 5.0
UNIT = 25.0
"""Of ab where it is regressed."""


def soft_bins(ab_B2GG: Tensor, bins_Q2: Tensor, nearest: int = NEAREST, sigma: float = SIGMA) -> tuple[Tensor, Tensor]:
    """The nearest bins of every pixel, nearest first, and their shares: (B, N, G, G) each.

    Shares are a Gaussian of the distance, brought to a sum of 1 (Zhang et al. 2016, section 2.1).
    """
    B, _, H, W = ab_B2GG.shape
    points = ab_B2GG.permute(0, 2, 3, 1).reshape(-1, 2)
    with torch.autocast(points.device.type, enabled=False):  # half precision rounds by as much as bins lie apart
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
    mixed = (1 - mix) * p + mix / len(p)
    weight = torch.where(mixed > 1e-9, 1 / mixed, 0.0)  # with mix 0, a color that never occurs weighs nothing
    return weight / (p * weight).sum()


def coarse(ab_B2HW: Tensor, side: int) -> Tensor:
    """ab averaged over the cells of a coarse grid, (B, 2, G, G)."""
    return F.adaptive_avg_pool2d(ab_B2HW, side)


class ColorCrossEntropy(nn.Module):
    """Mean over pixels of -sum_q z_q log p(q | x), times the weight of the pixel's nearest bin (Zhang et al. 2016).

    Args:
        mix: lambda of the rebalancing.
        temperature: of the annealed mean.
        calm: share of the rebalancing that is taken back when a color is made of the distribution.
    """

    bins: Tensor
    weight: Tensor

    def __init__(self, mix: float = 0.5, temperature: float = 0.38, calm: float = 0.5) -> None:
        super().__init__()
        if not 0 < mix <= 1:
            raise InputError(f"rebalance={mix} is outside (0, 1]: it is the part of a uniform distribution. Try 0.5")
        if not temperature > 0:
            raise InputError(f"temperature={temperature} must be above 0. Try 0.38")
        if not 0 <= calm <= 1:
            raise InputError(f"calm={calm} is outside [0, 1]: it is the part of the rebalancing taken back. Try 0.5")
        self.mix, self.temperature, self.calm = mix, temperature, calm
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
        logits_BQGG = precise(logits_BQGG)
        told = (share * logits_BQGG.gather(1, at)).sum(dim=1)
        return (self.weight[at[:, 0]] * (logits_BQGG.logsumexp(dim=1) - told)).mean()

    def color(self, logits_BQGG: Tensor) -> Tensor:
        """The annealed mean of ab (B, 2, G, G), a part of the rebalancing taken back.

        Weights w train the network to tell w(q) p(q|x), up to a factor: vivid, and wrong more often than grey is where it
        is unsure. Over w ** calm lies between that and p(q|x).
        """
        kept = logits_BQGG - self.calm * self.weight.log().view(1, -1, 1, 1)
        return annealed_mean(kept, self.bins, self.temperature)

    def measures(self, prediction: Tensor, y: Tensor) -> dict[str, float]:
        """Mean chroma of what is predicted over that of the truth (0: all grey), and how many bins are used: exp of entropy."""
        ab, true = self.color(prediction), coarse(y, prediction.shape[-1])
        p = prediction.softmax(dim=1).mean(dim=(0, 2, 3))
        return {"chroma_ratio": chroma_ratio(ab, true), "color_bins": float((-(p * (p + 1e-12).log()).sum()).exp())}


@dataclass(frozen=True)
class AnnealedColor:
    """Compares with ab as it is; a prediction is undone to the color that its loss makes of it, at the size of y."""

    loss: ColorCrossEntropy

    def __call__(self, y: Tensor) -> Tensor:
        """ab."""
        return y

    def undo(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Logits (B, Q, G, G) to ab (B, 2, H, W)."""
        return F.interpolate(self.loss.color(prediction), size=y.shape[-2:], mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class RegressedColor:
    """Compares with ab as it is; a prediction, ab over `UNIT`, is undone to ab at the size of y."""

    def __call__(self, y: Tensor) -> Tensor:
        """ab."""
        return y

    def undo(self, prediction: Tensor, y: Tensor) -> Tensor:
        """(B, 2, G, G) to ab (B, 2, H, W)."""
        return F.interpolate(UNIT * prediction, size=y.shape[-2:], mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class ColorSquaredError:
    """Mean squared error of ab over `UNIT`: -log of a Gaussian, whose mean is sepia where many colors may be."""

    def __call__(self, prediction: Tensor, y: Tensor) -> Tensor:
        """The loss of (B, 2, G, G) against ab (B, 2, H, W)."""
        return F.mse_loss(prediction, coarse(y, prediction.shape[-1]) / UNIT)

    def measures(self, prediction: Tensor, y: Tensor) -> dict[str, float]:
        """Mean chroma of what is predicted over that of the truth."""
        return {"chroma_ratio": chroma_ratio(UNIT * prediction, coarse(y, prediction.shape[-1]))}


def chroma_ratio(ab_B2HW: Tensor, true_B2HW: Tensor) -> float:
    """Mean chroma of a prediction over that of the truth: 0 is all grey, far below 1 is sepia."""
    return float(chroma(ab_B2HW.detach()).mean() / chroma(true_B2HW).mean().clamp(min=1e-6))
