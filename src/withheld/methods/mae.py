"""Masked autoencoder."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.prediction import squared_error
from withheld.losses.target import NormalizedPatches
from withheld.networks.decoder import PatchPredictor
from withheld.networks.image import ImageTrunk
from withheld.objective import Objective
from withheld.splits.image import MaskPatches
from withheld.splits.views import RandomResizedCrop
from withheld.types import Recipe


def mae(
    trunk: ImageTrunk,
    *,
    ratio: float = 0.75,
    normalize_patches: bool = True,
    decoder_width: int = 0,
    decoder_layers: int = 2,
    crop: float = 0.2,
    flip: bool = True,
) -> tuple[Objective, Recipe]:
    """Hides most patches of an image and predicts their pixels from the rest.

    (x, y): the visible patches; the hidden ones, each brought to mean 0 and variance 1.
    p(y|x): a Gaussian of unit variance around the prediction for every hidden patch.
    Source: He et al. 2021, Masked Autoencoders Are Scalable Vision Learners, https://arxiv.org/abs/2111.06377
    Differs: 2 decoder layers of half the encoder's width (paper: 8 of 512), batch 128 (4096) and base learning rate 4e-3
        (1.5e-4), for runs of minutes; features are the mean of the patch tokens.

    Args:
        trunk: a ViT-like backbone; only the visible patches pass through it.
        ratio: share of the patches that is hidden.
        normalize_patches: whether each hidden patch is normalized before it is compared.
        decoder_width: 0 takes half the encoder's, at least 64.
        decoder_layers: of the decoder.
        crop: smallest share of the area that a random crop keeps; 1 is no cropping.
        flip: whether every second image is mirrored.
    """
    if not trunk.patch:
        raise InputError("mae hides patches, and this encoder has none: choose a ViT, such as --encoder vit-nano")
    width = decoder_width or max(64, trunk.width // 2)
    return (
        Objective(
            MaskPatches(patch=trunk.patch, ratio=ratio),
            PatchPredictor(trunk, width, decoder_layers, heads=max(1, width // 32)),
            squared_error,
            target=NormalizedPatches() if normalize_patches else None,
            change=RandomResizedCrop(trunk.size, scale=(crop, 1.0), flip=flip),
        ),
        Recipe(base_learning_rate=4e-3, batch_size=128, betas=(0.9, 0.95), weight_decay=0.05, warmup=0.1, epochs=100),
    )
