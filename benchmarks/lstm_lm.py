"""One training step of our LSTM language model against a plain torch loop over nn.LSTM.

    python benchmarks/lstm_lm.py [--width 200] [--vocabulary 10000] [--length 20] [--batch 20] [--rounds 20] [--threads 2]

Zaremba's small setting: plain SGD, clipping, the state carried from block to block. Same weights, same text; interleaved in
one process. First asserts that both have the same loss for 6 steps. Above 1, ours is faster.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from paired import compare
from torch import nn

from withheld.data.tokens import Blocks, Tokens
from withheld.learn.gradient import Loop
from withheld.methods.lstm_lm import lstm_lm
from withheld.networks.lstm import LstmConfig
from withheld.networks.text import fresh_text_trunk

RATE, CLIP = 20.0, 0.25


class Plain(nn.Module):
    """What a tutorial writes."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, 2, batch_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(
        self, item: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor] | None
    ) -> tuple[torch.Tensor, tuple]:
        """Logits and state."""
        hidden, state = self.lstm(self.table(item), state)
        return self.head(hidden), state


def copy_weights(ours: nn.Module, theirs: Plain) -> None:
    """Into the plain network."""
    weights = dict(ours.named_parameters())
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            if name.startswith("lstm."):
                kind, layer = name.removeprefix("lstm.").rsplit("_l", 1)
                value.copy_(weights[f"lstm.layers.{layer}.{kind}_l0"])
            else:
                value.copy_(weights[{"table.weight": "lstm.embeddings.weight"}.get(name, f"lm_{name}")])


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = (("width", 200), ("vocabulary", 10_000), ("length", 20), ("batch", 20), ("rounds", 20), ("threads", 2))
    for name, default in defaults:
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    steps = asked.rounds + 10
    ids = np.random.default_rng(0).integers(0, asked.vocabulary, asked.batch * asked.length * steps + 1)
    one = np.array([len(ids)])
    tokens = Tokens(ids, np.array([0, len(ids)]), one, one, np.zeros(1, np.int64), None, [], "")
    blocks = Blocks(tokens, asked.length + 1, 1, None, asked.batch)
    trunk = fresh_text_trunk(LstmConfig(asked.vocabulary, asked.width, 2), 0)
    theirs = Plain(asked.vocabulary, asked.width).train()
    copy_weights(trunk.model, theirs)
    objective, recipe = lstm_lm(trunk)
    recipe = recipe.change(
        batch_size=asked.batch, base_learning_rate=RATE * 256 / asked.batch, clip=CLIP, schedule="constant"
    )
    loop = Loop(objective, blocks, recipe, steps=steps)
    objective.train()
    optimizer = torch.optim.SGD(theirs.parameters(), lr=RATE)
    rows = torch.from_numpy(ids[:-1].reshape(asked.batch, -1)), torch.from_numpy(ids[1:].reshape(asked.batch, -1))
    state: tuple[torch.Tensor, torch.Tensor] | None = None
    done = {"withheld": 0, "plain": 0}

    def our_step(number: int) -> float:
        done["withheld"] += 1
        return float(loop.step(done["withheld"] - 1)["loss"])

    def their_step(number: int) -> float:
        nonlocal state
        at = done["plain"] * asked.length
        done["plain"] += 1
        state = None if state is None else (state[0].detach(), state[1].detach())
        x, y = (part[:, at : at + asked.length] for part in rows)
        logits, state = theirs(x, state)
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), CLIP)
        optimizer.step()
        return float(loss.detach())

    for step in range(6):
        a, b = their_step(step), our_step(step)
        assert abs(a - b) <= 1e-4 * abs(a), f"step {step}: {a} against {b}"
    print(
        f"losses agree for 6 steps; 2 layers of {asked.width}, {asked.batch} x {asked.length}, {asked.threads} threads"
    )
    compare(our_step, their_step, asked.rounds, ("withheld", "plain torch"), what="a step of an LSTM language model")


if __name__ == "__main__":
    main()
