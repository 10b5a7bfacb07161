"""VQ-VAE-2, its first stage: images as codes."""

from __future__ import annotations

from withheld.losses.codes import Reconstruction, quantized_error
from withheld.networks.image import ImageTrunk
from withheld.networks.vq_vae2 import VectorQuantizedAutoencoder
from withheld.objective import Objective
from withheld.splits.whole import Whole
from withheld.types import Recipe

ENCODER = "vq-vae2"


def vq_vae2(
    trunk: ImageTrunk, *, codes: int = 512, commitment: float = 0.25, decay: float = 0.99
) -> tuple[Objective, Recipe]:
    """Turns every image into two small grids of codes, and tells it from them; `code_prior` then learns which codes go together.

    (x, y): the image twice; what is hidden is z, a code out of a book for every place of a coarse and a fine grid.
    p(y|x): a Gaussian of unit variance around the decoder's image; codes are the nearest, their gradient goes straight through.
    Source: Razavi, van den Oord and Vinyals 2019, Generating Diverse High-Fidelity Images with VQ-VAE-2, https://arxiv.org/abs/1906.00446
    Differs: grids of a quarter and an eighth of the image (paper: the same of 256 pixels), k-means start and restart of rare codes.

    Args:
        trunk: the two convolutional encoders.
        codes: of each of the two books.
        commitment: weight of the distance between vectors and their codes.
        decay: of the running means that the codes are.
    """
    return (
        Objective(
            Whole(), VectorQuantizedAutoencoder(trunk, codes, decay), quantized_error, target=Reconstruction(),
            weights={"commitment": commitment},
        ),
        Recipe(base_learning_rate=2e-3, batch_size=64, weight_decay=0.0, warmup=0.02, schedule="constant", epochs=20),
    )  # fmt: skip
