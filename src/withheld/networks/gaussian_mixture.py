"""Mixtures of Gaussians, and the quadratic features that make their E- and M-step two matrix products.

Shapes: B rows, D columns, K components, P = D (D + 1) / 2 pairs of columns, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from withheld.errors import InputError
from withheld.networks.mixture import Mixture

COVARIANCES = ("full", "tied", "diag", "spherical")
SHARPEST = 1e3
"""Largest precision, in units of the data's own deviation, for which float32 tiles are close enough: they lose about
6e-8 x this x 10 nats a row."""
FARTHEST = 100.0
"""Largest mean of a column, in its deviations, for float32 tiles: years, or prices in cents, lose their last digits beyond."""
ENOUGH_ROWS = 2000
LOG_2_PI = math.log(2 * math.pi)


class Quadratic(Mixture):
    """Mixtures whose log density is a quadratic form of the row: the features are products of columns, columns, and 1.

    Rows are taken relative to `center` and `scale`, the mean and deviation of the sample, so that products stay small.
    """

    center: Tensor
    scale: Tensor
    pairs: bool
    counted: Tensor

    def __init__(self, columns: int, components: int, pairs: bool, classes: int = 0, start: str = "kmeans") -> None:
        super().__init__(columns, components, classes, start)
        self.pairs = pairs
        self.register_buffer("center", torch.zeros(columns, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(columns, dtype=torch.float64))
        self.register_buffer("counted", torch.zeros((), dtype=torch.float64))

    @property
    def width(self) -> int:
        """F = P + D + 1, or D + D + 1 without pairs."""
        D = self.columns
        return (D * (D + 1) // 2 if self.pairs else D) + D + 1

    def writer(self, out_FB: Tensor) -> Callable[[Tensor], object]:
        """The products of every pair of columns (or squares), the columns, 1; the rows of a column lie side by side."""
        D = self.columns
        many = self.width - D - 1
        x = out_FB[many : many + D]
        out_FB[-1] = 1
        factor = (1 / self.scale)[:, None]
        shift = (-self.center[:, None] * factor).to(out_FB)
        factor = factor.to(out_FB)
        products = [(x, x, out_FB[:many])]  # views take as long to make as products of a tile to compute
        if self.pairs:
            starts = [i * D - i * (i - 1) // 2 for i in range(D)]
            products = [(x[i:], x[i], out_FB[first : first + D - i]) for i, first in enumerate(starts)]

        def write(rows_BD: Tensor) -> None:
            torch.addcmul(shift, rows_BD.T, factor, out=x)
            for a, b, product in products:
                torch.mul(a, b, out=product)

        return write

    def quadratic(self, precision: Tensor, linear_KD: Tensor, constant_K: Tensor) -> Tensor:
        """(F, K) of -1/2 x' P x + linear' x + constant; P is (K, D, D) with pairs, else its diagonal (K, D)."""
        if not self.pairs:
            return torch.cat([-0.5 * precision.T, linear_KD.T, constant_K[None]])
        i, j = self._at(precision)
        twice = torch.where(i == j, 0.5, 1.0).to(precision)
        return torch.cat([-(precision[:, i, j] * twice).T, linear_KD.T, constant_K[None]])

    def moments(self, expected_KF: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of expected features: counts (K,), sums (K, D), sums of products (K, D, D) or of squares (K, D)."""
        D = self.columns
        second, first, count = expected_KF[:, : -D - 1], expected_KF[:, -D - 1 : -1], expected_KF[:, -1]
        if not self.pairs:
            return count, first, second
        i, j = self._at(expected_KF)
        square = expected_KF.new_zeros(len(expected_KF), D, D)
        square[:, i, j] = second
        square[:, j, i] = second
        return count, first, square

    def packed(self, count_K: Tensor, first_KD: Tensor, second: Tensor) -> Tensor:
        """(K, F), what `moments` takes apart."""
        if self.pairs:
            i, j = self._at(second)
            second = second[:, i, j]
        return torch.cat([second, first_KD, count_K[:, None]], dim=1)

    @property
    def offset(self) -> float:
        """Densities are of the rows as they are, not of the scaled ones."""
        return -float(self.scale.log().sum()) - 0.5 * self.columns * LOG_2_PI

    def _near_enough(self) -> bool:
        """Whether float32 rows keep their digits, and are many enough to be worth it."""
        far = float((self.center / self.scale).abs().max())
        return float(self.counted) >= ENOUGH_ROWS and far < FARTHEST

    def _prepare(self, rows_BD: Tensor) -> None:
        spread = rows_BD.std(dim=0, correction=0)
        constant = (spread <= 1e-12 * rows_BD.abs().amax(dim=0).clamp_min(1e-300)).nonzero().flatten().tolist()
        if constant and len(rows_BD) > 1:
            at = constant[0]
            raise InputError(
                f"{self.named(at)} is constant ({float(rows_BD[0, at]):g}; {len(constant)} such column(s)): its density has no "
                "bound. Leave it out, it tells nothing"
            )
        self.center.copy_(rows_BD.mean(dim=0))
        self.scale.copy_(torch.where(spread > 0, spread, torch.ones_like(spread)))
        self.counted.fill_(float(len(rows_BD)))

    def _at(self, like: Tensor) -> tuple[Tensor, Tensor]:
        at = torch.triu_indices(self.columns, self.columns, device=like.device)
        return at[0], at[1]


class GaussianMixtureModel(Quadratic):
    """A mixture of Gaussians, learned by EM (Dempster, Laird and Rubin 1977; Bishop 2006, 9.2).

    Args:
        columns: D.
        components: K.
        covariance: "full", "tied" (one for all), "diag", or "spherical".
        regularization: added to the variances, in squared units of the data.
        classes, start: see `Mixture`.
        single: whether tiles may be float32 where the parameters allow; float64 otherwise.

    Attributes:
        means: (K, D). covariances: (K, D, D), (D, D), (K, D) or (K,). float64, in units of the data.
    """

    means: Tensor
    covariances: Tensor

    def __init__(
        self, columns: int, components: int, covariance: str = "full", regularization: float = 1e-6, classes: int = 0,
        start: str = "kmeans", single: bool = True,
    ) -> None:  # fmt: skip
        if covariance not in COVARIANCES:
            raise InputError(f"covariance={covariance!r}: one of {', '.join(COVARIANCES)}")
        if not regularization >= 0:
            raise InputError(f"regularization={regularization}: give 0 or more, in squared units of the data")
        super().__init__(columns, components, covariance in ("full", "tied"), classes, start)
        self.covariance, self.regularization, self.single = covariance, regularization, single
        one = torch.eye(columns, dtype=torch.float64)
        shape = {
            "full": one.repeat(components, 1, 1),
            "tied": one,
            "diag": torch.ones(components, columns, dtype=torch.float64),
        }
        self.register_buffer("means", torch.zeros(components, columns, dtype=torch.float64))
        self.register_buffer("covariances", shape.get(covariance, torch.ones(components, dtype=torch.float64)))

    def natural(self) -> Tensor:
        """(F, K) of log weight + log N, in scaled columns."""
        mean = (self.means - self.center) / self.scale
        weight = self.weights.clamp_min(1e-300).log()
        if self.pairs:
            precision, log_determinant = self._precision()
            linear = (precision @ mean[:, :, None]).squeeze(2)
        else:
            precision = self.scale**2 / self.variances()
            log_determinant = precision.log().sum(dim=1)
            linear = precision * mean
        constant = weight + 0.5 * log_determinant - 0.5 * (linear * mean).sum(dim=1)
        return self.quadratic(precision, linear, constant)

    def variances(self) -> Tensor:
        """(K, D), the diagonal of every covariance."""
        if self.covariance == "spherical":
            return self.covariances[:, None].expand(-1, self.columns)
        if self.covariance == "diag":
            return self.covariances
        return self.matrices().diagonal(dim1=1, dim2=2)

    def matrices(self) -> Tensor:
        """(K, D, D), the covariances whatever their kind."""
        if self.covariance == "full":
            return self.covariances
        if self.covariance == "tied":
            return self.covariances.expand(self.components, -1, -1)
        return torch.diag_embed(self.variances())

    def maximize(self, sums: dict[str, Tensor]) -> None:
        """Weights, means and covariances of the largest bound; `regularization` is added to variances."""
        count, first, second = self.moments(sums["expected"])
        self.counts.copy_(count)
        safe = count.clamp_min(10 * torch.finfo(torch.float64).eps)
        self.weights.copy_(safe / safe.sum())
        mean = first / safe[:, None]
        alive = count > 0
        self.means.copy_(torch.where(alive[:, None], mean * self.scale + self.center, self.means))
        kept = self.regularization
        if self.covariance == "full":
            square = second / safe[:, None, None] - mean[:, :, None] * mean[:, None]
            found = square * torch.outer(self.scale, self.scale) + kept * torch.eye(self.columns).to(square)
            self.covariances.copy_(torch.where(alive[:, None, None], found, self.covariances))
        elif self.covariance == "tied":
            square = (second.sum(dim=0) - first.T @ mean) / safe.sum()
            self.covariances.copy_(
                square * torch.outer(self.scale, self.scale) + kept * torch.eye(self.columns).to(square)
            )
        else:
            variance = (second / safe[:, None] - mean**2).clamp_min(0) * self.scale**2 + kept
            found = variance if self.covariance == "diag" else variance.mean(dim=1)
            self.covariances.copy_(torch.where(alive.view(-1, *[1] * (found.ndim - 1)), found, self.covariances))

    @property
    def exact(self) -> torch.dtype:
        """float32 tiles only for many rows, columns near 0, and components that are not needles."""
        if not self.single or not self._near_enough():
            return torch.float64
        least = float((self.variances() / self.scale**2).min())
        if self.pairs:
            covariance = self.covariances if self.covariance == "full" else self.covariances[None]
            least = min(least, float(torch.linalg.eigvalsh(covariance / torch.outer(self.scale, self.scale)).min()))
        return torch.float32 if least * SHARPEST > 1 else torch.float64

    @property
    def slack(self) -> float:
        """How much a row's bound may fall in a step because of the regularization, nats."""
        return (
            0.5
            * self.regularization
            * float((1 / self.variances()).sum(dim=1).max())
            * (self.columns if self.pairs else 1)
        )

    @property
    def free(self) -> int:
        """Weights, means, and as many covariances as there are."""
        K, D = self.means.shape
        each = {"full": K * D * (D + 1) // 2, "tied": D * (D + 1) // 2, "diag": K * D, "spherical": K}
        return each[self.covariance] + K * D + K - 1

    def vitals(self) -> dict[str, float]:
        """Also the smallest determinant: its D-th root relative to the data's variances; 0 is a collapse."""
        log_determinant = torch.linalg.slogdet(self.matrices() / torch.outer(self.scale, self.scale))[1]
        return {**super().vitals(), "smallest_determinant": float((log_determinant / self.columns).exp().min())}

    def _precision(self) -> tuple[Tensor, Tensor]:
        """(K, D, D) precisions and (K,) their log determinants, in scaled columns."""
        covariance = self.covariances if self.covariance == "full" else self.covariances[None]
        factor, failed = torch.linalg.cholesky_ex(covariance / torch.outer(self.scale, self.scale))
        if bool(failed.any()):
            at = int(failed.nonzero()[0])
            raise InputError(
                f"the covariance of component {at} is no longer positive definite: it has collapsed onto a few rows. Raise "
                f"regularization (now {self.regularization:g}), or take fewer components or covariance='diag'"
            )
        log_determinant = -2 * factor.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        return torch.cholesky_inverse(factor).expand(self.components, -1, -1), log_determinant.expand(self.components)

    def _joint_of_pattern(self, rows_BD: Tensor, seen_D: Tensor) -> Tensor:
        """The unseen columns integrated out: the marginal of a Gaussian is its block."""
        weight = self.weights.clamp_min(1e-300).log()[:, None]
        at = seen_D.nonzero().flatten()
        if not len(at):
            return weight.expand(-1, len(rows_BD)).clone()
        factor = torch.linalg.cholesky(self.matrices()[:, at][:, :, at])
        away = rows_BD[:, at].double()[None] - self.means[:, None, at]
        white = torch.linalg.solve_triangular(factor, away.transpose(1, 2), upper=False)
        log_determinant = factor.diagonal(dim1=1, dim2=2).log().sum(dim=1)[:, None]
        return weight - 0.5 * (white**2).sum(dim=1) - log_determinant - 0.5 * len(at) * LOG_2_PI

    def _expected_of_pattern(self, rows_BD: Tensor, seen_D: Tensor, share_KB: Tensor) -> Tensor:
        """Unseen columns at their conditional mean, their conditional covariance added (Ghahramani and Jordan 1994)."""
        seen, unseen = seen_D.nonzero().flatten(), (~seen_D).nonzero().flatten()
        covariance = self.matrices()
        inner = torch.linalg.pinv(covariance[:, seen][:, :, seen]) if len(seen) else covariance[:, seen][:, :, seen]
        across = covariance[:, unseen][:, :, seen] @ inner  # (K, unseen, seen)
        left = covariance[:, unseen][:, :, unseen] - across @ covariance[:, seen][:, :, unseen]
        away = rows_BD[:, seen].double()[None] - self.means[:, None, seen]
        full = self.means[:, None].repeat(1, len(rows_BD), 1)
        full[:, :, seen] = rows_BD[:, seen].double()
        full[:, :, unseen] += away @ across.transpose(1, 2)
        x = (full - self.center) / self.scale
        count = share_KB.sum(dim=1)
        first = (share_KB[:, :, None] * x).sum(dim=1)
        rest = left / torch.outer(self.scale, self.scale)[unseen][:, unseen] * count[:, None, None]
        if not self.pairs:
            second = (share_KB[:, :, None] * x**2).sum(dim=1)
            second[:, unseen] += rest.diagonal(dim1=1, dim2=2)
            return self.packed(count, first, second)
        second = (share_KB[:, :, None] * x).transpose(1, 2) @ x
        second[:, unseen[:, None], unseen] += rest
        return self.packed(count, first, second)

    def _draw(self, z_B: Tensor) -> Tensor:
        factor = torch.linalg.cholesky(self.matrices())
        noise = torch.randn(len(z_B), self.columns, dtype=torch.float64, device=self.means.device)
        return self.means[z_B] + (factor[z_B] @ noise[:, :, None]).squeeze(2)

    def _comparable(self, rows_BD: Tensor) -> Tensor:
        return rows_BD
