"""q(z | sentence) as a transformers model: what a sentence VAE keeps.

Registered when this module is imported, so that `AutoModel` opens it. Shapes: B batch, L tokens, E embedding, D width, Z latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from withheld.networks.recognition import MOST


class SentenceConfig(PretrainedConfig):
    """Layers of a recognition network of sentences.

    Args:
        vocab_size: V.
        hidden_size: Z, the number of latents, which is what its features are.
        embedding_size: E. width: D, of the LSTM.
        init_range: weights begin uniform within it.
    """

    model_type = "withheld_sentence"
    recurrent = True
    recognition = wordless = True

    def __init__(
        self, vocab_size: int = 10_000, hidden_size: int = 32, embedding_size: int = 256, width: int = 256,
        init_range: float = 0.1, **rest: Any,
    ) -> None:  # fmt: skip
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        self.embedding_size, self.width, self.init_range = embedding_size, width, init_range
        super().__init__(**rest)


@dataclass
class SentencePosterior(ModelOutput):
    """A factorized Gaussian: its mean (B, Z), told at every token as `last_hidden_state` (B, L, Z), so that any way to pool
    gives it; `log_variance` (B, Z)."""

    last_hidden_state: Tensor | None = None
    mean: Tensor | None = None
    log_variance: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class SentenceRecognition(PreTrainedModel):
    """q(z | sentence) from the last state of an LSTM (Bowman et al. 2015)."""

    config_class = SentenceConfig
    base_model_prefix = "recognition"
    main_input_name = "input_ids"

    def __init__(self, config: SentenceConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size)
        self.lstm = nn.LSTM(config.embedding_size, config.width, batch_first=True)
        self.mean = nn.Linear(config.width, config.hidden_size)
        self.spread = nn.Linear(config.width, config.hidden_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        bound = self.config.init_range
        if isinstance(module, (nn.Embedding, nn.LSTM, nn.Linear)):
            for parameter in module.parameters(recurse=False):
                nn.init.uniform_(parameter, -bound, bound)

    def get_input_embeddings(self) -> nn.Module:
        """The table of tokens."""
        return self.embeddings

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, output_hidden_states: bool | None = None,
        **unused: Any,
    ) -> SentencePosterior:  # fmt: skip
        """The posterior of sentences (B, L), padded behind their last token."""
        L = input_ids.shape[1]
        states, _ = self.lstm(self.embeddings(input_ids))
        if attention_mask is None:
            last = states[:, -1]
        else:  # what comes behind a token does not change its state
            at = attention_mask.long().sum(dim=1).clamp_min(1) - 1
            last = states[torch.arange(len(states), device=states.device), at]
        mean = self.mean(last)
        log_variance = MOST * torch.tanh(self.spread(last) / MOST)
        told = mean[:, None].expand(-1, L, -1)
        return SentencePosterior(told, mean, log_variance, (told,) if output_hidden_states else None)


AutoConfig.register(SentenceConfig.model_type, SentenceConfig, exist_ok=True)
AutoModel.register(SentenceConfig, SentenceRecognition, exist_ok=True)
