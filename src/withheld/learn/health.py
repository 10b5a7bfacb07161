"""Vitals: small numbers that tell whether a run is learning, from a fixed batch, at best of items that are never learned from.

What they mean stands in `learn/rules.py`; when they are taken, in `learn/watch.py`.

Shapes: N items, D width, K prototypes or classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withheld import distributed
from withheld.losses.contrast import alignment_and_uniformity
from withheld.modes import evaluating
from withheld.objective import Objective
from withheld.types import UNKNOWN_LABEL, Features, Moment, Pair

ROWS = 256
FEWEST = 4
"""Items whose features can be called alike: one is like itself whatever the network does."""
REPRESENTATIVE = 4
"""How often a class should come in a batch before the batch tells how frequent classes are."""


def effective_rank(features_ND: Tensor) -> float:
    """How many directions the features use: exp of the entropy of their normalized singular values.

    RankMe (Garrido et al. 2023, https://arxiv.org/abs/2210.02885), on centered features. 1 is a collapse; at most min(N, D).
    """
    values = _spectrum(features_ND)
    share = values / values.sum().clamp_min(1e-12) + 1e-12
    return float((-(share * share.log()).sum()).exp())


def eigenvalue_decay(features_ND: Tensor) -> float:
    """alpha of eigenvalues i^-alpha of the covariance, by least squares of logarithms over the larger half of them.

    alpha-ReQ (Agrawal et al. 2022, https://openreview.net/forum?id=ii9X4vtZGTZ): features near 1 do well downstream.
    """
    values = _spectrum(features_ND).square()
    values = values[values > 1e-9 * values.max().clamp_min(1e-30)]
    values = values[: max(2, len(values) // 2)]
    if len(values) < 3:
        return math.inf
    place = torch.arange(1, len(values) + 1, dtype=values.dtype, device=values.device).log()
    place, level = place - place.mean(), values.log() - values.log().mean()
    return float(-(place * level).sum() / place.square().sum())


def _spectrum(features_ND: Tensor) -> Tensor:
    return torch.linalg.svdvals((features_ND - features_ND.mean(dim=0)).cpu().double())  # Apple's GPUs have no doubles


def spread(features_ND: Tensor) -> float:
    """Standard deviation of unit-length features, times sqrt(D): about 1 where they fill the sphere, 0 where they are one point."""
    if len(features_ND) < 2:
        return 0.0
    unit = F.normalize(features_ND.float(), dim=1)
    return float(unit.std(dim=0).mean() * features_ND.shape[1] ** 0.5)


def view_vitals(one_ND: Tensor, two_ND: Tensor) -> dict[str, float]:
    """Of two views of the same items: alignment and uniformity, and how many directions the first ones use and fill."""
    return {
        **alignment_and_uniformity(one_ND, two_ND), "view_rank": effective_rank(one_ND), "view_spread": spread(one_ND),
    }  # fmt: skip


@runtime_checkable
class Watched(Protocol):
    """A network with vitals of its own: KL per dimension, active units, code perplexity."""

    def vitals(self, t: Any) -> dict[str, float]:
        """Small numbers that tell whether it is well, from a batch of whole items."""


@runtime_checkable
class Measured(Protocol):
    """A loss with measures of its own, such as the accuracy of words.

    Of a teacher over prototypes: "teacher_entropy" of single answers, "prototypes_entropy" of their mean, nats, and "ln_k".
    """

    def measures(self, prediction: Any, y: Any) -> dict[str, float]:
        """Small numbers of a prediction, beside y, or beside what a network makes of y where that is the target."""


@contextmanager
def untouched(objective: Objective) -> Iterator[None]:
    """In `eval` and without gradients; whatever a forward pass notes in buffers is put back, and other processes are not asked."""
    kept = [
        (module, name, tensor, tensor.clone())
        for module in objective.modules()
        for name, tensor in module._buffers.items()
        if tensor is not None
    ]
    try:
        with evaluating(objective), torch.no_grad(), distributed.alone(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield
    finally:
        for module, name, tensor, before in kept:
            tensor.copy_(before)
            module._buffers[name] = tensor


def vitals(objective: Objective, batch: Any, held_out: bool = False, side: float = 1.0) -> dict[str, float]:
    """Everything that can be told of a model from a batch of whole items; the model is left as it was.

    The trunk's pooled features: effective rank, spread, decay of eigenvalues. The network's own vitals and what the loss measures.
    Of a prediction: its loss beside that of whoever answers the same for every item, and, of two views, how they lie.

    Args:
        batch: as the loop feeds it: items, or a dict with "item".
        held_out: whether the batch is never learned from: then the loss is named "held_out_loss", else "sample_loss".
        side: the share of their side that views have now, see `Recipe.progressive`: a loss of other views is another one.
    """
    with untouched(objective):
        found = _of_features(objective, batch)
        if isinstance(objective.network, Watched):
            found.update(objective.network.vitals(batch))
        if isinstance(objective.target, str):  # two views may differ in dropout only
            for part in objective.modules():
                part.training = isinstance(part, nn.Dropout) or part is objective
        torch.manual_seed(0)
        pair = objective.pair(batch, side)
        prediction = objective.network(pair.x)
        aim = objective.aim(pair.y)
        found["held_out_loss" if held_out else "sample_loss"] = _loss(objective, prediction, aim)
        if isinstance(objective.loss, Measured):
            found.update(objective.loss.measures(prediction, aim if learned_target(objective) else pair.y))
        found.update(_of_targets(objective, prediction, aim))
        if objective.split.asks:
            found["blind_loss"] = _blind_loss(objective, batch)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _of_features(objective: Objective, batch: Any) -> dict[str, float]:
    if objective.trunk is None:
        return {}
    whole = batch["item"] if objective.split.asks else batch
    output = objective.trunk(objective.split.full(whole))
    pooled = output.pooled if isinstance(output, Features) else output
    if len(pooled) < FEWEST:
        return {}
    return {
        "effective_rank": effective_rank(pooled), "feature_spread": spread(pooled), "alpha_req": eigenvalue_decay(pooled),
    }  # fmt: skip


def _loss(objective: Objective, prediction: Any, aim: Any) -> float:
    terms = objective.loss(prediction, aim)
    return float(objective.total(terms if isinstance(terms, dict) else {"loss": terms}, Moment(1, 1)))


def _of_targets(objective: Objective, prediction: Any, aim: Any) -> dict[str, float]:
    """What prediction and target say beside each other."""
    if learned_target(objective):
        return view_vitals(_rows(prediction), _rows(aim)) if _two_views(prediction, aim) else {}
    constant = constant_answer(prediction, aim)
    return {} if constant is None else {"constant_loss": _loss(objective, constant, aim)}


def learned_target(objective: Objective) -> bool:
    """Whether what is predicted is made by a network: two views, a teacher."""
    return isinstance(objective.target, (str, nn.Module))


def _two_views(prediction: Any, aim: Any) -> bool:
    tensors = isinstance(prediction, Tensor) and isinstance(aim, Tensor)
    return tensors and prediction.shape == aim.shape and prediction.ndim in (2, 3) and len(prediction) >= 8  # type: ignore[no-any-return]


def _rows(t: Tensor) -> Tensor:
    """Vectors (N, D) of items, or of the places or views of items; not more than are needed."""
    return t if t.ndim == 2 else t.flatten(0, 1)[:: max(1, t.shape[0] * t.shape[1] // ROWS)]


def constant_answer(prediction: Any, aim: Any) -> Tensor | None:
    """The best answer that is the same for every item: the mean, or how frequent the classes are. None where that is not clear."""
    if not (isinstance(prediction, Tensor) and isinstance(aim, Tensor)) or len(aim) < 2:
        return None
    if aim.is_floating_point():
        if prediction.shape != aim.shape:
            return None
        over = aim.flatten(0, 1) if aim.ndim == 3 else aim  # patches (B, M, P) lie anywhere: one mean for all
        return over.mean(dim=0).expand_as(aim)
    if prediction.shape == aim.shape:
        return torch.logit(aim.float().mean().clamp(1e-4, 1 - 1e-4)).expand(aim.shape)
    if prediction.shape[:-1] == aim.shape:
        return _frequencies(aim, prediction.shape[-1], prediction).expand_as(prediction)
    if prediction.ndim > 2 and (prediction.shape[0], *prediction.shape[2:]) == tuple(aim.shape):
        shape = (1, -1, *[1] * (aim.ndim - 1))
        return _frequencies(aim, prediction.shape[1], prediction).view(shape).expand_as(prediction)
    return None


def _frequencies(aim: Tensor, classes: int, like: Tensor) -> Tensor:
    """(K,) log probabilities; all alike where the batch is too small to tell."""
    known = aim[aim != UNKNOWN_LABEL]
    if len(known) < REPRESENTATIVE * classes:
        return torch.full((classes,), -math.log(classes), dtype=like.dtype, device=like.device)
    count = torch.bincount(known.flatten(), minlength=classes).to(like.dtype) + 0.5
    return (count / count.sum()).log()


def _blind_loss(objective: Objective, batch: Any) -> float:
    """The loss where every item is replaced by another and keeps its number or label: what is known without looking."""
    torch.manual_seed(0)
    item = batch["item"]
    other = {**batch, "item": item[torch.randperm(len(item)).to(item.device)]}  # neighbors may be of one class
    pair: Pair = objective.pair(other)
    return _loss(objective, objective.network(pair.x), objective.aim(pair.y))
