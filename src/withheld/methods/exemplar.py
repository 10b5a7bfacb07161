"""Exemplar networks."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from withheld.errors import InputError
from withheld.losses.prediction import CrossEntropy
from withheld.losses.triplet import SemiHardTriplet
from withheld.networks.exemplar import SeedClassifier, ViewEmbedder
from withheld.networks.image import ImageTrunk
from withheld.objective import Objective
from withheld.shortcuts import Probe, Shortcut, Variant
from withheld.splits.exemplar import ExemplarViews
from withheld.types import Recipe

ENCODER = {"cpu": "conv-nano", "cuda": "regnet-small"}
TWINS = 0.9
OFF = {"translation": 0.0, "scale": 1.0, "rotation": 0.0, "contrast": 1.0, "power": 1.0, "hue": 0.0}


def exemplar(
    trunk: ImageTrunk,
    *,
    form: str = "softmax",
    classes: int = 8000,
    seeds: int = 1,
    views: int = 0,
    side: int = 0,
    translation: float = 0.2,
    scale: float = 1.4,
    rotation: float = 20.0,
    contrast: float = 2.0,
    power: float = 4.0,
    hue: float = 0.1,
    margin: float = 0.5,
    width: int = 128,
) -> tuple[Objective, Recipe]:
    """Shows a distorted view of a patch and asks which of all patches it was.

    (x, y): a view of a seed patch, moved, scaled, turned and recolored; the number of the seed.
    p(y|x): a categorical over all seeds. With form=triplet no density: views of one seed shall be nearer than those of others.
    Source: Dosovitskiy et al. 2014, Discriminative Unsupervised Feature Learning with Exemplar Convolutional Neural Networks,
        https://arxiv.org/abs/1406.6909; form=triplet: Kolesnikov et al. 2019, Revisiting Self-Supervised Visual Representation
        Learning, https://arxiv.org/abs/1901.09005
    Differs: views are drawn anew in every epoch (paper: about 150 of each seed, once); any trunk and the mean of its tokens in
        place of three convolutions; no dropout; Muon; factors of contrast and powers are drawn by
        their logarithm. form=triplet draws the distortions of 2014 and no crops of the whole image.

    Args:
        trunk: any backbone; it sees views of patches here and whole images afterwards.
        form: "softmax", or "triplet" for more items than a softmax can have classes.
        classes: at most so many seeds, and so many items are learned from; of form=softmax.
        seeds: of an item.
        views: of a seed in a step; 0 takes 1, and 4 with form=triplet.
        side: of a seed in pixels; 0 takes a third of the image, at least 24.
        translation: at most this share of the side.
        scale: at most this factor, at least half of it; 1 is off.
        rotation: at most so many degrees.
        contrast: at most this factor along each principal component of the colors; 1 is off.
        power: at most this power of saturation and value; 1 is off.
        hue: at most this shift, a share of the circle.
        margin: of form=triplet.
        width: of the embedding, of form=triplet.
    """
    if form not in ("softmax", "triplet"):
        raise InputError(f"form={form}: there are softmax and triplet")
    triplet = form == "triplet"
    split = ExemplarViews(
        size=trunk.size, side=side, multiple=trunk.patch or 1, views=views or (4 if triplet else 1), seeds=seeds,
        translation=translation, scale=scale, rotation=rotation, contrast=contrast, power=power, hue=hue,
    )  # fmt: skip
    network = ViewEmbedder(trunk, width) if triplet else SeedClassifier(trunk, seeds)
    recipe = Recipe(
        base_learning_rate=4e-3, batch_size=128, weight_decay=0.05, warmup=0.1, epochs=100, normalize=False, optimizer="muon",
        matrix_rate=10.0,
        most_items=0 if triplet else max(1, classes // seeds),
    )  # fmt: skip
    return Objective(split, network, SemiHardTriplet(margin) if triplet else CrossEntropy()), recipe


def shortcuts() -> list[Shortcut]:
    """Twins among the seeds, what the features became blind to, and each distortion taken away."""
    blind = (
        "without this distortion the task is easier; on the run's task the fall is what the network learned to ignore"
    )
    twins = (
        f"seeds with a twin, a patch of another item whose correlation is above {TWINS}: no network can tell them apart"
    )
    ignored = "cosine of the features of a seed and of its view: 1 is blind to the distortion; beside it that of different seeds"
    return [
        Probe("twins", twin_seeds, twins, {"share with a twin": (0.0, 0.1)}),
        Probe("what is ignored", invariances, ignored),
        *(Variant(f"no {name}", {name: off}, blind) for name, off in OFF.items()),
    ]


def twin_seeds(objective: Objective, seen: Any, held: Any) -> dict[str, float]:
    """Share of the seed patches that have a near-duplicate among those of other items, by correlation of their pixels."""
    patches = _plain(objective, seen)[1].flatten(1)
    centered = F.normalize(patches - patches.mean(dim=1, keepdim=True), dim=1)
    alike = centered @ centered.T
    alike.fill_diagonal_(-1.0)
    return {"share with a twin": float((alike.amax(dim=1) > TWINS).float().mean())}


def invariances(objective: Objective, seen: Any, held: Any) -> dict[str, float]:
    """Mean cosine of the trunk's features of seeds and of views with one distortion only; features less their mean."""
    split, plain = _plain(objective, seen)
    before = objective.trunk.crops(plain).pooled
    middle = before.mean(dim=0)
    before = F.normalize(before - middle, dim=1)
    found = {"cosine of two seeds": float((before * before.roll(1, dims=0)).sum(dim=1).mean())}
    for name in OFF:
        one = _with(split, **{name: getattr(objective.split, name)})
        after = F.normalize(objective.trunk.crops(one(seen).x[:, 0]).pooled - middle, dim=1)
        found[name] = float((before * after).sum(dim=1).mean())
    return found


def _plain(objective: Objective, t: Any) -> tuple[ExemplarViews, Tensor]:
    """The split without any distortion, and the seeds of these items (B, C, h, h) as the trunk sees them."""
    plain = _with(objective.split, views=1, seeds=1, **OFF)
    return plain, plain(t).x[:, 0]


def _with(split: Any, **settings: Any) -> ExemplarViews:
    return dataclasses.replace(split, **settings)
