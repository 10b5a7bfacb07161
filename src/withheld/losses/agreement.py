"""Losses of views that shall agree, with what keeps them from agreeing on a constant.

Shapes: B items of this process, N of all processes, V views, E width of a projection, M directions, K knots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from withheld import distributed
from withheld.losses.contrast import alignment_and_uniformity, precise

HINGE_EPSILON = 1e-4


def variance_hinge(z_NE: Tensor, least: float = 1.0) -> Tensor:
    """Mean over dimensions of max(0, least - deviation), 0 where every dimension has that deviation (Bardes et al. 2022, eq. 1)."""
    return F.relu(least - (z_NE.var(dim=0) + HINGE_EPSILON).sqrt()).mean()


def covariance_square(z_NE: Tensor) -> Tensor:
    """Squared covariances of different dimensions, summed and divided by E (Bardes et al. 2022, eq. 4)."""
    centered = z_NE - z_NE.mean(dim=0)
    covariance = centered.T @ centered / (len(z_NE) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / z_NE.shape[1]


@dataclass(frozen=True)
class VICReg:
    """Invariance, variance and covariance of two views; the weights are the objective's.

    Source: Bardes, Ponce and LeCun 2022, https://arxiv.org/abs/2105.04906.
    """

    at_once: ClassVar[str] = "variance and covariance are those of all items of a step"

    def __call__(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Terms of views (B, E) and (B, E); variance and covariance are those of all processes' items."""
        with torch.autocast(prediction.device.type, enabled=False):
            one, two = precise(prediction), precise(target)
            invariance = F.mse_loss(one, two)
            one, two = distributed.gathered(one), distributed.gathered(two)
            return {
                "invariance": invariance,
                "variance": (variance_hinge(one) + variance_hinge(two)) / 2,
                "covariance": covariance_square(one) + covariance_square(two),
            }

    def measures(self, prediction: Tensor, y: Tensor) -> dict[str, float]:
        """Alignment and uniformity of the views."""
        return alignment_and_uniformity(prediction, y)


def epps_pulley(x_NM: Tensor, knots: int = 17, limit: float = 3.0) -> Tensor:
    """How far M samples of N numbers are from a standard normal distribution, (M,): N times the weighted squared distance of
    characteristic functions, integrated over -limit .. limit with weight exp(-t^2 / 2) by trapezoids.

    About 1 of normal samples, of any N. Across processes N counts the items of all.

    Source: Epps and Pulley 1983; Balestriero and LeCun 2025, https://arxiv.org/abs/2511.08544, section 4.
    """
    t_K = torch.linspace(0, limit, knots, device=x_NM.device, dtype=x_NM.dtype)
    step = limit / (knots - 1)
    weight_K = torch.full_like(t_K, 2 * step)
    weight_K[0] = weight_K[-1] = step
    normal_K = torch.exp(-t_K.square() / 2)
    items = len(x_NM) * distributed.world()
    # means of exp(itx) at multiples of one step: each exponential is the last times a turn, so one cosine and one sine do for all
    turn = x_NM * (limit / (knots - 1))
    cos, sin = turn.cos(), turn.sin()
    real, imaginary = torch.ones_like(cos), torch.zeros_like(sin)
    means = [torch.stack([real.sum(dim=0), imaginary.sum(dim=0)])]
    for _ in range(knots - 1):
        real, imaginary = real * cos - imaginary * sin, real * sin + imaginary * cos
        means.append(torch.stack([real.sum(dim=0), imaginary.sum(dim=0)]))
    mean_K2M = distributed.summed(torch.stack(means)) / items
    apart_KM = (mean_K2M[:, 0] - normal_K[:, None]).square() + mean_K2M[:, 1].square()
    return items * ((weight_K * normal_K) @ apart_KM)


def sigreg(z_NE: Tensor, directions: int = 256, knots: int = 17, limit: float = 3.0) -> Tensor:
    """Sketched isotropic Gaussian regularization: the mean of `epps_pulley` along random directions, drawn anew at every call.

    Source: Balestriero and LeCun 2025, LeJEPA, https://arxiv.org/abs/2511.08544, definition 2 and algorithm 1.
    """
    along_EM = distributed.shared(torch.randn(z_NE.shape[1], directions, device=z_NE.device, dtype=z_NE.dtype))
    return epps_pulley(z_NE @ F.normalize(along_EM, dim=0), knots, limit).mean()


@dataclass(frozen=True)
class LeJEPA:
    """Every view near the center of the large views of its image, and all views together a standard normal distribution.

    Attributes:
        directions: random projections, drawn anew in every step.
        knots, limit: of the integral, see `epps_pulley`.
    """

    at_once: ClassVar[str] = "the items of a step are compared with a normal distribution together"

    directions: int = 256
    knots: int = 17
    limit: float = 3.0

    def __call__(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Terms of large views (B, V, E) and of the others (B, W, E)."""
        with torch.autocast(prediction.device.type, enabled=False):
            large, others = precise(prediction), precise(target)
            center_B1E = large.mean(dim=1, keepdim=True)
            z_BVE = torch.cat([large, others], dim=1)
            spread = [sigreg(z, self.directions, self.knots, self.limit) for z in z_BVE.unbind(dim=1)]
            return {"invariance": (z_BVE - center_B1E).square().mean(), "sigreg": torch.stack(spread).mean()}

    def measures(self, prediction: Tensor, y: Tensor) -> dict[str, float]:
        """Alignment and uniformity of a large view and another one."""
        return alignment_and_uniformity(prediction[:, 0], y[:, 0])


@dataclass(frozen=True)
class Cosine:
    """2 - 2 cosine of predicted and told projections, a mean over views and items: squared distance on the sphere.

    Source: Grill et al. 2020, BYOL, https://arxiv.org/abs/2006.07733, equation 2.
    """

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Of (..., E) and (..., E)."""
        with torch.autocast(prediction.device.type, enabled=False):
            return 2 - 2 * F.cosine_similarity(precise(prediction), precise(target), dim=-1).mean()

    def measures(self, prediction: Tensor, y: Tensor) -> dict[str, float]:
        """ "target_spread": deviation of what is told, of length 1, times sqrt(E); 0 is a collapse, 1 fills the sphere."""
        unit = F.normalize(precise(y).flatten(0, -2), dim=-1)
        return {"target_spread": float(unit.std(dim=0).mean() * unit.shape[1] ** 0.5)}


@dataclass(frozen=True)
class StandardizedError:
    """Squared error of features that are brought to mean 0 and variance 1 over the items of all processes, a mean over all values.

    So 1 is what the mean predicts, and no dimension counts more because a teacher writes it large.
    """

    at_once: ClassVar[str] = "features are standardized by all items of a step"

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Of (B, D) and (B, D)."""
        with torch.autocast(prediction.device.type, enabled=False):
            return F.mse_loss(precise(prediction), standardized(precise(target)))


def standardized(told_BD: Tensor) -> Tensor:
    """(B, D) less the mean and over the deviation of all processes' items; dimensions that do not vary become 0."""
    everyone = distributed.gathered(told_BD)
    return (told_BD - everyone.mean(dim=0)) / everyone.std(dim=0).clamp_min(1e-6)
