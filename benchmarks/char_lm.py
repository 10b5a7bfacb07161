"""How long until a small character model of a text reaches a validation loss: ours against nanoGPT's recipe and a tuned AdamW.

    python benchmarks/char_lm.py --data tinyshakespeare/input.txt [--seeds 0,1,2] [--target 1.92] [--rounds 12] [--threads 2]

The model is nanoGPT's setting for a CPU (4 layers, 4 heads, width 128, context 64, 0.8 M parameters), a GPT-2 of transformers
everywhere. Each recipe is trained to the end of its schedule, with every seed, and judged by the loss of the whole validation
tenth of the text. Seconds a step are then measured side by side in one process; time is steps times seconds a step.

    nanoGPT      12 x 64, AdamW 1e-3, 100 steps of warm-up, cosine to 1e-4 over 2000 steps, decay 0.1, clip 1, as published
    AdamW tuned  12 x 64, AdamW 3e-3, 5 % of warm-up, linear decay to 0, decay 0.1, clip 1
    withheld     `transformer_lm` in the library's loop, with its defaults for a CPU
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from paired import compare
from transformers import GPT2Config, GPT2LMHeadModel

from withheld.learn.gradient import Loop
from withheld.methods.transformer_lm import transformer_lm
from withheld.networks.text_open import open_text_trunk

LENGTH, BATCH = 64, 12


class Windows:
    """Every window of the text, by where it begins: what our loop asks for batches."""

    def __init__(self, ids: np.ndarray) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids) - LENGTH

    def batch(self, index: np.ndarray, device: Any) -> dict[str, torch.Tensor]:
        """Windows and the character after each."""
        return {"item": torch.from_numpy(self.ids[index[:, None] + np.arange(LENGTH + 1)]).to(device)}


@dataclass
class Text:
    """Characters as numbers, nine tenths to learn from and one to check with."""

    train: np.ndarray
    check: np.ndarray
    symbols: int

    @classmethod
    def read(cls, path: Path) -> Text:
        """A text file."""
        text = path.read_text(encoding="utf-8")
        symbols = sorted(set(text))
        ids = np.array([symbols.index(c) for c in text], np.int64)
        cut = int(0.9 * len(ids))
        return cls(ids[:cut], ids[cut:], len(symbols))


@torch.no_grad()
def loss_of(model: Any, text: Text) -> float:
    """Nats a character over the whole check part, in windows that follow each other."""
    model.eval()
    starts = np.arange(0, len(text.check) - LENGTH, LENGTH)
    total = 0.0
    for first in range(0, len(starts), 128):
        t = torch.from_numpy(text.check[starts[first : first + 128, None] + np.arange(LENGTH + 1)])
        logits = model(input_ids=t[:, :-1]).logits
        total += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), t[:, 1:].flatten(), reduction="sum"))
    model.train()
    return total / (len(starts) * LENGTH)


class Plain:
    """A plain loop of torch and transformers."""

    def __init__(self, text: Text, seed: int, steps: int, rate: float, factor: Callable[[int, int], float]) -> None:
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=text.symbols, n_positions=LENGTH, n_embd=128, n_layer=4, n_head=4, activation_function="gelu",
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
        )  # fmt: skip
        self.model = GPT2LMHeadModel(config).train()
        decayed = [p for p in self.model.parameters() if p.ndim >= 2]
        rest = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99))
        self.windows, self.steps, self.rate, self.factor = Windows(text.train), steps, rate, factor
        self.random = np.random.default_rng(seed)

    def step(self, step: int) -> float:
        """One step."""
        t = self.windows.batch(self.random.integers(0, len(self.windows), BATCH), "cpu")["item"]
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * self.factor(step, self.steps)
        logits = self.model(input_ids=t[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), t[:, 1:].flatten())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return float(loss.detach())


class Ours:
    """The library's loop and defaults."""

    def __init__(self, text: Text, seed: int, steps: int, **changes: Any) -> None:
        trunk, _ = open_text_trunk("gpt2-nano", vocabulary=text.symbols, length=LENGTH, seed=seed)
        objective, recipe = transformer_lm(trunk)
        self.model, self.steps = trunk.model, steps
        self.loop = Loop(objective, Windows(text.train), recipe.change(**changes), steps=steps, seed=seed)
        objective.train()

    def step(self, step: int) -> float:
        """One step."""
        return float(self.loop.step(step)["loss"])


def published(step: int, steps: int) -> float:
    """nanoGPT's schedule."""
    if step < 100:
        return (step + 1) / 101
    done = (step - 100) / (steps - 100)
    return 0.1 + 0.5 * (1 + math.cos(math.pi * min(1.0, done))) * 0.9


def linear(step: int, steps: int) -> float:
    """To nothing."""
    warm = max(1, round(0.05 * steps))
    return (step + 1) / warm if step < warm else 1 - (step - warm) / (steps - warm)


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument(
        "--steps", default="2000,1100,480", help="of nanoGPT, of AdamW tuned, of withheld; 0 leaves out"
    )
    parser.add_argument("--batch", type=int, default=BATCH, help="windows of a step of withheld")
    parser.add_argument("--target", type=float, default=1.92)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    text = Text.read(asked.data)
    first, second, third = map(int, asked.steps.split(","))
    recipes: dict[str, tuple[int, Callable[[int], Any]]] = {
        "nanoGPT": (first, lambda seed: Plain(text, seed, first, 1e-3, published)),
        "AdamW tuned": (second, lambda seed: Plain(text, seed, second, 3e-3, linear)),
        "withheld": (third, lambda seed: Ours(text, seed, third, batch_size=asked.batch)),
    }
    recipes = {name: found for name, found in recipes.items() if found[0]}
    for name, (steps, make) in recipes.items():
        for seed in map(int, asked.seeds.split(",")):
            run, begun = make(seed), time.perf_counter()
            for step in range(steps):
                run.step(step)
            seconds = time.perf_counter() - begun
            loss = loss_of(run.model, text)
            reached = "reached" if loss <= asked.target else "NOT REACHED"
            print(
                f"{name:12s} seed {seed}  {steps} steps  {seconds:6.1f} s  validation {loss:.4f}  {reached}", flush=True
            )
    if asked.rounds and "withheld" in recipes:
        ours = recipes["withheld"][1](0)
        for name in recipes:
            if name != "withheld":
                theirs = recipes[name][1](0)
                ratio = compare(
                    ours.step,
                    theirs.step,
                    asked.rounds,
                    ("withheld", name),
                    what=f"a step of a character model, {name}",
                )
                print(f"time to the end against {name}: {ratio * recipes[name][0] / third:.2f} times as fast\n")


if __name__ == "__main__":
    main()
