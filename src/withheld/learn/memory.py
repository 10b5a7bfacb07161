"""Less memory for more time: a batch in pieces, and activations that are computed twice instead of kept.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from withheld import distributed
from withheld.errors import InputError
from withheld.objective import Counted, Objective
from withheld.types import Pair

LESS = "take a smaller --batch-size, --size or --encoder, or start more processes (torchrun), which share the batch and act as one"


def check_pieces(objective: Objective, pieces: int) -> None:
    """Says so where a step cannot be taken in pieces of its batch, one after the other.

    Raises:
        InputError: with the reason and the remedy.
    """
    if pieces > 1 and (why := _why_at_once(objective)):
        raise InputError(f"--accumulate {pieces}: this objective needs its batch at once, since {why}: {LESS}")


def _why_at_once(objective: Objective) -> str:
    """Why a step needs its batch at once; "" where it does not."""
    norm = batch_norm(objective)
    return objective.needs_whole_batch() or (f"{norm} normalizes by the statistics of its whole batch" if norm else "")


def accepted(objective: Objective) -> list[str]:
    """Which of --accumulate and --recompute an objective does not refuse."""
    layers = layers_of(objective.network)
    again = not batch_norm(objective.network) and any(_following(name) in layers for name in layers)
    return ["--accumulate"] * (not _why_at_once(objective)) + ["--recompute"] * again


def counts_of(counted: Counted, pairs: list[Pair]) -> list[dict[str, Tensor]]:
    """What each piece counts in the mean of a term over all pieces and processes, 1 on average: more words count more.

    Args:
        counted: the part of an objective that knows. pairs: this process's pieces of a batch.
    """
    each: dict[str, list[Tensor]] = {}
    for pair in pairs:
        for name, count in counted.counts(pair.y).items():
            each.setdefault(name, []).append(count.float())
    of_all = distributed.total(torch.stack([torch.stack(counts).sum() for counts in each.values()]))
    parts = len(pairs) * distributed.world()
    return [
        {name: counts[k] * parts / whole for (name, counts), whole in zip(each.items(), of_all, strict=True)}
        for k in range(len(pairs))
    ]


def counting(term: Tensor, share: Tensor | None) -> Tensor:
    """A term as it counts; where a piece asks for nothing, its mean of nothing counts for nothing."""
    return term if share is None else torch.where(share > 0, term * share.to(term.dtype), 0.0)


def batch_norm(objective: nn.Module) -> str:
    """The first batch norm that takes its statistics of the batch in training; "" where there is none."""
    norms = nn.modules.batchnorm._BatchNorm
    was = objective.training
    objective.train()
    try:
        return next((name for name, part in objective.named_modules() if isinstance(part, norms) and part.training), "")
    finally:
        objective.train(was)


def layers_of(network: nn.Module) -> dict[str, nn.Module]:
    """The repeated layers of a network by name: ViT layers, the blocks of a decoder; not those inside of others."""
    from withheld.networks.image import LAYER  # imports transformers, which not every run needs

    found: dict[str, nn.Module] = {}
    for name, part in network.named_modules():
        match = LAYER.search(f"{name}.")
        called = not isinstance(part, nn.ModuleList | nn.ModuleDict | nn.RNNBase)
        if match and match.end() == len(name) + 1 and called and not any(name.startswith(f"{o}.") for o in found):
            found[name] = part
    return found


def recompute(objective: Objective) -> int:
    """Keeps only what goes into a layer, and computes the layer again when its gradient is asked for; returns how many do.

    Loss and gradients stay what they are, dropout included. The last layer of a stack is left as it is: its gradient is the first
    that is asked for, so it would be kept at the same time anyway.

    Source: Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost, https://arxiv.org/abs/1604.06174

    Raises:
        InputError: where there is no stack of layers, or layers count what passes them (batch norm).
    """
    if norm := batch_norm(objective.network):
        raise InputError(f"--recompute: {norm} is a batch norm, which would count everything twice: {LESS}")
    layers = layers_of(objective.network)
    again = [name for name in layers if _following(name) in layers]
    if not again:
        raise InputError(
            "--recompute: this network has no stack of layers of which some could be computed twice: "
            + (LESS if _why_at_once(objective) else "take --accumulate, or a smaller --batch-size")
        )
    for name in again:
        layers[name].forward = partial(_twice, layers[name], layers[name].forward)  # type: ignore[method-assign]
    return len(again)


def _following(name: str) -> str:
    stack, _, number = name.rpartition(".")
    return f"{stack}.{int(number) + 1}"


def _twice(layer: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not (layer.training and torch.is_grad_enabled()):
        return forward(*args, **kwargs)
    return checkpoint(partial(forward, **kwargs), *args, use_reentrant=False)
