"""Mixtures of products of Bernoulli distributions: binary tables and pictures.

Shapes: B rows, D columns, K components.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from withheld.errors import InputError
from withheld.networks.mixture import Mixture


class BernoulliMixtureModel(Mixture):
    """p(x) = sum_k weight_k prod_d mean_kd^x_d (1 - mean_kd)^(1 - x_d), learned by EM (Bishop 2006, 9.3.3).

    Values within 0..1 are taken as expected bits; the likelihood is one of data only where they are 0 or 1.

    Args:
        columns: D.
        components: K.
        smoothing: pseudo-rows of 0 and of 1 that every mean is drawn towards, so that none is 0 or 1 (a Beta prior).
        classes, start: see `Mixture`.

    Attributes:
        means: (K, D), float64.
    """

    means: Tensor

    def __init__(
        self, columns: int, components: int, smoothing: float = 0.1, classes: int = 0, start: str = "kmeans"
    ) -> None:
        super().__init__(columns, components, classes, start)
        if not smoothing >= 0:
            raise InputError(f"smoothing={smoothing}: give 0 or more")
        self.smoothing = smoothing
        self.register_buffer("means", torch.full((components, columns), 0.5, dtype=torch.float64))

    @property
    def width(self) -> int:
        """F = D + 1."""
        return self.columns + 1

    def writer(self, out_FB: Tensor) -> Callable[[Tensor], object]:
        """The columns and 1."""
        out_FB[-1] = 1
        columns = out_FB[:-1]
        return lambda rows_BD: columns.copy_(rows_BD.T)

    def natural(self) -> Tensor:
        """(D + 1, K): log odds, and what a row of zeros has."""
        zero, one = (1 - self._within()).log(), self._within().log()
        return torch.cat([(one - zero).T, (zero.sum(dim=1) + self.weights.clamp_min(1e-300).log())[None]])

    @property
    def exact(self) -> torch.dtype:
        """Sums of at most D bounded numbers."""
        return torch.float32 if float(self.counts.sum()) > 2000 else torch.float64

    def maximize(self, sums: dict[str, Tensor]) -> None:
        """Weights and means of the largest bound, the prior counted."""
        count, total = sums["expected"][:, -1], sums["expected"][:, :-1]
        self.counts.copy_(count)
        safe = count.clamp_min(10 * torch.finfo(torch.float64).eps)
        self.weights.copy_(safe / safe.sum())
        found = (total + self.smoothing) / (count + 2 * self.smoothing)[:, None].clamp_min(1e-300)
        self.means.copy_(torch.where((count > 0)[:, None], found, self.means))

    def total(self, sums: dict[str, Tensor]) -> Tensor:
        """With the log prior of the means, but for its constant: what EM raises."""
        within = self._within()
        return sums["bound"] + self.smoothing * (within.log() + (1 - within).log()).sum()

    def check(self, rows_BD: Tensor, place: Callable[[int], str] = "row {}".format) -> None:
        """Values lie within 0..1."""
        super().check(rows_BD, place)
        outside = ((rows_BD < 0) | (rows_BD > 1)).nonzero()
        if len(outside):
            row, column = outside[0].tolist()
            raise InputError(
                f"{place(row)}, {self.named(column)} is {float(rows_BD[row, column]):g}: a Bernoulli mixture takes values within "
                "0..1; threshold or rescale them, or take a Gaussian mixture"
            )

    @property
    def free(self) -> int:
        """Weights, and a mean for every component and column."""
        K, D = self.means.shape
        return K * D + K - 1

    def _joint_of_pattern(self, rows_BD: Tensor, seen_D: Tensor) -> Tensor:
        within, x = self._within()[:, seen_D], rows_BD[:, seen_D].double()
        return (
            self.weights.clamp_min(1e-300).log()[:, None] + within.log() @ x.T + (1 - within).log() @ (1 - x).T
        )  # unseen columns sum to 1

    def _expected_of_pattern(self, rows_BD: Tensor, seen_D: Tensor, share_KB: Tensor) -> Tensor:
        count = share_KB.sum(dim=1, keepdim=True)
        expected = self.means * count
        expected[:, seen_D] = share_KB @ rows_BD[:, seen_D].double()
        return torch.cat([expected, count], dim=1)

    def _within(self) -> Tensor:
        """Without prior a mean may be 0 or 1, and its logarithm must not."""
        return self.means.clamp(1e-12, 1 - 1e-12)

    def _draw(self, z_B: Tensor) -> Tensor:
        return torch.bernoulli(self.means[z_B])
