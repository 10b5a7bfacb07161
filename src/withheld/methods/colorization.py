"""Colorization."""

from __future__ import annotations

from withheld.color import gamut_bins
from withheld.losses.color import AnnealedColor, ColorCrossEntropy
from withheld.networks.color import Colorizer
from withheld.networks.image import ImageTrunk
from withheld.objective import Objective
from withheld.splits.color import HideColor
from withheld.splits.views import RandomResizedCrop
from withheld.types import Recipe

ENCODER = {"cpu": "resnet-nano", "cuda": "resnet-18"}


def colorization(
    trunk: ImageTrunk,
    *,
    rebalance: float = 0.5,
    temperature: float = 0.38,
    decoder_width: int = 128,
    crop: float = 0.2,
    flip: bool = True,
) -> tuple[Objective, Recipe]:
    """Hides the color of an image and predicts it from its lightness.

    (x, y): the lightness L; the colors ab of every pixel, in CIE Lab.
    p(y|x): a categorical over the 313 bins of the ab plane that sRGB reaches, for every cell of a coarse grid.
    Source: Zhang, Isola and Efros 2016, Colorful Image Colorization, https://arxiv.org/abs/1603.08511
    Differs: a small ResNet (paper: a VGG-like net of 8 blocks with dilated convolutions) whose stages are added on a grid of a
        quarter of the image's side; the histogram of colors is that of a sample of the user's own images (ImageNet); AdamW with
        a cosine schedule (Adam in three steps), for runs of minutes; L is divided by 25 as well as centered.

    Args:
        trunk: any backbone with a grid of tokens; it sees lightness only, also after training.
        rebalance: lambda, the part of a uniform distribution when rare colors are weighted up; 1 weights all colors alike.
        temperature: of the annealed mean that makes a color of the distribution: 1 is the mean, towards 0 the mode.
        decoder_width: of the decoder.
        crop: smallest share of the area that a random crop keeps; 1 is no cropping.
        flip: whether every second image is mirrored.
    """
    return (
        Objective(
            HideColor(channels=trunk.channels),
            Colorizer(trunk, len(gamut_bins()), decoder_width),
            ColorCrossEntropy(rebalance, temperature),
            target=AnnealedColor(temperature),
            change=RandomResizedCrop(trunk.size, scale=(crop, 1.0), flip=flip),
        ),
        Recipe(
            base_learning_rate=4e-3, batch_size=64, betas=(0.9, 0.99), weight_decay=0.05, warmup=0.1, epochs=100,
            normalize=False,
        ),
    )  # fmt: skip
