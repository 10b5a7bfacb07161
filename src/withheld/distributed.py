"""One process or many: the only file, beside learn/, that talks to torch.distributed.

Under `torchrun` every function works across ranks; in a single process each is the identity.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

TIMEOUT = timedelta(seconds=float(os.environ.get("WITHHELD_RANK_TIMEOUT", "600")))


def start(device: torch.device) -> None:
    """Joins the group that torchrun set up, if there is one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)


def stop() -> None:
    """Leaves the group."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


_alone = False


@contextmanager
def alone() -> Iterator[None]:
    """Within it this process asks no other: for what one rank does while the others wait, such as vitals."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not _alone else 1


def rank() -> int:
    """Which of them this is; 0 writes."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() and not _alone else 0


def wrap(module: nn.Module) -> nn.Module:
    """The module, its gradients averaged over ranks and its batch normalization over the batch of all ranks."""
    if world() == 1:
        return module
    for part in module.modules():
        if isinstance(part, _BatchNorm) and not isinstance(part, RanksNorm):
            part.__class__ = RanksNorm  # in place: names, parameters and the optimizer that holds them stay
    # The patch kernel is used as a linear map, so its gradient comes permuted; DDP copies it, which costs nothing here.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)


def mean(value: Tensor) -> Tensor:
    """The mean of a tensor over ranks."""
    if world() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world()


def total(value: Tensor) -> Tensor:
    """The sum of a tensor over ranks."""
    if world() == 1:
        return value
    summed = value.detach().clone()
    dist.all_reduce(summed)
    return summed


class _Gather(torch.autograd.Function):
    """All ranks' rows; backward, the gradients that all ranks have for this one's rows, summed."""

    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        """(B, ...) of every rank, equally many -> (N, ...), in the order of ranks."""
        context.count = len(rows)
        parts = [torch.empty_like(rows) for _ in range(world())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """(N, ...) -> (B, ...)."""
        summed = gradients[0].contiguous().clone()
        dist.all_reduce(summed)
        return summed[rank() * context.count : (rank() + 1) * context.count]


def gathered(rows: Tensor) -> Tensor:
    """The rows of all ranks, one after the other, with gradients: for losses that compare items with those of other ranks.

    Each rank takes the mean of its own rows' losses; since gradients of parameters are averaged over ranks and those of
    gathered rows summed, both are then those of one process that holds all rows. Every rank must bring equally many.
    """
    return rows if world() == 1 else _Gather.apply(rows)


class _Sum(torch.autograd.Function):
    """The sum over ranks; backward, the sum of the gradients that all ranks have for it."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        """Of equal shape on every rank."""
        summed = value.contiguous().clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """Of equal shape on every rank."""
        summed = gradients[0].contiguous().clone()
        dist.all_reduce(summed)
        return summed


def summed(value: Tensor) -> Tensor:
    """The sum of a tensor over ranks, with gradients: for statistics of the whole batch within a loss."""
    return value if world() == 1 else _Sum.apply(value)


def shared(value: Tensor) -> Tensor:
    """Rank 0's tensor on every rank, such as directions drawn at random."""
    if world() > 1:
        dist.broadcast(value, 0)
    return value


class RanksNorm(_BatchNorm):
    """Batch normalization over the items of all ranks, as one process would have it. Not built: see `wrap`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) or (B, D, ...), equally many on every rank."""
        if not self.training or world() == 1:
            training = self.training
            if training and self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, training, self.momentum or 0.1, self.eps
            )
        dims = [0, *range(2, x.ndim)]
        count = x.numel() // x.shape[1] * world()
        exact = x if x.dtype == torch.float64 else x.float()
        mean = summed(exact.sum(dim=dims)) / count
        centered = exact - _across(mean, x)
        variance = summed(centered.square().sum(dim=dims)) / count
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                self.running_mean.lerp_(mean, self.momentum or 0.1)
                self.running_var.lerp_(variance * count / max(1, count - 1), self.momentum or 0.1)
        found = centered * _across((variance + self.eps).rsqrt(), x)
        if self.weight is not None:
            found = found * _across(self.weight, x) + _across(self.bias, x)
        return found.to(x.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        return


def _across(value_D: Tensor, like: Tensor) -> Tensor:
    return value_D.view(1, -1, *[1] * (like.ndim - 2))


def any_rank(flag: int, device: torch.device) -> int:
    """The largest of a small number over ranks: a signal that reached one reaches all."""
    if world() == 1:
        return flag
    value = torch.tensor(flag, device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return int(value)


def from_first(value: Any) -> Any:
    """What rank 0 decided, on every rank (JSON-like values)."""
    if world() == 1:
        return value
    import json

    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
    text = json.dumps(value).encode() if rank() == 0 else b""
    length = torch.tensor(len(text), device=device)
    dist.broadcast(length, 0)
    content = torch.zeros(int(length), dtype=torch.uint8, device=device)
    if rank() == 0:
        content = torch.frombuffer(bytearray(text), dtype=torch.uint8).to(device)
    dist.broadcast(content, 0)
    return json.loads(bytes(content.cpu().tolist()))


def barrier() -> None:
    """Waits for every rank."""
    if world() > 1:
        dist.barrier()
