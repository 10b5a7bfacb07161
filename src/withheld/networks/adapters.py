"""Low-rank adapters by the package peft: a trained trunk is left as it is, and small matrices beside its own learn instead.

Source: Hu et al. 2021, LoRA, https://arxiv.org/abs/2106.09685.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from withheld.errors import InputError

LORA = ".lora_"
"""In the names of adapters' parameters."""
Trunk = TypeVar("Trunk", bound=nn.Module)


def adapt(trunk: Any, rank: int) -> None:
    """Puts adapters beside every linear map and convolution of a trunk's layers, and freezes all else of it. In place.

    Embeddings and the head that tells words, which often share a table, get none. At the start adapters change nothing.

    Args:
        trunk: an `ImageTrunk`, a `VideoTrunk` or a `TextTrunk` of a transformer.
        rank: of the adapters.

    Raises:
        InputError: where peft is not installed, or the rank is none.
    """
    if rank < 1:
        raise InputError(f"lora={rank}: the rank of the adapters, 1 or more; 4 to 16 are usual, 0 is off")
    try:
        import peft
    except ImportError as error:
        raise InputError(f'lora={rank} needs the package peft ({error}): pip install "withheld[lora]"') from None
    from transformers.pytorch_utils import Conv1D

    inside = {id(part) for part in trunk.base.modules()}
    found = {
        name: part
        for name, part in trunk.model.named_modules()
        if id(part) in inside and isinstance(part, nn.Linear | nn.Conv2d | Conv1D) and "embed" not in name
    }
    turned = any(isinstance(part, Conv1D) for part in found.values())  # the weights of GPT-2's stand (in, out)
    peft.inject_adapter_in_model(
        peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(found), fan_in_fan_out=turned), trunk.model
    )


def is_adapted(trunk: Any) -> bool:
    """Whether a trunk has adapters."""
    return any(LORA in name for name, _ in trunk.named_parameters())


def adapted(model: nn.Module) -> list[tuple[str, Any]]:
    """The maps that have adapters, with their names."""
    return [(name, part) for name, part in model.named_modules() if hasattr(part, "get_delta_weight")]


@torch.no_grad()
def weight_of(part: Any) -> Tensor:
    """What the weight of a map is together with its adapters."""
    weight: Tensor = part.base_layer.weight.detach()
    for adapter in part.active_adapters:
        weight = weight + part.get_delta_weight(adapter).to(weight.dtype)
    return weight


def own_numbers(trunk: nn.Module) -> int:
    """How many parameters a trunk has, adapters not counted: those of what is kept."""
    return sum(p.numel() for name, p in trunk.named_parameters() if LORA not in name)


@torch.no_grad()
def merged(trunk: Trunk) -> Trunk:
    """A copy in which the adapters are part of the weights, so that it opens without peft; the trunk itself where it has none.

    Tied weights stay tied.
    """
    if not is_adapted(trunk):
        return trunk
    whole = copy.deepcopy(trunk)
    model: Any = whole.model
    for name, part in adapted(model):
        base = part.base_layer
        base.weight.copy_(weight_of(part))
        above, _, own = name.rpartition(".")
        setattr(model.get_submodule(above) if above else model, own, base)
    vars(model).pop("peft_config", None)
    return whole.requires_grad_(True)
