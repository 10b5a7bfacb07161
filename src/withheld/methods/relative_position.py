"""Relative position of patches."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from withheld.losses.prediction import CrossEntropy
from withheld.networks.fusion import LateFusion
from withheld.networks.image import ImageTrunk
from withheld.objective import Objective
from withheld.resize import at_size
from withheld.shortcuts import Probe, Shortcut, Variant
from withheld.splits.position import DIRECTIONS, RelativePosition, cut
from withheld.splits.views import RandomResizedCrop
from withheld.types import Recipe

ENCODER = {"cpu": "conv-nano", "cuda": "regnet-small"}
SADDLE = math.log(len(DIRECTIONS))


def relative_position(
    trunk: ImageTrunk,
    *,
    side: int = 0,
    gap: float = 0.34,
    jitter: float = 0.125,
    color: str = "project",
    blur: float = 0.33,
    width: int = 256,
    crop: float = 0.4,
    flip: bool = True,
) -> tuple[Objective, Recipe]:
    """Shows two patches of an image and asks where the second lies from the first.

    (x, y): pairs of touching patches of a 3 x 3 grid, each patch seen alone; the direction from the first to the second.
    p(y|x): a categorical over the 8 directions.
    Source: Doersch, Gupta and Efros 2015, Unsupervised Visual Representation Learning by Context Prediction,
        https://arxiv.org/abs/1505.05192
    Differs: the patches' size follows the image's: a quarter of it, gaps of a third and a jitter of an eighth of one (paper: 96,
        48 and 7 pixels of images of 150,000 to 450,000); 32 pairs of a grid are asked (paper: pairs of a center and a
        neighbor); the embedding is a mean over a patch's tokens, as in Kolesnikov et al. 2019, not a layer that keeps their places;
        batch normalization without scale stands in the embedding and the fusion only; Muon, for runs of minutes; colors are
        projected after each channel was brought to mean 0 and variance 1.

    Args:
        trunk: any backbone; it sees single patches here and whole images afterwards.
        side: of a patch in pixels; 0 takes a quarter of the image.
        gap: between neighbors, a share of the side.
        jitter: how far each patch moves both ways, a share of the side.
        color: "project", "drop", "gray" or "keep": what is done against colors that tell the place.
        blur: share of the patches that are made coarser.
        width: of the embeddings and of the layer that joins two of them.
        crop: smallest share of the area that a random crop keeps before the grid is cut.
        flip: whether every second image is mirrored first.
    """
    objective = Objective(
        RelativePosition(side=side, gap=gap, jitter=jitter, color=color, blur=blur, multiple=trunk.patch or 1),
        LateFusion(trunk, width, len(DIRECTIONS)),
        CrossEntropy(),
        change=RandomResizedCrop(trunk.size, scale=(crop, 1.0), flip=flip),
    )
    recipe = Recipe(base_learning_rate=2e-3, batch_size=64, weight_decay=0.05, warmup=0.1, epochs=100)
    return objective, recipe.change(optimizer="muon", matrix_rate=10.0)


def shortcuts() -> list[Shortcut]:
    """Borders that continue, long lines, colors that tell the place, and the saddle where nothing is learned."""
    jumps = (
        "what this gives away, beside the same, short; on the run's task, where the defense is on, it is worth little"
    )
    learned = f"0 is the saddle, where every direction has probability 1 / 8 and the loss is ln 8 = {SADDLE:.3f}"
    place = (
        "R2 of a linear map from a patch's features to its place in the image: near 0 where photographs have no common layout; "
        "color that tells the place raises it. RMSE in half sides of the image, by chance that of the mean place"
    )
    return [
        Probe("saddle", saddle, learned, {"nats below ln 8": (0.02, SADDLE)}),
        Probe("where a patch was", absolute_position, place, {"place R2": (-1.0, 0.5)}, each=True),
        Variant("no gap", {"gap": 0.0}, jumps),
        Variant("no jitter", {"jitter": 0.0}, jumps),
        Variant("no gap, no jitter", {"gap": 0.0, "jitter": 0.0}, jumps),
        Variant("color kept", {"color": "keep"}, "a higher place R2 is color that tells the place"),
        Variant("color dropped", {"color": "drop"}, "the paper's other defense"),
    ]


def saddle(objective: Objective, seen: Any, held: Tensor) -> dict[str, float]:
    """How far the loss on held-out items is below that of saying every direction with probability 1 / 8, nats."""
    pair = objective.pair(held)
    loss = objective.compare(objective.network(pair.x), pair)["loss"]
    return {"nats below ln 8": SADDLE - float(loss)}


def absolute_position(objective: Objective, seen: Tensor, held: Tensor) -> dict[str, float]:
    """Ridge regression from the features of patches to their places in the whole image, fitted on `seen`, tested on `held`.

    The paper's test for chromatic aberration: its network told the places on the tenth of the images where it was best with a
    root mean squared error of 0.255 where chance was 0.371.
    """
    (features, places), (features_held, places_held) = (_placed(objective, t) for t in (seen, held))
    mean, deviation = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
    features, features_held = (features - mean) / deviation, (features_held - mean) / deviation
    middle = places.mean(dim=0)
    D = features.shape[1]
    gram = features.T @ features + len(features) * 0.01 * torch.eye(D, dtype=features.dtype, device=features.device)
    weights = torch.linalg.solve(gram, features.T @ (places - middle))
    error = (features_held @ weights + middle - places_held).square().mean()
    chance = (places_held - middle).square().mean()
    return {"place R2": float(1 - error / chance), "place RMSE": float(error.sqrt()), "by chance": float(chance.sqrt())}


def _placed(objective: Objective, t: Tensor) -> tuple[Tensor, Tensor]:
    """Features (n, D) of patches cut anywhere in whole images, and where their middles are, -1 to 1; float64."""
    split, trunk = objective.split, objective.trunk
    size = trunk.size
    t = at_size(t, size)
    assert isinstance(split, RelativePosition)  # noqa: S101 - it is this method's
    side = split.pixels(size)[0]
    corners = torch.randint(size - side + 1, (len(t), 9, 2), device=t.device)
    patches = split.dress(cut(t, corners, side))
    found = [trunk.crops(some.flatten(0, 1)).pooled for some in patches.split(64)]
    return torch.cat(found).cpu().double(), (2 * (corners + side / 2) / size - 1).flatten(0, 1).cpu().double()
