"""A sentence VAE: a recognition network that guesses z from a sentence, and an LSTM that tells the sentence from z.

Shapes: B batch, L tokens, M real tokens of the whole batch, V vocabulary, E embedding, D width, Z latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from withheld.errors import InputError
from withheld.networks.sentence import SentenceRecognition
from withheld.networks.text import TextTrunk
from withheld.networks.vae import ACTIVE, kl_by_dimension, mutual_information

State = tuple[Tensor, Tensor]
LARGE = 4096
"""Vocabularies above it get an adaptive softmax: most tokens are among few words, the rest cost little (Grave et al. 2016)."""


@dataclass(frozen=True)
class WordsTold:
    """p(word) at M places: `log_p` of given words, or `log_all` of every word."""

    head: nn.Module
    hidden: Tensor  # (M, D)

    def log_p(self, y_M: Tensor) -> Tensor:
        """(M,) nats."""
        with torch.autocast(self.hidden.device.type, enabled=False):
            hidden = self.hidden.float()
            if isinstance(self.head, nn.AdaptiveLogSoftmaxWithLoss):
                return self.head(hidden, y_M).output
            return -nn.functional.cross_entropy(self.head(hidden), y_M, reduction="none")

    def log_all(self) -> Tensor:
        """(M, V) nats."""
        with torch.autocast(self.hidden.device.type, enabled=False):
            hidden = self.hidden.float()
            if isinstance(self.head, nn.AdaptiveLogSoftmaxWithLoss):
                return self.head.log_prob(hidden)
            return self.head(hidden).log_softmax(dim=1)


class SentenceAutoencoder(nn.Module):
    """p(sentence | z) p(z) with q(z | sentence); z is a standard normal vector, given to every step and the first state.

    Words are embedded by the trunk's table on both sides.

    Args:
        trunk: a recognition network of sentences.
        width: D, of the decoder.
        word_dropout: share of the words before that the decoder does not see, in training.
        dropout: of the decoder's inputs and outputs.

    Raises:
        InputError: for another trunk.
    """

    def __init__(self, trunk: TextTrunk, width: int = 256, word_dropout: float = 0.0, dropout: float = 0.0) -> None:
        super().__init__()
        if not isinstance(trunk.model, SentenceRecognition):
            raise InputError(
                f"sentence_vae needs a recognition network of sentences ({trunk.config.model_type} is none): use --encoder "
                "lstm-vae, or a config.json of its kind"
            )
        if not 0 <= word_dropout <= 1 or not 0 <= dropout < 1:
            raise InputError(f"word_dropout={word_dropout}, dropout={dropout}: shares between 0 and 1")
        self.trunk, self.word_dropout = trunk, word_dropout
        self.latents = trunk.width
        E, V = trunk.config.embedding_size, trunk.vocabulary
        self.first = nn.Linear(self.latents, 2 * width)
        self.lstm = nn.LSTM(E + self.latents, width, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head: nn.Module = nn.AdaptiveLogSoftmaxWithLoss(width, V, [V // 5]) if V > LARGE else nn.Linear(width, V)

    def infer(self, x: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, Z) of q(z | sentence)."""
        output = self.trunk.run(x)
        return output.mean.float(), output.log_variance.float()

    def start(self, z_BZ: Tensor) -> State:
        """The decoder's first state."""
        h, c = self.first(z_BZ).to(z_BZ.dtype).chunk(2, dim=1)
        return torch.tanh(h)[None].contiguous(), c[None].contiguous()

    def read(self, before_BL: Tensor, z_BZ: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """(B, L, D) after each of the tokens before, and the state."""
        seen = self.dropout(self.trunk.model.get_input_embeddings()(before_BL))
        z = z_BZ[:, None].expand(-1, before_BL.shape[1], -1).to(seen.dtype)
        hidden, state = self.lstm(torch.cat([seen, z], dim=2), self.start(z_BZ) if state is None else state)
        return self.dropout(hidden), state

    def words(self, hidden_MD: Tensor) -> WordsTold:
        """What comes at these places."""
        return WordsTold(self.head, hidden_MD)

    def log_p(self, x: Mapping[str, Tensor], z_BZ: Tensor) -> Tensor:
        """(B,) log p(sentence | z), the end among what is told, nats."""
        real = _real(x)
        hidden, _ = self.read(x["item"][:, :-1], z_BZ)
        told = self.words(hidden[real]).log_p(x["item"][:, 1:][real])
        row = torch.arange(len(real), device=real.device)[:, None].expand_as(real)[real]
        return torch.zeros(len(real), device=told.device).index_add(0, row, told)

    def forward(self, x: Mapping[str, Tensor]) -> dict[str, Any]:
        """Posterior, one z of it (B, Z), and "told": the words behind each, at real places, row by row."""
        mean, log_variance = self.infer(x)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        hidden, _ = self.read(self._dropped(x["item"][:, :-1]), z)
        return {"mean": mean, "log_variance": log_variance, "z": z, "told": self.words(hidden[_real(x)])}

    def vitals(self, t: Mapping[str, Tensor]) -> dict[str, float]:
        """KL and information in nats, active units, and what the reconstruction loses with another sentence's z."""
        mean, log_variance = self.infer(t)
        right, wrong = self.log_p(t, mean), self.log_p(t, mean.roll(1, dims=0))
        return {
            "kl": float(kl_by_dimension(mean, log_variance).sum()),
            "active_units": float((mean.var(dim=0) > ACTIVE).sum()),
            "mutual_information": float(mutual_information(mean, log_variance)),
            "reconstruction_lost_by_other_z": float((right - wrong).mean()),
        }

    def _dropped(self, before_BL: Tensor) -> Tensor:
        """Some words as unknown ones, in training; the start stays. Drawn token by token, so that padding changes nothing."""
        if not self.training or self.word_dropout == 0:
            return before_BL
        B, L = before_BL.shape
        gone = self.word_dropout > torch.rand(L, B, device=before_BL.device).T
        gone[:, 0] = False
        special = self.trunk.special
        return torch.where(gone, special.unknown if special.unknown is not None else special.mask or 0, before_BL)


def _real(x: Mapping[str, Tensor]) -> Tensor:
    """(B, L - 1), True where a token is told."""
    return x["mask"][:, 1:] if "mask" in x else torch.ones_like(x["item"][:, 1:], dtype=torch.bool)
