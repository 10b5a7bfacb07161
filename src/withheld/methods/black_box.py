"""Black-box variational inference."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.networks.posterior import FAMILIES, BlackBox, GaussianMixturePosterior, LogJoint, minus_bound
from withheld.objective import Objective
from withheld.splits.whole import Whole
from withheld.types import Recipe


def black_box(
    log_joint: LogJoint,
    *,
    dimensions: int = 2,
    family: str = "mixture",
    components: int = 4,
    gradient: str = "reparameterized",
    samples: int = 16,
    learning_rate: float = 0.05,
    start_width: float = 3.0,
) -> tuple[Objective, Recipe]:
    """Approximates p(z | x) of any model you can write down, by one Gaussian or a mixture; from Python: `withheld.infer`.

    (x, y): the whole observed data, inside log_joint; what is hidden is z, the model's parameters and latent variables.
    p(y|x): q(z), whose bound E_q[log p(x, z) - log q(z)] of log p(x) is raised by its gradient, estimated from samples.
    Source: Ranganath, Gerrish and Blei 2014, Black Box Variational Inference, https://arxiv.org/abs/1401.0118; reparameterized
        mixtures by strata: Morningstar et al. 2021, https://arxiv.org/abs/2003.01687
    Differs: the components start from a search by chance, at places of high density that lie apart.

    Args:
        log_joint: z (S, D) -> (S,), log p(x, z).
        dimensions: D, of z, every one over the whole line.
        family: "factorized", "full_rank", "mixture" or "full_rank_mixture".
        components: of a mixture.
        gradient: "reparameterized", or "score" for models without gradients.
        samples: of every component at a step.
        learning_rate: of Adam, at its peak.
        start_width: deviation of the places that are tried for the start.
    """
    if family not in FAMILIES:
        raise InputError(f"family={family!r}: one of {', '.join(FAMILIES)}")
    if dimensions < 1 or components < 1 or samples < 2:
        raise InputError(
            f"dimensions={dimensions} and components={components} are at least 1, samples={samples} at least 2"
        )
    q = GaussianMixturePosterior(dimensions, components if "mixture" in family else 1, full="full_rank" in family)
    return (
        Objective(Whole(), BlackBox(log_joint, q, samples, gradient, start_width), minus_bound),
        Recipe(
            base_learning_rate=256 * learning_rate,
            batch_size=1,
            betas=(0.9, 0.99),
            weight_decay=0.0,
            warmup=0.01,
            clip=1e3,
        ),
    )
