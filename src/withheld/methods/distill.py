"""Distillation: an encoder that somebody trained, made small."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.agreement import StandardizedError
from withheld.networks.frozen import FrozenEncoder
from withheld.networks.image import ImageTrunk
from withheld.networks.projector import ViewProjector, projector
from withheld.objective import Objective
from withheld.splits.pairs import SharedView
from withheld.splits.views import View
from withheld.types import Recipe

ENCODER = {"cpu": "resnet-nano", "cuda": "resnet-18"}
NEEDS = {"teacher": "encoder"}
"""Settings without a default that serves, and what each names."""


def distill(
    trunk: ImageTrunk,
    *,
    teacher: str = "",
    side: int = 0,
    hidden: int = 512,
    crop: float = 0.3,
    flip: bool = True,
    color: float = 0.2,
    grey: float = 0.1,
) -> tuple[Objective, Recipe]:
    """Predicts the features that a frozen encoder gives the same view: any transformers model, or a run of your own.

    (x, y): a random view of an image; the same view, of which the teacher tells its features.
    p(y|x): a Gaussian around the prediction for each of the teacher's features, brought to mean 0 and variance 1 over the batch.
    Source: Hinton, Vinyals and Dean 2015, Distilling the Knowledge in a Neural Network, https://arxiv.org/abs/1503.02531; of
        features: Romero et al. 2014, https://arxiv.org/abs/1412.6550; the same view for both: Beyer et al. 2021,
        https://arxiv.org/abs/2106.05237
    Differs: pooled features in place of logits or of one hidden layer, standardized; no labels.

    Args:
        trunk: the student, any backbone.
        teacher: a run, an encoder folder, or a transformers id; it is only asked, never trained.
        side: of the images the teacher sees, pixels; 0 takes its own, at most 224. Smaller is faster.
        hidden: of the head's hidden layer.
        crop: smallest share of the area that a view shows.
        flip: whether every second view is mirrored.
        color: strength of the color changes, 0 to 1.25.
        grey: share of the views without color.
    """
    if not teacher:
        raise InputError(
            "distill needs a teacher: --set teacher=RUN, an encoder folder, or a transformers id such as facebook/dinov2-small"
        )
    frozen = FrozenEncoder(str(teacher), side)
    view = View(trunk.size, scale=(crop, 1.0), flip=flip, color=color, grey=grey)
    split = SharedView(view, frozen.size, frozen.channels, frozen.mean, frozen.std)
    network = ViewProjector(trunk, projector(trunk.width, hidden, frozen.width))
    recipe = Recipe(base_learning_rate=2e-3, batch_size=128, weight_decay=0.05, warmup=0.05, epochs=100)
    return Objective(split, network, StandardizedError(), target=frozen), recipe
