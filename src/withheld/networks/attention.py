"""Attention for short sequences on a CPU, registered with transformers' attention interface.

Below about 128 tokens two batched matrix products and a softmax beat the fused CPU kernel; everything else goes to transformers'
own scaled-dot-product function. Shapes: B batch, N heads, L tokens, M asked places of a row, S keys, d width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "withheld_short"
SHORT = 128


def short_attention(
    q_BNLd: Tensor, k_BNSd: Tensor, v_BNSd: Tensor, scaling: float, seen: Tensor | None = None
) -> Tensor:
    """softmax(q k' * scaling) v -> (B, L, N, d); exact, dropout-free.

    Args:
        seen: broadcast to (B, N, L, S), True where a query may look, or what is added to its scores; None: everywhere.
    """
    B, N, L, d = q_BNLd.shape
    S = k_BNSd.shape[2]
    q, k, v = (part.reshape(B * N, -1, d) for part in (q_BNLd, k_BNSd, v_BNSd))
    scores = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=scaling).view(B, N, L, S)
    if seen is not None:
        scores = (
            scores.masked_fill_(~seen, torch.finfo(scores.dtype).min) if seen.dtype == torch.bool else scores + seen
        )
    return torch.bmm(scores.softmax(dim=-1).view(B * N, L, S), v).view(B, N, L, d).transpose(1, 2)


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """transformers' attention signature; picks the short form where it is exact and faster."""
    asked = getattr(module, "asked", None)
    if asked is not None:
        key, value, attention_mask = asked.of_all(key, attention_mask)
    L, S = query.shape[2], key.shape[2]
    short = query.device.type == "cpu" and max(L, S) <= SHORT and query.shape[1] == key.shape[1]
    causal = settings.get("is_causal")
    causal = getattr(module, "is_causal", False) if causal is None else causal
    if not short or dropout or (causal and attention_mask is None and L != S):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **settings
        )
    if causal and attention_mask is None and L > 1:
        attention_mask = torch.ones(L, S, dtype=torch.bool, device=query.device).tril()
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return short_attention(query, key, value, scaling, attention_mask).contiguous(), None


class AskedOnly:
    """While a batch passes, a layer computes queries, attention and feed-forward for some of its tokens only.

    The layer is handed the asked tokens (B, M, D) as if there were no others; its two products that make keys and values
    still see all (B, L, D), and the attention function asks here for what they made. What comes out is what the layer
    would have given at these places.

    Args:
        makers: the linear modules that make keys and values.
        places_BM: which tokens are asked for.
    """

    def __init__(self, makers: tuple[nn.Module, nn.Module], places_BM: Tensor) -> None:
        self.makers, self.places_BM = makers, places_BM
        self.made: list[Tensor] = []

    def enter(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Hook before the layer: hands it the asked tokens."""
        whole = args[0] if args else kwargs["hidden_states"]
        self.made = [maker(whole) for maker in self.makers]
        few = whole.gather(1, self.places_BM.unsqueeze(2).expand(-1, -1, whole.shape[2]))
        return ((few, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": few})

    def of_all(self, key_BNMd: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values of all tokens, and the rows of the mask that belong to the asked ones."""
        B, N, _, d = key_BNMd.shape
        key, value = (part.view(B, -1, N, d).transpose(1, 2) for part in self.made)
        if mask is not None and mask.ndim == 4 and mask.shape[2] > 1:
            places = self.places_BM[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3])
            mask = mask.expand(B, -1, -1, -1).gather(2, places)
        return key, value, mask


@contextmanager
def asked_only(layer: nn.Module, attention: Any, makers: tuple[str, str], places_BM: Tensor) -> Iterator[None]:
    """See `AskedOnly`; `attention` is the layer's module that calls the attention interface. Afterwards all is as before."""
    asked = AskedOnly((getattr(attention, makers[0]), getattr(attention, makers[1])), places_BM)
    hook = layer.register_forward_pre_hook(asked.enter, with_kwargs=True)
    attention.asked = asked
    try:
        yield
    finally:
        del attention.asked
        hook.remove()


AttentionInterface.register(NAME, attention_forward)
AttentionMaskInterface.register(NAME, sdpa_mask)
