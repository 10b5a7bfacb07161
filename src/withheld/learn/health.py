"""Vitals: small numbers that tell whether a run is learning, from features of a fixed batch."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from withheld.objective import Objective
from withheld.types import Features, Moment


def effective_rank(features_ND: Tensor) -> float:
    """How many directions the features use: exp of the entropy of their normalized singular values.

    RankMe (Garrido et al. 2023, https://arxiv.org/abs/2210.02885), on centered features. 1 is a collapse; at most min(N, D).
    """
    values = torch.linalg.svdvals((features_ND - features_ND.mean(dim=0)).double())
    share = values / values.sum().clamp_min(1e-12) + 1e-12
    return float((-(share * share.log()).sum()).exp())


def spread(features_ND: Tensor) -> float:
    """Standard deviation of unit-length features, times sqrt(D): about 1 where they fill the sphere, 0 where they are one point."""
    if len(features_ND) < 2:
        return 0.0
    unit = nn.functional.normalize(features_ND.float(), dim=1)
    return float(unit.std(dim=0).mean() * features_ND.shape[1] ** 0.5)


@runtime_checkable
class Watched(Protocol):
    """A network with vitals of its own: KL per dimension, active units, code perplexity."""

    def vitals(self, t: Any) -> dict[str, float]:
        """Small numbers that tell whether it is well, from a batch of whole items."""


@runtime_checkable
class Measured(Protocol):
    """A loss with measures of its own, such as the accuracy of words."""

    def measures(self, prediction: Any, y: Any) -> dict[str, float]:
        """Small numbers of a prediction."""


@torch.no_grad()
def vitals(objective: Objective, batch: Any, held_out: bool = False) -> dict[str, float]:
    """Effective rank and spread of the trunk's pooled features on a batch of whole items, the network's own vitals, and what the
    loss measures, such as an accuracy.

    Args:
        batch: as the loop feeds it: items, or a dict with "item".
        held_out: whether the batch is never learned from: then the loss of it is told too.
    """
    was = objective.training
    objective.eval()
    found = {}
    if objective.trunk is not None:
        whole = batch["item"] if objective.split.asks else batch
        output = objective.trunk(objective.split.full(whole))
        pooled = output.pooled if isinstance(output, Features) else output
        found = {"effective_rank": effective_rank(pooled), "feature_spread": spread(pooled)}
    if isinstance(objective.network, Watched):
        found.update(objective.network.vitals(batch))
    if held_out or isinstance(objective.loss, Measured):
        if isinstance(objective.target, str):  # two views may differ in dropout only
            for part in objective.modules():
                part.training = isinstance(part, nn.Dropout) or part is objective
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            pair = objective.pair(batch)
            prediction = objective.network(pair.x)
            if held_out:
                terms = objective.compare(prediction, pair)
                found["held_out_loss"] = float(objective.total(terms, Moment(1, 1)))
            if isinstance(objective.loss, Measured):
                found.update(objective.loss.measures(prediction, _measured(objective, pair.y)))
    objective.train(was)
    return found


def _measured(objective: Objective, y: Any) -> Any:
    """What a loss measures a prediction against: y, or what a network makes of it."""
    return objective.aim(y) if isinstance(objective.target, (str, nn.Module)) else y
