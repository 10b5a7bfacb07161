"""Encoders that do not fit on one device: every process holds its share of weights, gradients and optimizer (FSDP2).

Source: Zhao et al. 2023, PyTorch FSDP, https://arxiv.org/abs/2304.11277; `torch.distributed.fsdp.fully_shard` does the work. A
weight is then a `DTensor`, of which this process has some rows; a layer's are gathered for its forward and its backward pass.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from withheld import distributed
from withheld.errors import InputError
from withheld.learn.memory import accepted, layers_of
from withheld.objective import Objective


def check_shares(objective: Objective, on_sick: str) -> None:
    """Says so where an objective cannot be trained in shares.

    Raises:
        InputError: with the reason and the remedy.
    """
    if objective.moving():
        name = type(objective.moving()[0]).__name__
        first = "".join(f"{option}, " for option in accepted(objective))
        raise InputError(
            f"--shard: {name} moves after every step by whole weights or items, which no process has here: leave --shard out and "
            f"take {first}a smaller --encoder or --batch-size, or a method without it, such as mae or bert"
        )
    if on_sick != "warn":
        raise InputError(
            f"--on-sick {on_sick} with --shard: vitals are taken by one process, which has a share of the weights only: leave "
            "one of the two out"
        )


def shard(objective: Objective, device: torch.device) -> Objective:
    """Shares an objective among all processes, in place: each layer by itself, and what is left together."""
    from torch.distributed.fsdp import fully_shard

    distributed.share_norms(objective)
    mesh = distributed.mesh(device)
    for layer in layers_of(objective.network).values():
        fully_shard(layer, mesh=mesh)
    return fully_shard(objective, mesh=mesh)  # type: ignore[return-value]


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which processes have shares, put together; all must ask at once. Any other as it is."""
    return tensor.full_tensor() if distributed.in_shares(tensor) else tensor  # type: ignore[attr-defined,no-any-return]


def share_like(part: Any, tensor: Tensor) -> Tensor:
    """This process's share of a whole tensor, shared as `part` is; the tensor where `part` is whole. Nothing is sent."""
    if not distributed.in_shares(part) or tensor.shape != part.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(part.device), part.device_mesh, part.placements, src_data_rank=None)


def hollow(objective: Objective) -> Objective:
    """A copy without weights, to be filled when a process alone needs the whole: for the encoder that is kept, and pictures."""
    kept = {} if isinstance(objective.target, nn.Module) else {id(objective.target): objective.target}
    twin = copy.deepcopy(objective, kept)
    for parameter in twin.parameters():
        parameter.data = parameter.data.new_empty(0)
    return twin


def fill(twin: Objective, tensors: dict[str, Any]) -> Objective:
    """Puts whole weights (`checkpoint.tensors_of`) into a hollow copy."""
    for name, parameter in twin.named_parameters():
        parameter.data = torch.empty_like(tensors[name])
    twin.load_state_dict(tensors, strict=False)
    return twin
