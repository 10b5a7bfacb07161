"""I-JEPA: from a part of an image what a slower self makes of other parts."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.prediction import SmoothError
from withheld.networks.decoder import PatchPredictor
from withheld.networks.image import ImageTrunk
from withheld.networks.teacher import HiddenStates, Teacher
from withheld.objective import Objective
from withheld.splits.latent import HiddenBlocks
from withheld.splits.views import RandomResizedCrop
from withheld.types import Recipe


def ijepa(
    trunk: ImageTrunk,
    *,
    momentum: float = 0.99,
    blocks: int = 4,
    share: float = 0.15,
    visible: float = 0.85,
    predictor_width: int = 0,
    predictor_layers: int = 2,
    crop: float = 0.3,
    flip: bool = True,
) -> tuple[Objective, Recipe]:
    """Hides blocks of an image and predicts, from the rest, the features that a running mean of the network gives them.

    (x, y): the visible patches and where the blocks are; the whole image, of which the teacher tells the blocks' features.
    p(y|x): a Gaussian with heavier tails around the predicted feature of every hidden patch.
    Source: Assran et al. 2023, Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture,
        https://arxiv.org/abs/2301.08243
    Differs: blocks of one shape; as many visible patches for every image; all blocks are predicted together; 2 predictor layers
        of half the encoder's width (paper: 12 of 384); smooth absolute error on normalized features, as in the authors' code;
        momentum from 0.99 (0.996), weight decay constant.

    Args:
        trunk: a ViT-like backbone; only the visible patches pass through it.
        momentum: share of the teacher's weights that stays in a step, at the start; it rises to 1.
        blocks: that are hidden.
        share: of the image's area that one block covers.
        visible: largest share of the patches that is seen.
        predictor_width: 0 takes half the encoder's, at least 64.
        predictor_layers: of the predictor.
        crop: smallest share of the area that a random crop keeps.
        flip: whether every second image is mirrored.
    """
    if not trunk.patch:
        raise InputError("ijepa hides patches, and this encoder has none: choose a ViT, such as --encoder vit-nano")
    if not 0 <= momentum < 1:
        raise InputError(f"momentum={momentum}: from 0 to below 1; 0.98 to 0.999 are usual, larger for longer runs")
    width = predictor_width or max(64, trunk.width // 2)
    network = PatchPredictor(trunk, width, predictor_layers, max(1, width // 32), values=trunk.width)
    objective = Objective(
        HiddenBlocks(trunk.patch, blocks, share, visible),
        network,
        SmoothError(),
        target=HiddenStates(Teacher(trunk, momentum)),
        change=RandomResizedCrop(trunk.size, scale=(crop, 1.0), flip=flip),
    )
    return objective, Recipe(base_learning_rate=2e-3, batch_size=128, weight_decay=0.05, warmup=0.1, epochs=100)
