"""Mixtures as scikit-learn estimators, on arrays in memory."""

from __future__ import annotations

from typing import Any

import torch

from withheld.errors import InputError
from withheld.estimator import DeadComponent, MixtureEstimator, shaped
from withheld.networks.bayesian_mixture import BayesianMixtureModel
from withheld.networks.bernoulli_mixture import BernoulliMixtureModel
from withheld.networks.gaussian_mixture import GaussianMixtureModel
from withheld.networks.mixture import Mixture

__all__ = ["BayesianGaussianMixture", "BernoulliMixture", "DeadComponent", "GaussianMixture"]


class GaussianMixture(MixtureEstimator):
    """Gaussian mixture by EM, as scikit-learn's and faster, with missing values, weights and labels for some rows.

    Args:
        n_components: K; "auto" takes as many as BIC is for.
        covariance_type: "full", "tied", "diag" or "spherical".
        tol: it stops where the bound of a row rises by less, nats.
        reg_covar: added to variances.
        max_iter: the most passes. n_init: starts, of which the best is kept.
        init_params: "kmeans" or "random".
        weights_init, means_init, precisions_init: where to begin, as in scikit-learn.
        random_state: None is 0: the same data give the same mixture.
        components_per_class: with labels, how many components each class has (then n_components is ignored).
        batch_size: rows in memory at a time. device: "cpu", "cuda".
        single: whether float32 may be used where it is exact enough.

    Attributes:
        weights_, means_, covariances_, converged_, n_iter_, lower_bound_ (nats a row), dead_ (components without rows).
    """

    def __init__(
        self, n_components: Any = 1, *, covariance_type: str = "full", tol: float = 1e-3, reg_covar: float = 1e-6,
        max_iter: int = 100, n_init: int = 1, init_params: str = "kmeans", weights_init: Any = None, means_init: Any = None,
        precisions_init: Any = None, random_state: Any = None, components_per_class: int = 1, batch_size: int = 1 << 16,
        device: str = "cpu", single: bool = True,
    ) -> None:  # fmt: skip
        self.n_components, self.covariance_type, self.tol, self.reg_covar = (
            n_components,
            covariance_type,
            tol,
            reg_covar,
        )
        self.max_iter, self.n_init, self.init_params, self.random_state = max_iter, n_init, init_params, random_state
        self.weights_init, self.means_init, self.precisions_init = weights_init, means_init, precisions_init
        self.components_per_class, self.batch_size, self.device, self.single = (
            components_per_class,
            batch_size,
            device,
            single,
        )

    def _model(self, columns: int, classes: int) -> Mixture:
        count = classes * self.components_per_class if classes else self.n_components
        given = self.means_init is not None and self.precisions_init is not None
        start = "random" if given else self.init_params  # what is replaced at once need not be searched for
        return GaussianMixtureModel(columns, count, self.covariance_type, self.reg_covar, classes, start, self.single)

    def _set_start(self, model: Mixture) -> None:
        for name, value in (("weights", self.weights_init), ("means", self.means_init)):
            if value is not None:
                getattr(model, name).copy_(shaped(f"{name}_init", value, getattr(model, name)))
        if self.precisions_init is not None:
            covariances: Any = model.covariances
            given = shaped("precisions_init", self.precisions_init, covariances)
            covariances.copy_(
                torch.linalg.inv(given) if given.ndim and self.covariance_type in ("full", "tied") else 1 / given
            )

    def _expose(self) -> None:
        super()._expose()
        self.covariances_ = self.model_.covariances.cpu().numpy()


class BernoulliMixture(MixtureEstimator):
    """Mixture of products of Bernoulli distributions by EM, for columns of 0 and 1.

    Args:
        n_components: K; "auto" takes as many as BIC is for.
        smoothing: pseudo-rows of 0 and of 1 in every mean.
        others: as in `GaussianMixture`.
    """

    def __init__(
        self, n_components: Any = 1, *, smoothing: float = 0.1, tol: float = 1e-3, max_iter: int = 100, n_init: int = 1,
        init_params: str = "kmeans", random_state: Any = None, components_per_class: int = 1, batch_size: int = 1 << 14,
        device: str = "cpu",
    ) -> None:  # fmt: skip
        self.n_components, self.smoothing, self.tol, self.max_iter, self.n_init = (
            n_components,
            smoothing,
            tol,
            max_iter,
            n_init,
        )
        self.init_params, self.random_state, self.components_per_class = init_params, random_state, components_per_class
        self.batch_size, self.device = batch_size, device

    def _model(self, columns: int, classes: int) -> Mixture:
        count = classes * self.components_per_class if classes else self.n_components
        return BernoulliMixtureModel(columns, count, self.smoothing, classes, self.init_params)


class BayesianGaussianMixture(MixtureEstimator):
    """Gaussian mixture by mean-field variational Bayes: components that are not needed go back to the prior.

    `lower_bound_` is the whole lower bound of log p(X), nats, divided by n. scikit-learn's drops the constants of the priors; with
    covariance_type="full", n times ours is theirs plus
    K log B(W0, v0) + K D / 2 log(mean_precision_prior) + log C(alpha0) - n D / 2 log(2 pi),
    log B the Wishart's and log C the Dirichlet's log normalizer (`constants_`).

    Args:
        n_components: the most there may be.
        covariance_type: "full" or "diag".
        weight_concentration_prior: of the Dirichlet; None is 1 / n_components.
        mean_precision_prior, degrees_of_freedom_prior, mean_prior, covariance_prior: as in scikit-learn.
        others: as in `GaussianMixture`.
    """

    def __init__(
        self, n_components: int = 1, *, covariance_type: str = "full", tol: float = 1e-3, reg_covar: float = 1e-6,
        max_iter: int = 100, n_init: int = 1, init_params: str = "kmeans", weight_concentration_prior: float | None = None,
        mean_precision_prior: float = 1.0, mean_prior: Any = None, degrees_of_freedom_prior: float | None = None,
        covariance_prior: Any = None, random_state: Any = None, batch_size: int = 1 << 16, device: str = "cpu",
        single: bool = True,
    ) -> None:  # fmt: skip
        self.n_components, self.covariance_type, self.tol, self.reg_covar = (
            n_components,
            covariance_type,
            tol,
            reg_covar,
        )
        self.max_iter, self.n_init, self.init_params, self.random_state = max_iter, n_init, init_params, random_state
        self.weight_concentration_prior, self.mean_precision_prior = weight_concentration_prior, mean_precision_prior
        self.mean_prior, self.degrees_of_freedom_prior = mean_prior, degrees_of_freedom_prior
        self.covariance_prior, self.batch_size, self.device, self.single = covariance_prior, batch_size, device, single

    def _model(self, columns: int, classes: int) -> Mixture:
        if classes:
            raise InputError("y: labels are for GaussianMixture and BernoulliMixture; mean field takes none")
        return BayesianMixtureModel(
            columns, self.n_components, self.covariance_type, self.weight_concentration_prior, self.mean_precision_prior,
            self.degrees_of_freedom_prior, self.reg_covar, self.mean_prior, self.covariance_prior, self.init_params, self.single,
        )  # fmt: skip

    def _expose(self) -> None:
        super()._expose()
        self.covariances_ = self.model_.covariances().cpu().numpy()

    def _evidence(self, batch: Any) -> float:
        return self.lower_bound_
