"""R-CNN on features that stay as they are: a linear support vector machine for every class, and a regression of its boxes.

Settings are those of Girshick et al. 2014, appendix B and C, and of their code: features scaled to a mean norm of 20, C = 0.001
with a hinge, objects counted twice, negatives below an overlap of 0.3, one pass that adds hard negatives, ridge of 1000 on
regions above 0.6.

Shapes: N regions that are kept, F features, K classes, M boxes of an image.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from withheld.evaluate.detection.boxes import encode, overlap
from withheld.evaluate.detection.network import RegionFeatures, RegionMachines, Way
from withheld.evaluate.detection.regions import Regions, shares
from withheld.evaluate.features import Listen
from withheld.image_encoder import ImageEncoder

NORM, COST, TWICE, RIDGE = 20.0, 1e-3, 2.0, 1000.0
NEGATIVE, NEAR = 0.3, 0.6
NEGATIVES, NEARS, HARD = 60, 60, 30
"""Regions of an image that are kept, at most: drawn ones to begin with, ones near a box, and hard ones of every class."""
MOST = 60_000
"""Regions that are kept of all images: of many images fewer each."""
FEWEST = 10
"""Regions that a regression is fitted to, at least."""


@dataclass
class _Kept:
    """Regions of images with features: (N, F), overlap with the best box of every class (N, K), whether they are a true box (N,),
    the class near them or -1 (N,), and the offsets to its box (N, 4)."""

    features: Tensor
    best: Tensor
    true: Tensor
    near: Tensor
    offset: Tensor

    def at(self, chosen: Tensor) -> _Kept:
        """Some of them."""
        return _Kept(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def fit_machines(
    encoder: ImageEncoder, regions: Regions, at: NDArray[np.int64], *, way: Way, seed: int, device: torch.device,
    listen: Listen,
) -> RegionMachines:  # fmt: skip
    """Fits both to the training images; the encoder is not changed.

    Args:
        encoder, regions, at, way: see `fast_rcnn`. seed: of the drawn negatives and the machines.
    """
    machines = RegionMachines(RegionFeatures(encoder.copy().trunk, way).eval(), len(regions.classes)).to(device)
    generator = torch.Generator().manual_seed(seed)
    each = max(2, MOST // (2 * len(at)))
    kept = _join([_seen(machines, encoder, regions, i, (generator, each), device) for i in _told(at, listen, 2, 0)])
    machines.mean.copy_(kept.features.mean(dim=0))
    norm = (kept.features - machines.mean.cpu()).norm(dim=1).mean().clamp(min=1e-6)
    machines.scale.fill_(NORM / float(norm))
    kept.features = machines.scaled(kept.features.to(device)).cpu()
    _fit(machines, kept, seed)
    hard = [_hard(machines, _seen(machines, encoder, regions, i, None, device), each) for i in _told(at, listen, 2, 1)]
    _fit(machines, _join([kept, *hard]), seed)
    _fit_offsets(machines, kept)
    return machines


def _told(at: NDArray[np.int64], listen: Listen, passes: int, done: int) -> Any:
    for count, i in enumerate(at, 1):
        yield int(i)
        listen({"kind": "regions", "done": done * len(at) + count, "total": passes * len(at)})


@torch.no_grad()
def _seen(
    machines: RegionMachines, encoder: ImageEncoder, regions: Regions, i: int, draws: tuple[torch.Generator, int] | None,
    device: torch.device,
) -> _Kept:  # fmt: skip
    """The true boxes and proposals of an image with their features; where draws are asked for, a sample of them."""
    annotation = regions.annotations[i]
    true, label = torch.from_numpy(shares(annotation)), torch.from_numpy(annotation.labels)
    easy = torch.from_numpy(~annotation.difficult)
    box = torch.cat([true[easy], torch.from_numpy(regions.proposals[i])])
    shared = overlap(box, true)
    K = len(regions.classes)
    best = torch.stack([_highest(shared[:, label == k]) for k in range(K)], dim=1)
    top, of = shared.max(dim=1) if len(true) else (torch.zeros(len(box)), torch.zeros(len(box), dtype=torch.long))
    near = torch.where((top >= NEAR) & easy[of], label[of], -1) if len(true) else torch.full((len(box),), -1)
    is_true = torch.arange(len(box)) < int(easy.sum())
    if draws is not None:
        chosen = _sample(is_true, near, top, *draws)
        box, best, near, of, is_true = box[chosen], best[chosen], near[chosen], of[chosen], is_true[chosen]
    offset = encode(box, true[of]) if len(true) else torch.zeros_like(box)
    image = torch.from_numpy(np.array(regions.images[i : i + 1])).to(device)
    x = machines.features(_normalized(encoder, image), box[None].to(device))[0].float().cpu()
    return _Kept(x, best, is_true, near, offset)


def _normalized(encoder: ImageEncoder, image_BCSS: Tensor) -> Tensor:
    """Images at their own side, as the trunk takes them."""
    shape = (1, -1, 1, 1)
    item = image_BCSS.float() / 255
    item = (item - item.new_tensor(encoder.mean).view(shape)) / item.new_tensor(encoder.std).view(shape)
    return item if encoder.split is None else encoder.split.full(item)


def _highest(shared_NM: Tensor) -> Tensor:
    return shared_NM.max(dim=1).values if shared_NM.shape[1] else torch.zeros(len(shared_NM))


def _sample(true: Tensor, near: Tensor, top: Tensor, generator: torch.Generator, most: int) -> Tensor:
    """All true boxes, some regions near one, some that touch none by much."""
    order = torch.randperm(len(true), generator=generator)
    some = order[(near[order] >= 0) & ~true[order]][: min(most, NEARS)]
    away = order[(top[order] < NEGATIVE) & ~true[order]][: min(most, NEGATIVES)]
    return torch.cat([true.nonzero().flatten(), some, away])


def _join(parts: list[_Kept]) -> _Kept:
    return _Kept(*(torch.cat([getattr(part, name) for part in parts]) for name in _Kept.__dataclass_fields__))


@torch.no_grad()
def _hard(machines: RegionMachines, seen: _Kept, most: int) -> _Kept:
    """The negatives of an image that a machine puts inside its margin, the worst of every class."""
    device = machines.weight.device
    x = machines.scaled(seen.features.to(device))
    margin = (x @ machines.weight.T + machines.bias).cpu()
    seen.features = x.cpu()
    margin = torch.where((seen.best < NEGATIVE) & ~seen.true.unsqueeze(1) & (margin > -1), margin, -torch.inf)
    worst, at = margin.topk(min(HARD, most, len(margin)), dim=0)
    chosen = torch.unique(at[worst > -torch.inf])
    found = seen.at(chosen)
    found.near = torch.full_like(found.near, -1)
    return found


def _fit(machines: RegionMachines, kept: _Kept, seed: int) -> None:
    """One machine a class: its true boxes against the regions that overlap them little."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    features = kept.features.numpy()
    for k in range(len(machines.bias)):
        right = (kept.true & (kept.best[:, k] > 0.99)).numpy()
        used = right | (kept.best[:, k] < NEGATIVE).numpy()
        if right.any() and not right[used].all():
            machine = LinearSVC(
                C=COST,
                loss="hinge",
                class_weight={1: TWICE},
                intercept_scaling=10.0,
                random_state=seed,
                max_iter=300,
                tol=0.1,
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # the last thousandths of a margin change no order
                machine.fit(features[used], right[used].astype(np.int64))
            machines.weight[k] = torch.from_numpy(machine.coef_[0]).float()
            machines.bias[k] = float(machine.intercept_[0])
        else:
            machines.weight[k], machines.bias[k] = 0.0, -10.0  # a class nobody showed is never found


def _fit_offsets(machines: RegionMachines, kept: _Kept) -> None:
    """One regression a class and side, on the regions near its boxes."""
    from sklearn.linear_model import Ridge

    for k in range(len(machines.bias)):
        near = (kept.near == k).numpy()
        if near.sum() >= FEWEST:
            ridge = Ridge(alpha=RIDGE).fit(kept.features.numpy()[near], kept.offset.numpy()[near])
            machines.offset_weight[k] = torch.from_numpy(ridge.coef_).float()
            machines.offset_bias[k] = torch.from_numpy(ridge.intercept_).float()
