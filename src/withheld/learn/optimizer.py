"""Which parameters learn at which rate, and by which optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from withheld.errors import InputError
from withheld.learn.muon import Muon
from withheld.objective import Objective
from withheld.types import Recipe


def parameter_groups(objective: Objective, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameters by decay and rate: biases, norms, tokens and positions are not decayed; see `Recipe.layer_decay` and `rest`."""
    trunk = objective.trunk
    groups: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    kept = set() if trunk is None else {id(p) for p in trunk.parameters()}
    for name, parameter in objective.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = 1.0
        if recipe.layer_decay != 1.0 and trunk is not None and ".trunk." in f".{name}":
            scale = recipe.layer_decay ** (trunk.depth + 1 - min(trunk.depth, trunk.layer_of(name)))
        if id(parameter) in kept:
            scale *= recipe.trunk_rate
        idle = parameter.ndim < 2 or "token" in name or "position" in name
        groups.setdefault((idle, scale, recipe.rest > 0 and id(parameter) in kept), []).append(parameter)
    return [
        {"params": members, "weight_decay": 0.0 if idle else recipe.weight_decay, "scale": scale, "rests": rests}
        for (idle, scale, rests), members in groups.items()
    ]


def build_optimizer(objective: Objective, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019), one fused kernel; plain SGD; or Muon.

    Raises:
        InputError: for any other.
    """
    groups = parameter_groups(objective, recipe)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate)
    if recipe.optimizer == "muon":
        return Muon(groups, objective, lr=recipe.learning_rate, betas=recipe.betas, matrix_rate=recipe.matrix_rate)
    if recipe.optimizer != "adamw":
        raise InputError(f"optimizer={recipe.optimizer}: there are adamw, sgd and muon")
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True)
