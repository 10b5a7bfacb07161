"""BYOL: from one view what a slower self says of the other."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.agreement import Cosine
from withheld.networks.image import ImageTrunk
from withheld.networks.projector import ViewPredictor, ViewProjector, projector
from withheld.networks.teacher import Teacher
from withheld.objective import Objective
from withheld.splits.pairs import SwappedViews
from withheld.splits.views import View
from withheld.types import Recipe

ENCODER = {"cpu": "resnet-nano", "cuda": "resnet-18"}


def byol(
    trunk: ImageTrunk,
    *,
    momentum: float = 0.98,
    width: int = 128,
    hidden: int = 512,
    crop: float = 0.2,
    flip: bool = True,
    color: float = 0.5,
    grey: float = 0.2,
    blur: float = 0.0,
    solarize: float = 0.0,
) -> tuple[Objective, Recipe]:
    """Predicts from a view of an image what a running mean of the network says of another view; no negatives.

    (x, y): two random views of an image; the same two, swapped.
    p(y|x): of von Mises-Fisher form: the predicted direction, and around it what the teacher makes of y.
    Source: Grill et al. 2020, Bootstrap Your Own Latent, https://arxiv.org/abs/2006.07733
    Differs: momentum from 0.98 (paper: 0.996), projector 512-128 (4096-256), batch 256 and AdamW (4096 and LARS), for runs of some
        thousand steps; batch statistics are those of both views together; the same changes for both views, hue in YIQ.

    Args:
        trunk: any backbone.
        momentum: share of the teacher's weights that stays in a step, at the start; it rises to 1.
        width: of the projection.
        hidden: of the hidden layers of projector and predictor.
        crop: smallest share of the area that a view shows.
        flip: whether every second view is mirrored.
        color: strength of the color changes, 0 to 1.25.
        grey: share of the views without color.
        blur: share of the views that are blurred.
        solarize: share of the views whose bright half is inverted.
    """
    if not 0 <= momentum < 1:
        raise InputError(f"momentum={momentum}: from 0 to below 1; 0.95 to 0.996 are usual, larger for longer runs")
    view = View(trunk.size, scale=(crop, 1.0), flip=flip, color=color, grey=grey, blur=blur, solarize=solarize)
    projects = ViewProjector(trunk, projector(trunk.width, hidden, width, bias=False))
    objective = Objective(
        SwappedViews(view), ViewPredictor(projects, hidden, width), Cosine(), Teacher(projects, momentum)
    )
    return objective, Recipe(base_learning_rate=2e-3, batch_size=256, weight_decay=0.05, warmup=0.05, epochs=100)
