"""Mixtures by mean-field variational Bayes."""

from __future__ import annotations

from withheld.latent import LatentModel
from withheld.networks.bayesian_mixture import BayesianMixtureModel
from withheld.types import Recipe


def mean_field(
    columns: int,
    *,
    components: int = 10,
    covariance: str = "full",
    concentration: float = 1e-3,
    mean_precision: float = 1.0,
    regularization: float = 1e-6,
    start: str = "kmeans",
) -> tuple[LatentModel, Recipe]:
    """Finds groups in a table and how many there are: components that are not needed go back to the prior.

    (x, y): nothing observed is hidden; what is hidden: the component of every row, and weights, means and precisions.
    p(y|x): approximated by a product of factors, each at its best given the others; learning raises the lower bound of log p(x).
    Source: Attias 1999, A Variational Bayesian Framework for Graphical Models, https://papers.nips.cc/paper/1726;
        Bishop 2006, Pattern Recognition and Machine Learning, 10.2
    Differs: with "diag" the precisions have Gamma factors, and the bound is not scikit-learn's; regularized as there.

    Args:
        columns: of the table.
        components: the most there may be; numbered from 0, in pictures, in messages and in what `predict` writes.
        covariance: "full" or "diag".
        concentration: of the Dirichlet prior of the weights; small ones let components go.
        mean_precision: how many rows the prior of the means counts for.
        regularization: added to variances, in squared units of the data.
        start: "kmeans" or "random".
    """
    model = BayesianMixtureModel(
        columns, components, covariance, concentration, mean_precision, regularization=regularization, start=start
    )
    return model, Recipe(batch_size=1 << 16, epochs=1000, tolerance=1e-6)
