"""One process or many: the only file, beside learn/, that talks to torch.distributed.

Under `torchrun` every function works across ranks; in a single process each is the identity.
"""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from withheld.errors import RankFailed, WithheldError

TIMEOUT = timedelta(seconds=float(os.environ.get("WITHHELD_RANK_TIMEOUT", "20")))
"""How much later than the others a rank may be within a step; torchrun then gives them 30 s to leave: under a minute in all."""
PATIENCE = timedelta(hours=24)
"""How long others wait for rank 0, which alone prepares data, writes checkpoints and draws."""


@dataclass
class _Groups:
    """Who speaks with whom: tensors of a step, small numbers of a step, and whoever waits for rank 0."""

    steps: Any = None
    quick: Any = None
    patient: Any = None
    alone: bool = False


_groups = _Groups()


def start(device: torch.device) -> None:
    """Joins the group that torchrun set up, if there is one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
        _groups.steps = dist.new_group(timeout=TIMEOUT)
        _groups.quick = _groups.steps if backend == "gloo" else dist.new_group(backend="gloo", timeout=TIMEOUT)
        _groups.patient = dist.group.WORLD if backend == "gloo" else dist.new_group(backend="gloo", timeout=PATIENCE)


def stop() -> None:
    """Leaves the group."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def together() -> bool:
    """Whether there are others to speak to."""
    return not _groups.alone and dist.is_available() and dist.is_initialized()


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if together() else 1


def rank() -> int:
    """Which of them this is; 0 writes."""
    return dist.get_rank() if together() else 0


@contextmanager
def alone() -> Iterator[None]:
    """Within it this process computes as if there were no other, since no other does the same."""
    before, _groups.alone = _groups.alone, True
    try:
        yield
    finally:
        _groups.alone = before


@contextmanager
def failures() -> Iterator[None]:
    """Whatever goes wrong in one of several processes ends as one error, since it ends the others too.

    Raises:
        RankFailed: of this rank, or of another that is no longer heard of.
    """
    try:
        yield
    except WithheldError:
        raise
    except Exception as error:
        if world() == 1:
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(last.filename)}:{last.lineno}"
        first = (str(error).splitlines() or [""])[0]
        raise RankFailed(
            f"rank {rank()} of {world()} cannot go on ({where}: {type(error).__name__}: {first[:300]}): it failed, or another that "
            "it was waiting for. Start the same command again with --resume"
        ) from error


def wrap(module: nn.Module) -> nn.Module:
    """The module, its gradients averaged over ranks, its batch norms taking the statistics of all ranks."""
    if world() == 1:
        return module
    share_norms(module)
    # The patch kernel is used as a linear map, so its gradient comes permuted; DDP copies it, which costs nothing here.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    warnings.filterwarnings(
        "ignore", "`broadcast_buffers` is deprecated", FutureWarning
    )  # what replaces it is not in 2.11
    return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False, process_group=_groups.steps)


def mesh(device: torch.device) -> Any:
    """All processes in a row, for those who share weights (FSDP)."""
    from torch.distributed.device_mesh import DeviceMesh

    return DeviceMesh.from_group(_groups.steps, device.type)


def in_shares(tensor: Any) -> bool:
    """Whether processes have shares of this tensor (FSDP), and none the whole."""
    if not (dist.is_available() and dist.is_initialized()):
        return False
    from torch.distributed.tensor import DTensor  # half a second that only those who share should wait

    return isinstance(tensor, DTensor)


@contextmanager
def apart(module: nn.Module, wanted: bool) -> Iterator[None]:
    """Within it, where wanted, gradients of a wrapped module are only added up, and not yet averaged over ranks."""
    if wanted and isinstance(module, nn.parallel.DistributedDataParallel):
        with module.no_sync():
            yield
    else:
        yield


def share_norms(module: nn.Module) -> None:
    """Batch norms take the statistics of all ranks, in place."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.__class__ = _shared(type(part))


def mean(value: Tensor) -> Tensor:
    """The mean of a tensor over ranks."""
    return value if world() == 1 else total(value) / world()


def total(value: Tensor) -> Tensor:
    """The sum of a tensor over ranks."""
    if world() == 1:
        return value
    summed = value.detach().clone()
    dist.all_reduce(summed, group=_groups.steps)
    return summed


class _Total(torch.autograd.Function):
    """The sum over ranks; backward, the sum of what all ranks have for it."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        """Any shape, equal on all ranks."""
        return total(value)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """The same shape."""
        return total(gradients[0].contiguous())


class _Gather(torch.autograd.Function):
    """All ranks' rows; backward, the gradients that all ranks have for this one's rows, summed."""

    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        """(B, ...) of every rank, equally many -> (N, ...), in the order of ranks."""
        context.count = len(rows)
        return _all_rows(rows)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """(N, ...) -> (B, ...)."""
        summed = total(gradients[0].contiguous())
        return summed[rank() * context.count : (rank() + 1) * context.count]


def _all_rows(rows: Tensor) -> Tensor:
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world())]
    dist.all_gather(parts, rows.contiguous(), group=_groups.steps)
    return torch.cat(parts)


def gathered(rows: Tensor) -> Tensor:
    """The rows of all ranks, one after the other, with gradients: for losses that compare items with those of other ranks.

    Each rank takes the mean of its own rows' losses; since gradients of parameters are averaged over ranks and those of
    gathered rows summed, both are then those of one process that holds all rows. Every rank must bring equally many.
    """
    return rows if world() == 1 else _Gather.apply(rows)


def summed(value: Tensor) -> Tensor:
    """The sum of a tensor over ranks, with gradients: for statistics of the whole batch within a loss."""
    return value if world() == 1 else _Total.apply(value)


def shared(value: Tensor) -> Tensor:
    """Rank 0's tensor on every rank, such as directions drawn at random."""
    if world() > 1:
        dist.broadcast(value, 0, group=_groups.steps)
    return value


class _SharedNorm:
    """A batch norm whose statistics are those of the batches of all ranks together, as if one process had them.

    torch has this for GPUs only (SyncBatchNorm). Mean first, then the mean square of what is centered, so that nothing cancels.
    """

    def forward(self, t: Tensor) -> Tensor:
        """(B, C, ...), equally many items on every rank."""
        norm: Any = self
        if world() == 1 or not (norm.training or norm.running_mean is None):
            return super().forward(t)  # type: ignore[misc,no-any-return]
        axes, shape = [0, *range(2, t.ndim)], [1, -1, *[1] * (t.ndim - 2)]
        with torch.autocast(t.device.type, enabled=False):
            wide = t.float() if t.dtype in (torch.float16, torch.bfloat16) else t
            count = world() * t.numel() // t.shape[1]
            mean_C = _Total.apply(wide.sum(dim=axes)) / count
            centered = wide - mean_C.view(shape)
            variance_C = _Total.apply(centered.square().sum(dim=axes)) / count
            self._remember(mean_C.detach(), variance_C.detach() * count / max(1, count - 1))
            scale_C = (variance_C + norm.eps).rsqrt()
            if norm.affine:
                scale_C = scale_C * norm.weight
            told = centered * scale_C.view(shape)
            return (told + norm.bias.view(shape) if norm.affine else told).to(t.dtype)

    @torch.no_grad()
    def _remember(self, mean_C: Tensor, variance_C: Tensor) -> None:
        norm: Any = self
        if norm.running_mean is None:
            return
        norm.num_batches_tracked += 1
        share = norm.momentum if norm.momentum is not None else 1.0 / float(norm.num_batches_tracked)
        norm.running_mean.lerp_(mean_C.to(norm.running_mean.dtype), share)
        norm.running_var.lerp_(variance_C.to(norm.running_var.dtype), share)


def _shared(kind: type) -> type:
    """A kind of batch norm with shared statistics; its name and its state stay what they were."""
    return kind if issubclass(kind, _SharedNorm) else type(kind.__name__, (_SharedNorm, kind), {})


@contextmanager
def whole_state(module: nn.Module) -> Iterator[None]:
    """Within it, state that belongs to items of a step is that of all ranks' items, as one process would hold it: to be saved.

    A module says which of its buffers these are, and along which axis items lie: `of_items = {"state_h": 1}`.
    """
    mine = {(part, name): getattr(part, name) for part, name, _ in _of_items(module)} if world() > 1 else {}
    for part, name, axis in _of_items(module) if mine else []:
        own = getattr(part, name)
        if own.numel():
            setattr(part, name, _all_rows(own.transpose(0, axis).contiguous()).transpose(0, axis).contiguous())
    try:
        yield
    finally:
        for (part, name), own in mine.items():
            setattr(part, name, own)


def take_part(module: nn.Module) -> None:
    """After loading what `whole_state` saved: every rank keeps what belongs to its own items."""
    if world() == 1:
        return
    for part, name, axis in _of_items(module):
        whole = getattr(part, name)
        if whole.numel():
            setattr(part, name, whole.chunk(world(), dim=axis)[rank()].contiguous())


def _of_items(module: nn.Module) -> Iterator[tuple[nn.Module, str, int]]:
    for part in module.modules():
        for name, axis in getattr(part, "of_items", {}).items():
            yield part, name, axis


def any_rank(*flags: int) -> list[int]:
    """The largest of small numbers over ranks, each by itself: a signal that reached one reaches all."""
    if world() == 1:
        return list(flags)
    value = torch.tensor(flags)
    dist.all_reduce(value, op=dist.ReduceOp.MAX, group=_groups.quick)
    return [int(flag) for flag in value]


def from_first(value: Any) -> Any:
    """What rank 0 decided, on every rank (JSON-like values)."""
    if world() == 1:
        return value
    import json

    text = json.dumps(value).encode() if rank() == 0 else b""
    length = torch.tensor(len(text))
    dist.broadcast(length, 0, group=_groups.patient)
    content = torch.zeros(int(length), dtype=torch.uint8)
    if rank() == 0:
        content = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    dist.broadcast(content, 0, group=_groups.patient)
    return json.loads(bytes(content.tolist()))


def from_all(value: Any) -> list[Any]:
    """What every rank has (JSON-like values), in the order of ranks."""
    if world() == 1:
        return [value]
    import json

    text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(world())]
    dist.all_gather(lengths, torch.tensor([len(text)]), group=_groups.quick)
    padded = torch.zeros(int(max(lengths)), dtype=torch.uint8)
    padded[: len(text)] = text
    parts = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(parts, padded, group=_groups.quick)
    return [json.loads(bytes(part[: int(n)].tolist())) for part, n in zip(parts, lengths, strict=True)]


def await_first() -> None:
    """Everyone waits until rank 0 has come so far; rank 0 waits for nobody."""
    if world() > 1:
        dist.broadcast(torch.zeros(1), 0, group=_groups.patient)


def barrier() -> None:
    """Waits for every rank, however long."""
    if world() > 1:
        dist.barrier(group=_groups.patient)
