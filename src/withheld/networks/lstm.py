"""LSTM language models as transformers models: Zaremba's, and the two-way one of ELMo.

Registered when this module is imported, so that `AutoModelForCausalLM` opens them. Shapes: B batch, L tokens, D width, E
embedding, V vocabulary, N layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

State = tuple[Tensor, Tensor]


class LstmConfig(PretrainedConfig):
    """Layers of an LSTM language model.

    Args:
        vocab_size: V.
        hidden_size: D, of embeddings and layers alike.
        num_hidden_layers: N.
        dropout: of embeddings and of what layers give, never of the state (Zaremba et al. 2014).
        init_range: weights begin uniform within it.
        tie_word_embeddings: whether the output shares the table of embeddings.
    """

    model_type = "withheld_lstm"
    recurrent = True

    def __init__(
        self, vocab_size: int = 10_000, hidden_size: int = 200, num_hidden_layers: int = 2, dropout: float = 0.0,
        init_range: float = 0.1, tie_word_embeddings: bool = False, **rest: Any,
    ) -> None:  # fmt: skip
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, num_hidden_layers
        self.dropout, self.init_range = dropout, init_range
        super().__init__(tie_word_embeddings=tie_word_embeddings, **rest)


@dataclass
class LstmOutput(ModelOutput):
    """`last_hidden_state` (B, L, D); `state` is (h, c), each (N, B, D); `logits` (B, L, V) of the whole model."""

    logits: Tensor | None = None
    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    state: Any = None


class LstmPreTrained(PreTrainedModel):
    """What both share."""

    config_class = LstmConfig
    base_model_prefix = "lstm"
    main_input_name = "input_ids"

    def _init_weights(self, module: nn.Module) -> None:
        bound = self.config.init_range
        if isinstance(module, (nn.Embedding, nn.LSTM, nn.Linear)):
            for parameter in module.parameters(recurse=False):
                nn.init.uniform_(parameter, -bound, bound)


class LstmModel(LstmPreTrained):
    """Embeddings and layers."""

    def __init__(self, config: LstmConfig) -> None:
        super().__init__(config)
        D = config.hidden_size
        self.embeddings = nn.Embedding(config.vocab_size, D)
        self.layers = nn.ModuleList([nn.LSTM(D, D, batch_first=True) for _ in range(config.num_hidden_layers)])
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The table of tokens."""
        return self.embeddings

    def forward(
        self, input_ids: Tensor, state: State | None = None, output_hidden_states: bool | None = None, **unused: Any
    ) -> LstmOutput:
        """Tokens (B, L) from a state, or from nothing."""
        hidden = self.dropout(self.embeddings(input_ids))
        layers, ends = [hidden], []
        for i, layer in enumerate(self.layers):
            before = None if state is None else (state[0][i : i + 1].contiguous(), state[1][i : i + 1].contiguous())
            hidden, end = layer(hidden, before)
            hidden = self.dropout(hidden)
            layers.append(hidden)
            ends.append(end)
        after = torch.cat([h for h, _ in ends]), torch.cat([c for _, c in ends])
        return LstmOutput(None, hidden, tuple(layers) if output_hidden_states else None, after)


class LstmForCausalLM(LstmPreTrained):
    """p(next token | all before)."""

    _tied_weights_keys: ClassVar = {"lm_head.weight": "lstm.embeddings.weight"}

    def __init__(self, config: LstmConfig) -> None:
        super().__init__(config)
        self.lstm = LstmModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The table of tokens."""
        return self.lstm.embeddings

    def get_output_embeddings(self) -> nn.Module:
        """The last product."""
        return self.lm_head

    def forward(self, input_ids: Tensor, **given: Any) -> LstmOutput:
        """Logits (B, L, V) of the token after each."""
        output = self.lstm(input_ids, **given)
        return LstmOutput(
            self.lm_head(output.last_hidden_state), output.last_hidden_state, output.hidden_states, output.state
        )


AutoConfig.register(LstmConfig.model_type, LstmConfig, exist_ok=True)
AutoModel.register(LstmConfig, LstmModel, exist_ok=True)
AutoModelForCausalLM.register(LstmConfig, LstmForCausalLM, exist_ok=True)
