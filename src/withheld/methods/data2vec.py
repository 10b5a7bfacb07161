"""data2vec for images: from visible patches what a slower self makes of hidden ones in their context."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.prediction import SmoothError
from withheld.networks.decoder import PatchPredictor
from withheld.networks.image import ImageTrunk
from withheld.networks.teacher import HiddenStates, Teacher
from withheld.objective import Objective
from withheld.splits.latent import HiddenInContext
from withheld.splits.views import RandomResizedCrop
from withheld.types import Recipe


def data2vec(
    trunk: ImageTrunk,
    *,
    momentum: float = 0.99,
    layers: int = 0,
    ratio: float = 0.7,
    block: int = 2,
    decoder_width: int = 0,
    decoder_layers: int = 2,
    crop: float = 0.3,
    flip: bool = True,
) -> tuple[Objective, Recipe]:
    """Hides most patches and predicts the mean of the upper layers that a running mean of the network gives them in context.

    (x, y): the visible patches; the whole image, of which the teacher tells the hidden patches' states.
    p(y|x): a Gaussian with heavier tails around the predicted state of every hidden patch.
    Source: Baevski et al. 2022, data2vec, https://arxiv.org/abs/2202.03555; only visible patches pass through the encoder as in
        data2vec 2.0, https://arxiv.org/abs/2212.07525
    Differs: one mask an image (2.0: 8 to 16); a transformer decoder in place of convolutions; each layer's tokens are normalized
        over their width; momentum from 0.99 (0.9998) to 1.

    Args:
        trunk: a ViT-like backbone.
        momentum: share of the teacher's weights that stays in a step, at the start; it rises to 1.
        layers: of the teacher, whose mean is told, from the last; 0 takes half of them.
        ratio: share of the patches that is hidden.
        block: side of the squares, in patches, that are kept or hidden as one.
        decoder_width: 0 takes half the encoder's, at least 64.
        decoder_layers: of the decoder.
        crop: smallest share of the area that a random crop keeps.
        flip: whether every second image is mirrored.
    """
    if not trunk.patch:
        raise InputError("data2vec hides patches, and this encoder has none: choose a ViT, such as --encoder vit-nano")
    if not 0 <= momentum < 1:
        raise InputError(f"momentum={momentum}: from 0 to below 1; 0.98 to 0.9998 are usual, larger for longer runs")
    if not 0 <= layers <= trunk.depth:
        raise InputError(f"layers={layers}: this encoder has {trunk.depth}")
    width = decoder_width or max(64, trunk.width // 2)
    network = PatchPredictor(trunk, width, decoder_layers, max(1, width // 32), values=trunk.width)
    objective = Objective(
        HiddenInContext(trunk.patch, ratio, block),
        network,
        SmoothError(),
        target=HiddenStates(Teacher(trunk, momentum), layers or max(1, trunk.depth // 2)),
        change=RandomResizedCrop(trunk.size, scale=(crop, 1.0), flip=flip),
    )
    return objective, Recipe(base_learning_rate=2e-3, batch_size=128, weight_decay=0.05, warmup=0.1, epochs=100)
