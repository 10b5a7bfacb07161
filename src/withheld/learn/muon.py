"""Muon: steps of matrices made orthogonal (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/).

In single precision on a CPU, where the usual half precision is slow; matrices of equal shape are taken together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from withheld import distributed
from withheld.learn.sharding import share_like, whole

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
WIDE = 2
"""From how many times as many columns as rows on the Gram matrix is iterated instead of the matrix."""


def orthogonalized(g_NRC: Tensor, steps: int = 5) -> Tensor:
    """The nearest matrices with equal singular values, roughly: Newton-Schulz iterations of a quintic.

    Each iteration multiplies by a polynomial of the Gram matrix, and all these commute: so of wide matrices only the small
    Gram matrix is iterated, and the matrix is multiplied once, at the end.
    """
    a, b, c = COEFFICIENTS
    x = g_NRC.bfloat16() if g_NRC.device.type == "cuda" else g_NRC
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    if x.dtype == torch.float32 and x.shape[-1] >= WIDE * x.shape[-2]:
        x = _by_gram(x, steps)
    else:
        for _ in range(steps):
            gram = x @ x.mT
            x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
    return (x.mT if tall else x).to(g_NRC.dtype)


def _by_gram(x_NRC: Tensor, steps: int) -> Tensor:
    a, b, c = COEFFICIENTS
    gram, product = x_NRC @ x_NRC.mT, None
    for step in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        if step + 1 < steps:
            gram = factor @ gram @ factor
    return x_NRC if product is None else product @ x_NRC


class Muon(torch.optim.Optimizer):
    """Matrices of layers by Muon with Nesterov momentum, everything else (embeddings, heads, norms, biases) by AdamW.

    A kernel of a convolution is a matrix with a row for each of its outputs.

    Args:
        groups: as `parameter_groups` gives them.
        objective: whose parameters they are; matrices whose names tell of embeddings or heads go to AdamW.
        lr: of AdamW; matrices take `matrix_rate` times it, scaled by their shape.
        betas: of AdamW.
    """

    def __init__(
        self, groups: list[dict[str, Any]], objective: nn.Module, lr: float, betas: tuple[float, float],
        matrix_rate: float = 2.0,
    ) -> None:  # fmt: skip
        outside = {
            id(p) for name, p in objective.named_parameters()
            if any(part in name for part in ("embed", "wte", "wpe", "head", "cls.predictions.decoder", "table"))
        }  # fmt: skip
        # transformers' Conv1D has its inputs first
        self.inputs_first = {id(m.weight) for m in objective.modules() if type(m).__name__ == "Conv1D"}
        self.matrix_rate = matrix_rate
        split = []
        for group in groups:
            for matrix in (True, False):
                members = [p for p in group["params"] if (p.ndim in (2, 4) and id(p) not in outside) is matrix]
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
        by_shape: dict[torch.Size, list[tuple[Any, Any]]] = {}  # each as (outputs, inputs), and its step
        for p in members:
            state = self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
            state["momentum"].lerp_(p.grad, 1 - MOMENTUM)
            step = p.grad.lerp(state["momentum"], MOMENTUM)
            if distributed.in_shares(p):  # one whole matrix at a time
                matrix: dict[torch.Size, list[tuple[Any, Any]]] = {}
                gathered = whole(p)
                self._sort(matrix, gathered, whole(step), id(p) in self.inputs_first)
                self._turn(group, matrix)
                p.copy_(share_like(p, gathered))
            else:
                self._sort(by_shape, p, step, id(p) in self.inputs_first)
        self._turn(group, by_shape)

    def _sort(self, by_shape: dict[torch.Size, list[tuple[Any, Any]]], p: Tensor, step: Tensor, turned: bool) -> None:
        if p.ndim == 4:
            p, step = p.view(len(p), -1), step.reshape(len(p), -1)
        elif turned:
            p, step = p.mT, step.mT
        for part in zip(_parts(p), _parts(step), strict=True):
            by_shape.setdefault(part[0].shape, []).append(part)

    def _turn(self, group: dict[str, Any], by_shape: dict[torch.Size, list[tuple[Any, Any]]]) -> None:
        for shape, same in by_shape.items():
            rate = group["lr"] * self.matrix_rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for (part, _), update in zip(same, orthogonalized(torch.stack([step for _, step in same])), strict=True):
                part.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)

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


def _parts(matrix_RC: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys and values where one matrix makes them all; else the matrix."""
    rows, columns = matrix_RC.shape
    return matrix_RC.split(columns) if rows == 3 * columns else (matrix_RC,)
