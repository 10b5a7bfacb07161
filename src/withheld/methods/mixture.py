"""Mixtures by expectation-maximization."""

from __future__ import annotations

from typing import Literal

from withheld.errors import InputError
from withheld.latent import LatentModel
from withheld.networks.bernoulli_mixture import BernoulliMixtureModel
from withheld.networks.evidence import ByEvidence
from withheld.networks.gaussian_mixture import GaussianMixtureModel
from withheld.networks.mixture import COMPONENTS, Mixture
from withheld.types import Recipe


def mixture(
    columns: int,
    *,
    components: int | Literal["auto"] | None = None,
    kind: str = "gaussian",
    covariance: str | None = None,
    regularization: float = 1e-6,
    smoothing: float = 0.1,
    start: str = "kmeans",
    classes: int = 0,
) -> tuple[LatentModel, Recipe]:
    """Finds groups in a table: every row came from one of a few components, and nobody saw which.

    (x, y): nothing observed is hidden; what is hidden is z, the component of every row, and empty cells (NaN).
    p(y|x): p(z | x), exact by Bayes' rule; learning raises log p(x) = sum over rows of log sum_k weight_k p_k(x).
    Source: Dempster, Laird and Rubin 1977, Maximum Likelihood from Incomplete Data via the EM Algorithm,
        https://www.jstor.org/stable/2984875; missing cells as in Ghahramani and Jordan 1994, https://papers.nips.cc/paper/767
    Differs: starts from k-means++ on a sample of 20,000 rows; variances are regularized as in scikit-learn.

    Args:
        columns: of the table.
        components: K; where it is not given a run takes as many as the evidence is for (BIC, on a sample of 20,000 rows), and with
            labels one for every class; "auto" takes a multiple of the classes, the one that the evidence is for. They are
            numbered from 0, in pictures, in messages and in what `predict` writes.
        kind: "gaussian", or "bernoulli" for columns of 0 and 1.
        covariance: of Gaussians: "full", "tied", "diag" or "spherical"; where it is not named, "full", but "diag" for fewer than
            three rows a column and component, and "tied" where that is the only way that the evidence is for any groups.
        regularization: added to variances of Gaussians, in squared units of the data.
        smoothing: pseudo-rows of 0 and of 1 in every mean of a Bernoulli.
        start: "kmeans" or "random".
        classes: of the labels that some rows have (Nigam et al. 2000); `--labels` sets it.
    """

    def of(count: int, kept: str = covariance or "full") -> Mixture:
        if kind == "bernoulli":
            return BernoulliMixtureModel(columns, count, smoothing, classes, start)
        return GaussianMixtureModel(columns, count, kept, regularization, classes, start)

    if kind not in ("gaussian", "bernoulli"):
        raise InputError(f"kind={kind!r}: gaussian or bernoulli")
    recipe = Recipe(batch_size=1 << 16, epochs=500, tolerance=1e-5)
    if components is None:  # a run says "auto" where it means it; those begun before it did have 8
        components = classes or COMPONENTS
    if components != "auto":
        return of(int(components)), recipe
    free = kind == "gaussian" and covariance is None and not classes
    return ByEvidence(of, classes, (lambda count: of(count, "tied")) if free else None), recipe
