"""An autoregressive prior over the codes of VQ-VAE-2: p(top) p(bottom | top), one causal transformer over both.

Shapes: B batch, L codes of an image (top grid, then bottom grid, row by row), K codes of a book, D width.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model


@dataclass(frozen=True)
class CodeShape:
    """Sides of the two grids and the size of a book."""

    top: int
    bottom: int
    codes: int

    @property
    def tops(self) -> int:
        """How many codes of the sequence are the top's."""
        return self.top**2

    @property
    def length(self) -> int:
        """L."""
        return self.top**2 + self.bottom**2

    def to_json(self) -> dict[str, int]:
        """For run.json."""
        return asdict(self)


class CodeTrunk(nn.Module):
    """GPT-2's blocks over code embeddings: which book and which place a code has is learned with its position.

    Args:
        shape: of the codes.
        width, layers, heads: of the transformer.
    """

    def __init__(self, shape: CodeShape, width: int = 192, layers: int = 4, heads: int = 6) -> None:
        super().__init__()
        self.shape, self.width = shape, width
        self.embed = nn.Embedding(2 * shape.codes + 1, width)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.model = GPT2Model(
            GPT2Config(
                vocab_size=1, n_positions=shape.length, n_embd=width, n_layer=layers, n_head=heads, resid_pdrop=0.0,
                embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
            )
        )  # fmt: skip
        self.model.wte.weight.requires_grad_(False)  # embeddings are given
        self.heads = nn.ModuleList([nn.Linear(width, shape.codes) for _ in range(2)])

    def tokens(self, codes_BL: Tensor) -> Tensor:
        """(B, 1 + L) token numbers: a start, top codes, bottom codes after them."""
        place = torch.arange(codes_BL.shape[1], device=codes_BL.device)
        offset = torch.where(place < self.shape.tops, 0, self.shape.codes)
        start = codes_BL.new_full((len(codes_BL), 1), 2 * self.shape.codes)
        return torch.cat([start, codes_BL + offset], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, L', K) of each next code, for the start and the codes x (B, L' - 1) after it."""
        hidden = self.model(inputs_embeds=self.embed(self.tokens(x)), use_cache=False).last_hidden_state
        top = self.heads[0](hidden[:, : self.shape.tops])
        return torch.cat([top, self.heads[1](hidden[:, self.shape.tops :])], dim=1)


class CodePrior(nn.Module):
    """The network of the next-code objective."""

    def __init__(self, trunk: CodeTrunk) -> None:
        super().__init__()
        self.codes_of = trunk

    @property
    def shape(self) -> CodeShape:
        """Of the codes."""
        return self.codes_of.shape

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, L, K)."""
        return self.codes_of(x)

    @torch.no_grad()
    def log_likelihood(self, codes_BL: Tensor) -> Tensor:
        """(B,) log p(codes), nats."""
        log_p = self(codes_BL[:, :-1]).log_softmax(dim=2)
        return log_p.gather(2, codes_BL[:, :, None]).squeeze(2).sum(dim=1)

    @torch.no_grad()
    def draw(self, count: int, temperature: float = 1.0) -> Tensor:
        """(count, L) codes, one after the other, from torch's generator."""
        trunk = self.codes_of
        where = trunk.embed.weight.device
        token = torch.full((count, 1), 2 * self.shape.codes, device=where)
        past: Any = None
        drawn = []
        for place in range(self.shape.length):
            output = trunk.model(inputs_embeds=trunk.embed(token), past_key_values=past, use_cache=True)
            past = output.past_key_values
            level = int(place >= self.shape.tops)
            share = (trunk.heads[level](output.last_hidden_state[:, -1]) / temperature).softmax(dim=1)
            code = torch.multinomial(share, 1)
            drawn.append(code)
            token = code + level * self.shape.codes
        return torch.cat(drawn, dim=1)
