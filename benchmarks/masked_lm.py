"""One training step of our masked language model against transformers' BertForMaskedLM in a plain loop, and packing.

    python benchmarks/masked_lm.py [--layers 4] [--width 256] [--vocabulary 8192] [--length 128] [--batch 32] [--rounds 8]
        [--data tinyshakespeare/input.txt]

Same weights, same hidden words, no dropout in either; interleaved in one process. First asserts that both have the same
loss for 3 steps. Above 1, ours is faster.

With --data, a file whose documents are parted by empty lines (of plays, the speeches), then real tokens a second on these
short documents: ours packs them, attention kept inside a document; transformers' side is fed as its Trainer feeds a model by
default: DataCollatorForLanguageModeling, padded to the longest of a batch in random order, dropout 0.1, clipping at 1, a
linear schedule. (The Trainer itself adds nothing to this that can be measured.)
"""

from __future__ import annotations

import argparse
import copy
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from paired import compare
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForMaskedLM, DataCollatorForLanguageModeling

from withheld.data.text import open_texts
from withheld.data.tokenizer import train_tokenizer
from withheld.data.tokens import Blocks, prepare_tokens
from withheld.learn.gradient import Loop
from withheld.learn.optimizer import build_optimizer
from withheld.losses.prediction import TokenCrossEntropy
from withheld.networks.text import TextTrunk, fresh_text_trunk, special_of
from withheld.networks.words import MaskedWords
from withheld.objective import Objective
from withheld.splits.text import MaskWords
from withheld.types import Recipe

RATE = 1e-4


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
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

    def their_step(step: int) -> float:
        torch.manual_seed(step)
        pair = ours.split({"item": batch(step)})
        their_optimizer.zero_grad()
        loss = theirs(input_ids=pair.x["item"], attention_mask=torch.ones_like(pair.y), labels=pair.y).loss
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
    compare(our_step, their_step, asked.rounds, ("withheld", "transformers"), what="a step of a masked language model")
    if asked.data is not None:
        short_documents(asked, config)


def short_documents(asked: argparse.Namespace, config: BertConfig) -> None:
    """Real tokens a second, packed here, padded there."""
    texts = [text for text in asked.data.read_text(encoding="utf-8").split("\n\n") if text.strip()]
    tokenizer = train_tokenizer("wordpiece", texts, asked.vocabulary, True, asked.length)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WITHHELD_CACHE"] = folder
        tokens = prepare_tokens(open_texts(texts), tokenizer)
        blocks = Blocks(tokens, asked.length)
        lengths = np.diff(tokens.starts)
        long = 100 * (lengths > asked.length).mean()
        print(f"{len(texts):,} documents of {lengths.mean():.0f} tokens, {long:.1f} % longer than {asked.length}")
        config.vocab_size = len(tokenizer)
        trunk = fresh_text_trunk(config, 0)
        special = special_of(tokenizer)
        ours = Objective(MaskWords(4, len(tokenizer), special.all), MaskedWords(trunk), TokenCrossEntropy())
        recipe = Recipe(base_learning_rate=RATE * 8, batch_size=asked.batch, weight_decay=0.01, clip=1.0)
        loop = Loop(ours, blocks, recipe, steps=1000)
        ours.train()
        peer = padded_peer(asked, copy.deepcopy(config), tokenizer, texts)

        def our_step(step: int) -> int:
            loop.step(step)
            return asked.batch * asked.length

        for step in range(2):
            our_step(step), peer(step)
        compare(
            our_step, peer, asked.rounds, ("withheld", "transformers"), "real tokens", "masked words of short documents"
        )


def padded_peer(
    asked: argparse.Namespace, config: BertConfig, tokenizer: Any, texts: list[str]
) -> Callable[[int], int]:
    """One step as transformers' Trainer takes it with its defaults; returns how many tokens were no padding."""
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.1
    model = BertForMaskedLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 1000)
    rows = [tokenizer(text, truncation=True, max_length=asked.length) for text in texts]
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    loader = iter(DataLoader(rows, batch_size=asked.batch, shuffle=True, collate_fn=collator))  # type: ignore[arg-type]

    def step(number: int) -> int:
        t = next(loader)
        loss = model(**t).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        model.zero_grad()
        return int(t["attention_mask"].sum())

    return step


if __name__ == "__main__":
    main()
