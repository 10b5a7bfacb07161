"""Muon: steps of matrices made orthogonal (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/).

In single precision on a CPU, where the usual half precision is slow; matrices of equal shape are taken together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

MATRIX_RATE = 2.0
"""Learning rate of matrices against that of everything else."""
MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalized(g_NRC: Tensor, steps: int = 5) -> Tensor:
    """The nearest matrices with equal singular values, roughly: Newton-Schulz iterations of a quintic."""
    a, b, c = COEFFICIENTS
    x = g_NRC.bfloat16() if g_NRC.device.type == "cuda" else g_NRC
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(g_NRC.dtype)


class Muon(torch.optim.Optimizer):
    """Matrices of layers by Muon with Nesterov momentum, everything else (embeddings, heads, norms, biases) by AdamW.

    Args:
        groups: as `parameter_groups` gives them.
        objective: whose parameters they are; matrices whose names tell of embeddings or heads go to AdamW.
        lr: of AdamW; matrices take `MATRIX_RATE` times it, scaled by their shape.
        betas: of AdamW.
    """

    def __init__(
        self, groups: list[dict[str, Any]], objective: nn.Module, lr: float, betas: tuple[float, float]
    ) -> None:
        outside = {
            id(p) for name, p in objective.named_parameters()
            if any(part in name for part in ("embed", "wte", "wpe", "head", "cls.predictions.decoder", "table"))
        }  # fmt: skip
        split = []
        for group in groups:
            for matrix in (True, False):
                members = [p for p in group["params"] if (p.ndim == 2 and id(p) not in outside) is matrix]
                if members:
                    split.append({**group, "params": members, "matrix": matrix})
        super().__init__(split, {"lr": lr, "betas": betas, "eps": 1e-8})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of all groups."""
        for group in self.param_groups:
            members = [p for p in group["params"] if p.grad is not None]
            (self._matrices if group["matrix"] else self._adam)(group, members)

    def _matrices(self, group: dict[str, Any], members: list[Any]) -> None:
        by_shape: dict[torch.Size, list[Any]] = {}
        for p in members:
            by_shape.setdefault(p.shape, []).append(p)
        for shape, same in by_shape.items():
            updates = []
            for p in same:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - MOMENTUM)
                updates.append(p.grad.lerp(state["momentum"], MOMENTUM))
            rate = group["lr"] * MATRIX_RATE * max(1.0, shape[0] / shape[1]) ** 0.5
            for p, update in zip(same, orthogonalized(torch.stack(updates)), strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)

    def _adam(self, group: dict[str, Any], members: list[Any]) -> None:
        first, second = group["betas"]
        for p in members:
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros(())
                state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
            state["step"] += 1
            count = float(state["step"])
            state["mean"].lerp_(p.grad, 1 - first)
            state["square"].lerp_(p.grad.square(), 1 - second)
            scale = (state["square"] / (1 - second**count)).sqrt_().add_(group["eps"])
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.addcdiv_(state["mean"], scale, value=-group["lr"] / (1 - first**count))
