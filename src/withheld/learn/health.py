"""Vitals: small numbers that tell whether a run is learning, from features of a fixed batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from withheld.types import Features


def effective_rank(features_ND: Tensor) -> float:
    """How many directions the features use: exp of the entropy of their normalized singular values.

    RankMe (Garrido et al. 2023, https://arxiv.org/abs/2210.02885), on centered features. 1 is a collapse; at most min(N, D).
    """
    values = torch.linalg.svdvals((features_ND - features_ND.mean(dim=0)).double())
    share = values / values.sum().clamp_min(1e-12) + 1e-12
    return float((-(share * share.log()).sum()).exp())


def spread(features_ND: Tensor) -> float:
    """Standard deviation of unit-length features, times sqrt(D): about 1 where they fill the sphere, 0 where they are one point."""
    unit = nn.functional.normalize(features_ND.float(), dim=1)
    return float(unit.std(dim=0).mean() * features_ND.shape[1] ** 0.5)


@torch.no_grad()
def vitals(trunk: nn.Module, batch: Tensor) -> dict[str, float]:
    """Effective rank and spread of a trunk's pooled features on a batch of whole items."""
    was = trunk.training
    trunk.eval()
    output = trunk(batch)
    trunk.train(was)
    pooled = output.pooled if isinstance(output, Features) else output
    return {"effective_rank": effective_rank(pooled), "feature_spread": spread(pooled)}
