"""Losses that tell which of many is the same: two views of an item against the views of all others.

Shapes: B items of this process, N of all processes, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from withheld import distributed

OTHERS = "every item is compared with all others of a step"


def info_nce(z1_BD: Tensor, z2_BD: Tensor, temperature: float = 0.05) -> Tensor:
    """-log p(which of all z2 belongs to z1), a mean over items; p is a softmax over cosines / temperature.

    Across processes z2 are gathered with their gradients; the mean over processes is the loss of one process.

    Source: van den Oord et al. 2018, https://arxiv.org/abs/1807.03748; this form: Gao et al. 2021, equation 1.

    Args:
        z1_BD, z2_BD: two views of the same items, in the same order. temperature: above 0.
    """
    with torch.autocast(z1_BD.device.type, enabled=False):
        one, two = _unit(z1_BD), _unit(z2_BD)
        cosine_BN = one @ distributed.gathered(two).T
        return F.cross_entropy(cosine_BN / temperature, _mine(one))


def nt_xent(z1_BD: Tensor, z2_BD: Tensor, temperature: float = 0.5) -> Tensor:
    """-log p(which of the 2N - 1 other views belongs to a view), a mean over both views of all items.

    Across processes all views are gathered with their gradients; the mean over processes is the loss of one process.

    Source: Chen et al. 2020, SimCLR, https://arxiv.org/abs/2002.05709, equation 1 and algorithm 1.

    Args:
        z1_BD, z2_BD: two views of the same items, in the same order. temperature: above 0.
    """
    with torch.autocast(z1_BD.device.type, enabled=False):
        one, two = _unit(z1_BD), _unit(z2_BD)
        all_one, all_two = distributed.gathered(one), distributed.gathered(two)
        mine = _mine(one)
        itself = F.one_hot(mine, len(all_one)).bool()
        across, back = one @ all_two.T, two @ all_one.T
        within = (one @ all_one.T).masked_fill(itself, -torch.inf), (two @ all_two.T).masked_fill(itself, -torch.inf)
        logits_first = torch.cat([across, within[0]], dim=1) / temperature
        logits_second = torch.cat([back, within[1]], dim=1) / temperature
        return (F.cross_entropy(logits_first, mine) + F.cross_entropy(logits_second, mine)) / 2


def alignment_and_uniformity(z1_BD: Tensor, z2_BD: Tensor) -> dict[str, float]:
    """How near views of an item are, and how evenly items lie on the sphere.

    "alignment" is the mean squared distance of two views, 0 where they coincide, 2 where they are strangers; "uniformity" is
    log mean exp(-2 d^2) over pairs of items: 0 is a collapse, about -4 + 8 / D an even spread.

    Source: Wang and Isola 2020, https://arxiv.org/abs/2005.10242.
    """
    one, two = _unit(z1_BD), _unit(z2_BD)
    found = {"alignment": float((one - two).square().sum(dim=1).mean())}
    if len(one) > 1:
        logs = [torch.pdist(z).square().mul(-2) for z in (one, two)]
        found["uniformity"] = float(sum(part.logsumexp(0) - math.log(len(part)) for part in logs)) / 2
    return found


def precise(z: Tensor) -> Tensor:
    """In single precision at least: small temperatures and covariances magnify what half precision rounds off."""
    return z.float() if z.dtype in (torch.bfloat16, torch.float16) else z


def _unit(z_BD: Tensor) -> Tensor:
    """Of length 1."""
    return F.normalize(precise(z_BD), dim=1)


def _mine(z_BD: Tensor) -> Tensor:
    """(B,) where this process's items lie among those of all."""
    return torch.arange(len(z_BD), device=z_BD.device) + distributed.rank() * len(z_BD)


@dataclass(frozen=True)
class InfoNCE:
    """`info_nce` as the loss of an objective.

    Attributes:
        temperature: of the softmax over cosines.
    """

    at_once: ClassVar[str] = OTHERS

    temperature: float = 0.05

    def __call__(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Term "contrast" of views (B, D) and (B, D)."""
        return {"contrast": info_nce(prediction, target, self.temperature)}

    def measures(self, prediction: Tensor, y: Tensor) -> dict[str, float]:
        """ "constant_loss": of whoever says the same of every item, ln N."""
        return {"constant_loss": math.log(max(1, len(prediction)))}


@dataclass(frozen=True)
class NTXent:
    """`nt_xent` as the loss of an objective.

    Attributes:
        temperature: of the softmax over cosines.
    """

    at_once: ClassVar[str] = OTHERS

    temperature: float = 0.5

    def __call__(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Term "contrast" of views (B, D) and (B, D)."""
        return {"contrast": nt_xent(prediction, target, self.temperature)}

    def measures(self, prediction: Tensor, y: Tensor) -> dict[str, float]:
        """Alignment and uniformity of views (B, D) and (B, D), and the loss where all are one point, ln(2 N - 1)."""
        return {**alignment_and_uniformity(prediction, y), "constant_loss": math.log(max(1, 2 * len(prediction) - 1))}
