"""One training step of our masked language model against transformers' BertForMaskedLM in a plain loop, and packing.

    python benchmarks/masked_lm.py [--layers 4] [--width 256] [--vocabulary 8192] [--length 128] [--batch 32] [--rounds 8]

Same weights, same hidden words, no dropout in either; interleaved in one process. First asserts that both have the same
loss for 3 steps. Then the same on short documents as a Trainer pads them, in real tokens a second. Above 1, ours is faster.
"""

from __future__ import annotations

import argparse
import copy

import torch
from paired import compare
from transformers import BertConfig, BertForMaskedLM

from withheld.learn.gradient import build_optimizer
from withheld.losses.prediction import TokenCrossEntropy
from withheld.networks.text import TextTrunk, fresh_text_trunk
from withheld.networks.words import MaskedWords
from withheld.objective import Objective
from withheld.splits.text import MaskWords
from withheld.types import Recipe

RATE = 1e-4
SHORT = 38  # mean tokens of a short document, padded to the length in the plain loop


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = (
        ("layers", 4),
        ("width", 256),
        ("vocabulary", 8192),
        ("length", 128),
        ("batch", 32),
        ("rounds", 8),
        ("threads", 2),
    )
    for name, default in defaults:
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    config = BertConfig(
        vocab_size=asked.vocabulary, hidden_size=asked.width, num_hidden_layers=asked.layers,
        num_attention_heads=max(1, asked.width // 64), intermediate_size=4 * asked.width,
        max_position_embeddings=asked.length, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    trunk: TextTrunk = fresh_text_trunk(config, 0)
    theirs = BertForMaskedLM(copy.deepcopy(config)).train()
    theirs.load_state_dict(trunk.model.state_dict())
    ours = Objective(MaskWords(4, asked.vocabulary, (0, 1, 2, 3, 4)), MaskedWords(trunk), TokenCrossEntropy()).train()
    their_optimizer = torch.optim.AdamW(theirs.parameters(), lr=RATE, weight_decay=0.0, betas=(0.9, 0.98))
    our_optimizer = build_optimizer(
        ours, Recipe(base_learning_rate=RATE * 8, batch_size=32, weight_decay=0.0, betas=(0.9, 0.98))
    )
    item = torch.randint(5, asked.vocabulary, (asked.batch * 4, asked.length))

    def batch(step: int) -> torch.Tensor:
        return item[(step % 4) * asked.batch :][: asked.batch]

    def their_step(step: int, short: bool = False) -> float:
        torch.manual_seed(step)
        pair = ours.split({"item": batch(step)})
        mask = torch.ones_like(pair.y)
        labels = pair.y
        if short:
            mask[:, SHORT:] = 0
            labels = labels.masked_fill(mask == 0, -100)
        their_optimizer.zero_grad()
        loss = theirs(input_ids=pair.x["item"], attention_mask=mask, labels=labels).loss
        loss.backward()
        their_optimizer.step()
        return loss.item()

    def our_step(step: int) -> float:
        torch.manual_seed(step)
        our_optimizer.zero_grad()
        loss = ours({"item": batch(step)})["words"]
        loss.backward()
        our_optimizer.step()
        return loss.item()

    for step in range(3):
        a, b = their_step(step), our_step(step)
        assert abs(a - b) <= 1e-4 * abs(a), f"step {step}: {a} against {b}"
    print(
        f"losses agree for 3 steps; {asked.layers} layers of {asked.width}, {asked.batch} x {asked.length}, {asked.threads} threads"
    )
    compare(our_step, their_step, asked.rounds, ("withheld", "transformers"))
    share = asked.length / SHORT
    print(
        f"documents of {SHORT} tokens, padded to {asked.length} there and packed here: times {share:.2f} in real tokens"
    )
    compare(our_step, lambda step: their_step(step, True), asked.rounds, ("withheld", "transformers, padded"))


if __name__ == "__main__":
    main()
