"""A table of token vectors, whose mean is the vector of a text, as a transformers model.

Registered when this module is imported, so that `AutoModel` opens it. Shapes: B batch, L tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


class WordVectorsConfig(PretrainedConfig):
    """The size of a table of token vectors.

    Args:
        vocab_size: V.
        hidden_size: D.
        init_range: standard deviation that vectors begin with.
    """

    model_type = "withheld_word_vectors"
    wordless = True
    max_position_embeddings = 1 << 20  # no token has a place

    def __init__(
        self, vocab_size: int = 10_000, hidden_size: int = 256, init_range: float = 0.035, **rest: Any
    ) -> None:
        self.vocab_size, self.hidden_size, self.init_range = vocab_size, hidden_size, init_range
        super().__init__(**rest)


class WordVectors(PreTrainedModel):
    """Tokens in, their vectors out; no token knows of another (Iyyer et al. 2015, without layers)."""

    config_class = WordVectorsConfig
    base_model_prefix = "word_vectors"
    main_input_name = "input_ids"
    _supports_sdpa = True  # as any: it has no attention

    def __init__(self, config: WordVectorsConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.silent: tuple[int, ...] = ()
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.init_range)

    def get_input_embeddings(self) -> nn.Module:
        """The table of tokens."""
        return self.embeddings

    @torch.no_grad()
    def silence(self, numbers: Iterable[int]) -> None:
        """Tokens that are no text move no mean, and never learn to."""
        self.silent = tuple(numbers)
        self.embeddings.weight[list(self.silent)] = 0.0

    def forward(self, input_ids: Tensor, output_hidden_states: bool | None = None, **unused: Any) -> BaseModelOutput:
        """`last_hidden_state` (B, L, D)."""
        tokens = self.embeddings(input_ids).masked_fill(~self._heard(input_ids)[..., None], 0.0)
        return BaseModelOutput(tokens, (tokens,) if output_hidden_states else None)

    def mean(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """(B, D), the mean of the vectors of words where the mask is True; no vector is copied."""
        mask = mask & self._heard(input_ids)
        table = self.embeddings.weight
        counts = mask.sum(dim=1)
        begins = F.pad(counts.cumsum(0)[:-1], (1, 0))
        return F.embedding_bag(input_ids[mask], table, begins, mode="mean")

    def _heard(self, input_ids: Tensor) -> Tensor:
        """(B, L), True where a token is a word."""
        heard = torch.ones_like(input_ids, dtype=torch.bool)
        for number in self.silent:
            heard = heard & (input_ids != number)
        return heard


AutoConfig.register(WordVectorsConfig.model_type, WordVectorsConfig, exist_ok=True)
AutoModel.register(WordVectorsConfig, WordVectors, exist_ok=True)
