"""Variational Bayes for mixtures of Gaussians: a distribution over weights, means and precisions instead of a point.

Shapes: B rows, D columns, K components.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from withheld.errors import InputError
from withheld.networks.gaussian_mixture import SHARPEST, Quadratic


class BayesianMixtureModel(Quadratic):
    """Mean field: q(z) q(weights) prod_k q(mean_k, precision_k), each at its best given the others (Bishop 2006, 10.2).

    Weights have a Dirichlet prior; means and precisions a Normal-Wishart one (a product of Normal-Gammas with "diag").
    Components that the data do not need go back to the prior, so K is an upper limit.

    Args:
        columns: D.
        components: K, more than there may be.
        covariance: "full" or "diag".
        concentration: of the Dirichlet prior, each component's; None is 1 / K. Small ones let components go.
        mean_precision: how many rows the prior of the means counts for.
        freedom: degrees of freedom of the Wishart prior; None is D.
        regularization: added to the variances of every scatter, in squared units of the data.
        prior_mean: (D,); None is the sample's mean. prior_covariance: (D, D) or (D,); None is the sample's covariance.
        start: see `Mixture`.

    Attributes:
        means: (K, D). scatters: (K, D, D) or (K, D), the inverse scale matrices of the Wisharts. float64, in units of the data.
        concentrations, mean_precisions, freedoms: (K,).
    """

    means: Tensor
    takes_missing = False
    scatters: Tensor
    concentrations: Tensor
    mean_precisions: Tensor
    freedoms: Tensor
    prior_mean: Tensor
    prior_scatter: Tensor

    def __init__(
        self, columns: int, components: int, covariance: str = "full", concentration: float | None = None,
        mean_precision: float = 1.0, freedom: float | None = None, regularization: float = 1e-6,
        prior_mean: Tensor | None = None, prior_covariance: Tensor | None = None, start: str = "kmeans", single: bool = True,
    ) -> None:  # fmt: skip
        if covariance not in ("full", "diag"):
            raise InputError(f"covariance={covariance!r}: mean field takes full or diag")
        super().__init__(columns, components, covariance == "full", 0, start)
        self.concentration = 1 / components if concentration is None else concentration
        self.mean_precision, self.freedom = mean_precision, float(columns) if freedom is None else freedom
        if self.concentration <= 0 or mean_precision <= 0 or self.freedom <= columns - 1:
            raise InputError(
                f"concentration={self.concentration}, mean_precision={mean_precision} must be above 0, and "
                f"freedom={self.freedom} above {columns - 1}"
            )
        self.covariance, self.regularization, self.single = covariance, regularization, single
        self.given = (prior_mean, prior_covariance)
        square = torch.eye(columns, dtype=torch.float64) if self.pairs else torch.ones(columns, dtype=torch.float64)
        self.register_buffer("means", torch.zeros(components, columns, dtype=torch.float64))
        self.register_buffer("scatters", square.repeat(components, *[1] * square.ndim))
        for name, value in (
            ("concentrations", self.concentration),
            ("mean_precisions", mean_precision),
            ("freedoms", self.freedom),
        ):
            self.register_buffer(name, torch.full((components,), float(value), dtype=torch.float64))
        self.register_buffer("prior_mean", torch.zeros(columns, dtype=torch.float64))
        self.register_buffer("prior_scatter", square.clone())

    def _prepare(self, rows_BD: Tensor) -> None:
        super()._prepare(rows_BD)
        mean, covariance = self.given
        away = rows_BD - rows_BD.mean(dim=0)
        found = away.T @ away / max(1, len(rows_BD) - 1) if self.pairs else rows_BD.var(dim=0)
        self.prior_mean.copy_(rows_BD.mean(dim=0) if mean is None else torch.as_tensor(mean))
        self.prior_scatter.copy_(found if covariance is None else torch.as_tensor(covariance))

    def natural(self) -> Tensor:
        """(F, K) of E[log weight] + E[log N], in scaled columns (Bishop 10.64 to 10.66)."""
        D = self.columns
        mean = (self.means - self.center) / self.scale
        weight = self.concentrations.digamma() - self.concentrations.sum().digamma()
        if self.pairs:
            scatter = self.scatters / torch.outer(self.scale, self.scale)
            factor = torch.linalg.cholesky(scatter)
            precision = torch.cholesky_inverse(factor) * self.freedoms[:, None, None]
            log_determinant = -2 * factor.diagonal(dim1=1, dim2=2).log().sum(dim=1) + self._digammas()
            linear = (precision @ mean[:, :, None]).squeeze(2)
        else:
            scatter = self.scatters / self.scale**2
            precision = self.freedoms[:, None] / scatter
            log_determinant = (D * (self.freedoms / 2).digamma() + D * math.log(2)) - scatter.log().sum(dim=1)
            linear = precision * mean
        constant = weight + 0.5 * log_determinant - 0.5 * (linear * mean).sum(dim=1) - 0.5 * D / self.mean_precisions
        return self.quadratic(precision, linear, constant)

    def maximize(self, sums: dict[str, Tensor]) -> None:
        """Every factor at its best given the others (Bishop 10.58 to 10.63)."""
        count, first, second = self.moments(sums["expected"])
        self.counts.copy_(count)
        safe = count.clamp_min(10 * torch.finfo(torch.float64).eps)
        mean = first / safe[:, None]
        ratio = self.mean_precision * safe / (self.mean_precision + safe)
        away = mean * self.scale + self.center - self.prior_mean
        if self.pairs:
            square = second - safe[:, None, None] * mean[:, :, None] * mean[:, None]
            spread = square * torch.outer(self.scale, self.scale)
            spread = spread + safe[:, None, None] * self.regularization * torch.eye(self.columns).to(spread)
            self.scatters.copy_(self.prior_scatter + spread + ratio[:, None, None] * away[:, :, None] * away[:, None])
        else:
            spread = (second - safe[:, None] * mean**2).clamp_min(0) * self.scale**2 + safe[
                :, None
            ] * self.regularization
            self.scatters.copy_(self.prior_scatter + spread + ratio[:, None] * away**2)
        self.concentrations.copy_(self.concentration + safe)
        self.mean_precisions.copy_(self.mean_precision + safe)
        self.freedoms.copy_(self.freedom + safe)
        self.means.copy_(self.prior_mean + away * (safe / (self.mean_precision + safe))[:, None])
        self.weights.copy_(self.concentrations / self.concentrations.sum())

    def total(self, sums: dict[str, Tensor]) -> Tensor:
        """The lower bound of the log evidence: that of the rows less KL(q(parameters) || prior)."""
        return sums["bound"] - self.divergence()

    def divergence(self) -> Tensor:
        """KL(q(weights, means, precisions) || prior), nats."""
        a, prior = self.concentrations, torch.full_like(self.concentrations, self.concentration)
        kl = a.sum().lgamma() - a.lgamma().sum() - prior.sum().lgamma() + prior.lgamma().sum()
        kl = kl + ((a - prior) * (a.digamma() - a.sum().digamma())).sum()
        ratio = self.mean_precision / self.mean_precisions
        away = self.means - self.prior_mean
        if self.pairs:
            inverse = torch.linalg.inv(self.scatters)
            distance = self.freedoms * ((away[:, None] @ inverse).squeeze(1) * away).sum(dim=1)
            trace = (inverse @ self.prior_scatter).diagonal(dim1=1, dim2=2).sum(dim=1)
            kl = kl + self._wishart(torch.linalg.slogdet(self.scatters)[1], trace).sum()
        else:
            distance = self.freedoms * (away**2 / self.scatters).sum(dim=1)
            kl = kl + self._gammas().sum()
        D = self.columns
        return kl + 0.5 * (D * (ratio - 1 - ratio.log()) + self.mean_precision * distance).sum()

    def _wishart(self, log_scatter_K: Tensor, trace_K: Tensor) -> Tensor:
        """KL between Wisharts of scatters and freedoms (inverse scale matrices) and the prior's."""
        D, n, n0 = self.columns, self.freedoms, self.freedom
        prior = torch.linalg.slogdet(self.prior_scatter)[1]
        norm = torch.special.multigammaln(torch.full_like(n, n0) / 2, D) - torch.special.multigammaln(n / 2, D)
        # half (n - n0) E[log |precision|] + half (n0 log|W0^-1|...) collected: see Penny 2001
        expected = self._digammas() - D * math.log(2)
        return norm + 0.5 * n0 * (log_scatter_K - prior) + 0.5 * (n - n0) * expected + 0.5 * n * (trace_K - D)

    def _gammas(self) -> Tensor:
        """KL between the Gammas of the diagonal's precisions, shape n / 2 and rate scatter / 2, and the prior's."""
        n, n0, D = self.freedoms / 2, torch.tensor(self.freedom / 2, dtype=torch.float64), self.columns
        rates = (self.scatters / self.prior_scatter).log().sum(dim=1)
        shapes = D * ((n - n0) * n.digamma() - n.lgamma() + n0.lgamma())
        return shapes + n0 * rates + n * (self.prior_scatter / self.scatters - 1).sum(dim=1)

    def _digammas(self) -> Tensor:
        """(K,) sum_i digamma((freedom + 1 - i) / 2) + D log 2."""
        i = torch.arange(self.columns, dtype=torch.float64, device=self.freedoms.device)
        return ((self.freedoms[:, None] - i) / 2).digamma().sum(dim=1) + self.columns * math.log(2)

    def covariances(self) -> Tensor:
        """(K, D, D) or (K, D): the covariances at the expected precisions."""
        return self.scatters / self.freedoms.view(-1, *[1] * (self.scatters.ndim - 1))

    def matrices(self) -> Tensor:
        """(K, D, D), whatever their kind."""
        return self.covariances() if self.pairs else torch.diag_embed(self.covariances())

    @property
    def exact(self) -> torch.dtype:
        """As in `GaussianMixtureModel`."""
        if not self.single or not self._near_enough():
            return torch.float64
        scaled = self.matrices() / torch.outer(self.scale, self.scale)
        return torch.float32 if float(torch.linalg.eigvalsh(scaled).min()) * SHARPEST > 1 else torch.float64

    @property
    def slack(self) -> float:
        """How much a row's bound may fall in a step because of the regularization, nats."""
        variances = self.matrices().diagonal(dim1=1, dim2=2)
        return 0.5 * self.regularization * self.columns * float((1 / variances).sum(dim=1).max())

    def used(self, least: float = 1.0) -> int:
        """How many components answer for more than `least` rows."""
        return int((self.counts > least).sum())

    def vitals(self) -> dict[str, float]:
        """Also the smallest determinant and how many components answer for more than a row."""
        log_determinant = torch.linalg.slogdet(self.matrices() / torch.outer(self.scale, self.scale))[1]
        least = float((log_determinant / self.columns).exp().min())
        return {**super().vitals(), "components_kept": float(self.used()), "smallest_determinant": least}

    def dead(self) -> list[int]:
        """Going back to the prior is what components are for here."""
        return []

    def _draw(self, z_B: Tensor) -> Tensor:
        factor = torch.linalg.cholesky(self.matrices())
        noise = torch.randn(len(z_B), self.columns, dtype=torch.float64, device=self.means.device)
        return self.means[z_B] + (factor[z_B] @ noise[:, :, None]).squeeze(2)
