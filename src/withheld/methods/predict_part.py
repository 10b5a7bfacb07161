"""Any part of an item from any other."""

from __future__ import annotations

from withheld.losses.prediction import squared_error
from withheld.networks.decoder import Predictor
from withheld.networks.image import ImageTrunk
from withheld.objective import Objective
from withheld.splits.part import PredictPart
from withheld.splits.views import RandomResizedCrop
from withheld.types import Recipe


def predict_part(
    trunk: ImageTrunk,
    *,
    part: str = "right",
    given: str = "",
    box: float = 0.5,
    decoder_layers: int = 2,
    crop: float = 0.4,
    flip: bool = True,
) -> tuple[Objective, Recipe]:
    """Hides one half (or a random box) of an image and predicts its pixels from the rest.

    (x, y): the image without the part; the part: top, bottom, left, right, or "occluded", a random box.
    p(y|x): a Gaussian of unit variance around the prediction for every hidden pixel.
    Source: the plainest form of self-supervised learning, "predict any part of the input from any other" (LeCun 2019,
        https://github.com/ylecun); with a random box it is close to Pathak et al. 2016, Context Encoders, https://arxiv.org/abs/1604.07379
    Differs: no adversarial loss; the hidden part is 0 for the encoder.

    Args:
        trunk: any backbone with a grid of tokens.
        part: what is hidden.
        given: what may be seen, another part; "" is everything else.
        box: share of each axis that an occluding box hides.
        decoder_layers: of the decoder.
        crop: smallest share of the area that a random crop keeps.
        flip: whether every second image is mirrored.
    """
    return (
        Objective(
            PredictPart(part=part, given=given, box=box),
            Predictor(trunk, layers=decoder_layers),
            squared_error,
            change=RandomResizedCrop(trunk.size, scale=(crop, 1.0), flip=flip),
        ),
        Recipe(base_learning_rate=4e-3, batch_size=128, betas=(0.9, 0.95), weight_decay=0.05, warmup=0.1, epochs=100),
    )
