"""LeJEPA: views near the center of their image, and all views together a normal distribution."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.agreement import LeJEPA
from withheld.networks.image import ImageTrunk
from withheld.networks.projector import ViewProjector, projector
from withheld.objective import Objective
from withheld.splits.pairs import LargeAndSmall
from withheld.splits.views import View
from withheld.types import Recipe

ENCODER = {"cpu": "resnet-nano", "cuda": "resnet-18"}


def lejepa(
    trunk: ImageTrunk,
    *,
    weight: float = 0.05,
    directions: int = 256,
    width: int = 64,
    hidden: int = 512,
    large: int = 2,
    small: int = 2,
    crop: float = 0.3,
    small_crop: float = 0.1,
    side: int = 0,
    flip: bool = True,
    color: float = 0.5,
    grey: float = 0.2,
    blur: float = 0.0,
) -> tuple[Objective, Recipe]:
    """Tells every view of an image from its large views, with features that are kept normally distributed; no teacher.

    (x, y): the large views of an image; its small ones.
    p(y|x): a Gaussian around the mean projection of the large views, for the projection of every view; a test of normality along
        random directions (SIGReg) keeps projections from collapsing.
    Source: Balestriero and LeCun 2025, LeJEPA, https://arxiv.org/abs/2511.08544
    Differs: 2 large and 2 small views (paper: 2 and 6), 256 directions (1024), a projection of 64 after two layers of 512; hue in
        YIQ and colors clamped once, so that all color changes are one matrix; no blur unless asked for.

    Args:
        trunk: any backbone.
        weight: of the test of normality, between 0 and 1; invariance gets the rest.
        directions: along which normality is tested, drawn anew in every step.
        width: of the projection.
        hidden: of the projector's hidden layers.
        large: views whose mean is told from.
        small: views that are told besides.
        crop: smallest share of the area that a large view shows.
        small_crop: smallest share of the area that a small view shows; the largest is `crop`.
        side: of small views in pixels; 0 takes three fifths, a multiple of the patch.
        flip: whether every second view is mirrored.
        color: strength of the color changes, 0 to 1.25.
        grey: share of the views without color.
        blur: share of the views that are blurred.
    """
    if not 0 < weight < 1:
        raise InputError(f"weight={weight}: between 0 and 1; 0.02 to 0.1 are usual")
    changes = {"flip": flip, "color": color, "grey": grey, "blur": blur}
    split = LargeAndSmall(
        View(trunk.size, scale=(crop, 1.0), **changes),
        View(side or trunk.small_side, scale=(min(small_crop, crop), max(small_crop, crop)), **changes),
        large,
        small,
    )
    network = ViewProjector(trunk, projector(trunk.width, hidden, hidden, width))
    weights = {"invariance": 1 - weight, "sigreg": weight}
    recipe = Recipe(base_learning_rate=2e-3, batch_size=256, weight_decay=0.05, warmup=0.05, epochs=100)
    return Objective(split, network, LeJEPA(directions), target="network", weights=weights), recipe
