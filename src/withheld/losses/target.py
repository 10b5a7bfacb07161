"""What a prediction is compared with, where that is not y itself."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class NormalizedPatches:
    """Every patch (B, M, P) brought to mean 0 and variance 1, as in He et al. 2021 (norm_pix_loss)."""

    epsilon: float = 1e-6

    def __call__(self, y: Tensor) -> Tensor:
        mean = y.mean(dim=-1, keepdim=True)
        return (y - mean) / (y.var(dim=-1, keepdim=True) + self.epsilon) ** 0.5

    def undo(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Brings a prediction back to the mean and variance of the true patches, for pictures."""
        return prediction * (y.var(dim=-1, keepdim=True) + self.epsilon) ** 0.5 + y.mean(dim=-1, keepdim=True)
