"""ELMo as a transformers model: a forward and a backward LSTM language model that share inputs and softmax.

Peters et al. 2018, Deep contextualized word representations, https://arxiv.org/abs/1802.05365. Registered when this module is
imported, so that `AutoModelForCausalLM` opens it. Shapes: B batch, L tokens, P width of a direction, D = 2 P, V vocabulary,
C characters of a token, U different tokens of a batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

PUBLISHED_FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))
CHARACTERS, BEGIN, END = 262, 257, 258
"""Rows of the table of characters: 0 nothing, 1 to 256 the bytes of UTF-8, where a word begins and ends; as published, 262."""


class ElmoConfig(PretrainedConfig):
    """Layers of an ELMo.

    Args:
        vocab_size: V.
        hidden_size: D, of both directions together.
        cell_size: of the LSTMs; where it is not P, what they give is projected to P.
        num_hidden_layers: of each direction; from the second on with a residual connection.
        filters: (width, count) of the convolutions over characters; none: tokens have a table instead.
        character_size: of a character's vector. highways: layers after the convolutions. longest: C.
        dropout: of inputs and of what layers give.
    """

    model_type = "withheld_elmo"
    recurrent = True
    bidirectional = True

    def __init__(
        self, vocab_size: int = 10_000, hidden_size: int = 1024, cell_size: int = 4096, num_hidden_layers: int = 2,
        filters: Sequence[Sequence[int]] = PUBLISHED_FILTERS, character_size: int = 16, highways: int = 2,
        longest: int = 50, dropout: float = 0.1, **rest: Any,
    ) -> None:  # fmt: skip
        self.vocab_size, self.hidden_size, self.cell_size = vocab_size, hidden_size, cell_size
        self.num_hidden_layers, self.dropout = num_hidden_layers, dropout
        self.filters = [list(pair) for pair in filters]
        self.character_size, self.highways, self.longest = character_size, highways, longest
        rest.setdefault("tie_word_embeddings", False)
        super().__init__(**rest)


@dataclass
class ElmoOutput(ModelOutput):
    """`last_hidden_state` (B, L, D), forward states beside backward ones; `logits` (B, L, V) of the token after each and
    `backward_logits` of the token before, of the whole model.
    """

    logits: Tensor | None = None
    backward_logits: Tensor | None = None
    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


def spelled(words: Sequence[str], longest: int) -> Tensor:
    """(V, longest) rows of the table of characters, words cut to fit between begin and end."""
    most = longest - 2
    written = [word.encode("utf-8")[:most] for word in words]
    letters = np.frombuffer(b"".join(word.ljust(most, b"\0") for word in written), np.uint8).reshape(len(words), most)
    length = np.array([len(word) for word in written], np.int64)[:, None]
    inside = np.arange(most) < length
    table = np.zeros((len(words), longest), np.int32)
    table[:, 0] = BEGIN
    table[:, 1:-1] = np.where(inside, letters.astype(np.int32) + 1, 0)
    np.put_along_axis(table, length + 1, END, axis=1)
    return torch.tensor(table)


class CharacterWords(nn.Module):
    """Tokens from their characters: convolutions, the maximum over places, highway layers, a projection (Kim et al. 2015).

    Every different token of a batch is computed once. `spelling` (V, C) holds rows of the table of characters; until `spell`
    tells how tokens are written, each is its number.
    """

    spelling: Tensor

    def __init__(self, config: ElmoConfig) -> None:
        super().__init__()
        self.longest = config.longest
        width = sum(count for _, count in config.filters)
        self.register_buffer("spelling", spelled([str(i) for i in range(config.vocab_size)], config.longest))
        self.table = nn.Embedding(CHARACTERS, config.character_size, padding_idx=0)
        self.convolutions = nn.ModuleList([nn.Conv1d(config.character_size, n, k) for k, n in config.filters])
        self.highways = nn.ModuleList([nn.Linear(width, 2 * width) for _ in range(config.highways)])
        self.projection = nn.Linear(width, config.hidden_size // 2)

    def spell(self, words: Sequence[str]) -> None:
        """Tells how tokens are written, the first of them in the order of their numbers."""
        table = spelled(words[: len(self.spelling)], self.longest)
        self.spelling[: len(table)] = table.to(self.spelling)

    def forward(self, item: Tensor) -> Tensor:
        """(B, L, P) of tokens (B, L)."""
        which_U, place = item.unique(return_inverse=True)
        letters = self.table(self.spelling[which_U].long()).transpose(1, 2)
        hidden = F.relu(torch.cat([layer(letters).amax(dim=2) for layer in self.convolutions], dim=1))
        for layer in self.highways:
            change, gate = layer(hidden).chunk(2, dim=1)
            gate = gate.sigmoid()
            hidden = gate * hidden + (1 - gate) * F.relu(change)
        return F.embedding(place, self.projection(hidden))


class ElmoPreTrained(PreTrainedModel):
    """What both share."""

    config_class = ElmoConfig
    base_model_prefix = "elmo"
    main_input_name = "input_ids"

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.LSTM):
            for name, parameter in module.named_parameters():
                if "bias" in name:
                    nn.init.zeros_(parameter)
                    if "bias_ih" in name:  # what was remembered is kept at first
                        with torch.no_grad():
                            parameter[module.hidden_size : 2 * module.hidden_size] = 1.0
                elif "weight_hh" in name:
                    nn.init.orthogonal_(parameter)
                else:
                    nn.init.xavier_uniform_(parameter)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
            if module.padding_idx is not None:
                nn.init.zeros_(module.weight.detach()[module.padding_idx])
        elif isinstance(module, nn.Conv1d):  # of a maximum over places and a ReLU
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias) if module.bias is not None else None
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        if isinstance(module, CharacterWords):
            for layer in module.highways:  # carries its input on at first (Srivastava et al. 2015)
                if isinstance(layer, nn.Linear):
                    nn.init.ones_(layer.bias.detach()[layer.out_features // 2 :])
            with torch.no_grad():  # a maximum is above 0 for every word: only what tells words apart goes on
                weight = module.projection.weight
                weight.sub_(weight.mean(dim=1, keepdim=True)).mul_(2.0)


class ElmoModel(ElmoPreTrained):
    """Inputs and the layers of both directions."""

    def __init__(self, config: ElmoConfig) -> None:
        super().__init__(config)
        P, cell = config.hidden_size // 2, config.cell_size
        self.embeddings: nn.Module = CharacterWords(config) if config.filters else nn.Embedding(config.vocab_size, P)
        size = {"hidden_size": cell, "proj_size": P if cell != P else 0, "batch_first": True}
        ways = lambda: nn.ModuleDict({way: nn.LSTM(P, **size) for way in ("ahead", "behind")})  # noqa: E731
        self.layers = nn.ModuleList([ways() for _ in range(config.num_hidden_layers)])
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Tokens to vectors."""
        return self.embeddings

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, output_hidden_states: bool | None = None,
        **unused: Any,
    ) -> ElmoOutput:  # fmt: skip
        """Tokens (B, L), attention_mask (B, L) True where real; padding stands at the end."""
        inputs = self.dropout(self.embeddings(input_ids))
        ahead = self._read("ahead", inputs)
        behind = [turned(h, attention_mask) for h in self._read("behind", turned(inputs, attention_mask))]
        layers = tuple(torch.cat(both, dim=2) for both in zip([inputs, *ahead], [inputs, *behind], strict=True))
        return ElmoOutput(None, None, layers[-1], layers if output_hidden_states else None)

    def _read(self, way: str, hidden: Tensor) -> list[Tensor]:
        """What every layer of a direction gives; from the second on its input is added."""
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "LSTM with projections is not supported with oneDNN"
            )  # slower there, that is all
            return self._stacked(way, hidden)

    def _stacked(self, way: str, hidden: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for layer in self.layers:
            told = self.dropout(layer[way](hidden)[0])  # type: ignore[index]
            hidden = told + hidden if found else told
            found.append(hidden)
        return found


def turned(t_BLP: Tensor, mask_BL: Tensor | None) -> Tensor:
    """The last token first; what pads a row stays behind it. Twice is once back."""
    if mask_BL is None:
        return t_BLP.flip(1)
    place = torch.arange(t_BLP.shape[1], device=t_BLP.device).expand(mask_BL.shape)
    real = mask_BL.bool()
    at = torch.where(real, real.sum(dim=1, keepdim=True) - 1 - place, place)
    return t_BLP.gather(1, at.unsqueeze(2).expand_as(t_BLP))


class ElmoForCausalLM(ElmoPreTrained):
    """p(next token | all before) and p(token before | all after), one softmax for both."""

    def __init__(self, config: ElmoConfig) -> None:
        super().__init__(config)
        self.elmo = ElmoModel(config)
        self.lm_head = nn.Linear(config.hidden_size // 2, config.vocab_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Tokens to vectors."""
        return self.elmo.embeddings

    def get_output_embeddings(self) -> nn.Module:
        """The last product."""
        return self.lm_head

    def spell(self, words: Sequence[str]) -> None:
        """Tells how tokens are written, where they are read by their characters."""
        if isinstance(self.elmo.embeddings, CharacterWords):
            self.elmo.embeddings.spell(words)

    def forward(self, input_ids: Tensor, **given: Any) -> ElmoOutput:
        """Logits (B, L, V) of the token after each, and of the token before."""
        output = self.elmo(input_ids, **given)
        ahead, behind = output.last_hidden_state.chunk(2, dim=2)
        return ElmoOutput(
            self.lm_head(ahead), self.lm_head(behind), output.last_hidden_state, output.hidden_states
        )  # fmt: skip


AutoConfig.register(ElmoConfig.model_type, ElmoConfig, exist_ok=True)
AutoModel.register(ElmoConfig, ElmoModel, exist_ok=True)
AutoModelForCausalLM.register(ElmoConfig, ElmoForCausalLM, exist_ok=True)
