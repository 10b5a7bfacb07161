"""Sentences told from z: the likeliest word each time, the likeliest sentence by beams, or drawn word by word.

Shapes: n sentences, K beams of each, V vocabulary, Z latents.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from withheld.networks.sentence_vae import SentenceAutoencoder, State
from withheld.text_encoder import TextEncoder

MOST = 100
"""Tokens of a sentence, at most."""


class Teller(NamedTuple):
    """A network that tells sentences, with the tokens they begin and end with and those that never come."""

    network: SentenceAutoencoder
    start: int
    end: int
    never: list[int]

    def next(self, token: Tensor, z: Tensor, state: State) -> tuple[Tensor, State]:
        """(n, V) log p of the word after each token (n,), and the state."""
        hidden, state = self.network.read(token[:, None], z, state)
        log_p = self.network.words(hidden[:, 0]).log_all()
        log_p[:, self.never] = -math.inf
        return log_p, state


def teller_of(network: SentenceAutoencoder, encoder: TextEncoder, unknown: bool = False) -> Teller:
    """Padding and the like never come; <unk>, often the likeliest of all words and told of none, where `unknown` is set."""
    special = encoder.trunk.special
    start, end = encoder.start[0], encoder.end[0]
    may = (end, special.unknown) if unknown else (end,)
    return Teller(network, start, end, [n for n in special.all if n not in may])


@torch.no_grad()
def draw(teller: Teller, z: Tensor, temperature: float = 0.0, most: int = MOST) -> list[list[int]]:
    """Tokens of one sentence for each z (n, Z): the likeliest word each time, or drawn where the temperature is above 0."""
    state = teller.network.start(z)
    token = torch.full((len(z),), teller.start, device=z.device)
    found, ended = [], torch.zeros(len(z), dtype=torch.bool, device=z.device)
    for _ in range(most):
        log_p, state = teller.next(token, z, state)
        if temperature > 0:
            token = torch.multinomial((log_p / temperature).softmax(dim=1), 1).squeeze(1)
        else:
            token = log_p.argmax(dim=1)
        found.append(token)
        ended |= token == teller.end
        if bool(ended.all()):
            break
    return _until_end(torch.stack(found, dim=1), teller.end)


@torch.no_grad()
def beam(teller: Teller, z: Tensor, beams: int = 5, most: int = MOST) -> list[list[int]]:
    """Tokens of the likeliest sentence found for each z (n, Z), its end among what is counted."""
    n, K = len(z), beams
    wide = z.repeat_interleave(K, dim=0)
    state = teller.network.start(wide)
    token = torch.full((n * K,), teller.start, device=z.device)
    score = torch.full((n, K), -math.inf, device=z.device)
    score[:, 0] = 0
    found = torch.zeros(n, K, 0, dtype=torch.long, device=z.device)
    ended = torch.zeros(n, K, dtype=torch.bool, device=z.device)
    for _ in range(most):
        log_p, state = teller.next(token, wide, state)
        log_p = log_p.view(n, K, -1)
        V = log_p.shape[2]
        log_p[ended] = -math.inf  # a sentence that has ended stays as it is
        log_p[..., teller.end] = log_p[..., teller.end].masked_fill(ended, 0.0)
        score, best = (score[:, :, None] + log_p).view(n, K * V).topk(K, dim=1)
        parent, word = best // V, best % V
        found = torch.cat([found.gather(1, parent[:, :, None].expand(-1, -1, found.shape[2])), word[:, :, None]], dim=2)
        ended = ended.gather(1, parent) | (word == teller.end)
        rows = (parent + K * torch.arange(n, device=z.device)[:, None]).view(-1)
        state = (state[0][:, rows], state[1][:, rows])
        token = word.view(-1)
        if bool(ended[:, 0].all()):  # scores only fall: no other can still overtake the first
            break
    return _until_end(found[:, 0], teller.end)


def _until_end(rows: Tensor, end: int) -> list[list[int]]:
    return [row[: row.index(end)] if end in row else row for row in rows.tolist()]
