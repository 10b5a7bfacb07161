"""Networks that put a whole text into one vector: the mean of its last states, which is also what is kept.

Shapes: B batch, L tokens, M tokens that were left, D width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from withheld.networks.text import TextTrunk


class SentenceVector(nn.Module):
    """The mean of the last states over real tokens, (B, D): what `TextEncoder.transform` gives.

    Args:
        trunk: a language model; its head has no part in this and is not trained.
        dropout: put into the trunk's layers, attention weights excepted, while it learns; the only difference between two
            views of the same text. What is saved has the dropout it had.
    """

    def __init__(self, trunk: TextTrunk, dropout: float = 0.0) -> None:
        super().__init__()
        self.trunk = trunk
        inside = {id(p) for p in trunk.base.parameters()}
        for p in trunk.parameters():
            if id(p) not in inside:
                p.requires_grad_(False)
        for name, part in trunk.named_modules():
            if isinstance(part, nn.Dropout) and not name.endswith("attention.self.dropout"):
                part.p = dropout

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        """Vectors (B, D) of texts: "item" and "mask" (B, L)."""
        return self.trunk.vector(x)


class VectorProjector(nn.Module):
    """The vector of a text, then a head: what another encoder would tell of it, (B, E).

    Args:
        trunk: a language model; what tells words has no part in this and is not trained.
        project: from D to E.
    """

    def __init__(self, trunk: TextTrunk, project: nn.Module) -> None:
        super().__init__()
        self.vector, self.project = SentenceVector(trunk), project

    @property
    def trunk(self) -> TextTrunk:
        """What is kept."""
        return self.vector.trunk

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        """(B, E) of texts: "item" and "mask" (B, L)."""
        found: Tensor = self.project(self.vector(x))
        return found


class Reconstructor(nn.Module):
    """p(every word | one vector of what was left of the text, the words before it), logits (B, L, V).

    Words share their table and head with the encoder; the decoder attends to the vector and to nothing else of the text.

    Args:
        trunk: the encoder.
        layers: of the decoder.
    """

    def __init__(self, trunk: TextTrunk, layers: int = 1) -> None:
        super().__init__()
        self.trunk = trunk
        width = trunk.width
        self.enter = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            nn.TransformerDecoderLayer(
                width, max(1, width // 64), 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.leave = nn.LayerNorm(width)

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, L, V).

        Args:
            x: "item" and "mask" (B, M), what was left of the texts; "before" (B, L), the word before each that is told.
        """
        vector = self.trunk({"item": x["item"], "mask": x["mask"]}).pooled
        words = self.trunk.model.get_input_embeddings()(x["before"])
        L = words.shape[1]
        h = self.enter(words) + places(L, self.trunk.width, words)
        past = torch.ones(L, L, dtype=torch.bool, device=h.device).triu(1)
        for block in self.blocks:
            h = block(h, vector[:, None], tgt_mask=past)
        return self.trunk.logits(self.leave(h))


def places(length: int, width: int, like: Tensor) -> Tensor:
    """(length, width) sinusoids of places, of variance 1 (Vaswani et al. 2017, with 2 ** 0.5 in front)."""
    rate = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(10_000.0) / width))
    angle = torch.arange(length, device=like.device)[:, None] * rate
    found = torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, :width]
    return (2**0.5 * found).to(like.dtype)
