"""VQ-VAE-2, its second stage: which codes go together."""

from __future__ import annotations

from withheld.losses.codes import NextCode as NextCodeLoss
from withheld.networks.code_prior import CodePrior, CodeTrunk
from withheld.objective import Objective
from withheld.splits.codes import NextCode
from withheld.types import Recipe


def code_prior(trunk: CodeTrunk) -> tuple[Objective, Recipe]:
    """Predicts every code of an image from those before it, the coarse grid first; `--data run:RUN` of a vq_vae2 run.

    (x, y): all codes before a place; the code at it.
    p(y|x): a categorical over the book; their product is p(top) p(bottom | top), from which new images are drawn.
    Source: Razavi, van den Oord and Vinyals 2019, https://arxiv.org/abs/1906.00446; the network: Radford et al. 2019, GPT-2
    Differs: one causal transformer over both grids (paper: PixelSNAIL for the top, PixelCNN for the bottom given the top).

    Args:
        trunk: a causal transformer over codes.
    """
    return (
        Objective(NextCode(), CodePrior(trunk), NextCodeLoss(trunk.shape.tops)),
        Recipe(
            base_learning_rate=4e-3,
            batch_size=64,
            betas=(0.9, 0.95),
            weight_decay=0.05,
            warmup=0.05,
            clip=1.0,
            epochs=20,
        ),
    )
