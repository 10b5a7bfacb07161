"""Low-rank adapters by the package peft: a trained trunk is left as it is, and small matrices beside its own learn instead.

Source: Hu et al. 2021, LoRA, https://arxiv.org/abs/2106.09685.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from withheld.errors import InputError
from withheld.networks.image import ImageTrunk


def adapt(trunk: ImageTrunk, rank: int) -> None:
    """Puts adapters beside every linear map and convolution of a trunk, embeddings excepted, and freezes all else. In place.

    At the start they change nothing.

    Raises:
        InputError: where peft is not installed, or the rank is none.
    """
    if rank < 1:
        raise InputError(f"lora={rank}: the rank of the adapters, 1 or more; 4 to 16 are usual, 0 is off")
    try:
        import peft
    except ImportError as error:
        raise InputError(f'lora={rank} needs the package peft ({error}): pip install "withheld[lora]"') from None
    names = [
        name
        for name, part in trunk.model.named_modules()
        if isinstance(part, nn.Linear | nn.Conv2d) and "embed" not in name
    ]
    peft.inject_adapter_in_model(peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names), trunk.model)


def is_adapted(trunk: Any) -> bool:
    """Whether a trunk has adapters."""
    return any(".lora_A." in name for name, _ in trunk.named_parameters())


@torch.no_grad()
def merged(trunk: ImageTrunk) -> ImageTrunk:
    """A copy in which the adapters are part of the weights, so that it opens without peft."""
    whole = copy.deepcopy(trunk)
    adapted = [(name, part) for name, part in whole.model.named_modules() if hasattr(part, "get_delta_weight")]
    for name, part in adapted:
        base: Any = part.base_layer
        for adapter in part.active_adapters:
            base.weight += part.get_delta_weight(adapter).to(base.weight.dtype)
        above, _, own = name.rpartition(".")
        setattr(whole.model.get_submodule(above) if above else whole.model, own, base)
    return whole.requires_grad_(True)
