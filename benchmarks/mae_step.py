"""One training step of our MAE against transformers' ViTMAEForPreTraining in a plain loop.

    python benchmarks/mae_step.py [--layers 6] [--batch 256] [--rounds 12]

Same weights copied in, same masks, dropout 0; both interleaved in one process. Prints the ratio of the lower quartiles of the
time of a step (transformers / ours: above 1 is faster), and first asserts that both compute the same loss for 5 steps.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from transformers import ViTConfig, ViTMAEConfig, ViTMAEForPreTraining

from withheld.learn.gradient import build_optimizer
from withheld.methods.mae import mae
from withheld.networks.open import open_trunk
from withheld.splits.image import gather_tokens, patchify
from withheld.types import Pair, Recipe

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "networks"))
from test_mae_parity import copy_weights, give_positions, same_mask  # noqa: E402


def foreign_cpu() -> tuple[float, float]:
    """Jiffies that the machine was busy, and that this process used."""
    busy = sum(map(float, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:4]))
    return busy, time.process_time() * 100


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=12)
    asked = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    shape = {"hidden_size": asked.width, "num_hidden_layers": asked.layers, "num_attention_heads": asked.width // 64, "intermediate_size": 4 * asked.width,
             "image_size": 32, "patch_size": 4, "layer_norm_eps": 1e-6, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # fmt: skip
    half = asked.width // 2
    theirs = ViTMAEForPreTraining(ViTMAEConfig(**shape, decoder_hidden_size=half, decoder_num_hidden_layers=2, norm_pix_loss=True,
        decoder_num_attention_heads=max(1, half // 32), decoder_intermediate_size=4 * half))  # fmt: skip
    trunk, _ = open_trunk(ViTConfig(**shape), size=32, channels=3)
    ours, _ = mae(trunk)
    give_positions(theirs)
    copy_weights(theirs, ours)
    recipe = Recipe(base_learning_rate=1e-4, weight_decay=0.0, betas=(0.9, 0.95))
    their_optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-4, weight_decay=0.0, betas=(0.9, 0.95))
    our_optimizer = build_optimizer(ours, recipe)
    for group in our_optimizer.param_groups:
        group["lr"] = 1e-4
    images = torch.rand(asked.batch * 4, 3, 32, 32)

    def their_step(step: int) -> float:
        torch.manual_seed(step)
        t = images[(step % 4) * asked.batch :][: asked.batch]
        noise = torch.rand(asked.batch, 64)
        their_optimizer.zero_grad()
        loss = theirs(pixel_values=t, noise=noise).loss
        loss.backward()
        their_optimizer.step()
        return loss.item()

    def our_step(step: int) -> float:
        torch.manual_seed(step)
        t = images[(step % 4) * asked.batch :][: asked.batch]
        at, hidden = same_mask(torch.rand(asked.batch, 64), 0.75)
        patches = patchify(t, 4)
        pair = Pair({"patches": gather_tokens(patches, at), "at": at, "hidden": hidden}, gather_tokens(patches, hidden))
        our_optimizer.zero_grad()
        loss = ours(pair)["loss"]
        loss.backward()
        our_optimizer.step()
        return loss.item()

    theirs.train(), ours.train()
    for step in range(5):
        a, b = their_step(step), our_step(step)
        assert abs(a - b) <= 1e-4 * abs(a), f"step {step}: {a} against {b}"
    times: dict[str, list[float]] = {"transformers": [], "withheld": []}
    busy, own = foreign_cpu()
    for step in range(asked.rounds):
        for name, run in (("transformers", their_step), ("withheld", our_step)):
            begun = time.perf_counter()
            run(5 + step)
            times[name].append(time.perf_counter() - begun)
    more_busy, more_own = foreign_cpu()
    others = max(0.0, 1 - (more_own - own) / max(1e-9, more_busy - busy))
    quartile = {name: float(np.quantile(values, 0.25)) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name:14s} min {min(values):.3f} s  q25 {quartile[name]:.3f} s  median {np.median(values):.3f} s  {asked.batch / quartile[name]:.0f} images/s")
    print(f"ratio of lower quartiles {quartile['transformers'] / quartile['withheld']:.3f}  (others took {others:.0%} of the busy CPU)")


if __name__ == "__main__":
    main()
