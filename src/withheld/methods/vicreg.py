"""VICReg: two views that agree, of features that vary and do not repeat each other."""

from __future__ import annotations

from withheld.losses.agreement import VICReg
from withheld.networks.image import ImageTrunk
from withheld.networks.projector import ViewProjector, projector
from withheld.objective import Objective
from withheld.splits.pairs import TwoViews
from withheld.splits.views import View
from withheld.types import Recipe

ENCODER = {"cpu": "resnet-nano", "cuda": "resnet-18"}


def vicreg(
    trunk: ImageTrunk,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    width: int = 512,
    crop: float = 0.2,
    flip: bool = True,
    color: float = 0.5,
    grey: float = 0.2,
    blur: float = 0.0,
) -> tuple[Objective, Recipe]:
    """Brings two random views of an image together while every feature keeps its variance and says something of its own.

    (x, y): a view of an image; another view of it, cropped, mirrored and recolored anew.
    p(y|x): a Gaussian around the projection of x for the projection of y; two further terms keep projections from being constant or
        redundant: each dimension's deviation at least 1, covariances 0.
    Source: Bardes, Ponce and LeCun 2022, VICReg, https://arxiv.org/abs/2105.04906
    Differs: expander of 512 (paper: 8192), batch 256 and AdamW (2048 and LARS); hue in YIQ and colors clamped once, so that all
        color changes are one matrix; no blur and no solarization unless asked for.

    Args:
        trunk: any backbone.
        invariance: weight of the squared distance of two views.
        variance: weight of what is missing to a deviation of 1.
        covariance: weight of the squared covariances.
        width: of the expander's layers.
        crop: smallest share of the area that a view shows.
        flip: whether every second view is mirrored.
        color: strength of the color changes, 0 to 1.25.
        grey: share of the views without color.
        blur: share of the views that are blurred.
    """
    view = View(trunk.size, scale=(crop, 1.0), flip=flip, color=color, grey=grey, blur=blur)
    network = ViewProjector(trunk, projector(trunk.width, width, width, width))
    weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
    recipe = Recipe(base_learning_rate=2e-3, batch_size=256, weight_decay=0.05, warmup=0.05, epochs=100)
    return Objective(TwoViews(view), network, VICReg(), target="network", weights=weights), recipe
