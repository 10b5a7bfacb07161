"""SimCLR: two views of an image against those of all others."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.contrast import NTXent
from withheld.networks.image import ImageTrunk
from withheld.networks.projector import ViewProjector, projector
from withheld.objective import Objective
from withheld.splits.pairs import TwoViews
from withheld.splits.views import View
from withheld.types import Recipe

ENCODER = {"cpu": "conv-nano", "cuda": "resnet-18"}


def simclr(
    trunk: ImageTrunk,
    *,
    temperature: float = 0.2,
    width: int = 128,
    hidden: int = 512,
    crop: float = 0.25,
    flip: bool = True,
    color: float = 0.5,
    grey: float = 0.2,
    blur: float = 0.0,
) -> tuple[Objective, Recipe]:
    """Brings two random views of an image together and those of different images apart.

    (x, y): a view of an image; another view of it, cropped, mirrored and recolored anew.
    p(y|x): a categorical over all other views of the batch: which of them is of the same image, by cosine / temperature.
    Source: Chen et al. 2020, A Simple Framework for Contrastive Learning of Visual Representations, https://arxiv.org/abs/2002.05709
    Differs: batch 256 and Muon (paper: 4096 and LARS); views for convolutional networks begin at half of their side and grow; hue
        turns in YIQ and colors are clamped once, so that all color changes are one matrix; no blur unless asked for (as the paper
        does on CIFAR-10).

    Args:
        trunk: any backbone.
        temperature: of the softmax over cosines.
        width: of the projection.
        hidden: of the projector's hidden layer.
        crop: smallest share of the area that a view shows.
        flip: whether every second view is mirrored.
        color: strength of the color changes, 0 to 1.25; the paper takes 1, on CIFAR-10 0.5.
        grey: share of the views without color.
        blur: share of the views that are blurred.
    """
    if not temperature > 0:
        raise InputError(f"temperature={temperature} must be above 0; 0.1 to 0.5 are usual")
    view = View(trunk.size, scale=(crop, 1.0), flip=flip, color=color, grey=grey, blur=blur)
    network = ViewProjector(trunk, projector(trunk.width, hidden, width))
    recipe = Recipe(
        base_learning_rate=2e-3, batch_size=256, weight_decay=0.05, warmup=0.05, schedule="linear", epochs=100, optimizer="muon",
        matrix_rate=10.0, progressive=1.0 if trunk.patch else 0.5,
    )  # fmt: skip
    return Objective(TwoViews(view), network, NTXent(temperature), target="network"), recipe
