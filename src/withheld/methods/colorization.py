"""Colorization."""

from __future__ import annotations

from typing import Literal

from withheld.color import gamut_bins
from withheld.losses.color import AnnealedColor, ColorCrossEntropy, ColorSquaredError, RegressedColor
from withheld.losses.colorful import grey, mean_color, told
from withheld.networks.color import Colorizer
from withheld.networks.image import ImageTrunk
from withheld.objective import Objective
from withheld.shortcuts import Probe, Shortcut, Variant
from withheld.splits.color import HideColor
from withheld.splits.views import RandomResizedCrop
from withheld.types import Recipe

ENCODER = {"cpu": "resnet-nano", "cuda": "resnet-18"}


def colorization(
    trunk: ImageTrunk,
    *,
    predict: Literal["bins", "ab"] = "bins",
    rebalance: float = 0.5,
    temperature: float = 0.38,
    calm: float = 0.5,
    decoder_width: int = 64,
    grid: int = 0,
    crop: float = 0.2,
    flip: bool = True,
) -> tuple[Objective, Recipe]:
    """Hides the color of an image and predicts it from its lightness.

    (x, y): the lightness L; the colors ab of every pixel, in CIE Lab.
    p(y|x): a categorical over the 313 bins of the ab plane that sRGB reaches, for every cell of a coarse grid.
    Source: Zhang, Isola and Efros 2016, Colorful Image Colorization, https://arxiv.org/abs/1603.08511
    Differs: a small ResNet (paper: a VGG-like network of 8 blocks with dilated convolutions) whose stages are added on a coarse
        grid of a quarter of the image's side, above 64 pixels an eighth (a quarter); the histogram of colors is that of 256 of the
        user's own images (ImageNet); AdamW with a cosine schedule (Adam in three steps), for runs of minutes; L is divided by
        25 as well as centered; half of the rebalancing is taken back when a color is made (none), since a small network is unsure.

    Args:
        trunk: any backbone with a grid of tokens; it sees lightness only, also after training.
        predict: "bins", or "ab" for the regression that the paper compares with (p(y|x) a Gaussian): it turns sepia.
        rebalance: lambda, the part of a uniform distribution when rare colors are weighted up; 1 weights all colors alike.
        temperature: of the annealed mean that makes a color of the distribution: 1 is the mean, towards 0 the mode.
        calm: share of the rebalancing that is taken back when a color is made: 0 is the paper's, vivid; 1 is sober.
        decoder_width: of the decoder.
        grid: side of the coarse grid; 0 takes a quarter of the image's side up to 64 pixels, else an eighth.
        crop: smallest share of the area that a random crop keeps; 1 is no cropping.
        flip: whether every second image is mirrored.
    """
    bins = predict == "bins"
    told_by = ColorCrossEntropy(rebalance, temperature, calm)
    return (
        Objective(
            HideColor(channels=trunk.channels),
            Colorizer(trunk, len(gamut_bins()) if bins else 2, decoder_width, grid),
            told_by if bins else ColorSquaredError(),
            target=AnnealedColor(told_by) if bins else RegressedColor(),
            change=RandomResizedCrop(trunk.size, scale=(crop, 1.0), flip=flip),
        ),
        Recipe(
            base_learning_rate=8e-3, batch_size=64, betas=(0.9, 0.99), weight_decay=0.05, warmup=0.1, epochs=100,
            normalize=False,
        ),
    )  # fmt: skip


def shortcuts() -> list[Shortcut]:
    """What telling no color is worth, and what regression makes of it."""
    area = "AuC is the share of pixels told within a distance in ab, over distances 0 to 150; rebalanced, rare colors count as much"
    sepia = (
        "a chroma ratio far below 1 is sepia; rebalanced over grey says what the colors are worth where rare ones count"
    )
    return [
        Probe(
            "its colors",
            told,
            f"{area}; {sepia}",
            {"chroma_ratio": (0.5, 1.6), "rebalanced over grey": (0.0, 1.0)},
            each=True,
        ),
        Probe("all grey", grey, "no color at all: hard to beat where all pixels count alike"),
        Probe("the mean color", mean_color, "one color everywhere, the mean of the items learned from"),
        Variant(
            "regression of ab", {"predict": "ab"}, "the mean of what may be: expect a low chroma ratio", crossed=False
        ),
        Variant(
            "all rebalancing kept", {"calm": 0.0}, "the paper's colors: more vivid, and raw perhaps worse than grey"
        ),
        Variant("no rebalancing", {"rebalance": 1.0}, "expect fewer bins in use, and less where rare colors count"),
    ]
