"""Variational autoencoder."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.latent import MeanImage, NegativeBound
from withheld.networks.image import ImageTrunk
from withheld.networks.vae import LatentAutoencoder
from withheld.objective import Objective
from withheld.splits.whole import Binarize, Whole
from withheld.types import Moment, Recipe

ENCODER = "mlp-vae"


def vae(
    trunk: ImageTrunk,
    *,
    likelihood: str = "bernoulli",
    decoder: str = "mlp",
    width: int = 512,
    latents: int = 40,
    beta: float = 1.0,
    warmup: float = 0.1,
    free_bits: float = 0.0,
    importance_samples: int = 1,
) -> tuple[Objective, Recipe]:
    """Explains every image by a few numbers z, drawn from a normal distribution, and a decoder that makes images of them.

    (x, y): the image twice; what is hidden is z, and the copy in x feeds the recognition network only.
    p(y|x): the decoder's p(y|z); learning raises E_q[log p(y|z)] - KL(q(z|x) || p(z)), a bound of log p(y) in nats.
    Source: Kingma and Welling 2013, Auto-Encoding Variational Bayes, https://arxiv.org/abs/1312.6114; importance-weighted bound:
        Burda et al. 2015, https://arxiv.org/abs/1509.00519; beta: Higgins et al. 2017; free bits: Kingma et al. 2016
    Differs: two hidden layers of 512 with ReLU (paper: one of 500, tanh), AdamW with a cosine schedule (Adagrad); the KL
        comes in over the first tenth of the steps.

    Args:
        trunk: a recognition network ("mlp-vae", "conv-vae"); any other backbone gets linear heads.
        likelihood: "bernoulli" (pixels drawn as bits anew each time), "gaussian" (learned scale), "logistic" (256 levels).
        decoder: "mlp" or "conv".
        width: of the decoder's hidden layers.
        latents: of z, for other backbones.
        beta: weight of the KL; 1 is the bound.
        warmup: share of the steps over which the KL comes in.
        free_bits: nats that every dimension may cost for nothing.
        importance_samples: more than 1 trains the importance-weighted bound.
    """

    if importance_samples > 1 and (beta != 1 or free_bits):
        raise InputError(
            f"importance_samples={importance_samples} with beta={beta:g}, free_bits={free_bits:g}: the importance-weighted bound "
            "has no KL of its own to weigh; leave beta and free_bits out, or importance_samples"
        )

    def kl_weight(moment: Moment) -> float:
        return beta * min(1.0, (moment.progress + 1e-3) / warmup) if warmup > 0 else beta

    return (
        Objective(
            Whole(),
            LatentAutoencoder(trunk, latents, likelihood, decoder, width, max(1, importance_samples)),
            NegativeBound(likelihood, free_bits, weighted=importance_samples > 1),
            target=MeanImage(),
            change=Binarize() if likelihood == "bernoulli" else None,
            weights={"kl": kl_weight},
        ),
        Recipe(
            base_learning_rate=2e-3,
            batch_size=128,
            weight_decay=1e-3,
            warmup=0.02,
            clip=100.0,
            epochs=50,
            normalize=False,
        ),
    )
