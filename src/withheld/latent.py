"""The other trainable thing: a model whose z was never observed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class LatentModel(nn.Module, ABC):
    """p(x, z) whose z was never observed, learned by alternating: what is z, given the parameters; the parameters, given z.

    The E-step of one batch gives sums that add up over batches and processes; the M-step needs nothing else. So items may
    stream, and the bound never falls (Dempster, Laird and Rubin 1977; Neal and Hinton 1998). Parameters are buffers, so that
    they are saved and moved like any network's.
    """

    @abstractmethod
    def expect(self, t: Any) -> dict[str, Tensor]:
        """Expected sums of a batch, float64, among them "bound" (nats) and "items"; the parameters stay as they are.

        Args:
            t: (B, D), or a dict with "item" and any of "weight" (B,) and "label" (B,), UNKNOWN_LABEL where unknown.
        """

    @abstractmethod
    def maximize(self, sums: dict[str, Tensor]) -> None:
        """Moves the parameters to where the bound of these sums is largest."""

    found: Mapping[str, Any] = {}
    """Settings of its method that it found in the data, such as how many components; kept with the run."""

    def total(self, sums: dict[str, Tensor]) -> Tensor:
        """The bound of all items, nats: the sums' and what does not depend on items (a prior's part)."""
        return sums["bound"]

    def fitted(self, sample: Any) -> LatentModel:
        """The model at its start, having seen a sample of the items once: in place, and returned."""
        return self

    def vitals(self) -> dict[str, float]:
        """Small numbers that tell whether it is well: smallest component weight, smallest determinant."""
        return {}
