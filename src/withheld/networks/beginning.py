"""Where a small BERT begins: heads that look at the neighboring words, and words as frequent as they are.

A hidden word shows nothing, so until a head looks at its neighbors a masked language model learns how frequent words are and
no more; an untrained BERT of 2 layers stays there for thousands of steps. Weights that begin like trained ones do: Trockman
and Kolter 2023, https://arxiv.org/abs/2305.09828.

Shapes: L places, D width, d width of a head.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig

NEIGHBORS = "neighbors"
OFFSETS = (-1, 1, -2, 2)
"""Where the first heads of the first layer look; heads beyond these begin as usual."""
FAST = 2.0
"""Radians a place that the fastest sinusoid turns by."""
LOUD = 2.0
"""Deviation of places against that of words."""
SHARP = 5.5
"""Logit of attention where a head looks, others' being near 0."""


def settings_of(width: int) -> dict[str, Any]:
    """What the config of a small BERT says of its beginning; transformers' 0.02 is meant for a width of 768."""
    return {"beginning": NEIGHBORS, "initializer_range": 0.02 * math.sqrt(768 / width)}


@torch.no_grad()
def begin(model: Any, config: PretrainedConfig) -> None:
    """Sets the weights of a fresh model where its config asks for it: `config.beginning == "neighbors"`, BERT only."""
    if getattr(config, "beginning", None) != NEIGHBORS or config.model_type != "bert":
        return
    base = model.base_model
    places = base.embeddings.position_embeddings.weight
    rate = rates(places.shape[0], places.shape[1])
    places.copy_(LOUD * base.embeddings.word_embeddings.weight.std() * sinusoids(places.shape[0], rate))
    for layer in base.encoder.layer:
        for matrix in (layer.attention.self.value.weight, layer.attention.output.dense.weight):
            matrix.normal_(0, matrix.shape[1] ** -0.5)
    _look_at_neighbors(base.encoder.layer[0].attention.self, rate)


def rates(length: int, width: int) -> Tensor:
    """(D / 2,) radians a place, from `FAST` down to a quarter turn over all of them."""
    return torch.exp(torch.linspace(math.log(FAST), math.log(math.pi / (2 * length)), width // 2))


def sinusoids(length: int, rate: Tensor) -> Tensor:
    """(L, D) sine and cosine by turns, of variance 1."""
    angle = torch.arange(length)[:, None] * rate
    return 2**0.5 * torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


def _look_at_neighbors(attention: Any, rate: Tensor) -> None:
    """Keys tell their place by the fastest sinusoids, queries the place next to theirs: the same, turned."""
    heads = attention.num_attention_heads
    D = attention.key.weight.shape[1]
    d = D // heads
    share = LOUD**2 / (LOUD**2 + 2)  # of the variance of a state that is its place's; the rest is word and kind
    gain = (SHARP / (share * math.sqrt(d))) ** 0.5
    pick = torch.eye(d, D)
    for head, offset in zip(range(heads), OFFSETS, strict=False):
        rows = slice(head * d, (head + 1) * d)
        mix = torch.linalg.qr(torch.randn(d, d)).Q
        attention.key.weight[rows] = gain * mix @ pick
        attention.query.weight[rows] = gain * mix @ pick @ _turn(offset * rate)


def _turn(angle: Tensor) -> Tensor:
    """(D, D), what turns every pair of sine and cosine by an angle (D / 2,)."""
    return torch.block_diag(*(torch.tensor([[c, s], [-s, c]]) for s, c in zip(angle.sin(), angle.cos(), strict=True)))
